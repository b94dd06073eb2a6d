"""Time several small trainings at once, over the same trainings one after another."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from noiseutils.bench.epochs import embedded, run_of
from noiseutils.bench.ratios import Ratio, Side
from noiseutils.config import Data, Run
from noiseutils.sweeps.store import Store
from noiseutils.sweeps.sweep import sweep


def side_by_side(
    model: str = "tinycnn",
    runs: int = 2,
    rounds: int = 3,
    *,
    images: int = 10_000,
    epochs: int = 3,
    width: float = 1.0,
    device: str = "cpu",
) -> list[Ratio]:
    """Time several seeds at once over the same seeds one after another: images a second.

    Trainings at once are a process each on CPU, which share the cores that a single one has to itself, and a
    thread each on CUDA. Seconds are those of training, from the first start to the last end: starting
    processes is not counted, which weighs less the longer a run is. Stores are temporary.
    """
    at_once, kind = ("local", "processes") if device == "cpu" else ("threads", "threads on one GPU")
    sizes = Data(train_size=images, test_size=10)
    wanted = [run_of(model, width=width, data=sizes, epochs=epochs, seed=seed) for seed in range(runs)]
    embedded(images, 10)
    trained = runs * epochs * images
    rates: dict[str, list[float]] = {at_once: [], "inline": []}
    for _ in range(rounds):
        for executor, values in rates.items():
            values.append(trained / _span(wanted, executor, runs, device))
    together, alone = (
        Side(name, tuple(rates[executor]))
        for name, executor in ((f"{runs} {kind}", at_once), ("one after another", "inline"))
    )
    where = f"{torch.get_num_threads()} threads" if device == "cpu" else device
    what = f"images a second, {runs} trainings of {model} side by side / one after another, {where}"
    name = "side_by_side" if device == "cpu" else f"{model}_{runs}_seeds"
    details = {"images": images, "epochs": epochs, "batch": wanted[0].batch_size}
    return [Ratio(name, what, together, alone, "images/s", details)]


def _span(runs: list[Run], executor: str, workers: int, device: str) -> float:
    """Return the seconds of training: inline summed, at once from the first start to the last end."""
    with tempfile.TemporaryDirectory() as folder:
        done = sweep(runs, Store(folder), executor, workers=workers, device=device, progress=False)
        if done.failed or len(done.results) != len(runs):
            raise RuntimeError("\n".join(done.failed.values()) or "a training is missing")
        lasted = {result.run.key: float(result.history.seconds.sum()) for result in done.results}
        if executor == "inline":
            return sum(lasted.values())
        # a result is stored when its training ends; test images are too few to count
        ends = {key: (Path(folder) / key / "history.csv").stat().st_mtime for key in lasted}
        return max(ends.values()) - min(ends[key] - lasted[key] for key in lasted)
