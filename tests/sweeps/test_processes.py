import os
import platform
import resource
import signal
from pathlib import Path

import pytest
import torch

from noiseutils.errors import UserError
from noiseutils.sweeps.analysis import work_off
from noiseutils.sweeps.processes import TUNABLES, Ended, Processes

pytestmark = pytest.mark.slow


def write(job: tuple[Path, int]) -> None:
    folder, number = job
    with (folder / str(number)).open("x") as file:
        file.write(str(os.getpid()))


def fail(job: tuple[Path, int]) -> None:
    raise UserError(f"job {job[1]} cannot be done")


def die(job: tuple[Path, int]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr("noiseutils.sweeps.analysis.cores", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.usefixtures("two_cores")
def test_each_job_is_done_once_by_other_processes(tmp_path):
    work_off([(tmp_path, i) for i in range(7)], write, "jobs", None)
    done = {int(path.name): int(path.read_text()) for path in tmp_path.iterdir()}
    assert sorted(done) == list(range(7))
    assert os.getpid() not in done.values()


@pytest.mark.usefixtures("two_cores")
@pytest.mark.parametrize(
    ("work", "said"), [(fail, "job . cannot be done"), (die, "a process of the jobs was killed")]
)
def test_what_ends_a_process_ends_all_and_is_raised(tmp_path, work, said):
    with pytest.raises(UserError, match=said):
        work_off([(tmp_path, i) for i in range(4)], work, "jobs", None)


def report(send, name: str) -> None:
    send((name, torch.get_num_threads()))


def test_messages_come_from_each_process_and_then_its_end():
    with Processes(threads=1) as processes:
        for name in ("a", "b"):
            processes.start(report, name)
        messages = [message for _, message in processes.messages()]
    assert sorted(m for m in messages if not isinstance(m, Ended)) == [("a", 1), ("b", 1)]
    assert messages.count(Ended(0)) == 2


def faults(send) -> None:
    """Send the variable, and the page faults of ten times 24 MB, taken and given back."""
    for _ in range(3):
        torch.ones(3, 2**21)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(3, 2**21)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    send((os.environ.get("GLIBC_TUNABLES"), after - before))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
@pytest.mark.parametrize("users", [None, "glibc.malloc.check=0"])
def test_processes_keep_freed_memory_unless_the_user_has_tuned_malloc(monkeypatch, users):
    if users is None:
        monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    else:
        monkeypatch.setenv("GLIBC_TUNABLES", users)
    with Processes() as processes:
        processes.start(faults)
        assert os.environ.get("GLIBC_TUNABLES") == users, "the parent's own is as before"
        (_, (tunables, count)), _ = processes.messages()
    assert tunables == (users or TUNABLES)
    if users is None:
        assert count < 1000  # of 61,440 pages


def threads_of(job: Path) -> None:
    job.write_text(str(torch.get_num_threads()))


@pytest.mark.usefixtures("two_cores")
@pytest.mark.parametrize(("jobs", "budget"), [(1, None), (1, 60.0), (3, None)])
def test_a_job_has_one_thread_however_many_are_left(tmp_path, jobs, budget):
    torch.set_num_threads(2)
    try:
        work_off([tmp_path / str(i) for i in range(jobs)], threads_of, "jobs", budget)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["1"] * jobs
