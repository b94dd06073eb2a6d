"""Sizes of networks: layer widths, smallest images, numbers that the layers put out."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from noiseutils.errors import UserError


def scaled(size: int, width: float) -> int:
    """`size` channels or units times `width`, rounded to the nearest (halves up), and at least 1."""
    return max(1, math.floor(size * width + 0.5))


def require_image_size(model: str, image_size: int, smallest: int) -> None:
    """Raise `UserError` if images of `image_size` pixels a side vanish before the last pool."""
    if image_size < smallest:
        raise UserError(
            f"image_size {image_size} is too small for {model}; "
            f"its pools need at least {smallest} pixels a side"
        )


@functools.cache
def output_numel(name: str, width: float, channels: int, image_size: int) -> int:
    """Return how many numbers the layers of a network put out for one image.

    Counted in one pass on the CPU, as every training asks; importing the meta device takes seconds.
    """
    from noiseutils.models import build_model  # the families import this module

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
