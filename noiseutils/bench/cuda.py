"""Time epochs that need a GPU: as graphs, under noise, and their loader. Tests set another device."""

from __future__ import annotations

import torch

from noiseutils.bench.epochs import BATCH_SIZE, in_turn_with_training, last_epoch, run_of
from noiseutils.bench.ratios import Ratio, interleaved, seconds
from noiseutils.bench.steps import ANL_NOISE, NOISE_NAMES
from noiseutils.data import Dataset, batches

CUDA = "cuda"


def graphed(model: str, rounds: int, data: Dataset, *, width: float = 1.0, device: str = CUDA) -> list[Ratio]:
    """Time an epoch call by call over one whose steps are recorded once and replayed."""
    run = run_of(model, width=width)
    eager = last_epoch(run.replace(epochs=2), data, device=device, engine="eager")
    sides = in_turn_with_training(
        run, data, {"eager": eager}, rounds, device=device, engine="graphed", name="graphed"
    )
    what = f"epoch of {model}, batch {BATCH_SIZE}, {device}, call by call / as a graph"
    details = {"images": len(data.train)}
    return [Ratio(f"{model}_graphed", what, sides["eager"], sides["graphed"], details=details)]


def noise_epochs(
    model: str,
    rounds: int,
    data: Dataset,
    *,
    width: float = 1.0,
    batch_size: int = BATCH_SIZE,
    device: str = CUDA,
    engine: str = "graphed",
) -> list[Ratio]:
    """Time epochs with each noise of You et al. over epochs without noise."""
    run = run_of(model, width=width, batch_size=batch_size, epochs=2)
    runs = {"no noise": run} | {
        name: run.replace(noise=noise, after=("BatchNorm2d",)) for name, noise in ANL_NOISE.items()
    }
    ways = {name: last_epoch(each, data, device=device, engine=engine) for name, each in runs.items()}
    sides = interleaved(ways, rounds)
    clean = sides.pop("no noise")
    what = f"training step of {model}, batch {batch_size}, {device}, {engine}"
    return [
        Ratio(
            f"{model}_{name}_step_{device}",
            f"{what}, {NOISE_NAMES[name]} / no noise",
            side,
            clean,
            details={"images": len(data.train)},
        )
        for name, side in sides.items()
    ]


def loader_share(
    model: str,
    rounds: int,
    data: Dataset,
    *,
    batch_size: int = 512,
    width: float = 1.0,
    device: str = CUDA,
    engine: str = "graphed",
) -> list[Ratio]:
    """Time gathering, cropping and flipping an epoch's batches over the whole epoch."""
    data = data.to(device)
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
    details = {"images": len(data.train)}
    return [Ratio("loader_share", what, sides["batches"], sides["train(run)"], details=details)]
