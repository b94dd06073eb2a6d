"""Training epochs: ours beside the plain loop, beside ours call by call, and beside the machine's peak."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch

from noiseutils.bench.machine import best, peaks, rates
from noiseutils.bench.plain import WORKERS, PlainLoop
from noiseutils.bench.ratios import Ratio, Side, Turns, Way
from noiseutils.bench.roofline import work_of_named
from noiseutils.config import Data, Evaluation, Model, Optimizer, Run, Schedule
from noiseutils.data import Dataset, Images, load
from noiseutils.training.allocator import ordinary_allocator
from noiseutils.training.loop import train

IMAGES = 10_000  # an epoch of the benchmarks on CPU, of larger networks
CIFAR10 = 50_000  # an epoch as users know it, where it takes seconds
BATCH = 128


@functools.cache
def embedded(images: int, test: int = 100) -> Dataset:
    """The embedded images, drawn once a process."""
    return load(Data(train_size=images, test_size=test))


def run_of(model: str, *, batch_size: int = BATCH, width: float = 1.0, **fields: Any) -> Run:
    """A training with crop, flip and SGD with momentum, evaluated on clean images alone."""
    return Run(
        model=Model(name=model, width=width),
        optimizer=Optimizer(momentum=0.9),
        schedule=Schedule(learning_rate=0.01),
        batch_size=batch_size,
        augment=True,
        evaluation=Evaluation(recalibrate=False),
        **fields,
    )


def in_turn_with_training(
    run: Run,
    data: Dataset,
    others: Mapping[str, Way],
    rounds: int,
    *,
    device: str = "cpu",
    engine: str = "auto",
    name: str = "train(run)",
) -> dict[str, Side]:
    """One training's epochs in turn with other ways, which run between them; the sides, ours first.

    The first epoch and the first call of each way are the warm-up, compiling and recording included.
    """
    turns, mine = Turns(others), []

    def on_epoch(row: dict[str, float], snapshot: object) -> None:
        mine.append(row["seconds"])
        turns.take()

    run = run.replace(epochs=rounds + 1)
    done = train(run, data=data, device=device, engine=engine, on_epoch=on_epoch)
    if done.status != "finished":
        raise RuntimeError(f"{run}: {done.status}, nothing to time")
    return {name: Side(name, tuple(mine[1:]), mine[0]), **turns.sides()}


def last_epoch(run: Run, data: Dataset, *, device: str = "cpu", engine: str = "auto") -> Way:
    """A call that trains anew and returns the last epoch's seconds; those before it are its warm-up."""

    def once() -> float:
        result = train(run, data=data, device=device, engine=engine)
        return float(result.history.seconds.iloc[-1])

    return once


def epoch(
    model: str,
    rounds: int,
    *,
    images: int = IMAGES,
    width: float = 1.0,
    device: str = "cpu",
    engine: str = "auto",
    workers: int = WORKERS,
    data: Dataset | None = None,
) -> list[Ratio]:
    """An epoch with crop, flip and SGD with momentum: the plain loop, and ours without engine, over ours."""
    data = embedded(images) if data is None else data
    run = run_of(model, width=width)
    loop = PlainLoop(data, model, BATCH, device=device, workers=workers, width=width)
    # a new training on CUDA pays for its kernels again
    eager = run.replace(epochs=1 if device == "cpu" else 2)

    def plain() -> float:
        with ordinary_allocator():
            return loop.epoch()

    others = {
        f"plain loop, {workers} workers": plain,
        "train(run, engine='eager')": last_epoch(eager, data, device=device, engine="eager"),
    }
    ours, plainly, eagerly = in_turn_with_training(
        run, data, others, rounds, device=device, engine=engine
    ).values()
    where = "" if device == "cpu" else f", {device}"
    details = {"images": len(data.train), "batch": BATCH, "device": device, "engine": engine}
    return [
        Ratio(f"{model}_epoch", f"epoch of {model}{where}, plain / ours", plainly, ours, details=details),
        Ratio(
            f"{model}_epoch_eager",
            f"epoch of {model}{where}, ours without engine or layout / ours",
            eagerly,
            ours,
            details=details,
        ),
    ]


def rate(model: str, rounds: int, *, images: int = IMAGES, width: float = 1.0) -> list[Ratio]:
    """Operations a second over a training epoch, by formula, over those of the best matrix product.

    The best convolution is measured in the same turns, and its ratio given beside: see `machine.rates`.
    """
    run, data = run_of(model, width=width), embedded(images)
    operations = work_of_named(model, width=width).operations * images
    sides = in_turn_with_training(run, data, rates(), rounds)
    ours = sides.pop("train(run)")
    mine = Side(ours.name, tuple(operations / s for s in ours.values), ours.warm_up)
    details = {
        "operations_an_epoch": operations,
        "seconds_an_epoch": ours.median,
        "peaks": peaks(sides),
    }
    kinds = {"product": "matrix product", "convolution": "convolution"}
    return [
        Ratio(
            f"{model}_rate" if kind == "product" else f"{model}_rate_{kind}",
            f"operations a second, epoch of {model} / best float32 {spoken}",
            mine,
            best(sides, kind),
            "operations/s",
            details if kind == "product" else {},
        )
        for kind, spoken in kinds.items()
    ]


def synthetic(images: int, test: int = 100, seed: int = 0) -> Dataset:
    """Random pixels of 32 x 32: for a GPU, whose epochs want more images than are drawn quickly."""
    random = torch.Generator().manual_seed(seed)

    def split(n: int) -> Images:
        pixels = torch.randint(256, (n, 3, 32, 32), generator=random, dtype=torch.uint8)
        return Images(pixels, torch.arange(n) % 10)

    classes = tuple("0123456789")
    return Dataset(split(images), split(test), classes, "random pixels", "")
