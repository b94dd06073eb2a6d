"""The loop of every sweep: claim a run that nobody else holds, compute it, let go."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable

from noiseutils.config import Run
from noiseutils.errors import UserError
from noiseutils.sweeps.budget import CHECKPOINT_SECONDS, Clock, OutOfTime
from noiseutils.sweeps.jobs import POLL_SECONDS, Job
from noiseutils.sweeps.store import StoreError
from noiseutils.training.checkpoint import CannotResume, Checkpoint
from noiseutils.training.loop import train


def inline(job: Job) -> None:
    """One run after the other, in this process; a failing one is recorded and does not stop the others."""
    done, tell, clock = job.done, job.tell, Clock(job.deadline)
    pending = list(job.todo)
    while pending:
        waiting = len(pending)
        for run in list(pending):
            if done.store.finished(run):
                pending.remove(run)
                tell("done", run, None)
                continue
            with done.store.claim(run, job.owner) as mine:
                # between the look and the claim another process may have failed at it, or finished it
                if (trace := done.store.failure(run)) is not None:
                    done.failed[run.key] = trace
                    tell("failed", run, trace)
                elif not mine:
                    continue
                elif not done.store.finished(run):
                    tell("claimed", run, None)
                    try:
                        _compute(run, job, clock)
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


def _compute(run: Run, job: Job, clock: Clock) -> None:
    store, data, tell = job.done.store, job.sets[run.data], job.tell
    clock.start()
    saved = time.monotonic()

    def on_epoch(row: dict[str, float], snapshot: Callable[[], Checkpoint]) -> None:
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
        result = train(run, data=data, resume=resume, on_epoch=on_epoch, device=job.device)
    except CannotResume as reason:
        store.drop_checkpoint(run, str(reason))
        result = train(run, data=data, on_epoch=on_epoch, device=job.device)
    store.save(result)
    clock.lap()
    tell("done", run, None)
