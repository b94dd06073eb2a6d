"""No process outlives the one that started it, and none is blamed for what its parent was told."""

import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from kill_sweeps import kill_sweeps
from left_over import LIMIT, LOAD, descendants, left_after, usual_signals, workers
from small_runs import RUNS

from noiseutils.errors import UserError
from noiseutils.sweeps.processes import Processes
from noiseutils.sweeps.signals import EXIT_TIMEOUT, SIGNALS, Stop
from noiseutils.sweeps.store import Store, StoreError
from noiseutils.sweeps.sweep import sweep
from noiseutils.training.guardian import LOOK_SECONDS
from noiseutils.training.orphans import Guardian

pytestmark = pytest.mark.slow

ENDS = {"SIGTERM": 143, "SIGINT": 130, "SIGHUP": 129, "SIGKILL": 137}

SLEEPERS = """
import sys, time
from noiseutils.sweeps.processes import Processes

def sleep(send):
    send("asleep")
    time.sleep(600)

if __name__ == "__main__":
    with Processes() as processes:
        for _ in range(2):
            processes.start(sleep)
        for _, message in processes.messages():
            print(message, flush=True)
"""

STARTING = """
import os, signal, sys, time
if __name__ != "__main__":
    print("starting", flush=True)
    time.sleep(600)  # as long imports would
from noiseutils.sweeps.processes import Processes
from noiseutils.sweeps.signals import Stop

if __name__ == "__main__":
    with Stop().handling(), Processes() as processes:
        processes.start(print, bytes(1 << 20))  # more than a pipe takes before the child reads
        time.sleep(600)
"""


def started(popen, tmp_path: Path, text: str, lines: int) -> tuple[subprocess.Popen, list[psutil.Process]]:
    """Start a script, wait for lines of its output, and return the script with all that it has started."""
    script = tmp_path / "script.py"
    script.write_text(text)
    process = popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=usual_signals,
    )
    assert process.stdout is not None
    with process.stdout as printed:
        for _ in range(lines):
            assert printed.readline()
    return process, descendants(process.pid)


@pytest.mark.parametrize("stopped", [False, True])
@pytest.mark.parametrize("end", ENDS)
def test_no_child_outlives_its_parent_however_that_ends(popen, tmp_path, end, stopped):
    process, others = started(popen, tmp_path, SLEEPERS, lines=2)
    if stopped:
        for worker in workers(process.pid):
            worker.suspend()
    process.send_signal(getattr(signal, end))
    process.wait(timeout=30)
    assert not left_after(others)
    assert len(others) >= 2


@pytest.mark.parametrize("end", ENDS)
def test_a_child_that_is_still_starting_does_not_outlive_its_parent(popen, tmp_path, end):
    process, others = started(popen, tmp_path, STARTING, lines=1)
    assert workers(process.pid)
    process.send_signal(getattr(signal, end))
    process.wait(timeout=30)
    assert not left_after(others)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere only a running process looks")
def test_a_stopped_child_goes_with_its_parent_also_without_the_guardian(popen, tmp_path):
    process, others = started(popen, tmp_path, SLEEPERS, lines=2)
    for other in others:
        if other.pid in [worker.pid for worker in workers(process.pid)]:
            other.suspend()
        else:
            other.kill()
    process.kill()
    process.wait()
    assert not left_after(others)


def sleep(send) -> None:
    send("asleep")
    time.sleep(600)


def test_a_stopped_child_does_not_keep_its_parent():
    with Processes() as processes:
        processes.start(sleep)
        next(processes.messages())
        (child,) = workers(os.getpid())
        child.suspend()
        begun = time.monotonic()
    assert time.monotonic() - begun < LIMIT + LOAD
    assert not left_after([child])


SWEEP = """
import sys
sys.path.insert(0, {tests!r})
from small_runs import BASE
from noiseutils.sweeps.store import Store
from noiseutils.sweeps.sweep import sweep

if __name__ == "__main__":
    runs = [BASE.replace(seed=seed, epochs=60) for seed in range(3)]
    done = sweep(runs, Store({root!r}), "local", workers=2, device="cpu", progress=False)
    print(len(done.results), "done", len(done.failed), "failed")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_a_worker_fails_no_run(popen, tmp_path, number):
    root = tmp_path / "runs"
    script = tmp_path / "sweep_it.py"
    script.write_text(SWEEP.format(tests=str(Path(__file__).parent), root=str(root)))
    process = popen([sys.executable, str(script)], stdout=subprocess.PIPE, preexec_fn=usual_signals)
    while process.poll() is None and not list(root.glob("*/run.json")):
        for worker in workers(process.pid):
            worker.send_signal(number)
        time.sleep(0.1)
    out, _ = process.communicate(timeout=120)
    assert out.decode().strip() == "3 done 0 failed"


class Full(Store):
    def save(self, result):
        raise StoreError("cannot write: No space left on device")


class KilledBeforeItsMark(Store):
    """Its first process is killed with a claim that nobody has been told of."""

    def mark(self, run, owner):
        first(self.root)
        super().mark(run, owner)


class KilledBeforeItsWord(Store):
    """Its first process is killed with a result that is stored."""

    def save(self, result):
        super().save(result)
        first(self.root)


def first(root: Path) -> None:
    try:
        (root / "killed").mkdir()
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_full_disk_ends_all_workers_and_is_no_runs_failure(tmp_path):
    with pytest.raises(StoreError, match="No space left"):
        sweep(RUNS, Full(tmp_path), "local", workers=2, device="cpu", progress=False)
    assert not list(tmp_path.glob("*/failure.txt"))


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("kind", [KilledBeforeItsMark, KilledBeforeItsWord])
def test_a_worker_killed_beside_its_training_costs_no_run(tmp_path, kind, workers):
    done = sweep(RUNS, kind(tmp_path), "local", workers=workers, device="cpu", progress=False)
    assert (tmp_path / "killed").exists()
    assert len(done.results) == 3 - len(done.failed)
    if kind is KilledBeforeItsWord:
        assert not done.failed


class KilledAlways(Store):
    def claim(self, run, owner=""):
        os.kill(os.getpid(), signal.SIGKILL)


def test_workers_that_are_killed_before_each_run_end_the_sweep(tmp_path):
    with pytest.raises(UserError, match="killed before they took a run"):
        sweep(RUNS, KilledAlways(tmp_path), "local", workers=1, device="cpu", progress=False)


@pytest.mark.parametrize("executor", ["inline", "local", "threads"])
def test_a_file_for_the_folder_of_locks_is_an_error_that_names_it(tmp_path, executor):
    (tmp_path / ".locks").write_text("")
    with pytest.raises(StoreError, match=r"cannot write .*\.locks"):
        sweep(RUNS, Store(tmp_path), executor, workers=2, device="cpu", progress=False)
    assert (tmp_path / ".locks").read_text() == ""


@pytest.mark.parametrize("executor", ["inline", "local", "threads"])
def test_locks_that_go_while_runs_are_trained_end_the_sweep_with_an_error(tmp_path, executor):
    store = LocksGo(tmp_path)
    with pytest.raises(StoreError, match=r"cannot write .*\.locks"):
        sweep(RUNS, store, executor, workers=2, device="cpu", progress=False)


class LocksGo(Store):
    def save(self, result):
        super().save(result)
        try:
            (self.root / ".locks").rename(self.root / ".locks.gone")
        except OSError:
            return
        (self.root / ".locks").write_text("")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere environments cannot be read")
def test_marked_processes_go_with_the_guardian_and_no_others_do():
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    mark = secrets.token_hex(8)
    with Guardian(mark):
        marked = subprocess.Popen(sleep, env={**os.environ, "NOISEUTILS_TEST": mark})
        other = subprocess.Popen(sleep, env={**os.environ, "NOISEUTILS_TEST": "another mark"})
    try:
        assert marked.wait(timeout=30) == -signal.SIGKILL
        assert other.poll() is None
    finally:
        for process in (marked, other):
            process.kill()
            process.wait()


STARTS_ANOTHER = """
import subprocess, sys, time
command = [sys.executable, "-c", "import time; time.sleep(600)"]
other = subprocess.Popen(command, env={}, start_new_session=True)
print(other.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere environments cannot be read")
def test_what_a_marked_process_started_goes_with_the_guardian_without_a_mark_and_without_a_parent(popen):
    mark = secrets.token_hex(8)
    with Guardian(mark):
        command = [sys.executable, "-c", STARTS_ANOTHER]
        marked = popen(command, env={**os.environ, "NOISEUTILS_TEST": mark}, stdout=subprocess.PIPE)
        assert marked.stdout is not None
        with marked.stdout as printed:
            other = psutil.Process(int(printed.readline()))
        time.sleep(10 * LOOK_SECONDS)
        marked.kill()
        marked.wait()
        assert other.is_running()
    assert not left_after([other])


BUSY = """
import hashlib
from noiseutils.cli_exits import STOP
with STOP.handling():
    print("busy", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # minutes in C, without the interpreter's lock
"""


def test_a_command_inside_a_long_call_of_c_ends_all_the_same(popen, tmp_path):
    process, _ = started(popen, tmp_path, BUSY, lines=1)
    computing = psutil.Process(process.pid)
    spent = sum(computing.cpu_times()[:2])
    while sum(computing.cpu_times()[:2]) < spent + 0.3:  # until the call has begun
        time.sleep(0.05)
    begun = time.monotonic()
    process.terminate()
    assert process.wait(timeout=60) == 143
    assert time.monotonic() - begun < EXIT_TIMEOUT + LIMIT + LOAD


@pytest.mark.timeout(900)  # many processes start, one after the other
def test_sweeps_killed_a_few_times_lose_nothing_and_leave_nothing():
    """`kill_sweeps.py --kills 200` is the long form."""
    killer = kill_sweeps(kills=3, signals=0, seed=0)
    assert not killer.faults
    assert killer.counts["sweeps compared"]


RENDERING = """
import sys
from pathlib import Path
import nbformat
from noiseutils.book.render import render
from noiseutils.cli_exits import STOP

source, v4 = Path({place!r}) / "01_study.ipynb", nbformat.v4
cells = [
    v4.new_code_cell("n = 2", metadata={{"tags": ["parameters"]}}),
    v4.new_code_cell("from pathlib import Path; import time; Path('begun').touch(); time.sleep(600)"),
]
nbformat.write(v4.new_notebook(cells=cells), source)
print("rendering", flush=True)
with STOP.handling():
    render(source, Path({place!r}) / "out", {{}}, "stamp")
"""


@pytest.mark.parametrize(("end", "stopped"), [("SIGKILL", True), ("SIGTERM", False)])
def test_a_notebooks_kernel_goes_with_its_rendering(popen, tmp_path, monkeypatch, end, stopped):
    pytest.importorskip("papermill", reason="needs the notebooks extra")
    monkeypatch.chdir(tmp_path)  # the kernel's folder, where notebooks are not the checkout's
    process, _ = started(popen, tmp_path, RENDERING.format(place=str(tmp_path)), lines=1)
    begun = tmp_path / "begun"
    while not begun.exists() and process.poll() is None:
        time.sleep(0.05)
    others = descendants(process.pid)
    (kernel,) = [other for other in others if "ipykernel_launcher" in other.cmdline()]
    if stopped:
        kernel.suspend()
    process.send_signal(getattr(signal, end))
    process.wait(timeout=30)
    assert not left_after(others)


TRAINING = """
import time, torch
from noiseutils.training import distributed

distributed.start()
print(f"started {distributed.rank()}\\n", end="", flush=True)  # one write: both share the pipe
time.sleep(600)
"""


def test_processes_of_torchrun_go_with_it(popen, tmp_path):
    script = tmp_path / "training.py"
    script.write_text(TRAINING)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    process = popen([*command, str(script)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    with process.stdout as printed:
        assert {printed.readline().strip() for _ in range(2)} == {"started 0", "started 1"}
    others = descendants(process.pid)
    assert len(others) >= 2
    others[0].suspend()
    process.kill()
    process.wait()
    assert not left_after(others)


IMPORTING = """
import os, time
import noiseutils
starter = os.getppid()
print("imported\\n", end="", flush=True)  # one write: two processes share the pipe
while os.getppid() == starter:
    time.sleep(0.05)
from noiseutils.training import distributed
distributed.start()  # would wait for the others
time.sleep(600)
"""


def test_processes_whose_torchrun_was_killed_during_their_imports_end_when_they_join(tmp_path):
    script = tmp_path / "training.py"
    script.write_text(IMPORTING)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    process = subprocess.Popen(
        [*command, str(script)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    with process.stdout as printed:
        assert [printed.readline().strip() for _ in range(2)] == ["imported"] * 2
    others = descendants(process.pid)
    assert len(others) >= 2
    process.kill()
    process.wait()
    assert not left_after(others)


def test_signals_are_as_before_after_a_command_in_this_process():
    before = [signal.getsignal(number) for number in SIGNALS]
    threads = set(threading.enumerate())
    with Stop().handling():
        assert signal.getsignal(signal.SIGTERM) != before[SIGNALS.index(signal.SIGTERM)]
    assert [signal.getsignal(number) for number in SIGNALS] == before
    assert signal.set_wakeup_fd(-1) == -1
    deadline = time.monotonic() + 5
    while (more := set(threading.enumerate()) - threads) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not more
