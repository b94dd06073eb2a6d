"""The how-to pages' code, a small network for it to train, and the plain loop that it is held against."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from noiseutils.noise import (
    AdaptiveNoise,
    AdversarialNoise,
    ClassAdversarialNoise,
    GaussianNoise,
    LayerwiseAdversarialNoise,
    NoisyDropout,
    ScriptedNoise,
    attach,
    attach_to_optimizer,
)
from noiseutils.rng import seeded

HOW_TO = Path(__file__).resolve().parents[2] / "docs" / "how-to"

KINDS = {
    "GaussianNoise": GaussianNoise(std=0.1),
    "NoisyDropout": NoisyDropout(p=0.25, std=0.1),
    "ANL": AdversarialNoise(epsilon=0.5),
    "CANL": ClassAdversarialNoise(epsilon=0.5, num_classes=4),
    "LAT": LayerwiseAdversarialNoise(epsilon=0.1),
}
ON_OPTIMIZER = {
    "scripted": ScriptedNoise(gradient=(0.1, 0.0, 0.1), weight=(0.0, 0.1, 0.0)),
    "adaptive": AdaptiveNoise(min_epochs=1, window=1, gradient_plateau=10.0),  # in the third epoch
}
WITHOUT_CLASSES = {name: noise for name, noise in KINDS.items() if name != "CANL"}


def blocks(page: str) -> list[str]:
    """Return the Python of a page, block by block."""
    return re.findall(r"```python\n(.*?)```", (HOW_TO / f"{page}.md").read_text(), re.S)


def run(*code: str, **names: Any) -> dict[str, Any]:
    """Run blocks of a page, one after the other, in one namespace that starts with `names`; return it."""
    names = {"__name__": "page", **names}
    for block in code:
        exec(compile(block, "<how-to>", "exec"), names)
    return names


def net() -> nn.Sequential:
    """Return a small network for (N, 3, 8, 8) images of 4 classes, always with the same weights."""
    with seeded(0):
        return nn.Sequential(
            *(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU()),
            *(nn.Conv2d(6, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 4)),
        )


def images(n: int, size: int = 8, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Return n images (n, 3, size, size) and their classes (n,), always the same."""
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed)), torch.arange(n) % 4


def batches(count: int, n: int = 8) -> list[tuple[Tensor, Tensor]]:
    """Return so many batches of n images."""
    x, y = images(count * n)
    return list(zip(x.split(n), y.split(n), strict=True))


class Images(Dataset):
    """Images as transformers' models take them, and the order in which they were asked for."""

    def __init__(self, n: int) -> None:
        self.x, self.y = images(n, size=16)
        self.order: list[int] = []

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int) -> dict:
        self.order.append(i)
        return {"pixel_values": self.x[i], "labels": int(self.y[i])}

    def batches(self, n: int = 8) -> list[tuple[Tensor, Tensor]]:
        """Return the batches of n that were asked for."""
        order = torch.tensor(self.order)
        return list(zip(self.x[order].split(n), self.y[order].split(n), strict=True))


def resnet() -> nn.Module:
    """Return a small ResNet of transformers for 4 classes, always with the same weights."""
    transformers = pytest.importorskip("transformers", reason="needs the frameworks extra")
    small = {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1], "layer_type": "basic"}
    with seeded(0):
        return transformers.ResNetForImageClassification(transformers.ResNetConfig(**small, num_labels=4))


def plain_loop(
    model, noise, data, criterion=F.cross_entropy, *, accumulate=1, bfloat16=False, after_step=lambda: None
):
    """Train a network in a plain loop, SGD at 0.1, noise after every ReLU; return its state dict.

    data: batches (x, y).   accumulate: batches a step.   after_step: called after each.
    """
    handle = attach(model, noise, after="ReLU")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for i, (x, y) in enumerate(data, start=1):
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = handle.loss(criterion, x, y)
        (loss / accumulate).backward()
        if i % accumulate == 0:
            optimizer.step()
            optimizer.zero_grad()
            after_step()
    return model.state_dict()


def plain_epochs(model, noise, epochs, validate, criterion=F.cross_entropy, *, accumulate=1, bfloat16=False):
    """Train in a plain loop, SGD at 0.1, with noise on gradients and weights; return the state dict.

    epochs: of batches (x, y).   validate: (model) -> loss, called after each.   accumulate: batches a step.
    """
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    on_optimizer = attach_to_optimizer(optimizer, noise, epochs=len(epochs))
    acted = False
    for data in epochs:
        acted = acted or on_optimizer.action.noisy
        for i, (x, y) in enumerate(data, start=1):
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                loss = criterion(model(x), y)
            (loss / accumulate).backward()
            if i % accumulate == 0:
                optimizer.step()
                optimizer.zero_grad()
        on_optimizer.end_epoch(validate(model))
    assert acted, "nothing is compared"
    return model.state_dict()


@torch.no_grad()
def clean_loss(model, x, y) -> float:
    """Return the loss in eval mode; the model goes back to training mode."""
    loss = F.cross_entropy(model.eval()(x), y).item()
    model.train()
    return loss


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Hold two state dicts equal, up to the order of sums."""
    torch.testing.assert_close(dict(found), dict(expected))
