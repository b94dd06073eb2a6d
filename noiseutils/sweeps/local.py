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
    count = min(job.workers or default_workers(), len(job.todo))
    replacements = count  # of processes killed with no run in hand, which each might be
    with Processes() as workers:

        def start() -> None:
            todo = [run for run in job.todo if run.key not in done.failed]
            workers.start(_work, todo, done.store, job.deadline, job.device, owner)

        def ended(run: Run | None, code: int | None) -> str:
            """Take note of a process's end; return what to say if runs are left that none has computed."""
            nonlocal replacements
            if run is not None and done.store.finished(run):  # it died before it could say so
                job.on_event("done", run, "")
            elif run is not None:  # blame the run, go on with the others
                why = "killed, or out of memory" if code and code < 0 else "the process reported no error"
                trace = f"the run's process ended with exit code {code}: {why}"
                done.store.record_failure(run, trace)
                done.failed[run.key] = trace
                job.on_event("failed", run, trace)
            elif not code:
                return ""
            elif code > 0:  # it would die again: nothing is known of why
                return (
                    f"a worker ended with exit code {code} before it took a run. In a script, call sweep "
                    "below `if __name__ == '__main__':`; else see above, or try executor='inline'"
                )
            elif not replacements:
                return (
                    f"workers were killed before they took a run (exit code {code}), perhaps for memory: try "
                    "fewer workers, or executor='inline'"
                )
            else:
                replacements -= 1
            start()
            return ""

        for _ in range(count):
            start()
        for worker, message in workers.messages():
            if isinstance(message, Ended):
                trouble = ended(holding.pop(worker, None), message.code) or trouble
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
            if event == "done":  # perhaps by another worker than the one that died of it
                done.failed.pop(run.key, None)
            job.on_event(event, run, detail)
    if trouble and len(done.missing) > len(done.failed):
        raise UserError(trouble)


def _work(
    send: Send, todo: Sequence[Run], store: Store, deadline: float | None, device: str | None, owner: str
) -> None:
    sets = {data: load(data) for data in dict.fromkeys(run.data for run in todo)}
    done = Sweep(todo, store)
    execute(Job(todo, sets, done, lambda *event: send(event), deadline, device, owner=owner))
    if done.out_of_time:
        send(("out_of_time", None, None))
