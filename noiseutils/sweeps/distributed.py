"""The sweep of several processes that train each run together, one run after the other.

Rank 0 alone looks into the store, claims, writes and keeps the time; the others hear what it decided.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack

from noiseutils.config import Run
from noiseutils.errors import UserError
from noiseutils.sweeps import budget
from noiseutils.sweeps.budget import Clock, OutOfTime
from noiseutils.sweeps.jobs import POLL_SECONDS, Job
from noiseutils.sweeps.store import Store, StoreError
from noiseutils.training.checkpoint import CannotResume, Checkpoint
from noiseutils.training.distributed import alike, launched, local_device, on_rank0, rank, start
from noiseutils.training.loop import train


def under_torchrun(executor: str) -> str:
    """The executor as asked for; under torchrun "distributed", with the processes joined.

    Raises UserError for an executor that does not go with how this process was started.
    """
    if launched():
        if executor not in ("auto", "distributed"):
            raise UserError(
                f"executor {executor!r} does not go with torchrun, whose processes train every run together: "
                "leave the executor out, or torchrun"
            )
        start()
        return "distributed"
    if executor == "distributed":
        raise UserError(
            "executor 'distributed' needs several processes: "
            "torchrun --nproc-per-node 4 -m noiseutils sweep STUDY"
        )
    return executor


def train_together(job: Job) -> None:
    """The executor under torchrun; called on every rank with the same runs, `tell` is heard on rank 0.

    A run that fails on one rank ends on all and is recorded, and the next one is begun. Where one rank fails
    and the others do not hear of it, that process ends, and torchrun ends the others.
    """
    done, tell = job.done, job.tell
    clock, store, pending = Clock(job.deadline), done.store, list(job.todo)
    while pending:
        waiting = len(pending)
        for run in list(pending):
            with ExitStack() as claim:
                state, trace = on_rank0(lambda run=run, claim=claim: _state(run, store, claim))
                if state == "held":
                    continue
                pending.remove(run)
                if state == "claimed":
                    try:
                        _compute(run, job, clock)
                        state = "done"
                    except OutOfTime:
                        done.out_of_time = True
                        return
                    except StoreError:
                        raise
                    except Exception as error:
                        state = "failed"
                        trace = str(error) if isinstance(error, UserError) else traceback.format_exc()
                        if not alike(error):
                            if store.failure(run) is None:  # else this one lost the rank that died of its own
                                store.record_failure(run, trace)
                            raise
                        on_rank0(lambda run=run, trace=trace: store.record_failure(run, trace))
                if state == "failed":
                    done.failed[run.key] = trace
                if rank() == 0:
                    tell(state, run, trace)
        if len(pending) == waiting:  # all that is left is being computed by other sweeps
            if on_rank0(clock.over):
                done.out_of_time = True
                return
            time.sleep(POLL_SECONDS)


def _state(run: Run, store: Store, claim: ExitStack) -> tuple[str, str]:
    """One of done, failed (with the traceback), held by others, or claimed: until `claim` is closed."""
    if store.finished(run):
        return "done", ""
    if not claim.enter_context(store.claim(run)):
        return "held", ""
    # between the look and the claim another process may have failed at it, or finished it
    if (trace := store.failure(run)) is not None:
        return "failed", trace
    return ("done" if store.finished(run) else "claimed"), ""


def _compute(run: Run, job: Job, clock: Clock) -> None:
    store, data, tell = job.done.store, job.sets[run.data], job.tell
    on_rank0(clock.start)
    saved = time.monotonic()

    def on_epoch(row: dict[str, float], snapshot: Callable[[], Checkpoint]) -> None:
        nonlocal saved

        def look() -> tuple[bool, bool]:
            tell("epoch", run, row)
            over = clock.lap()
            return over or time.monotonic() - saved > budget.CHECKPOINT_SECONDS, over

        due, over = on_rank0(look)
        if due:
            taken = snapshot()
            on_rank0(lambda: store.save_checkpoint(run, taken))
            saved = time.monotonic()
        if over:
            raise OutOfTime

    place = job.device or str(local_device())
    resume = on_rank0(lambda: store.load_checkpoint(run))
    try:
        result = train(run, data=data, device=place, resume=resume, on_epoch=on_epoch)
    except CannotResume as reason:
        why = str(reason)
        on_rank0(lambda: store.drop_checkpoint(run, why))
        result = train(run, data=data, device=place, on_epoch=on_epoch)
    on_rank0(lambda: store.save(result))
    on_rank0(clock.lap)
