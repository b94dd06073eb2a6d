"""What needs a GPU to say anything: engines, bfloat16, seeds together. The device is a parameter for tests.

The sweep of the whole NoisyDropout study is no benchmark of this kind: `noiseutils sweep noisy_dropout` times
itself.
"""

from __future__ import annotations

import torch

from noiseutils.bench.epochs import BATCH, epoch, in_turn_with_training, last_epoch, run_of, synthetic
from noiseutils.bench.machine import best, peaks, rates
from noiseutils.bench.plain import WORKERS
from noiseutils.bench.ratios import Ratio, Side, interleaved, seconds
from noiseutils.bench.roofline import work_of_named
from noiseutils.bench.side_by_side import side_by_side
from noiseutils.bench.steps import ANL_NOISE, SPOKEN
from noiseutils.data import batches

CUDA = "cuda"
EPOCH = 50_000  # images, as many as CIFAR-10 has to train on


def bf16_epoch(
    model: str = "resnet18",
    rounds: int = 3,
    *,
    images: int = EPOCH,
    batch_size: int = 512,
    width: float = 1.0,
    device: str = CUDA,
    engine: str = "compiled",
) -> list[Ratio]:
    """An epoch in bfloat16, channels last, compiled: its operations a second over the best product's.

    The seconds are in the details. On CPU nothing is bfloat16: that is for tests.
    """
    dtype = torch.bfloat16 if device == CUDA else torch.float32
    run, data = run_of(model, batch_size=batch_size, width=width), synthetic(images)
    operations = work_of_named(model, width=width).operations * images
    sides = in_turn_with_training(run, data, rates(device, dtype), rounds, device=device, engine=engine)
    ours = sides.pop("train(run)")
    rate = Side(f"train(run, engine={engine!r})", tuple(operations / s for s in ours.values), ours.warm_up)
    details = {
        "images": images,
        "batch": batch_size,
        "operations_an_epoch": operations,
        "seconds_an_epoch": ours.median,
        "peaks": peaks(sides),
    }
    what = f"operations a second, epoch of {model} in bfloat16, batch {batch_size} / best matrix product"
    return [Ratio(f"{model}_bf16_epoch", what, rate, best(sides, "product"), "operations/s", details)]


def plain_epoch(
    model: str = "resnet18",
    rounds: int = 3,
    *,
    images: int = EPOCH,
    width: float = 1.0,
    workers: int = WORKERS,
    device: str = CUDA,
) -> list[Ratio]:
    """The plain loop over ours."""
    data = synthetic(images)
    plain, _ = epoch(model, rounds, width=width, device=device, engine="graphed", workers=workers, data=data)
    return [Ratio(f"{model}_plain", plain.what, plain.above, plain.below, details=plain.details)]


def graphed(
    model: str, rounds: int = 3, *, images: int = 10_000, width: float = 1.0, device: str = CUDA
) -> list[Ratio]:
    """An epoch call by call over one whose steps are recorded once and replayed."""
    run, data = run_of(model, width=width), synthetic(images)
    eager = last_epoch(run.replace(epochs=2), data, device=device, engine="eager")
    sides = in_turn_with_training(
        run, data, {"eager": eager}, rounds, device=device, engine="graphed", name="graphed"
    )
    what = f"epoch of {model}, batch {BATCH}, {device}, call by call / as a graph"
    return [Ratio(f"{model}_graphed", what, sides["eager"], sides["graphed"], details={"images": images})]


def noise_epochs(
    model: str = "vgg16",
    rounds: int = 3,
    *,
    images: int = 10_000,
    width: float = 1.0,
    batch_size: int = BATCH,
    device: str = CUDA,
    engine: str = "graphed",
) -> list[Ratio]:
    """Epochs with the noise of You et al. over the same without, both as fast as they go."""
    run, data = run_of(model, width=width, batch_size=batch_size, epochs=2), synthetic(images)
    runs = {"no noise": run} | {
        name: run.replace(noise=noise, after=("BatchNorm2d",)) for name, noise in ANL_NOISE.items()
    }
    ways = {name: last_epoch(it, data, device=device, engine=engine) for name, it in runs.items()}
    sides = interleaved(ways, rounds)
    clean = sides.pop("no noise")
    return [
        Ratio(
            f"{model}_{name}_step_{device}",
            f"training step of {model}, batch {batch_size}, {device}, {engine}, {SPOKEN[name]} / no noise",
            side,
            clean,
            details={"images": images},
        )
        for name, side in sides.items()
    ]


def seeds_together(
    model: str = "resnet20",
    seeds: int = 8,
    rounds: int = 2,
    *,
    images: int = 10_000,
    epochs: int = 5,
    device: str = CUDA,
) -> list[Ratio]:
    """Several seeds at once on one GPU over the same one after another; "auto" makes graphs of both."""
    (found,) = side_by_side(model, seeds, rounds, images=images, epochs=epochs, device=device)
    return [Ratio("eight_seeds", found.what, found.above, found.below, found.unit, found.details)]


def loader_share(
    model: str = "resnet18",
    rounds: int = 5,
    *,
    images: int = EPOCH,
    batch_size: int = 512,
    width: float = 1.0,
    device: str = CUDA,
    engine: str = "graphed",
) -> list[Ratio]:
    """Gathering, cropping and flipping an epoch's batches over the whole epoch."""
    data = synthetic(images).to(device)
    random = torch.Generator(device).manual_seed(0)

    def all_batches() -> None:
        for _ in batches(data.train, batch_size, order=random, augmentation=random):
            pass
        if device == CUDA:
            torch.cuda.synchronize()

    run = run_of(model, batch_size=batch_size, width=width)
    others = {"batches": lambda: seconds(all_batches)}
    sides = in_turn_with_training(run, data, others, rounds, device=device, engine=engine)
    what = f"batches gathered and augmented / epoch of {model}, batch {batch_size}, {device}"
    return [Ratio("loader_share", what, sides["batches"], sides["train(run)"], details={"images": images})]
