import itertools
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from PIL import Image

from noiseutils.config import Data, Evaluation, Model, NoisyDropout, Run
from noiseutils.errors import UserError
from noiseutils.sweeps.store import Store, StoreError
from noiseutils.sweeps.sweep import sweep
from noiseutils.training.checkpoint import Checkpoint

BASE = Run(
    data=Data(train_size=60, test_size=30),
    model=Model(name="cifar10net", width=0.1),
    noise=NoisyDropout(p=0.25, std=0.1),
    after=("relu3", "relu4"),
    epochs=2,
    batch_size=20,
    evaluation=Evaluation(),
)
RUNS = [BASE.replace(seed=seed) for seed in range(3)]

SWEEP = """
import json, sys, torch
from noiseutils.config import Run
from noiseutils.sweeps.store import Store
from noiseutils.sweeps.sweep import sweep
import noiseutils.sweeps.budget
torch.set_num_threads(1)
noiseutils.sweeps.budget.CHECKPOINT_SECONDS = 0.0
if __name__ == "__main__":
    runs = [Run.model_validate_json(text) for text in sys.argv[3:]]
    done = sweep(runs, Store(sys.argv[1]), sys.argv[2], progress=False)
    print(len(done.results), "done")
"""


def command(tmp_path: Path, root: Path, executor: str, runs: list[Run]) -> list[str]:
    script = tmp_path / "sweep_once.py"
    script.write_text(SWEEP)
    return [sys.executable, str(script), str(root), executor, *(run.model_dump_json() for run in runs)]


def stored_weights(root: Path, run: Run) -> dict[str, torch.Tensor]:
    result = Store(root).load(run, weights=True)
    assert result is not None
    assert result.model is not None
    return result.model.state_dict()


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_a_finished_run_is_never_computed_again(tmp_path, monkeypatch):
    store = Store(tmp_path)
    first = sweep(RUNS, store, "inline", progress=False)
    assert [r.run for r in first.results] == RUNS
    monkeypatch.setattr("noiseutils.sweeps.execution.train", None)
    again = sweep([*RUNS, RUNS[0]], Store(tmp_path), "inline", progress=False)
    assert len(again.results) == 3


@pytest.mark.parametrize("executor", ["inline", "threads"])
def test_a_failing_run_is_recorded_with_its_traceback_and_stops_no_other(tmp_path, monkeypatch, executor):
    from noiseutils.sweeps import execution as module

    real = module.train

    def train(run, **options):
        if run.seed == 1:
            raise RuntimeError("seed one is cursed")
        return real(run, **options)

    monkeypatch.setattr(module, "train", train)
    done = sweep(RUNS, Store(tmp_path), executor, device="cpu", progress=False)
    assert [r.run.seed for r in done.results] == [0, 2]
    assert "RuntimeError: seed one is cursed" in done.failed[RUNS[1].key]
    assert "Traceback" in (Store(tmp_path).failure(RUNS[1]) or "")
    monkeypatch.setattr(module, "train", real)
    assert len(sweep(RUNS, Store(tmp_path), executor, device="cpu", progress=False).results) == 3, (
        "the next sweep tries again"
    )


@pytest.mark.slow
def test_local_workers_give_the_same_results_as_this_process(tmp_path):
    sweep(RUNS, Store(tmp_path / "a"), "inline", progress=False)
    done = sweep(RUNS, Store(tmp_path / "b"), "local", workers=2, progress=False)
    assert not done.failed
    for run in RUNS:
        assert equal(stored_weights(tmp_path / "a", run), stored_weights(tmp_path / "b", run))


def test_a_budget_ends_the_sweep_cleanly_and_the_next_call_goes_on(tmp_path):
    run = BASE.replace(epochs=400)
    done = sweep([run, *RUNS], Store(tmp_path), "inline", budget=1.0, progress=False)
    assert done.out_of_time
    assert Store(tmp_path).state(run) == "interrupted"
    snapshot = Store(tmp_path).load_checkpoint(run)
    assert snapshot is not None
    assert 0 < len(snapshot.rows) < 400
    done = sweep(RUNS, Store(tmp_path), "inline", progress=False)
    assert len(done.results) == 3


def test_a_checkpoint_that_cannot_be_used_is_set_aside_and_the_run_starts_anew(tmp_path, caplog):
    store = Store(tmp_path)
    store.save_checkpoint(BASE, Checkpoint([{"epoch": 1}], {"model/w": torch.zeros(2)}, 1, "cpu"))
    assert len(sweep([BASE], store, "inline", progress=False).results) == 1
    assert "starts anew" in caplog.text


def test_other_images_under_a_stored_label_are_refused(tmp_path):
    for place, colour in (("a", 50), ("b", 200)):
        for split, name, i in itertools.product(("train", "test"), ("x", "y"), range(4)):
            folder = tmp_path / place / "pics" / split / name
            folder.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), (colour, i * 9, 0)).save(folder / f"{i}.png")
    runs = [
        BASE.replace(data=Data.parse(str(tmp_path / place / "pics")), batch_size=4) for place in ("a", "b")
    ]
    assert runs[0].key == runs[1].key
    sweep(runs[:1], Store(tmp_path / "runs"), "inline", progress=False)
    with pytest.raises(UserError, match="'pics' come from other images"):
        sweep(runs[1:], Store(tmp_path / "runs"), "inline", progress=False)


@pytest.mark.slow
def test_a_script_without_a_main_guard_is_told_so(tmp_path):
    script = tmp_path / "unguarded.py"
    script.write_text(
        "from noiseutils import Run; from noiseutils.config import Data\n"
        "from noiseutils.sweeps.store import Store; from noiseutils.sweeps.sweep import sweep\n"
        "runs = [Run(data=Data(train_size=20, test_size=10), epochs=1, seed=s) for s in range(2)]\n"
        f"sweep(runs, Store({str(tmp_path / 'runs')!r}), 'local', workers=1)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode != 0
    assert "__main__" in done.stderr


def test_a_full_disk_stops_the_sweep_with_a_clear_error(tmp_path, monkeypatch):
    def full(self, result):
        raise StoreError("cannot write: No space left on device")

    monkeypatch.setattr(Store, "save", full)
    with pytest.raises(StoreError, match="No space left"):
        sweep(RUNS, Store(tmp_path), "inline", progress=False)
    assert Store(tmp_path).failure(RUNS[0]) is None, "a full disk is not the run's failure"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": Model(name="nonet")}, "'nonet' is not known"),
        ({"after": ("relu7",)}, "relu7 matches no module"),
        ({"validation_size": 60}, "leaves nothing to train on: shapes has 60"),
        ({"data": Data(name="folder", root="/no/such/folder")}, "/no/such/folder"),
    ],
)
def test_what_cannot_run_is_an_error_before_anything_is_computed(tmp_path, monkeypatch, change, said):
    monkeypatch.setattr("noiseutils.sweeps.execution.train", None)
    with pytest.raises(UserError, match=said):
        sweep([*RUNS, BASE.replace(**change)], Store(tmp_path), "inline", progress=False)


@pytest.mark.parametrize(
    ("runs", "how", "expected"),
    [
        (1, {"device": "cuda"}, "inline"),
        (3, {"device": "cuda:1"}, "threads"),
        (3, {"device": "cpu"}, "local"),
        (3, {"device": "cpu", "workers": 1}, "inline"),
    ],
)
def test_several_runs_go_side_by_side_and_one_in_this_process(tmp_path, monkeypatch, runs, how, expected):
    asked = []
    monkeypatch.setattr("noiseutils.sweeps.sweep.EXECUTORS", {expected: asked.append})
    sweep(RUNS[:runs], Store(tmp_path), progress=False, **how)
    assert [job.todo for job in asked] == [RUNS[:runs]]


def test_an_unknown_executor_lists_the_known_ones(tmp_path):
    with pytest.raises(UserError, match="'cloud' is not known; allowed: auto, inline, local"):
        sweep(RUNS, Store(tmp_path), "cloud")


@pytest.mark.slow
def test_two_processes_on_one_store_compute_each_run_once(tmp_path):
    root = tmp_path / "runs"
    runs = [BASE.replace(seed=seed, epochs=6) for seed in range(6)]
    both = [
        subprocess.Popen(
            command(tmp_path, root, "inline", runs), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]
    for process in both:
        out, err = process.communicate(timeout=120)
        assert out.decode().strip() == "6 done", err.decode()
    assert sorted(p.name for p in root.iterdir() if p.name != ".locks") == sorted(run.key for run in runs)
    times = [(root / run.key / "run.json").stat().st_mtime_ns for run in runs]
    subprocess.run(command(tmp_path, root, "inline", runs), check=True, capture_output=True)
    assert times == [(root / run.key / "run.json").stat().st_mtime_ns for run in runs]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="finds the worker through /proc")
@pytest.mark.parametrize("parent_asleep", [False, True])
def test_a_killed_worker_fails_its_run_and_no_other(tmp_path, parent_asleep):
    """The run that its process dies of is recorded as failed; the others are computed all the same.

    Even when the idle worker claims the dead one's run before the parent hears of the death.
    """
    root = tmp_path / "runs"
    slow = BASE.replace(seed=50, epochs=3000)
    arguments = command(tmp_path, root, "local", [slow, *RUNS])
    process = subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    while not (root / slow.key / "checkpoint").exists() or any(
        Store(root).state(run) == "missing" for run in RUNS
    ):
        assert process.poll() is None
        time.sleep(0.05)
    owner = owner_of(root / ".locks" / slow.key)
    if parent_asleep:
        process.send_signal(signal.SIGSTOP)
        os.kill(owner, signal.SIGKILL)
        time.sleep(1)  # several of the idle worker's looks
        process.send_signal(signal.SIGCONT)
    else:
        os.kill(owner, signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert out.decode().strip() == "3 done", err.decode()
    assert "exit code -9" in (Store(root).failure(slow) or "")


def owner_of(lock: Path) -> int:
    """The process that has a lock file open."""
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if descriptor.readlink() == lock:
                return int(descriptor.parts[2])
        except OSError:
            continue
    raise AssertionError("nobody holds the lock")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(int(os.environ.get("NOISEUTILS_TEST_KILLS", "2"))))
def test_killed_at_a_random_moment_a_sweep_loses_nothing_and_ends_the_same(tmp_path, seed):
    """NOISEUTILS_TEST_KILLS=20 is the long form."""
    rng = random.Random(seed)
    root = tmp_path / "killed"
    runs = [BASE.replace(seed=100 * seed + i, epochs=25) for i in range(3)]
    arguments = command(tmp_path, root, rng.choice(["inline", "local"]), runs)
    process = subprocess.Popen(
        arguments, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not list(root.glob("*/checkpoint")) and not list(root.glob("*/run.json")):
        assert time.monotonic() < deadline, "the sweep never started"
        assert process.poll() is None
        time.sleep(0.005)
    time.sleep(rng.uniform(0, 1.0))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = {
        run.key: (root / run.key / "run.json").stat().st_mtime_ns
        for run in runs
        if (root / run.key / "run.json").exists()
    }
    subprocess.run(arguments, check=True, capture_output=True, timeout=120)
    for key, written in before.items():
        assert (root / key / "run.json").stat().st_mtime_ns == written, "a finished run was computed again"
    sweep(runs, Store(tmp_path / "whole"), "inline", progress=False)
    for run in runs:
        assert equal(stored_weights(root, run), stored_weights(tmp_path / "whole", run))
        a, b = Store(root).load(run), Store(tmp_path / "whole").load(run)
        assert a is not None
        assert b is not None
        assert a.metrics == b.metrics
        assert a.history.drop(columns="seconds").equals(b.history.drop(columns="seconds"))


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["inline", "local"])
def test_ctrl_c_is_clean_and_the_same_command_goes_on(tmp_path, executor):
    """As a terminal sends it: to every process of the group at once."""
    profile = tmp_path / "long.yaml"
    profile.write_text(LONG)
    words = [sys.executable, "-m", "noiseutils", "sweep", "noisy_dropout", "--profile", str(profile)]
    root = tmp_path / "outputs" / "runs"
    process = subprocess.Popen(
        [*words, "--executor", executor],
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=os.environ | {"NOISEUTILS_OUTPUTS": str(tmp_path / "outputs")},
        # a shell's background job ignores Ctrl-C, and so would all that it starts
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not list(root.glob("*/run.json")):
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    try:
        _, err = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130
    assert b"the same command goes on" in err
    assert b"Traceback" not in err
    time.sleep(0.2)
    locks = list((root / ".locks").iterdir())
    assert locks
    for lock in locks:
        with FileLock(lock, timeout=5):
            pass  # nobody holds it any more


LONG = """
study: noisy_dropout
data: shapes
train_size: 60
test_size: 50
width: 0.1
noise_levels: [0.1, 0.2, 0.3, 0.4, 0.5]
epochs: 20
batch_size: 20
input_noise: []
fgsm_255: []
seeds: 50
"""


def test_threads_side_by_side_compute_what_one_after_the_other_does(tmp_path):
    runs = [BASE.replace(seed=seed) for seed in range(4)]
    one = sweep(runs, Store(tmp_path / "one"), "inline", device="cpu", progress=False)
    several = sweep(runs, Store(tmp_path / "several"), "threads", workers=3, device="cpu", progress=False)
    assert not several.failed
    for a, b in zip(one.results, several.results, strict=True):
        assert a.metrics == b.metrics
        assert a.history.drop(columns="seconds").equals(b.history.drop(columns="seconds"))


def test_a_full_disk_stops_all_threads(tmp_path, monkeypatch):
    def full(self, result):
        raise StoreError("disk full")

    monkeypatch.setattr(Store, "save", full)
    runs = [BASE.replace(seed=seed) for seed in range(4)]
    with pytest.raises(StoreError, match="disk full"):
        sweep(runs, Store(tmp_path), "threads", workers=2, device="cpu", progress=False)


def test_an_interrupt_ends_all_threads_and_leaves_a_state_to_go_on_from(tmp_path, monkeypatch):
    import threading

    from noiseutils.sweeps.progress import Bar

    ordinary, events = Bar.on_event, []

    def on_event(self, event, run, detail):
        events.append(event)
        if event == "epoch" and events.count("epoch") == 1:
            os.kill(os.getpid(), signal.SIGINT)
        ordinary(self, event, run, detail)

    monkeypatch.setattr(Bar, "on_event", on_event)
    runs = [BASE.replace(seed=seed, epochs=200) for seed in range(2)]
    with pytest.raises(KeyboardInterrupt):
        sweep(runs, Store(tmp_path), "threads", workers=2, device="cpu", progress=False)
    assert not [thread for thread in threading.enumerate() if "(work)" in thread.name and thread.is_alive()]
    monkeypatch.setattr(Bar, "on_event", ordinary)
    short = [run.replace(epochs=1) for run in runs]
    assert not sweep(short, Store(tmp_path), "threads", workers=2, device="cpu", progress=False).failed
