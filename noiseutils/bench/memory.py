"""Peak memory of a training, its workers included: both sides in fresh processes, watched from outside.

Processes that fork share pages. The proportional set size counts a page shared by n processes as an n-th in
each, so its sum over a process tree is what the tree takes from the machine; the resident set size counts it
n times. Both come from Linux's /proc.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from noiseutils.bench.ratios import Ratio, Side
from noiseutils.errors import UserError

INTERVAL = 0.05  # seconds between two looks
PROC = Path("/proc")


def training_memory(
    model: str = "resnet18",
    rounds: int = 3,
    *,
    width: float = 1.0,
    batch_size: int = 128,
    steps: int = 6,
    test: int = 300,
) -> list[Ratio]:
    """Peak memory of a training and the evaluation after it: ours over the plain loop with its workers."""
    options = {"model": model, "width": width, "batch-size": batch_size, "steps": steps, "test": test}
    arguments = [f"--{name}={value}" for name, value in options.items()]
    proportional: dict[str, list[float]] = {"ours": [], "plain": []}
    resident: dict[str, list[float]] = {"ours": [], "plain": []}
    for _ in range(rounds):
        for side in proportional:
            command = [sys.executable, "-m", "noiseutils.bench.one_training", side, *arguments]
            for sizes, peak in zip((proportional, resident), peak_of(command), strict=True):
                sizes[side].append(float(peak))
    ours, plain = (Side(side, tuple(sizes)) for side, sizes in proportional.items())
    what = f"peak memory of training {model}, batch {batch_size}, ours / plain with its workers"
    details = {f"resident_bytes_{side}": sizes for side, sizes in resident.items()} | options
    return [Ratio(f"{model}_memory", what, ours, plain, "bytes", details)]


def peak_of(command: Sequence[str]) -> tuple[int, int]:
    """Run a command to its end; the largest sums over its process tree: (proportional, resident), bytes.

    Raises UserError where the system does not tell, RuntimeError when the command fails.
    """
    if not (PROC / "self" / "smaps_rollup").exists():
        raise UserError("peak memory is read from /proc/<pid>/smaps_rollup: this needs Linux")
    proportional = resident = 0
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        try:
            while process.poll() is None:
                sizes = [memory_of(pid) for pid in tree(process.pid)]
                proportional = max(proportional, sum(size[0] for size in sizes))
                resident = max(resident, sum(size[1] for size in sizes))
                time.sleep(INTERVAL)
        finally:
            process.kill()
            process.wait()
        if process.returncode:
            errors.seek(0)
            said = errors.read().decode(errors="replace")
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{said}")
    return proportional, resident


def tree(root: int) -> list[int]:
    """A process and all below it, by id."""
    parents: dict[int, list[int]] = {}
    for name in os.listdir(PROC):
        if name.isdigit():
            try:
                # the command's name, in parentheses, may hold spaces and parentheses itself
                fields = (PROC / name / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has ended
                continue
            parents.setdefault(int(fields[1]), []).append(int(name))
    found = [root]
    for pid in found:
        found += parents.get(pid, [])
    return found


def memory_of(pid: int) -> tuple[int, int]:
    """(proportional, resident) set size in bytes; zeros for a process that has ended."""
    try:
        lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0, 0
    sizes = {line.split(":")[0]: line.split()[1] for line in lines[1:]}
    return int(sizes.get("Pss", 0)) * 1024, int(sizes.get("Rss", 0)) * 1024
