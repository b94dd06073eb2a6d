"""Train every run once with `sweep(runs, store)`, also where several processes sweep the same store.

There is one loop, `noiseutils.sweeps.execution`. Each process walks the list, claims a run that no other
process has claimed, computes the run and releases the claim. The executor `local` runs this loop in several
processes, `threads` in several threads, `ray` in the tasks of a cluster. Two terminals that sweep one store,
and a command that was killed and is repeated, work the same way.
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
from noiseutils.sweeps.threads import DEFAULT_WORKERS, threads
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
    """Train every run that is not stored yet. A failing run is recorded and does not stop the other runs.

    executor: one of

        inline       this process, with torch's present number of threads
        local        `workers` parallel processes of one thread each; default one a core, at most 4
        threads      `workers` threads on one GPU; default 8
        ray          `workers` parallel tasks of a Ray cluster; default as many as fit
        distributed  all processes of torchrun train each run together
        auto         under torchrun distributed; else for several runs threads on CUDA and local on CPU, and
                     for a single run this process, on CPU with one thread

    With "auto" the number of runs left does not change the bits of a result on CPU.
    budget: seconds; the sweep ends cleanly and resumable before this time is over.
    device: where to train; default CUDA where there is a GPU.
    cluster: for the executor "ray"; None starts Ray on this machine.
    Raises UserError for missing data, before anything is computed, and StoreError for a full disk. After
    Ctrl-C the same call resumes the sweep.
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
    """Return the executor of "auto": one run is trained in this process, several runs in parallel."""
    executor, workers = ("threads", DEFAULT_WORKERS) if on_cuda(job.device) else ("local", default_workers())
    return executor if min(job.workers or workers, len(job.todo)) > 1 else "inline"
