"""Time an epoch of every network, beside its roofline."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from noiseutils.bench.epochs import BATCH_SIZE, EPOCH_IMAGES, embedded, run_of
from noiseutils.bench.machine import bandwidth, cache_bytes, peaks, rates
from noiseutils.bench.ratios import Turns
from noiseutils.bench.roofline import FLOAT_BYTES, Work, roofline_seconds, step_bytes, work_of_named
from noiseutils.data import Dataset
from noiseutils.models import MODELS
from noiseutils.training.loop import train

LARGEST_ACTIVATIONS = 2 << 30  # bytes that a measured step may hold; above, its batch is halved
HEAVY_STEP = 5e10  # operations of a step from which two steps are timed; below, sixteen


@dataclass(frozen=True)
class Models:
    """Hold all networks' epochs, see `measured`, and the rates that the machine reached meanwhile."""

    images: int
    batch: int
    device: str
    cache_bytes: int | None
    peaks: dict[str, Any]
    rows: list[dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """Return everything measured, with each network's roofline and its share."""
        # the peaks are known when all are measured: a roofline uses the fastest sample of the whole time
        return asdict(self) | {"rows": [row | self._roofline(row) for row in self.rows]}

    def _roofline(self, row: dict[str, Any]) -> dict[str, float]:
        least = roofline_seconds(
            work_of_named(row["model"]),
            self.images,
            row["batch"],
            rate=self.peaks["rate"],
            bandwidth=self.peaks["bandwidth"],
            # a cache of unknown size may hold everything
            cache=self.cache_bytes if self.cache_bytes is not None else 1 << 62,
        )
        return {"roofline_seconds": least, "share": least / row["seconds"]}


def models(names: Iterable[str] = tuple(MODELS)) -> list[Models]:
    """Time a few steps of each network on CPU; between them, measure the machine's rates."""
    turns = Turns({**rates(), "copy": bandwidth()})
    turns.take()
    rows = []
    for name in names:
        turns.take()
        rows.append(measured(name, embedded(EPOCH_IMAGES)))
    return [Models(EPOCH_IMAGES, BATCH_SIZE, "cpu", cache_bytes(), peaks(turns.sides()), rows)]


def measured(name: str, data: Dataset) -> dict[str, Any]:
    """Train a network for two short epochs, and time the second.

    Returns operations, counted, of an epoch of `IMAGES` images; step_bytes, computed, of a step of `batch`
    images, caches left out; seconds of the second epoch, of `steps` steps, scaled to `IMAGES` images;
    warm_up_seconds of the first, as many steps, not scaled.
    """
    work = work_of_named(name)
    batch = fitting(work, BATCH_SIZE)
    steps = 2 if work.operations * batch > HEAVY_STEP else 16
    few = replace(data, train=data.train.take(steps * batch), test=data.test.take(10))
    history = train(run_of(name, batch_size=batch, epochs=2), data=few, device="cpu").history
    first, second = history.seconds.tolist()
    return {
        "model": name,
        "operations": work.operations * EPOCH_IMAGES,
        "step_bytes": step_bytes(work, batch),
        "batch": batch,
        "steps": steps,
        "seconds": second * EPOCH_IMAGES / (steps * batch),
        "warm_up_seconds": first,
    }


def fitting(work: Work, batch: int) -> int:
    """Halve the batch until a step's activations take no more than `SAVED` bytes."""
    while batch > 1 and batch * work.saved * FLOAT_BYTES > LARGEST_ACTIVATIONS:
        batch //= 2
    return batch
