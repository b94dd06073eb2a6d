"""Measure the peak memory of a training, its workers included: each side in fresh processes.

Processes that fork share pages. The proportional set size counts a page shared by n processes as an n-th in
each, so the sum over a process tree is the memory that the tree takes from the machine; the resident set size
counts such a page n times.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from noiseutils.bench.epochs import embedded, run_of
from noiseutils.bench.plain import PlainLoop
from noiseutils.bench.ratios import Ratio, Side
from noiseutils.errors import UserError
from noiseutils.training.loop import train
from noiseutils.training.orphans import Guardian

READING_SECONDS = 0.05  # seconds between two readings


def training_memory(
    model: str = "resnet18",
    rounds: int = 3,
    *,
    width: float = 1.0,
    batch_size: int = 128,
    steps: int = 6,
    test: int = 300,
) -> list[Ratio]:
    """Measure the peak memory of a training and its evaluation: ours over the plain loop with its workers."""
    options = {"model": model, "width": width, "batch_size": batch_size, "steps": steps, "test": test}
    peaks: dict[str, list[tuple[int, int]]] = {"ours": [], "plain": []}
    for _ in range(rounds):
        for side, found in peaks.items():
            code = f"from noiseutils.bench import memory; memory.train_{side}(**{options!r})"
            found.append(peak_of([sys.executable, "-c", code]))
    ours, plain = (Side(side, tuple(float(size) for size, _ in found)) for side, found in peaks.items())
    what = f"peak memory of training {model}, batch {batch_size}, ours / plain with its workers"
    resident = {f"resident_bytes_{side}": [size for _, size in found] for side, found in peaks.items()}
    return [Ratio(f"{model}_memory", what, ours, plain, "bytes", resident | options)]


def train_ours(model: str, width: float, batch_size: int, steps: int, test: int) -> None:
    """Train on the embedded images once and evaluate, through `train`."""
    run = run_of(model, width=width, batch_size=batch_size, epochs=1)
    train(run, data=embedded(steps * batch_size, test), device="cpu")


def train_plain(model: str, width: float, batch_size: int, steps: int, test: int) -> None:
    """Train on the same images once and classify the test images, through the plain loop and its workers."""
    loop = PlainLoop(embedded(steps * batch_size, test), model, batch_size, width=width)
    loop.epoch()
    loop.accuracy()


def peak_of(command: Sequence[str]) -> tuple[int, int]:
    """Run a command to its end; return its process tree's largest (proportional, resident) bytes.

    Raises UserError where the system does not tell, RuntimeError when the command fails.
    """
    psutil = psutil_library()
    if not psutil.LINUX:
        raise UserError("peak memory is the sum of proportional set sizes: this needs Linux")
    proportional = resident = 0
    with tempfile.TemporaryFile() as errors, Guardian() as guardian:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        guardian.watch(process.pid)
        root = psutil.Process(process.pid)
        try:
            while process.poll() is None:
                sizes = [memory_of(one) for one in (root, *root.children(recursive=True))]
                proportional = max(proportional, sum(size[0] for size in sizes))
                resident = max(resident, sum(size[1] for size in sizes))
                time.sleep(READING_SECONDS)
        finally:
            process.kill()
            process.wait()
            guardian.forget(process.pid)
        if process.returncode:
            errors.seek(0)
            message = errors.read().decode(errors="replace")
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{message}")
    return proportional, resident


def memory_of(process: Any) -> tuple[int, int]:
    """Return the (proportional, resident) bytes of a `psutil.Process`, zeros once the process has ended."""
    try:
        sizes = process.memory_full_info()
    except psutil_library().NoSuchProcess:
        return 0, 0
    return sizes.pss, sizes.rss


def psutil_library() -> Any:
    """Return psutil. Raises UserError if the package is not installed."""
    try:
        import psutil
    except ImportError as error:
        raise UserError("psutil is not installed; pip install 'noiseutils[dev]'") from error
    return psutil
