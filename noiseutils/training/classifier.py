"""Build the network of a run: a model with normalisation inside, and with the run's noise."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from noiseutils.config import Run
from noiseutils.data import Dataset
from noiseutils.models import build_model
from noiseutils.noise import Handle, attach
from noiseutils.rng import streams


class Classifier(nn.Module):
    """A network with its normalisation inside, so that it takes pixels in [0, 1]."""

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, channels: int) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.zeros(1, channels, 1, 1))
        self.register_buffer("std", torch.ones(1, channels, 1, 1))

    def normalise_as(self, data: Dataset) -> Self:
        """Take mean and std per channel from a data set's training images."""
        self.mean.copy_(torch.tensor(data.mean).view_as(self.mean))
        self.std.copy_(torch.tensor(data.std).view_as(self.std))
        return self

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W) in [0, 1].   Returns (N, K) logits."""
        return self.net(self.normalised(x))

    def normalised(self, x: Tensor, *, in_place: bool = False) -> Tensor:
        """x: (N, C, H, W) in [0, 1].   Returns what the network itself takes."""
        mean, std = self.mean, self.std
        if x.device.type == "cpu" and not x.is_contiguous():
            # laid out as one image: to broadcast channels, the innermost in memory, takes ten times as long
            one = (1, *x.shape[1:])
            mean, std = (v.expand(one).contiguous(memory_format=torch.channels_last) for v in (mean, std))
        return torch.sub(x, mean, out=x if in_place else None).div_(std)


def build_classifier(run: Run, num_classes: int, channels: int, image_size: int) -> Classifier:
    """Build the network of a run at its initial weights, its normalisation not yet set."""
    net = build_model(
        run.model.name,
        num_classes=num_classes,
        in_channels=channels,
        image_size=image_size,
        width=run.model.width,
        seed=streams(run.seed).init.initial_seed(),
    )
    return Classifier(net, channels)


def attach_noise(model: Classifier, run: Run, num_classes: int, seed: int) -> Handle | None:
    """Attach the run's noise to a network, None for a run without; names are those of the bare network."""
    if run.noise is None:
        return None
    names = {name for name, _ in model.net.named_modules()}
    after = tuple(f"net.{n}" if n in names else n for n in run.after)
    return attach(model, run.noise.for_classes(num_classes), after, seed)
