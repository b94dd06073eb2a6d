"""Kill sweeps at random moments, and compare what they end with to an undisturbed sweep.

    python tests/sweeps/kill_sweeps.py --kills 200

SIGKILL goes to the command itself or to one of its workers; the same command is called again until all runs
are stored, and then the next sweep begins. Afterwards SIGTERM and SIGINT, each as often as `--signals` says.
Ends with exit code 1 if a finished run was lost or written again, a result differs in a bit, or a process is
left five seconds after the command.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil
import torch
from left_over import LIMIT, LOAD, usual_signals
from small_runs import BASE, finished, same_result, written

from noiseutils.config import Run
from noiseutils.sweeps.store import Store
from noiseutils.sweeps.sweep import sweep

RUNS = [BASE.replace(seed=seed, epochs=60) for seed in range(4)]
MARK = "NOISEUTILS_KILLED_SWEEP"  # in the environment of all that a command starts

SWEEP = """
import sys
from noiseutils.config import Run
from noiseutils.sweeps import budget
from noiseutils.sweeps.store import Store
from noiseutils.sweeps.sweep import sweep

budget.CHECKPOINT_SECONDS = 0.0
if __name__ == "__main__":
    runs = [Run.model_validate_json(text) for text in sys.argv[3:]]
    sweep(runs, Store(sys.argv[1]), sys.argv[2], workers=2, device="cpu", progress=False)
"""


class Killer:
    """Sweeps in `folder`, killed at moments of a generator; counts what happened and lists what is wrong."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random, self.number = folder, random.Random(seed), 0
        self.counts, self.faults, self.slowest = Counter[str](), list[str](), 0.0
        self.script = folder / "sweep.py"
        self.script.write_text(SWEEP)
        sweep(RUNS, Store(folder / "whole"), "local", workers=1, device="cpu", progress=False)

    def sweep_once(self, kills: int, number: signal.Signals) -> int:
        """Begin a sweep, disturb it at most `kills` times, let it end, and return how often it was."""
        self.number += 1
        root, executor = self.folder / f"runs-{self.number}", self.random.choice(["inline", "local"])
        done = 0
        while True:
            before = finished(root)
            process = self.start(root, executor)
            while done < kills and process.poll() is None:
                done += self.disturb(process, root, executor, number)
            process.wait(timeout=300)
            self.check_left()
            now = finished(root)
            self.faults += [
                f"{key} was lost or written again" for key in before if now.get(key) != before[key]
            ]
            if len(now) == len(RUNS):
                break
        for run in RUNS:
            self.compare(run, root)
        self.counts["sweeps compared"] += 1
        return done

    def start(self, root: Path, executor: str) -> subprocess.Popen:
        command = [sys.executable, str(self.script), str(root), executor]
        return subprocess.Popen(
            [*command, *(run.model_dump_json() for run in RUNS)],
            env=os.environ | {MARK: str(self.folder), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=usual_signals,
        )

    def disturb(self, process: subprocess.Popen, root: Path, executor: str, number: signal.Signals) -> bool:
        """Send a signal at a random moment; return whether something was there to get it."""
        if self.random.random() < 0.8:  # while it computes, else perhaps while it starts
            before = written(root)
            while process.poll() is None and written(root) == before:
                time.sleep(0.005)
            time.sleep(self.random.uniform(0, 1))
        else:
            time.sleep(self.random.uniform(0, 5))
        targets = [other for other in self.alive() if "--multiprocessing-fork" in command_of(other)]
        if process.poll() is not None:
            return False
        if targets and number == signal.SIGKILL and self.random.random() < 0.6:
            self.random.choice(targets).send_signal(number)
            self.counts[f"{number.name} to a worker"] += 1
            return True
        process.send_signal(number)
        process.wait(timeout=60)
        self.counts[f"{number.name} to the command, {executor}"] += 1
        self.check_left()
        return True

    def alive(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                ours = process.environ().get(MARK) == str(self.folder)
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def check_left(self) -> None:
        """Wait until no process of an ended command is left."""
        begun = time.monotonic()
        while (left := self.alive()) and time.monotonic() - begun < LIMIT + LOAD:
            time.sleep(0.02)
        self.slowest = max(self.slowest, time.monotonic() - begun)
        self.faults += [f"left over: {command_of(process)}" for process in left]
        for process in left:
            process.kill()

    def compare(self, run: Run, root: Path) -> None:
        """Note a fault where a result is not the undisturbed one, bit for bit."""
        same = same_result(run, root, self.folder / "whole")
        if not same:
            self.faults.append(f"{run.key} differs from the undisturbed run")


def command_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def kill_sweeps(kills: int, signals: int, seed: int) -> Killer:
    """Disturb sweeps that often, and return what was seen."""
    with tempfile.TemporaryDirectory() as folder:
        killer = Killer(Path(folder), seed)
        for number, wanted in ((signal.SIGKILL, kills), (signal.SIGTERM, signals), (signal.SIGINT, signals)):
            done = 0
            while done < wanted:
                done += killer.sweep_once(min(wanted - done, killer.random.randint(1, 6)), number)
                print(f"{number.name}: {done} of {wanted}, {len(killer.faults)} faults", flush=True)
        return killer


def main() -> int:
    """Say what was done and what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--signals", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    words = parser.parse_args()
    torch.set_num_threads(1)
    killer = kill_sweeps(words.kills, words.signals, words.seed)
    for what, count in sorted(killer.counts.items()):
        print(f"{what:<32} {count}")
    print(f"longest until all processes were gone: {killer.slowest:.2f} s; faults: {len(killer.faults)}")
    print("\n".join(killer.faults))
    return 1 if killer.faults else 0


if __name__ == "__main__":
    sys.exit(main())
