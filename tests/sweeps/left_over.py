"""Processes that a command leaves behind."""

import signal
import time
from collections.abc import Sequence

import psutil

LIMIT = 5.0  # seconds after the end of their parent that processes may be there
LOAD = 3.0  # more of them, as other tests may keep the cores busy


def usual_signals() -> None:
    """For a process about to start: a shell's background job ignores Ctrl-C, and so would all it starts."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def descendants(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def workers(pid: int) -> list[psutil.Process]:
    """The processes that multiprocessing started to compute."""
    found = []
    for process in descendants(pid):
        try:
            if "--multiprocessing-fork" in process.cmdline():
                found.append(process)
        except psutil.Error:
            continue
    return found


def left_after(processes: Sequence[psutil.Process], seconds: float = LIMIT + LOAD) -> list[psutil.Process]:
    """Wait until all are gone, and return those that are not after `seconds`."""
    deadline = time.monotonic() + seconds
    while (left := [process for process in processes if _lives(process)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
