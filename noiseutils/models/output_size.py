"""Count the numbers that the layers of a network put out."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from noiseutils.models import build_model


@functools.cache
def output_numel(name: str, width: float, channels: int, image_size: int) -> int:
    """Return the count of numbers that all layers of a network put out for one image.

    Counted in one pass on the CPU, as every training asks; importing the meta device takes seconds.
    """
    found = 0

    def count(module: object, inputs: object, output: Tensor) -> None:
        nonlocal found
        found += output.numel()

    net = build_model(name, in_channels=channels, image_size=image_size, width=width).eval()
    for module in net.modules():
        if not list(module.children()):
            module.register_forward_hook(count)
    with torch.no_grad():
        net(torch.zeros(1, channels, image_size, image_size))
    return found
