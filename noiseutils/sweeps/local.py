"""The executor of several processes on one machine: each is in the same loop, and trains runs of its own.

A process computes with one thread: the small networks of the studies gain little from more.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from multiprocessing.connection import Connection

from noiseutils.config import Run
from noiseutils.data import load
from noiseutils.errors import UserError
from noiseutils.sweeps.execution import execute
from noiseutils.sweeps.jobs import Job, Sweep, cores
from noiseutils.sweeps.processes import Ended, Processes, Send
from noiseutils.sweeps.store import Store


def default_workers() -> int:
    """Return how many runs go side by side on CPU by default: one a core, at most 4."""
    return min(cores(), 4)


def local(job: Job) -> None:
    """Train in `job.workers` processes side by side; one that dies costs the run in its hands alone."""
    done, trouble = job.done, ""
    owner = secrets.token_hex(8)  # in the claims of this sweep's workers: see Store.claim
    holding: dict[Connection, Run] = {}
    with Processes() as workers:

        def start() -> None:
            todo = [run for run in job.todo if run.key not in done.failed]
            workers.start(_work, todo, done.store, job.deadline, job.device, owner)

        for _ in range(min(job.workers or default_workers(), len(job.todo))):
            start()
        for worker, message in workers.messages():
            if isinstance(message, Ended):
                if (run := holding.pop(worker, None)) is not None:
                    # it died with a run in hand: blame the run, go on with the others
                    trace = f"its process ended with exit code {message.code}: killed, or out of memory"
                    done.store.record_failure(run, trace)
                    done.failed[run.key] = trace
                    job.on_event("failed", run, trace)
                    start()
                elif message.code:  # it would die again: nothing is known of why
                    trouble = (
                        f"a worker ended with exit code {message.code} before it took a run. In a script, "
                        "call sweep below `if __name__ == '__main__':`; else see above, or try "
                        "executor='inline'"
                    )
                continue
            event, run, detail = message
            if event == "claimed":
                holding[worker] = run
            elif event != "epoch":
                holding.pop(worker, None)
            if event == "out_of_time":
                done.out_of_time = True
                continue
            if event == "failed":
                if run.key in done.failed:  # another worker, which found it failed, said so before
                    continue
                done.failed[run.key] = detail
            job.on_event(event, run, detail)
    if trouble:
        raise UserError(trouble)


def _work(
    send: Send, todo: Sequence[Run], store: Store, deadline: float | None, device: str | None, owner: str
) -> None:
    sets = {data: load(data) for data in dict.fromkeys(run.data for run in todo)}
    done = Sweep(todo, store)
    execute(Job(todo, sets, done, lambda *event: send(event), deadline, device, owner=owner))
    if done.out_of_time:
        send(("out_of_time", None, None))
