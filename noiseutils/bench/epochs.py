"""Time training epochs: beside the plain loop, beside the eager engine, and beside the machine's peak."""

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

EPOCH_IMAGES = 10_000  # an epoch of the benchmarks on CPU, of larger networks
CIFAR10_IMAGES = 50_000  # an epoch as users know it, where it takes seconds
BATCH_SIZE = 128


@functools.cache
def embedded(images: int, test: int = 100) -> Dataset:
    """Draw the embedded images, once a process."""
    return load(Data(train_size=images, test_size=test))


def synthetic(images: int) -> Dataset:
    """Draw random pixels of 32 x 32: for a GPU, whose epochs want more images than are drawn quickly."""
    random = torch.Generator().manual_seed(0)

    def split(n: int) -> Images:
        pixels = torch.randint(256, (n, 3, 32, 32), generator=random, dtype=torch.uint8)
        return Images(pixels, torch.arange(n) % 10)

    return Dataset(split(images), split(100), tuple("0123456789"), "random pixels", "")


def run_of(model: str, *, batch_size: int = BATCH_SIZE, width: float = 1.0, **fields: Any) -> Run:
    """Return a training with crop, flip and SGD with momentum, evaluated on clean images alone."""
    return Run(
        model=Model(name=model, width=width),
        optimizer=Optimizer(momentum=0.9),
        schedule=Schedule(learning_rate=0.01),
        batch_size=batch_size,
        augment=True,
        evaluation=Evaluation(recalibrate=False),
        **fields,
    )


def where(model: str, device: str) -> str:
    """Name an epoch in a table's row."""
    return f"epoch of {model}" if device == "cpu" else f"epoch of {model}, {device}"


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
    """Time one training's epochs in turn with other ways, which run between epochs; the training comes first.

    The first epoch and the first call of each way are the warm-up, compiling and recording included.
    """
    turns, mine = Turns(others), []

    def on_epoch(row: dict[str, float], checkpoint: object) -> None:
        mine.append(row["seconds"])
        turns.take()

    run = run.replace(epochs=rounds + 1)
    done = train(run, data=data, device=device, engine=engine, on_epoch=on_epoch)
    if done.status != "finished":
        raise RuntimeError(f"{run}: {done.status}, nothing to time")
    return {name: Side(name, tuple(mine[1:]), mine[0]), **turns.sides()}


def last_epoch(run: Run, data: Dataset, *, device: str = "cpu", engine: str = "auto") -> Way:
    """Return a call that trains anew and returns the last epoch's seconds; earlier epochs are its warm-up."""

    def once() -> float:
        result = train(run, data=data, device=device, engine=engine)
        return float(result.history.seconds.iloc[-1])

    return once


def epoch(
    model: str,
    rounds: int,
    data: Dataset,
    *,
    width: float = 1.0,
    device: str = "cpu",
    engine: str = "auto",
    workers: int = WORKERS,
) -> list[Ratio]:
    """Time an epoch with crop, flip and SGD with momentum: the plain loop and the eager engine, over ours."""
    run = run_of(model, width=width)
    loop = PlainLoop(data, model, BATCH_SIZE, device=device, workers=workers, width=width)
    # a new training on CUDA pays for its kernels again
    eager = run.replace(epochs=1 if device == "cpu" else 2)

    def plain() -> float:
        with ordinary_allocator():
            return loop.epoch()

    others = {
        f"plain loop, {workers} workers": plain,
        "train(run, engine='eager')": last_epoch(eager, data, device=device, engine="eager"),
    }
    sides = in_turn_with_training(run, data, others, rounds, device=device, engine=engine)
    ours, plainly, eagerly = sides.values()
    what = where(model, device)
    details = {"images": len(data.train), "batch": BATCH_SIZE, "device": device, "engine": engine}
    return [
        Ratio(f"{model}_epoch", f"{what}, plain / ours", plainly, ours, details=details),
        Ratio(
            f"{model}_epoch_eager",
            f"{what}, ours without engine or layout / ours",
            eagerly,
            ours,
            details=details,
        ),
    ]


def rate(
    model: str,
    rounds: int,
    data: Dataset,
    *,
    batch_size: int = BATCH_SIZE,
    width: float = 1.0,
    device: str = "cpu",
    engine: str = "auto",
) -> list[Ratio]:
    """Time an epoch's operations a second over those of the best matrix product, and of the best convolution.

    In bfloat16 on CUDA, where products alone are measured: see `machine.rates`.
    """
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    run = run_of(model, batch_size=batch_size, width=width)
    operations = work_of_named(model, width=width).operations * len(data.train)
    sides = in_turn_with_training(run, data, rates(device, dtype), rounds, device=device, engine=engine)
    ours = sides.pop("train(run)")
    mine = Side(ours.name, tuple(operations / s for s in ours.values), ours.warm_up)
    details = {
        "images": len(data.train),
        "batch": batch_size,
        "operations_an_epoch": operations,
        "seconds_an_epoch": ours.median,
        "peaks": peaks(sides),
    }
    what = f"operations a second, {where(model, device)}, batch {batch_size} / best {str(dtype)[6:]}"
    product = Ratio(
        f"{model}_rate", f"{what} matrix product", mine, best(sides, "product"), "operations/s", details
    )
    if device == "cuda":
        return [product]
    convolution = best(sides, "convolution")
    return [
        product,
        Ratio(f"{model}_rate_convolution", f"{what} convolution", mine, convolution, "operations/s"),
    ]
