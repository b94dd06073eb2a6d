"""The loop of every sweep: claim a run that nobody else holds, compute it, let go.

Of several processes that train each run together, rank 0 alone looks into the store, claims, writes and keeps
the time; the others get its decisions.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

import torch

from noiseutils.config import Run
from noiseutils.errors import UserError
from noiseutils.sweeps import budget
from noiseutils.sweeps.budget import Clock, OutOfTime
from noiseutils.sweeps.jobs import Job
from noiseutils.sweeps.store import StoreError
from noiseutils.training.checkpoint import CannotResume, Checkpoint
from noiseutils.training.distributed import alike, on_rank0, rank
from noiseutils.training.loop import train

POLL_SECONDS = 0.2  # between two looks at runs that other processes hold


def execute(job: Job) -> None:
    """Compute one run after the other; a failing run is recorded and does not stop the other runs.

    Under torchrun every rank calls this function with the same runs; `job.on_event` is called on rank 0. A
    run that fails on one rank ends on all ranks. If the other ranks cannot be told of an error, the rank that
    fails exits, and torchrun ends the other ranks.
    """
    done, clock, pending = job.done, Clock(job.deadline), list(job.todo)
    while pending:
        waiting = len(pending)
        for run in list(pending):
            state = attempt(run, job, clock)
            if state == "out_of_time":
                done.out_of_time = True
                return
            if state != "held":
                pending.remove(run)
        if len(pending) == waiting:  # all that is left is being computed by others
            if on_rank0(clock.over):
                done.out_of_time = True
                return
            time.sleep(POLL_SECONDS)


def attempt(run: Run, job: Job, clock: Clock) -> str:
    """Claim a run, compute it and let go; return done, failed, out_of_time, or held (by another process).

    Of a job that shares a GPU also memory: there was too little, which is no failure.

    A failure is recorded in the store and in `job.done`. StoreError is raised: no run is to blame for it.
    """
    done = job.done
    with ExitStack() as claim:
        state, trace = on_rank0(partial(claim_run, run, job, claim))
        if state == "held":
            return state
        if state == "claimed":
            try:
                _compute(run, job, clock)
                state = "done"
            except OutOfTime:
                return "out_of_time"
            except StoreError:
                raise
            except Exception as error:
                if job.shared and isinstance(error, torch.OutOfMemoryError):
                    return "memory"
                state = "failed"
                trace = str(error) if isinstance(error, UserError) else traceback.format_exc()
                if not alike(error):
                    if done.store.failure(run) is None:  # else this one lost the rank that failed
                        done.store.record_failure(run, trace)
                    raise
                on_rank0(partial(done.store.record_failure, run, trace))
        if state == "failed":
            done.failed[run.key] = trace
        if rank() == 0:
            job.on_event(state, run, trace)
        return state


def claim_run(run: Run, job: Job, claim: ExitStack) -> tuple[str, str]:
    """Return done, failed (with the traceback), held by others, or claimed: until `claim` is closed."""
    store = job.done.store
    if store.finished(run):
        return "done", ""
    mine = claim.enter_context(store.claim(run, job.owner))
    # between the look and the claim another process may have failed at it, or finished it
    if (trace := store.failure(run)) is not None:
        return "failed", trace
    if not mine:
        return "held", ""
    if store.finished(run):
        return "done", ""
    job.on_event("claimed", run, None)
    if job.owner:
        store.mark(run, job.owner)
    return "claimed", ""


def _compute(run: Run, job: Job, clock: Clock) -> None:
    """Train a run, from its checkpoint if there is one, and store the result."""
    store = job.done.store
    on_rank0(clock.start)
    saved = time.monotonic()

    def on_epoch(row: dict[str, float], snapshot: Callable[[], Checkpoint]) -> None:
        nonlocal saved

        def look() -> tuple[bool, bool]:
            job.on_event("epoch", run, row)
            over = clock.lap()
            return over or time.monotonic() - saved > budget.CHECKPOINT_SECONDS, over

        due, over = on_rank0(look)
        if due:
            taken = snapshot()
            on_rank0(lambda: store.save_checkpoint(run, taken))
            saved = time.monotonic()
        if over:
            raise OutOfTime

    options = {"data": job.sets[run.data], "device": job.device, "on_epoch": on_epoch}
    resume = on_rank0(lambda: store.load_checkpoint(run))
    try:
        result = train(run, resume=resume, **options)
    except CannotResume as reason:
        on_rank0(partial(store.drop_checkpoint, run, str(reason)))
        result = train(run, **options)
    on_rank0(lambda: store.save(result))
    on_rank0(clock.lap)
