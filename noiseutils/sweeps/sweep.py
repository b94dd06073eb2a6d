"""`sweep(runs, store)`: every run once, whoever else is sweeping the same store.

There is one loop, `noiseutils.sweeps.inline`. Each process walks the list, claims a run that nobody else
holds, computes it and lets go. The `local` executor is several processes in that loop, `streams` several
threads; two terminals, or a killed and repeated command, are the same case.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

import torch

from noiseutils.config import Run
from noiseutils.errors import one_of
from noiseutils.sweeps.distributed import train_together, under_torchrun
from noiseutils.sweeps.inline import inline
from noiseutils.sweeps.jobs import Job, Sweep
from noiseutils.sweeps.local import default_workers, local
from noiseutils.sweeps.planning import WORTH_A_TRY, Plan, plans
from noiseutils.sweeps.preflight import check_images, check_networks, load_sets
from noiseutils.sweeps.progress import Bar
from noiseutils.sweeps.store import Store
from noiseutils.sweeps.threads import WORKERS, streams
from noiseutils.training.distributed import in_turn, on_rank0, rank

EXECUTORS: dict[str, Callable[[Job], None]] = {
    "inline": inline,
    "local": local,
    "streams": streams,
    "distributed": train_together,
}


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
    most 4), "streams" (`workers` threads on one GPU, default 8), "distributed" (under torchrun: all its
    processes train each run together), or "auto": distributed under torchrun; else for several runs what is
    done soonest here, local or streams, or inline where `planning` has measured that to be faster.
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
    todo = on_rank0(lambda: [run for run in runs if not store.finished(run)])
    sets = in_turn(lambda: load_sets(runs, todo))
    on_rank0(lambda: check_images(runs, sets, store))
    if not todo:
        return done
    check_networks(todo, sets)
    for run in todo:
        on_rank0(lambda run=run: store.forget_failure(run))  # a new sweep is a new attempt
    with Bar(todo, progress and rank() == 0) as bar:
        job = Job(todo, sets, done, bar.tell, deadline, device, workers)
        for work, part in [(EXECUTORS[executor], job)] if executor != "auto" else _divided(job):
            if not done.out_of_time:
                work(part)
    return done


def _divided(job: Job) -> list[tuple[Callable[[Job], None], Job]]:
    """Which executor takes which runs, and with which engines: those side by side first."""
    on_cuda = torch.cuda.is_available() if job.device is None else job.device.startswith("cuda")
    together, count = (streams, WORKERS) if on_cuda else (local, default_workers())
    count = min(job.workers or count, len(job.todo))
    if job.deadline is None or job.deadline - time.monotonic() > WORTH_A_TRY:
        plan = plans(job.todo, job.sets, count, "cuda" if on_cuda else "cpu")
    else:  # a short budget is for training
        plan = {run.key: Plan() for run in job.todo}
    job = replace(job, engines={key: its.engine for key, its in plan.items()})
    several = [run for run in job.todo if plan[run.key].side_by_side] if count > 1 else []
    alone = [run for run in job.todo if run not in several]
    if len(several) == 1:
        several, alone = [], list(job.todo)
    parts = ((together, several), (inline, alone))
    return [(work, replace(job, todo=runs)) for work, runs in parts if runs]
