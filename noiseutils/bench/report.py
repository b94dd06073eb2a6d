"""Benchmarks by name, and what a call of `noiseutils bench` says and writes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from noiseutils.bench import cuda, steps
from noiseutils.bench.epochs import CIFAR10, epoch, rate
from noiseutils.bench.machine import description
from noiseutils.bench.memory import training_memory
from noiseutils.bench.models import Models, models
from noiseutils.bench.ratios import Ratio
from noiseutils.bench.side_by_side import side_by_side
from noiseutils.errors import UserError, one_of

Found = Sequence[Ratio | Models]

ON_CPU: dict[str, Callable[[], Found]] = {
    "babycnn_epoch": lambda: epoch("babycnn", rounds=5, images=CIFAR10),
    "tinycnn_epoch": lambda: epoch("tinycnn", rounds=3, images=CIFAR10),
    "cifar10net_epoch": lambda: epoch("cifar10net", rounds=3),
    "tinycnn_rate": lambda: rate("tinycnn", rounds=5),
    "cifar10net_rate": lambda: rate("cifar10net", rounds=5),
    "augmentation": lambda: [steps.augmentation()],
    "blur": lambda: [steps.blur()],
    "noisy_dropout_step": lambda: [steps.noisy_dropout_step()],
    "vgg16_noise_steps": lambda: list(steps.noise_steps("vgg16", batch_size=128).values()),
    "resnet20_noise_steps": lambda: list(steps.noise_steps("resnet20", batch_size=128).values()),
    "resnet18_parameter_noise": steps.parameter_noise_steps,
    "resnet18_memory": training_memory,
    "side_by_side": side_by_side,
    "models": models,
}
ON_CUDA: dict[str, Callable[[], Found]] = {
    "resnet18_bf16_epoch": cuda.bf16_epoch,
    "resnet18_plain": cuda.plain_epoch,
    "resnet20_graphed": lambda: cuda.graphed("resnet20"),
    "resnet56_graphed": lambda: cuda.graphed("resnet56"),
    "vgg16_graphed": lambda: cuda.graphed("vgg16"),
    "vgg16_noise_steps_cuda": cuda.noise_epochs,
    "eight_seeds": cuda.seeds_together,
    "loader_share": cuda.loader_share,
}
BENCHMARKS = ON_CPU | ON_CUDA


def report(names: Sequence[str] = (), file: Path | None = None, say: Callable[[str], object] = print) -> None:
    """Run benchmarks and say what they found, each as soon as it is there; as JSON too if a file is named.

    names: none for all that can run here.
    Raises UserError before anything runs for an unknown name, and for one that needs a GPU where none is.
    """
    for name in names:
        if name not in BENCHMARKS:
            raise one_of("benchmark", name, BENCHMARKS)
    if lacking := [name for name in names if name in ON_CUDA and not torch.cuda.is_available()]:
        raise UserError("\n".join(f"{name} needs a CUDA device: not run" for name in lacking))
    if file is not None and not file.absolute().parent.is_dir():
        raise UserError(f"{file}: its folder is not there; make it, or name another")
    chosen = names or list(BENCHMARKS if torch.cuda.is_available() else ON_CPU)
    found: list[Ratio | Models] = []
    machine = description()
    for name in chosen:
        for item in BENCHMARKS[name]():
            found.append(item)
            say(line_of(item))
            if file is not None:  # after each: what is measured outlives what fails
                file.write_text(json.dumps({"machine": machine, **as_json(found)}, indent=1) + "\n")
    say(f"on {machine['cpu']}, {machine['threads']} threads, torch {machine['torch']}")


def as_json(found: Found) -> dict[str, Any]:
    """Ratios as a list, in the order measured; the networks beside their floors, if they were."""
    tables = [item.to_json() for item in found if isinstance(item, Models)]
    ratios = [item.to_json() for item in found if isinstance(item, Ratio)]
    return {"ratios": ratios} | ({"models": tables[-1]} if tables else {})


def line_of(item: Ratio | Models) -> str:
    """One result as text."""
    if isinstance(item, Models):
        rows = item.to_json()["rows"]
        head = f"seconds of {item.images:,} images, and the share that is the floor's:"
        return "\n".join(
            [head, *(f"  {row['model']:<20} {row['seconds']:8.3f} s  {row['share']:6.1%}" for row in rows)]
        )
    sides = " / ".join(_amount(side.median, item.unit) for side in (item.above, item.below))
    return f"{item.name:<26} {item.what}: {item.ratio:.2f}   ({sides}, medians of {len(item.above.values)})"


def _amount(value: float, unit: str) -> str:
    scale, name = {
        "s": (1e3, "ms"),
        "bytes": (2**-20, "MiB"),
        "operations/s": (1e-9, "Gop/s"),
        "images/s": (1.0, "images/s"),
    }[unit]
    return f"{value * scale:.4g} {name}"
