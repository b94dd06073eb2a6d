"""`sweep(runs, store)`: every run once, whoever else is sweeping the same store.

There is one loop, `noiseutils.sweeps.execution`. Each process walks the list, claims a run that nobody else
holds, computes it and lets go. The `local` executor is several processes in that loop, `threads` several
threads, `ray` the tasks of a cluster; two terminals, or a killed and repeated command, are the same case.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext

from noiseutils.config import Run
from noiseutils.errors import UserError, one_of
from noiseutils.sweeps.execution import execute
from noiseutils.sweeps.jobs import Cluster, Job, Sweep, on_cuda, one_thread
from noiseutils.sweeps.local import default_workers, local
from noiseutils.sweeps.preflight import check_images, check_networks, load_sets
from noiseutils.sweeps.progress import Bar
from noiseutils.sweeps.ray import on_ray
from noiseutils.sweeps.store import Store
from noiseutils.sweeps.threads import WORKERS, threads
from noiseutils.training.distributed import in_turn, launched, on_rank0, rank, start

EXECUTORS: dict[str, Callable[[Job], None]] = {
    "inline": execute,
    "local": local,
    "threads": threads,
    "ray": on_ray,  # tasks of a Ray cluster
    "distributed": execute,  # in all processes of torchrun
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
    cluster: Cluster | None = None,
) -> Sweep:
    """Compute what is not stored yet; a failing run is recorded and does not stop the others.

    executor: "inline" (this process, with as many threads as torch has here), "local" (`workers` processes of
    one thread side by side, default one a core, at most 4), "threads" (`workers` threads on one GPU, default
    8), "ray" (tasks of a Ray cluster, default as many as fit), "distributed" (under torchrun: all its
    processes train each run together), or "auto": distributed under torchrun, else for one run this process,
    on CPU with one thread, and for several threads on CUDA, local on CPU. So what is left to do does not
    change the bits of a result on CPU.
    budget: seconds; the sweep ends cleanly, resumable, before they are over.
    device: where to train, default CUDA where there is one.
    cluster: of the executor "ray", which without one starts Ray on this machine.
    Missing data raises UserError before anything is computed; a full disk StoreError. Ctrl-C ends it and
    leaves a state that the same call takes up again.
    """
    deadline = None if budget is None else time.monotonic() + budget
    runs = list({run.key: run for run in runs}.values())
    done = Sweep(runs, store)
    if executor not in ("auto", *EXECUTORS):
        raise one_of("executor", executor, ("auto", *EXECUTORS))
    if cluster is not None and executor != "ray":
        raise UserError(f"an address, CPUs or GPUs of a cluster go with executor 'ray', not {executor!r}")
    if launched():
        if executor not in ("auto", "distributed"):
            raise UserError(
                f"executor {executor!r} does not go with torchrun, whose processes train every run together: "
                "leave the executor out, or torchrun"
            )
        executor = "distributed"
        start()
    elif executor == "distributed":
        raise UserError(
            "executor 'distributed' needs several processes: "
            "torchrun --nproc-per-node 4 -m noiseutils sweep STUDY"
        )
    on_rank0(store.check_root)
    todo = on_rank0(lambda: [run for run in runs if not store.finished(run)])
    sets = in_turn(lambda: load_sets(runs, todo))
    on_rank0(lambda: check_images(runs, sets, store))
    if not todo:
        return done
    check_networks(todo, sets)
    for run in todo:
        on_rank0(lambda run=run: store.forget_failure(run))  # a new sweep is a new attempt
    with Bar(todo, progress and rank() == 0) as bar:
        job = Job(
            todo,
            sets,
            done,
            bar.on_event,
            deadline,
            device,
            workers,
            cluster=cluster or Cluster(),
            describe=bar.describe,
        )
        if executor == "auto":
            with nullcontext() if on_cuda(device) else one_thread():
                EXECUTORS[chosen(job)](job)
        else:
            EXECUTORS[executor](job)
    return done


def chosen(job: Job) -> str:
    """Return the executor of "auto": one run is trained in this process, several go side by side."""
    executor, workers = ("threads", WORKERS) if on_cuda(job.device) else ("local", default_workers())
    return executor if min(job.workers or workers, len(job.todo)) > 1 else "inline"
