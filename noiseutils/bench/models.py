"""Seconds per epoch of every network, beside the least that it could take."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from noiseutils.bench.epochs import BATCH, IMAGES, embedded, run_of
from noiseutils.bench.machine import bandwidth, cache_bytes, peaks, rates
from noiseutils.bench.ratios import Turns
from noiseutils.bench.roofline import FLOAT, Work, floor_seconds, step_bytes, work_of_named
from noiseutils.data import Dataset
from noiseutils.models import MODELS
from noiseutils.training.loop import train

SAVED = 2 << 30  # bytes of activations that a measured step may hold; above, its batch is halved
HEAVY = 5e10  # operations of a step from which two steps are timed; below, sixteen


@dataclass(frozen=True)
class Measured:
    """One network's epoch of `IMAGES` images.

    operations: by formula, of the epoch.   step_bytes: by formula, of a step of `batch` images, caches left
    out.   seconds: measured on `steps` steps of `batch` images in the epoch after the warm-up, and scaled.
    warm_up_seconds: the first epoch, as many steps, not scaled.
    """

    model: str
    operations: int
    step_bytes: int
    batch: int
    steps: int
    seconds: float
    warm_up_seconds: float


@dataclass(frozen=True)
class Models:
    """All of them, and what the machine reached meanwhile."""

    images: int
    batch: int
    device: str
    cache_bytes: int | None
    peaks: dict[str, Any]
    rows: tuple[Measured, ...]

    def to_json(self) -> dict[str, Any]:
        """Everything measured, with each network's floor and its share."""
        # the peaks are known when all are measured: a floor uses the fastest sample of the whole time
        return asdict(self) | {"rows": [asdict(row) | self._floor(row) for row in self.rows]}

    def _floor(self, row: Measured) -> dict[str, float]:
        # without the cache's size nobody knows what has to leave it
        least = floor_seconds(
            work_of_named(row.model),
            self.images,
            row.batch,
            rate=self.peaks["rate"],
            bandwidth=self.peaks["bandwidth"],
            cache=self.cache_bytes if self.cache_bytes is not None else 1 << 62,
        )
        return {"floor_seconds": least, "share": least / row.seconds}


def models(names: Iterable[str] = tuple(MODELS), *, peak_rounds: int = 1) -> list[Models]:
    """Time a few steps of each network on CPU; between them, what the machine can compute and move."""
    turns = Turns({**rates(), "copy": bandwidth()})
    turns.take()
    rows = []
    for name in names:
        for _ in range(peak_rounds):
            turns.take()
        rows.append(measured(name, embedded(IMAGES)))
    return [Models(IMAGES, BATCH, "cpu", cache_bytes("cpu"), peaks(turns.sides()), tuple(rows))]


def measured(name: str, data: Dataset, batch: int = BATCH) -> Measured:
    """Train a network for two short epochs; the second is timed."""
    work = work_of_named(name)
    batch = fitting(work, batch)
    steps = 2 if work.operations * batch > HEAVY else 16
    few = replace(data, train=data.train.take(steps * batch), test=data.test.take(10))
    history = train(run_of(name, batch_size=batch, epochs=2), data=few, device="cpu").history
    first, second = history.seconds.tolist()
    return Measured(
        model=name,
        operations=work.operations * IMAGES,
        step_bytes=step_bytes(work, batch),
        batch=batch,
        steps=steps,
        seconds=second * IMAGES / (steps * batch),
        warm_up_seconds=first,
    )


def fitting(work: Work, batch: int) -> int:
    """The batch, halved until a step's activations take no more than `SAVED`."""
    while batch > 1 and batch * work.saved * FLOAT > SAVED:
        batch //= 2
    return batch
