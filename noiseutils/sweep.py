"""`sweep(runs, store)`: every run once, whoever else is sweeping the same store.

There is one loop. Each process walks the list, claims a run that nobody else holds, computes it and lets go.
The `local` executor is several processes in that loop; two terminals, or a killed and repeated command, are
the same case.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import secrets
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, cast

import torch

from noiseutils.budget import CHECKPOINT_SECONDS, Clock, OutOfTime
from noiseutils.config import Data, Run
from noiseutils.data import Dataset, load
from noiseutils.distributed import decided, in_turn, rank
from noiseutils.distributed_sweep import train_together, under_torchrun
from noiseutils.errors import UserError, one_of
from noiseutils.preflight import check_images, check_networks, load_sets
from noiseutils.progress import Bar
from noiseutils.snapshot import CannotResume, Snapshot
from noiseutils.store import Store, StoreError
from noiseutils.train import Result, train

POLL_SECONDS = 0.2  # between two looks at runs that other processes hold


@dataclass
class Sweep:
    """What a sweep leaves: `failed` holds tracebacks by run key, `out_of_time` says the budget ended it."""

    runs: Sequence[Run]
    store: Store
    failed: dict[str, str] = field(default_factory=dict)
    out_of_time: bool = False

    @property
    def results(self) -> list[Result]:
        """The stored results, in the order of the runs; those that are not there are left out."""
        return [result for run in self.runs if (result := self.store.load(run)) is not None]

    @property
    def missing(self) -> list[Run]:
        """The runs without a result."""
        return [run for run in self.runs if not self.store.finished(run)]


Tell = Callable[[str, Run, Any], None]  # (event, run, detail): claimed, epoch, done, failed


def sweep(
    runs: Iterable[Run],
    store: Store,
    executor: str = "auto",
    *,
    workers: int | None = None,
    budget: float | None = None,
    device: str | None = None,
    progress: bool = True,
) -> Sweep:
    """Compute what is not stored yet; a failing run is recorded and does not stop the others.

    executor: "inline" (this process), "local" (`workers` processes side by side, default one a core, at
    most 4), "distributed" (under torchrun: all its processes train each run together), or "auto":
    distributed under torchrun; else local for several runs on CPU, where two small runs on a core each
    finish sooner than one after the other on both.
    budget: seconds; the sweep ends cleanly, resumable, before they are over.
    device: where to train, default CUDA where there is one.
    Missing data raises UserError before anything is computed; a full disk StoreError. Ctrl-C ends it and
    leaves a state that the same call takes up again.
    """
    deadline = None if budget is None else time.monotonic() + budget
    runs = list({run.key: run for run in runs}.values())
    done = Sweep(runs, store)
    if executor not in ("auto", *EXECUTORS):
        raise one_of("executor", executor, ("auto", *EXECUTORS))
    executor = under_torchrun(executor)
    todo = decided(lambda: [run for run in runs if not store.finished(run)])
    sets = in_turn(lambda: load_sets(runs, todo))
    decided(lambda: check_images(runs, sets, store))
    if not todo:
        return done
    if executor == "auto":
        on_cpu = not torch.cuda.is_available() if device is None else device == "cpu"
        executor = "local" if on_cpu and len(todo) > 1 and cores() > 1 else "inline"
    check_networks(todo, sets)
    for run in todo:
        decided(lambda run=run: store.forget_failure(run))  # a new sweep is a new attempt
    with Bar(todo, progress and rank() == 0) as bar:
        EXECUTORS[executor](todo, sets, done, bar.tell, deadline, device, workers)
    return done


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _inline(
    todo: list[Run],
    sets: dict[Data, Dataset],
    done: Sweep,
    tell: Tell,
    deadline: float | None,
    device: str | None,
    workers: int | None,
    owner: str = "",
) -> None:
    clock = Clock(deadline)
    pending = list(todo)
    while pending:
        waiting = len(pending)
        for run in list(pending):
            if done.store.finished(run):
                pending.remove(run)
                tell("done", run, None)
                continue
            with done.store.claim(run, owner) as mine:
                # between the look and the claim another process may have failed at it, or finished it
                if (trace := done.store.failure(run)) is not None:
                    done.failed[run.key] = trace
                    tell("failed", run, trace)
                elif not mine:
                    continue
                elif not done.store.finished(run):
                    tell("claimed", run, None)
                    try:
                        _compute(run, sets[run.data], done.store, tell, clock, device)
                    except OutOfTime:
                        done.out_of_time = True
                        return
                    except StoreError:
                        raise
                    except Exception as error:
                        trace = str(error) if isinstance(error, UserError) else traceback.format_exc()
                        done.store.record_failure(run, trace)
                        done.failed[run.key] = trace
                        tell("failed", run, trace)
                pending.remove(run)
        if len(pending) == waiting:  # all that is left is being computed by others
            if clock.over():
                done.out_of_time = True
                return
            time.sleep(POLL_SECONDS)


def _compute(run: Run, data: Dataset, store: Store, tell: Tell, clock: Clock, device: str | None) -> None:
    clock.start()
    saved = time.monotonic()

    def on_epoch(row: dict[str, float], snapshot: Callable[[], Snapshot]) -> None:
        nonlocal saved
        tell("epoch", run, row)
        over = clock.lap()
        if over or time.monotonic() - saved > CHECKPOINT_SECONDS:
            store.save_checkpoint(run, snapshot())
            saved = time.monotonic()
        if over:
            raise OutOfTime

    resume = store.load_checkpoint(run)
    try:
        result = train(run, data=data, device=device, resume=resume, on_epoch=on_epoch)
    except CannotResume as reason:
        store.drop_checkpoint(run, str(reason))
        result = train(run, data=data, device=device, on_epoch=on_epoch)
    store.save(result)
    clock.lap()
    tell("done", run, None)


def _local(
    todo: list[Run],
    sets: dict[Data, Dataset],
    done: Sweep,
    tell: Tell,
    deadline: float | None,
    device: str | None,
    workers: int | None,
) -> None:
    count = min(workers or min(cores(), 4), len(todo))
    context = multiprocessing.get_context("spawn")  # a forked child inherits torch's threads and CUDA broken
    processes: dict[Connection, Any] = {}
    holding: dict[Connection, Run] = {}
    owner = secrets.token_hex(8)  # in the claims of this sweep's workers: see Store.claim
    full = trouble = ""

    def start() -> None:
        # a pipe each: a worker killed while it writes to a shared queue would take the queue's lock with it
        receive, send = context.Pipe(duplex=False)
        runs = [run for run in todo if run.key not in done.failed]
        arguments = (runs, done.store, send, deadline, device, max(1, cores() // count), owner)
        process = context.Process(target=_worker, args=arguments, daemon=True)
        with _deaf():
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
def _deaf() -> Iterator[None]:
    """Processes started inside do not hear Ctrl-C, which a terminal sends to all: their parent ends them.

    The parent hears it when the block ends; if it ignored the signal, one sent meanwhile would be lost.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # children inherit it
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _worker(
    runs: list[Run],
    store: Store,
    events: Connection,
    deadline: float | None,
    device: str | None,
    threads: int,
    owner: str,
) -> None:
    torch.set_num_threads(threads)
    done = Sweep(runs, store)

    def tell(event: str, run: Run, detail: Any) -> None:
        try:
            events.send((event, run, detail))
        except OSError:  # the parent is gone: stop as it would have told us to, not as a failure of the run
            raise KeyboardInterrupt from None

    try:
        sets = {data: load(data) for data in dict.fromkeys(run.data for run in runs)}
        _inline(runs, sets, done, tell, deadline, device, None, owner)
    except KeyboardInterrupt:
        return
    except StoreError as error:
        events.send(("trouble", None, str(error)))
    if done.out_of_time:
        events.send(("out_of_time", None, None))


EXECUTORS: dict[str, Callable[..., None]] = {
    "inline": _inline,
    "local": _local,
    "distributed": train_together,
}
