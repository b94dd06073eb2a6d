"""The sweep of several processes on one machine: each is in the same loop, and trains runs of its own.

A process computes with one thread: the small networks of the studies gain little from more.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import secrets
import signal
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from typing import Any, cast

import torch

from noiseutils.config import Run
from noiseutils.data import load
from noiseutils.errors import UserError
from noiseutils.sweeps.inline import inline
from noiseutils.sweeps.jobs import Job, Sweep, cores
from noiseutils.sweeps.store import StoreError


def default_workers() -> int:
    """Return how many runs go side by side on CPU by default: one a core, at most 4."""
    return min(cores(), 4)


def local(job: Job) -> None:
    """`job.workers` processes side by side; one that dies costs the run in its hands alone."""
    todo, done, tell = job.todo, job.done, job.tell
    count = min(job.workers or default_workers(), len(todo))
    context = multiprocessing.get_context("spawn")  # a forked child inherits torch's threads and CUDA broken
    processes: dict[Connection, Any] = {}
    holding: dict[Connection, Run] = {}
    owner = secrets.token_hex(8)  # in the claims of this sweep's workers: see Store.claim
    full = trouble = ""

    def start() -> None:
        # a pipe each: a worker killed while it writes to a shared queue would take the queue's lock with it
        receive, send = context.Pipe(duplex=False)
        runs = [run for run in todo if run.key not in done.failed]
        its_job = replace(job, todo=runs, sets={}, done=Sweep(runs, done.store), tell=_silent, owner=owner)
        arguments = (its_job, send)
        process = context.Process(target=_worker, args=arguments, daemon=True)
        with deaf():
            process.start()
            processes[receive] = process
        send.close()

    try:
        for _ in range(count):
            start()
        while processes:
            for worker in cast("list[Connection]", wait(list(processes))):
                try:
                    event, run, detail = worker.recv()
                except (EOFError, OSError):
                    process = processes.pop(worker)
                    process.join()
                    if (run := holding.pop(worker, None)) is not None:
                        # it died with a run in hand: blame the run, go on with the others
                        trace = (
                            f"its process ended with exit code {process.exitcode}: killed, or out of memory"
                        )
                        done.store.record_failure(run, trace)
                        done.failed[run.key] = trace
                        tell("failed", run, trace)
                        start()
                    elif process.exitcode:  # it would die again: nothing is known of why
                        trouble = (
                            f"a worker ended with exit code {process.exitcode} before it took a run. In a "
                            "script, call sweep below `if __name__ == '__main__':`; else see above, or try "
                            "executor='inline'"
                        )
                    continue
                if event == "trouble":
                    full = detail
                elif event == "out_of_time":
                    done.out_of_time = True
                    holding.pop(worker, None)
                elif event == "claimed":
                    holding[worker] = run
                elif event in ("done", "failed"):
                    holding.pop(worker, None)
                if event == "failed":
                    if run.key in done.failed:  # told by another worker, which found it failed
                        continue
                    done.failed[run.key] = detail
                if run is not None:
                    tell(event, run, detail)
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.join()
    if full:
        raise StoreError(full)
    if trouble:
        raise UserError(trouble)


@contextlib.contextmanager
def deaf() -> Iterator[None]:
    """Processes started inside do not hear Ctrl-C, which a terminal sends to all: their parent ends them.

    The parent hears it when the block ends; if it ignored the signal, one sent meanwhile would be lost.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # children inherit it
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _silent(event: str, run: Run, detail: Any) -> None:
    """A job's `tell` on its way to a worker, which puts in its own."""


def _worker(job: Job, events: Connection) -> None:
    torch.set_num_threads(1)

    def tell(event: str, run: Run, detail: Any) -> None:
        try:
            events.send((event, run, detail))
        except OSError:  # the parent is gone: stop as it would have told us to, not as a failure of the run
            raise KeyboardInterrupt from None

    try:
        sets = {data: load(data) for data in dict.fromkeys(run.data for run in job.todo)}
        inline(replace(job, sets=sets, tell=tell))
    except KeyboardInterrupt:
        return
    except StoreError as error:
        events.send(("trouble", None, str(error)))
    if job.done.out_of_time:
        events.send(("out_of_time", None, None))
