"""Mixup and cutout: what people do to training images, as pure functions of images and what was drawn.

torchvision has both (`v2.MixUp`, `v2.RandomErasing`), drawn from torch's global generator, and erases one
square for a whole batch; here draws come from a run's own streams, and each image has its own square.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from noiseutils.rng import derived_seed


def mixup(values: Tensor, ratio: Tensor | float) -> Tensor:
    """Mix each image with the one before it in the batch: ratio x_i + (1 - ratio) x_(i - 1).

    Zhang et al. 2018, *mixup: Beyond Empirical Risk Minimization*; pairs as `torchvision.transforms.v2.MixUp`
    forms them.   values: (B, ...) images.   ratio: () in [0, 1].   Returns (B, ...).
    """
    return torch.lerp(values.roll(1, 0), values, ratio)


def mixup_ratios(steps: int, alpha: float, seed: int) -> Tensor:
    """Draw the ratios of an epoch's steps from Beta(alpha, alpha), the larger share to the image itself.

    Mixing at 1 - ratio makes the same pairs with the roles exchanged, so max(ratio, 1 - ratio) changes
    nothing but which of two labels counts as the image's own. Returns (steps,) float32 in [0.5, 1].
    """
    # RandomState's stream is frozen: equal ratios on every device and under every version
    drawn = np.random.RandomState(derived_seed(seed, "ratios") % 2**32).beta(alpha, alpha, steps)
    return torch.from_numpy(np.maximum(drawn, 1 - drawn).astype(np.float32))


def draw_centres(images: Tensor, generator: torch.Generator) -> Tensor:
    """Draw one pixel of each image on the generator's device: (N, 2) int64, row and column."""
    n, _, height, width = images.shape
    device = generator.device
    drawn = [torch.randint(side, (n,), generator=generator, device=device) for side in (height, width)]
    return torch.stack(drawn, dim=1)


def cutout(images: Tensor, centres: Tensor, side: int, fill: Tensor | float) -> Tensor:
    """Erase a square of each image; what of it lies beyond the edges erases nothing.

    DeVries & Taylor 2017, *Improved Regularization of Convolutional Neural Networks with Cutout*.
    images: (N, C, H, W).   centres: (N, 2) int64, see `draw_centres`; of an even side, the pixel below and
    right of the centre.   side: in pixels.   fill: (1, C, 1, 1) or a number, put in the square's place: the
    set's mean, which the paper's normalised images have at 0.   Returns (N, C, H, W); nothing waits for the
    device.
    """
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device) - centres[:, :1]  # (N, H)
    columns = torch.arange(width, device=images.device) - centres[:, 1:]
    inside = [(at >= -(side // 2)) & (at < side - side // 2) for at in (rows, columns)]
    square = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return torch.where(square, fill, images)
