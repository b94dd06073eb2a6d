"""Kill nodes, workers and drivers of a Ray cluster at random moments, and compare with an inline sweep.

    python tests/sweeps/kill_ray.py --nodes 10 --workers 20 --drivers 3

Three nodes on this machine sweep 60 short runs; a lost node is replaced by another. When all runs are stored,
each result is compared with the inline sweep's, and the next sweep begins, until there were as many kills.
Ends with exit code 1 if a finished run was lost or written again, a result differs in a bit, or a process is
left five seconds after its driver, or after the cluster.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import torch
from left_over import LIMIT, LOAD, left_after, usual_signals
from ray_cluster import NODES, Cluster, add_node, lose_node, ray_cluster, training_on
from small_runs import BASE, finished, same_result, written

from noiseutils.config import Run
from noiseutils.sweeps.store import Store
from noiseutils.sweeps.sweep import sweep

SWEEP = """
import sys
import torch
from ray_stores import Eager
from noiseutils.config import Run
from noiseutils.sweeps.jobs import Cluster
from noiseutils.sweeps.sweep import sweep

torch.set_num_threads(1)
runs = [Run.model_validate_json(text) for text in open(sys.argv[3])]
done = sweep(runs, Eager(sys.argv[1]), "ray", cluster=Cluster(sys.argv[2]), device="cpu", progress=False)
for trace in done.failed.values():
    print("failed:", trace)
"""


class Killer:
    """Sweeps on `cluster`, disturbed at moments of a generator; counts what happened, lists what is wrong."""

    def __init__(
        self, folder: Path, cluster: Cluster, runs: list[Run], wanted: Counter[str], seed: int
    ) -> None:
        self.folder, self.cluster, self.runs = folder, cluster, runs
        self.wanted, self.random = wanted, random.Random(seed)
        self.counts, self.faults, self.slowest = Counter[str](), list[str](), 0.0
        self.kinds: dict[str, Callable[[subprocess.Popen], bool]] = {
            "node": self.kill_node,
            "worker": self.kill_worker,
            "driver": self.kill_driver,
        }
        (folder / "sweep.py").write_text(SWEEP)
        (folder / "runs").write_text("\n".join(run.model_dump_json() for run in runs))

    def sweep_once(self) -> None:
        """Sweep into a new store until all is there, disturbed while kills are wanted, and compare."""
        root = self.folder / f"store-{self.counts['sweeps compared']}"
        while True:
            before = finished(root)
            with (self.folder / "said").open("w") as said:
                process = subprocess.Popen(
                    [sys.executable, "sweep.py", str(root), self.cluster.address, "runs"],
                    cwd=self.folder,
                    stdout=said,
                    stderr=subprocess.STDOUT,
                    preexec_fn=usual_signals,
                )
            while process.poll() is None:
                self.disturb(process, root)
            self.counts["drivers"] += 1
            self.check_left()
            now = finished(root)
            self.faults += [
                f"{key} was lost or written again" for key in before if now.get(key) != before[key]
            ]
            text = (self.folder / "said").read_text()
            self.counts["runs given up for that sweep"] += text.count("\nfailed: ") + text.startswith(
                "failed: "
            )
            if process.returncode not in (0, -9):
                self.faults.append(f"a driver ended with {process.returncode}: {text[-2000:]}")
            if len(now) == len(self.runs):
                break
        for run in self.runs:
            self.compare(root, run)
        self.counts["sweeps compared"] += 1
        self.counts["runs that went on from a checkpoint"] += len(list(root.glob("resumed/*")))

    def disturb(self, process: subprocess.Popen, root: Path) -> None:
        """Kill something at a random moment after work was done, if more kills are wanted."""
        before = written(root)
        while process.poll() is None and written(root) == before:
            time.sleep(0.05)
        time.sleep(self.random.uniform(0, 2))
        left = {kind: self.wanted[kind] - self.counts[kind] for kind in self.kinds}
        if process.poll() is None and any(count > 0 for count in left.values()):
            kind = self.random.choices(list(left), [max(0, count) for count in left.values()])[0]
            self.counts[kind] += self.kinds[kind](process)

    def kill_node(self, process: subprocess.Popen) -> bool:
        lose_node(self.cluster, self.random.choice(sorted(self.cluster.worker_nodes, key=id)))
        add_node(self.cluster)
        return True

    def kill_worker(self, process: subprocess.Popen) -> bool:
        tasks = self.tasks()
        if tasks:
            self.random.choice(tasks).kill()
        return bool(tasks)

    def kill_driver(self, process: subprocess.Popen) -> bool:
        if not self.tasks():
            return False
        process.kill()
        process.wait()
        return True

    def tasks(self) -> list[psutil.Process]:
        return [process for node in self.cluster.worker_nodes for process in training_on(node)]

    def check_left(self) -> None:
        """Wait until no task of an ended driver is left."""
        begun = time.monotonic()
        while (left := self.tasks()) and time.monotonic() - begun < LIMIT + LOAD:
            time.sleep(0.02)
        self.slowest = max(self.slowest, time.monotonic() - begun)
        self.faults += [f"a task was left: {process}" for process in left]

    def compare(self, root: Path, run: Run) -> None:
        same = same_result(run, root, self.folder / "whole")
        if not same:
            self.faults.append(f"{run.key} differs from the inline sweep's")
        self.counts["results equal bit for bit"] += same


def main() -> int:
    """Say what was done and what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, count in (
        ("nodes", 10),
        ("workers", 20),
        ("drivers", 3),
        ("runs", 60),
        ("epochs", 30),
        ("seed", 0),
    ):
        parser.add_argument(f"--{name}", type=int, default=count)
    words = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    runs = [BASE.replace(seed=seed, epochs=words.epochs) for seed in range(words.runs)]
    wanted = Counter(node=words.nodes, worker=words.workers, driver=words.drivers)
    with tempfile.TemporaryDirectory() as name:
        sweep(runs, Store(Path(name) / "whole"), "inline", device="cpu", progress=False)
        with ray_cluster(NODES) as cluster:
            killer = Killer(Path(name), cluster, runs, wanted, words.seed)
            while any(killer.counts[kind] < count for kind, count in wanted.items()):
                killer.sweep_once()
                print(dict(killer.counts), len(killer.faults), "faults", flush=True)
            others = psutil.Process().children(recursive=True)
        killer.faults += [f"left of the cluster: {process}" for process in left_after(others)]
    for what, count in sorted(killer.counts.items()):
        print(f"{what:<40} {count}")
    print(f"longest until all tasks were gone: {killer.slowest:.2f} s; faults: {len(killer.faults)}")
    print("\n".join(killer.faults))
    return 1 if killer.faults else 0


if __name__ == "__main__":
    sys.exit(main())
