"""Ratios of medians: two ways of doing the same thing, interleaved in one process, on this machine.

An absolute time says little on a shared machine; a ratio of interleaved runs holds when its speed drifts.
`plain` is the loop that a user would write: torchvision-style dataset of PIL images, transforms, DataLoader
with two workers kept alive, `.item()` for the log.
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import noiseutils
from noiseutils import _torchvision_shim  # noqa: F401
from noiseutils.config import Data, Evaluation, Optimizer, Run, Schedule
from noiseutils.data import Dataset, crop_and_flip, draw_augmentation, load, to_float
from noiseutils.errors import UserError, one_of
from noiseutils.models import build_model
from noiseutils.noise import (
    AdversarialNoise,
    ClassAdversarialNoise,
    GaussianNoise,
    LayerwiseAdversarialNoise,
    NoisyDropout,
    attach,
)
from noiseutils.noise.sites import Noise
from noiseutils.provenance import commit
from noiseutils.rng import generator
from noiseutils.train import train

IMAGES = 10_000  # an epoch of the benchmarks
BATCH = 128
WORKERS = 2


@dataclass(frozen=True)
class Ratio:
    """How often the second way fits into the first: median seconds of `slow` over those of `fast`."""

    name: str
    slow: str
    fast: str
    ratio: float
    slow_seconds: float
    fast_seconds: float
    rounds: int


def interleaved(
    name: str, slow: tuple[str, Callable[[], float]], fast: tuple[str, Callable[[], float]], rounds: int
) -> Ratio:
    """Time two functions in turn, after one warm-up of each; they return the seconds that count."""
    for _, work in (slow, fast):
        work()
    times = [(slow[1](), fast[1]()) for _ in range(rounds)]
    a, b = (statistics.median(column) for column in zip(*times, strict=True))
    return Ratio(name, slow[0], fast[0], a / b, a, b, rounds)


def epoch(model: str, rounds: int) -> Ratio:
    """An epoch with crop, flip and SGD with momentum: the plain loop over ours."""
    data = load(Data(train_size=IMAGES, test_size=100))
    run = Run(
        data=Data(train_size=IMAGES, test_size=100),
        model={"name": model},  # pyright: ignore[reportArgumentType]
        optimizer=Optimizer(momentum=0.9),
        schedule=Schedule(learning_rate=0.01),
        epochs=1,
        batch_size=BATCH,
        augment=True,
        evaluation=Evaluation(),
    )
    plain = plain_loop(data, model)
    return interleaved(
        f"{model}_epoch",
        (f"plain loop, {WORKERS} workers", plain),
        ("train(run)", lambda: float(train(run, data=data, device="cpu").history.seconds[0])),
        rounds,
    )


def plain_loop(data: Dataset, model: str) -> Callable[[], float]:
    """One epoch as a user would write it; returns its seconds."""
    from torch.utils.data import DataLoader
    from torchvision import transforms

    steps = [
        transforms.RandomCrop(32, padding=4),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(data.mean, data.std),
    ]
    images = PilImages(data.train.pixels, data.train.labels, transforms.Compose(steps))
    loader = DataLoader(images, BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True)
    net = build_model(model)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

    def one_epoch() -> float:
        started = time.perf_counter()
        net.train()
        total, correct = 0.0, 0
        for x, y in loader:
            optimizer.zero_grad()
            logits = net(x)
            loss = criterion(logits, y)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(y)
            correct += (logits.argmax(1) == y).sum().item()
        return time.perf_counter() - started

    return one_epoch


class PilImages(torch.utils.data.Dataset):
    """Arrays served as torchvision's CIFAR10 serves them: an array to a PIL image to a transform."""

    def __init__(self, pixels: Tensor, labels: Tensor, transform: Callable) -> None:
        self.arrays = pixels.permute(0, 2, 3, 1).contiguous().numpy()
        self.labels = labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.arrays[index])), self.labels[index]


def augmentation(rounds: int = 30) -> Ratio:
    """Crop and flip of a batch of 128: torchvision's transforms on PIL images over one call on the batch."""
    from PIL import Image
    from torchvision import transforms

    pixels = load(Data(train_size=BATCH, test_size=10)).train.pixels
    images = [Image.fromarray(array) for array in pixels.permute(0, 2, 3, 1).contiguous().numpy()]
    transform = transforms.Compose([transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()])
    random = generator(0, "bench")
    return interleaved(
        "augmentation",
        ("PIL, image by image", lambda: _seconds(lambda: [transform(image) for image in images])),
        (
            "whole batch",
            lambda: _seconds(lambda: crop_and_flip(pixels, *draw_augmentation(BATCH, random))),
        ),
        rounds,
    )


def noisy_dropout_step(rounds: int = 15, width: float = 1.0) -> Ratio:
    """A training step of cifar10net with NoisyDropout over the same with torch's own dropout."""
    data = load(Data(train_size=BATCH, test_size=10))
    x, y = to_float(data.train.pixels), data.train.labels
    ordinary = build_model("cifar10net", width=width)
    for name in ("relu3", "relu4"):
        ordinary.set_submodule(name, nn.Sequential(nn.ReLU(), nn.Dropout(0.25)))
    noisy = build_model("cifar10net", width=width)
    handle = attach(noisy, NoisyDropout(p=0.25, std=0.08), after=("relu3", "relu4"))
    criterion = nn.CrossEntropyLoss()

    def step(model: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], float]:
        model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        optimizer = torch.optim.Adam(model.parameters(), fused=True)

        def once() -> None:
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()

        return lambda: _seconds(once)

    return interleaved(
        "noisy_dropout_step",
        ("NoisyDropout", step(noisy, lambda: handle.loss(criterion, x, y))),
        ("nn.Dropout", step(ordinary, lambda: criterion(ordinary(x), y))),
        rounds,
    )


def noise_steps(
    model: str = "vgg16", *, width: float = 1.0, batch_size: int = 32, rounds: int = 11
) -> dict[str, Ratio]:
    """A training step with each noise of You et al. over the same step without, all in turn.

    The paper's timing sentence as ratios. Both sides are built alike: channels last, fused SGD, momentum.
    """
    data = load(Data(train_size=batch_size, test_size=10))
    x, y = to_float(data.train.pixels), data.train.labels
    criterion = nn.CrossEntropyLoss()
    kinds = {
        "baseline": None,
        "anl": AdversarialNoise(epsilon=0.05),
        "canl": ClassAdversarialNoise(epsilon=0.05, num_classes=data.num_classes),
        "lat": LayerwiseAdversarialNoise(epsilon=0.03),
        "gaussian": GaussianNoise(std=0.0125),
    }

    def step(noise: Noise | None) -> Callable[[], float]:
        network = build_model(model, width=width)
        network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        handle = None if noise is None else attach(network, noise)
        optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, fused=True)

        def once() -> None:
            optimizer.zero_grad()
            loss = criterion(network(x), y) if handle is None else handle.loss(criterion, x, y)
            loss.backward()
            optimizer.step()

        return lambda: _seconds(once)

    steps = {name: step(noise) for name, noise in kinds.items()}
    for work in steps.values():
        work()  # warm-up; it also fills what CANL and LAT remember
    times = {name: [] for name in steps}
    for _ in range(rounds):
        for name, work in steps.items():
            times[name].append(work())
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    plain = medians.pop("baseline")
    return {
        name: Ratio(f"{model}_{name}_step", name, "no noise", seconds / plain, seconds, plain, rounds)
        for name, seconds in medians.items()
    }


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


BENCHMARKS: dict[str, Callable[[], list[Ratio]]] = {
    "babycnn_epoch": lambda: [epoch("babycnn", rounds=5)],
    "cifar10net_epoch": lambda: [epoch("cifar10net", rounds=3)],
    "augmentation": lambda: [augmentation()],
    "noisy_dropout_step": lambda: [noisy_dropout_step()],
    "vgg16_noise_steps": lambda: list(noise_steps().values()),
}


def report(names: list[str], file: Path | None = None) -> str:
    """Run benchmarks and say what they found, a line each; written as JSON too if a file is named."""
    for name in names:
        if name not in BENCHMARKS:
            raise one_of("benchmark", name, BENCHMARKS)
    if file is not None and not file.absolute().parent.is_dir():
        raise UserError(f"{file}: its folder is not there; make it, or name another")
    ratios = [ratio for name in names for ratio in BENCHMARKS[name]()]
    machine = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "noiseutils": noiseutils.__version__,
        "commit": commit(),
    }
    if file is not None:
        file.write_text(
            json.dumps({**machine, "ratios": [asdict(ratio) for ratio in ratios]}, indent=1) + "\n"
        )
    lines = [
        f"{r.name:<20} {r.slow} / {r.fast}: {r.ratio:.2f}"
        f"   ({r.slow_seconds * 1000:.4g} ms / {r.fast_seconds * 1000:.4g} ms, medians of {r.rounds})"
        for r in ratios
    ]
    return "\n".join([*lines, f"on {machine['machine']}, torch {machine['torch']}"])
