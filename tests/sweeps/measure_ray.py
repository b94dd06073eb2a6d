"""Measure what a run on Ray costs beside its training: empty runs and empty tasks of Ray, in turn.

    python tests/sweeps/measure_ray.py --runs 2000

A round is a part of the runs in one sweep, in which workers find each run done already, then as many tasks of
Ray that do nothing, with as many in its queue. Both have the same workers, which the first round starts and
no figure counts. Prints milliseconds a run, the median of the rounds, and the driver's memory.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path

import ray
import torch
from ray_cluster import ray_cluster
from small_runs import BASE

from noiseutils.config import Run
from noiseutils.sweeps.jobs import Cluster
from noiseutils.sweeps.ray import TASKS_AHEAD
from noiseutils.sweeps.store import Store
from noiseutils.sweeps.sweep import sweep

CPUS = 2
ROUNDS = 8


class Done(Store):
    """A store in which a run is missing when the driver first looks, and done when anybody looks again."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.looked: set[str] | None = set()

    def __setstate__(self, state):
        vars(self).update(state, looked=None)  # in a worker

    def finished(self, run: Run) -> bool:
        if self.looked is None or run.key in self.looked:
            return True
        self.looked.add(run.key)
        return False

    def fingerprint(self, run: Run) -> str | None:
        return None


def nothing() -> None:
    """A task of Ray that does nothing."""


def seconds_of_tasks(count: int) -> float:
    """Return how long that many empty tasks take, as many in Ray's queue as a sweep has there."""
    task = ray.remote(nothing).options(num_cpus=1, max_retries=0)
    begun, left, waiting = time.perf_counter(), count, []
    while left or waiting:
        sent = min(left, 2 * CPUS + TASKS_AHEAD - len(waiting))
        waiting += [task.remote() for _ in range(sent)]
        left -= sent
        ready, _ = ray.wait(waiting, num_returns=1)
        ready, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=0)
        ray.get(ready)
    return time.perf_counter() - begun


def seconds_of_runs(runs: list[Run], folder: Path) -> float:
    begun = time.perf_counter()
    done = sweep(runs, Done(folder), "ray", cluster=Cluster(), device="cpu", progress=False)
    assert not done.failed
    return time.perf_counter() - begun


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    count = parser.parse_args().runs // ROUNDS
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    runs = [BASE.replace(seed=seed) for seed in range(count * (ROUNDS + 1))]
    with ray_cluster(nodes=CPUS) as cluster, tempfile.TemporaryDirectory() as folder:
        ray.init(cluster.address, logging_level="WARNING")
        ours, theirs = [], []
        for number in range(ROUNDS + 1):
            ours.append(seconds_of_runs(runs[number * count : (number + 1) * count], Path(folder)))
            theirs.append(seconds_of_tasks(count))
        ray.shutdown()
    per_run, per_task = (1000 * statistics.median(times[1:]) / count for times in (ours, theirs))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{count * ROUNDS} runs in {ROUNDS} rounds: {per_run:.1f} ms a run, {per_task:.1f} ms a task of Ray"
    )
    print(f"beyond Ray's own: {per_run - per_task:.1f} ms a run; driver {memory:.0f} MB at most")
    print("rounds, ms a run:", *(f"{1000 * value / count:.1f}" for value in ours))
    print("rounds, ms a task:", *(f"{1000 * value / count:.1f}" for value in theirs))


if __name__ == "__main__":
    main()
