import itertools
import subprocess
import sys

import pytest
import torch
from PIL import Image
from small_runs import BASE, RUNS, equal, stored_weights

from noiseutils.config import Data, Model
from noiseutils.errors import UserError
from noiseutils.sweeps.store import Store, StoreError
from noiseutils.sweeps.sweep import sweep
from noiseutils.training.checkpoint import Checkpoint


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
    run = BASE.replace(epochs=20_000)
    done = sweep([run, *RUNS], Store(tmp_path), "inline", budget=5.0, progress=False)
    assert done.out_of_time
    assert Store(tmp_path).state(run) == "interrupted"
    snapshot = Store(tmp_path).load_checkpoint(run)
    assert snapshot is not None
    assert 0 < len(snapshot.rows) < 20_000
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
    monkeypatch.setattr("noiseutils.sweeps.sweep.default_workers", lambda: 4)
    monkeypatch.setattr("noiseutils.sweeps.sweep.EXECUTORS", {expected: asked.append})
    sweep(RUNS[:runs], Store(tmp_path), progress=False, **how)
    assert [job.todo for job in asked] == [RUNS[:runs]]


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(
    ("executor", "runs", "threads"), [("auto", 1, 1), ("auto", 2, 1), ("local", 1, 1), ("inline", 1, 2)]
)
def test_what_is_left_to_do_does_not_change_a_runs_threads(tmp_path, executor, runs, threads):
    done = sweep(RUNS[:runs], Store(tmp_path), executor, workers=2, device="cpu", progress=False)
    for result in done.results:
        assert result.info["threads"] == threads
        assert result.info["device"] == f"CPU, {threads} threads"
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_a_resumed_run_is_evaluated_with_the_threads_of_its_training(tmp_path, monkeypatch):
    seen = []

    def evaluate(*arguments, **options):
        seen.append(torch.get_num_threads())
        return {}

    monkeypatch.setattr("noiseutils.training.loop.evaluate", evaluate)
    monkeypatch.setattr("noiseutils.sweeps.budget.Clock.lap", lambda self: True)
    assert sweep([BASE], Store(tmp_path), "inline", device="cpu", progress=False).out_of_time
    monkeypatch.undo()
    monkeypatch.setattr("noiseutils.training.loop.evaluate", evaluate)
    torch.set_num_threads(1)
    (result,) = sweep([BASE], Store(tmp_path), "inline", device="cpu", progress=False).results
    assert seen == [2]
    assert result.info["threads"] == 2


def test_an_unknown_executor_lists_the_known_ones(tmp_path):
    with pytest.raises(UserError, match="'cloud' is not known; allowed: auto, inline, local"):
        sweep(RUNS, Store(tmp_path), "cloud")
