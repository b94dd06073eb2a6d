"""End child processes with their parent, however the parent ends: by an exception, a signal, SIGKILL.

A child that runs this package's code ends itself, see `die_with_parent`. A guardian ends children that do not
run this code yet, or run another program, see `Guardian`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

_STARTED = os.getpid(), os.getppid()  # when this module is imported: before torch, which takes seconds
PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>
LOOK_SECONDS = 0.5  # between two looks at the parent, where the kernel does not tell
GUARDIAN = str(Path(__file__).with_name("guardian.py"))


def die_with_parent(parent: int) -> None:
    """Kill this process when the one that started it ends, whatever computes here meanwhile.

    parent: process id of the starter, which may have ended already.
    Linux does it when the starter's thread ends, and to a stopped process, too (prctl(2), PR_SET_PDEATHSIG).
    Elsewhere a thread looks twice a second, which a stopped process does not do.
    """
    if not _told_by_kernel():
        threading.Thread(target=_watch, args=(parent,), name="noiseutils-parent", daemon=True).start()
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def starter() -> int:
    """Return the id of the process that started this one, which may have ended during this one's imports."""
    process, parent = _STARTED
    return parent if process == os.getpid() else os.getppid()  # a fork has the memory of its parent


def _told_by_kernel() -> bool:
    if not sys.platform.startswith("linux"):
        return False
    return ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL)) == 0


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


class Guardian:
    """Small process that kills its wards as soon as this process has ended; ended with the block itself.

    The guardian is in a session of its own: no Ctrl-C and no stop of the terminal reaches it.
    mark: a text that nothing else has in its environment; on Linux all processes that were started with it
    there, and all that those start, are wards, too: those that another's program starts and does not tell of.
    """

    def __init__(self, mark: str | None = None) -> None:
        self._marks = [mark] if mark is not None and sys.platform.startswith("linux") else []

    def __enter__(self) -> Guardian:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", GUARDIAN, *self._marks],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        return self

    def watch(self, ward: int) -> None:
        """Take a process, by its id, into care."""
        self._write(ward)

    def forget(self, ward: int) -> None:
        """Drop a process that has ended: its id may be another's soon."""
        self._write(-ward)

    def _write(self, number: int) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the guardian was killed; what it guarded goes on
            os.write(self._process.stdin.fileno(), b"%d\n" % number)

    def __exit__(self, *_: object) -> None:
        """End the guardian, and with it the processes that are still in its care."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
