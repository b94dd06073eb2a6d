"""List the benchmarks by name, and run those that `noiseutils bench` asks for."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from noiseutils.bench import steps
from noiseutils.bench.cuda import CUDA, graphed, loader_share, noise_epochs
from noiseutils.bench.epochs import CIFAR10_IMAGES, EPOCH_IMAGES, embedded, epoch, rate, synthetic
from noiseutils.bench.machine import description
from noiseutils.bench.memory import training_memory
from noiseutils.bench.models import Models, models
from noiseutils.bench.ratios import Ratio
from noiseutils.bench.side_by_side import side_by_side
from noiseutils.errors import UserError, one_of
from noiseutils.files import writing

Found = Sequence[Ratio | Models]

ON_CPU: dict[str, Callable[[], Found]] = {
    "babycnn_epoch": lambda: epoch("babycnn", 5, embedded(CIFAR10_IMAGES)),
    "tinycnn_epoch": lambda: epoch("tinycnn", 3, embedded(CIFAR10_IMAGES)),
    "cifar10net_epoch": lambda: epoch("cifar10net", 3, embedded(EPOCH_IMAGES)),
    "tinycnn_rate": lambda: rate("tinycnn", 5, embedded(EPOCH_IMAGES)),
    "cifar10net_rate": lambda: rate("cifar10net", 5, embedded(EPOCH_IMAGES)),
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
    "resnet18_bf16_epoch": lambda: rate(
        "resnet18", 3, synthetic(CIFAR10_IMAGES), batch_size=512, device=CUDA, engine="compiled"
    ),
    "resnet18_plain": lambda: epoch("resnet18", 3, synthetic(CIFAR10_IMAGES), device=CUDA, engine="graphed"),
    "resnet20_graphed": lambda: graphed("resnet20", 3, synthetic(EPOCH_IMAGES)),
    "resnet56_graphed": lambda: graphed("resnet56", 3, synthetic(EPOCH_IMAGES)),
    "vgg16_graphed": lambda: graphed("vgg16", 3, synthetic(EPOCH_IMAGES)),
    "vgg16_noise_steps_cuda": lambda: noise_epochs("vgg16", 3, synthetic(EPOCH_IMAGES)),
    "eight_seeds": lambda: side_by_side("resnet20", 8, 2, epochs=5, device=CUDA),
    "loader_share": lambda: loader_share("resnet18", 5, synthetic(CIFAR10_IMAGES)),
}
BENCHMARKS = ON_CPU | ON_CUDA


def report(
    names: Sequence[str] = (), file: Path | None = None, echo: Callable[[str], object] = print
) -> None:
    """Run benchmarks and print each result as soon as it is measured; write JSON too if a file is named.

    names: none for all that can run here.
    Raises UserError, before anything runs, for an unknown name, and for one that needs a GPU without a GPU.
    """
    for name in names:
        if name not in BENCHMARKS:
            raise one_of("benchmark", name, BENCHMARKS)
    if lacking := [name for name in names if name in ON_CUDA and not torch.cuda.is_available()]:
        raise UserError("\n".join(f"{name} needs a CUDA device: not run" for name in lacking))
    if file is not None and not file.absolute().parent.is_dir():
        raise UserError(f"{file}: no such folder; make the folder, or name another file")
    chosen = names or list(BENCHMARKS if torch.cuda.is_available() else ON_CPU)
    found: list[Ratio | Models] = []
    machine = description()
    for name in chosen:
        for item in BENCHMARKS[name]():
            found.append(item)
            echo(line_of(item))
            if file is not None:  # after each: what is measured outlives what fails
                with writing(file):
                    text = json.dumps({"machine": machine, **as_json(found)}, indent=1) + "\n"
                    file.write_text(text)
    echo(f"on {machine['cpu']}, {machine['threads']} threads, torch {machine['torch']}")


def as_json(found: Found) -> dict[str, Any]:
    """Return the ratios in the order measured, and the networks beside their rooflines, if measured."""
    tables = [item.to_json() for item in found if isinstance(item, Models)]
    ratios = [item.to_json() for item in found if isinstance(item, Ratio)]
    return {"ratios": ratios} | ({"models": tables[-1]} if tables else {})


def line_of(item: Ratio | Models) -> str:
    """Write one result as text."""
    if isinstance(item, Models):
        rows = item.to_json()["rows"]
        head = f"seconds of {item.images:,} images, and the roofline's share of them:"
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
