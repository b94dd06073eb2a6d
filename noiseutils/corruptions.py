"""Corruptions of image batches: Gaussian noise."""

from __future__ import annotations

import torch
from torch import Tensor

from noiseutils.errors import UserError


def gaussian_noise(images: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """images + N(0, sigma²), not clipped.

    images: (N, C, H, W) float, in any range.   sigma: at least 0, in the units of images.
    generator: on the images' device.   Returns (N, C, H, W), the images themselves for sigma = 0.
    """
    if not sigma >= 0:
        raise UserError(f"sigma must be at least 0, got {sigma}")
    if sigma == 0:
        return images
    z = torch.empty_like(images, memory_format=torch.contiguous_format).normal_(generator=generator)
    return images + sigma * z
