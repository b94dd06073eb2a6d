"""A sweep's task and its outcome: the values that all executors share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from noiseutils.config import Data, Run
from noiseutils.data import Dataset
from noiseutils.errors import UserError
from noiseutils.sweeps.store import Store
from noiseutils.training.loop import Result

MOST_DEVICES = 1024  # CPUs, or GPUs, of one run
OnEvent = Callable[[str, Run, Any], None]  # (event, run, detail): claimed, epoch, done, failed


@dataclass
class Sweep:
    """Outcome of a sweep: `failed` holds tracebacks by run key; `out_of_time`: the budget ended it."""

    runs: Sequence[Run]
    store: Store
    failed: dict[str, str] = field(default_factory=dict)
    out_of_time: bool = False

    @property
    def results(self) -> list[Result]:
        """Return the stored results, in the order of the runs; those that are not there are left out."""
        return [result for run in self.runs if (result := self.store.load(run)) is not None]

    @property
    def missing(self) -> list[Run]:
        """Return the runs without a result."""
        return [run for run in self.runs if not self.store.finished(run)]


@dataclass(frozen=True)
class Cluster:
    """Ray cluster to train on, and what each run takes of it.

    address: "auto" or "ray://HOST:PORT"; None for $RAY_ADDRESS, and without that for Ray on this machine.
    cpus: of a run, which computes with as many threads.   gpus: share of a GPU, or whole ones; None for what
    the memory of its network takes where the cluster has GPUs, an eighth at least, else none.
    """

    address: str | None = None
    cpus: float = 1.0
    gpus: float | None = None

    def __post_init__(self) -> None:
        """Raise UserError for what no machine has."""
        if not 0 < self.cpus <= MOST_DEVICES:
            raise UserError(f"cpus is {self.cpus}; allowed: more than 0, at most {MOST_DEVICES:,}")
        if self.gpus is not None and not (0 <= self.gpus <= 1 or self.gpus in range(2, MOST_DEVICES)):
            raise UserError(f"gpus is {self.gpus}; allowed: a share from 0 to 1, or a whole number")


@dataclass(frozen=True)
class Job:
    """Runs to compute, and how.

    sets: the images, by their configuration.   done: takes failures.   on_event: called at each event.
    deadline: on the monotonic clock.   device: None for CUDA where there is one.   workers: how many runs
    side by side, None for the executor's choice.
    owner: what the claims of one sweep's workers have in common.
    cluster: of the executor ray.   shared: whether others have parts of the run's GPU, so that to lack memory
    is no failure of the run.   describe: shows where runs are computed, beside the progress.
    """

    todo: Sequence[Run]
    sets: Mapping[Data, Dataset]
    done: Sweep
    on_event: OnEvent
    deadline: float | None = None
    device: str | None = None
    workers: int | None = None
    owner: str = ""
    cluster: Cluster = Cluster()
    shared: bool = False
    describe: Callable[[str], None] = lambda text: None


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def on_cuda(device: str | None) -> bool:
    """Return whether a device, None for CUDA where there is one, is a GPU of CUDA."""
    return torch.cuda.is_available() if device is None else device.startswith("cuda")


@contextmanager
def one_thread() -> Iterator[None]:
    """Give torch one thread inside the block, as each of several runs side by side on CPU has.

    Sums over threads round differently for another number of threads. With more than one, the step of a
    narrow network is waiting above all: on two cores that others use, too, two take ten times as long.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
