import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock
from left_over import descendants, left_after, usual_signals
from small_runs import BASE, RUNS, same_result

from noiseutils.config import Run
from noiseutils.sweeps.store import Store
from noiseutils.sweeps.sweep import sweep

pytestmark = pytest.mark.slow

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


def test_two_processes_on_one_store_compute_each_run_once(popen, tmp_path):
    root = tmp_path / "runs"
    runs = [BASE.replace(seed=seed, epochs=6) for seed in range(6)]
    both = [
        popen(command(tmp_path, root, "inline", runs), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    for process in both:
        out, err = process.communicate(timeout=120)
        assert out.decode().strip() == "6 done", err.decode()
    assert sorted(p.name for p in root.iterdir() if p.name != ".locks") == sorted(run.key for run in runs)
    times = [(root / run.key / "run.json").stat().st_mtime_ns for run in runs]
    subprocess.run(command(tmp_path, root, "inline", runs), check=True, capture_output=True)
    assert times == [(root / run.key / "run.json").stat().st_mtime_ns for run in runs]


@pytest.mark.skipif(not Path("/proc").exists(), reason="finds the worker through /proc")
@pytest.mark.parametrize("parent_asleep", [False, True])
def test_a_killed_worker_fails_its_run_and_no_other(popen, tmp_path, parent_asleep):
    """The run that its process dies of is recorded as failed; the others are computed all the same.

    Even when the idle worker claims the dead one's run before the parent hears of the death.
    """
    root = tmp_path / "runs"
    slow = BASE.replace(seed=50, epochs=3000)
    arguments = command(tmp_path, root, "local", [slow, *RUNS])
    process = popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
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


@pytest.mark.parametrize("seed", range(int(os.environ.get("NOISEUTILS_TEST_KILLS", "2"))))
def test_killed_at_a_random_moment_a_sweep_loses_nothing_and_ends_the_same(popen, tmp_path, seed):
    """NOISEUTILS_TEST_KILLS=20 is the long form."""
    rng = random.Random(seed)
    root = tmp_path / "killed"
    runs = [BASE.replace(seed=100 * seed + i, epochs=25) for i in range(3)]
    arguments = command(tmp_path, root, rng.choice(["inline", "local"]), runs)
    process = popen(arguments, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
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
        assert same_result(run, root, tmp_path / "whole")


@pytest.mark.parametrize(
    ("executor", "number", "code"),
    [
        ("inline", signal.SIGINT, 130),
        ("inline", signal.SIGTERM, 143),
        ("local", signal.SIGINT, 130),
        ("local", signal.SIGTERM, 143),
        ("local", signal.SIGHUP, 129),
        ("threads", signal.SIGTERM, 143),
    ],
)
def test_a_signal_to_end_is_clean_and_the_same_command_goes_on(popen, tmp_path, executor, number, code):
    """As a terminal sends it: to every process of the group at once."""
    profile = tmp_path / "long.yaml"
    profile.write_text(LONG)
    words = [sys.executable, "-m", "noiseutils", "sweep", "noisy_dropout", "--profile", str(profile)]
    root = tmp_path / "outputs" / "runs"
    process = popen(
        [*words, "--executor", executor],
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=os.environ | {"NOISEUTILS_OUTPUTS": str(tmp_path / "outputs")},
        preexec_fn=usual_signals,
    )
    while not list(root.glob("*/run.json")):
        assert process.poll() is None
        time.sleep(0.02)
    others = descendants(process.pid)
    os.killpg(process.pid, number)
    try:
        _, err = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == code
    assert not left_after(others)
    assert not list(root.glob("*/failure.txt"))
    assert b"the same command resumes" in err
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
