"""Processes side by side: spawned, each with a pipe of its own, ended with the block that they belong to.

They end with their parent, too, however that ends: see `noiseutils.training.orphans`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import platform
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any, cast

import torch

from noiseutils.errors import portable
from noiseutils.sweeps.signals import SIGNALS
from noiseutils.training.orphans import Guardian, die_with_parent

Send = Callable[[Any], None]

# A training step frees its activations and asks for the same sizes again. With these settings glibc gives no
# block back to the system, and takes pages of 2 MB where the kernel has them: a step pays for no page faults.
TUNABLES = (
    "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=8589934592"
)
SPAWN = multiprocessing.get_context("spawn")  # a forked child inherits torch's threads and CUDA broken


@dataclass(frozen=True)
class Ended:
    """Last message of a process. `code` is 0 unless the process was killed, or never began its work."""

    code: int | None


class Processes:
    """Child processes, each known by its pipe; a child computes with `threads` threads."""

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads
        self._running: dict[Connection, Any] = {}
        self._guardian = Guardian()

    def start(self, work: Callable[..., None], *arguments: Any, shared: tuple[Any, ...] = ()) -> None:
        """Start a process that calls `work(send, *arguments, *shared)`; `work` is a module's function.

        shared: locks and values of `multiprocessing`, which can only be given to a process as it starts.
        """
        # a pipe each: a process killed while it writes to a shared queue would take the queue's lock with it
        receive, send = SPAWN.Pipe(duplex=False)
        take, give = SPAWN.Pipe(duplex=False)
        child = (os.getpid(), self.threads, take, send, shared)
        process = SPAWN.Process(target=_child, args=child, daemon=True)
        resource_tracker.ensure_running()  # unblocks signals: now, not between their block and the start
        with block_signals(), tuned_malloc():
            process.start()
            self._running[receive] = process
            self._guardian.watch(cast("int", process.pid))
        send.close()
        take.close()
        # Not with the start: the arguments may not fit into a pipe, and until the child has imported its
        # modules no signal would end this process, nor the guardian the child.
        with contextlib.suppress(OSError), give:  # a child that has ended is noticed by `messages`
            give.send((work, arguments))

    def messages(self) -> Iterator[tuple[Connection, Any]]:
        """Yield what processes send, until all have ended; an exception in one of them is raised here."""
        while self._running:
            for pipe in cast("list[Connection]", wait(list(self._running))):
                try:
                    message = pipe.recv()
                except (EOFError, OSError):
                    process = self._running[pipe]
                    process.join()
                    self._guardian.forget(process.pid)
                    del self._running[pipe]
                    message = Ended(process.exitcode)
                if isinstance(message, Exception):
                    raise message
                yield pipe, message

    def __enter__(self) -> Processes:
        self._guardian.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            for process in self._running.values():
                process.kill()  # a stopped process does not receive SIGTERM
            for process in self._running.values():
                process.join()
                self._guardian.forget(process.pid)
        finally:
            self._guardian.__exit__()


@contextlib.contextmanager
def block_signals() -> Iterator[None]:
    """Block `SIGNALS` in processes started inside the block: see `_child`.

    The parent receives such a signal when the block ends. If the parent ignored the signals instead, a signal
    sent inside the block would be lost.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # children inherit it
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def tuned_malloc() -> Iterator[None]:
    """Let processes started inside keep the memory that they free, unless the user has tuned glibc's malloc.

    glibc reads the variable when a program starts, so the parent itself is as before.
    """
    if platform.libc_ver()[0] != "glibc" or "GLIBC_TUNABLES" in os.environ:
        yield
        return
    os.environ["GLIBC_TUNABLES"] = TUNABLES
    try:
        yield
    finally:
        del os.environ["GLIBC_TUNABLES"]


def _child(parent: int, threads: int, take: Connection, pipe: Connection, shared: tuple[Any, ...]) -> None:
    die_with_parent(parent)
    # A terminal sends these to all processes of a command, and so do batch systems. The parent ends its
    # children; a death before that would be blamed on the work.
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(threads)

    def send(message: Any) -> None:
        try:
            pipe.send(message)
        except OSError:  # the parent is gone: stop as Ctrl-C would stop it, not as a failure of the work
            raise KeyboardInterrupt from None

    try:
        with take:
            work, arguments = take.recv()
    except EOFError:  # the parent was ended while it gave the work
        return
    with contextlib.suppress(KeyboardInterrupt):
        try:
            work(send, *arguments, *shared)
        except Exception as error:
            send(portable(error, "in a process of its own"))
