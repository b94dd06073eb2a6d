"""Corruptions of image batches: Gaussian noise and Gaussian blur."""

from __future__ import annotations

import functools
from typing import Literal, Self

import numpy as np
import torch
from pydantic import model_validator
from torch import Tensor

from noiseutils.errors import UserError
from noiseutils.spec import LARGEST_NUMBER, NonNegative, Spec

BROADEST = 10_000  # std of a blur in pixels; its weights are computed one by one
TRUNCATE = 4  # std of the blur after which its weights are left out


class Corruption(Spec):
    """Corruption of every training image, after crop and flip, before the network normalises the image.

    gaussian_noise   drawn anew at every step, not clipped. With `fresh` false: drawn once for the whole
                     training set, before crop and flip; the network sees the same noisy images in every epoch
    gaussian_blur    see `gaussian_blur`
    """

    kind: Literal["gaussian_noise", "gaussian_blur"]
    sigma: NonNegative  # of the noise, pixels in [0, 1]; of the blur, pixels across
    fresh: bool = True  # noise drawn anew at every step

    @model_validator(mode="after")
    def _only_noise_is_drawn(self) -> Self:
        if self.kind == "gaussian_blur" and self.sigma > BROADEST:
            raise ValueError(f"sigma of a blur must be at most {BROADEST:,} pixels, got {self.sigma:g}")
        if self.kind != "gaussian_noise" and not self.fresh:
            raise ValueError(f"{self.kind} draws nothing: fresh=False is for gaussian_noise")
        return self


def gaussian_noise(images: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """Return images + N(0, sigma²), not clipped.

    images: (N, C, H, W) float, in any range.   sigma: at least 0, in the units of images.
    generator: on the images' device.   Returns (N, C, H, W), the images themselves for sigma = 0.
    """
    _check(sigma)
    if sigma == 0:
        return images
    z = torch.empty_like(images, memory_format=torch.contiguous_format).normal_(generator=generator)
    return images + sigma * z


def gaussian_blur(images: Tensor, sigma: float) -> Tensor:
    """Blur each plane by a Gaussian filter, cut off at 4 sigma, beyond the edges mirrored about the edge
    pixels: `scipy.ndimage.gaussian_filter(mode="mirror", truncate=4)` over height and width.

    images: (N, C, H, W) float, any H and W.   sigma: std in pixels, at least 0.
    Returns (N, C, H, W), the images themselves where sigma is too small for a second pixel to count.

    A blur is linear in the rows and in the columns, so it is two products with small matrices, which hold the
    mirrored edges as well: B_H X B_W^T.
    """
    _check(sigma, BROADEST)
    if not blurs(sigma):
        return images
    rows, columns = (_placed(side, sigma, images.dtype, images.device) for side in images.shape[-2:])
    blurred = rows @ images.contiguous() @ columns.T
    return blurred.to(memory_format=torch.channels_last) if _channels_last(images) else blurred


def corrupt(images: Tensor, corruption: Corruption, generator: torch.Generator) -> Tensor:
    """Corrupt images as a run's `corruption` says.

    images: (N, C, H, W) in [0, 1].   generator: of the noise, on the images' device.
    """
    if corruption.kind == "gaussian_noise":
        return gaussian_noise(images, corruption.sigma, generator)
    return gaussian_blur(images, corruption.sigma)


@functools.cache
def blur_matrix(side: int, sigma: float) -> Tensor:
    """Return (side, side) float64: in row i the weights of a line's pixels for the i-th blurred pixel."""
    radius = _radius(sigma)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2) if radius else np.ones(1)
    weights /= weights.sum()
    if side == 1:
        return torch.ones(1, 1, dtype=torch.float64)
    period = 2 * (side - 1)  # after which a line mirrored about its edge pixels repeats
    matrix = np.zeros((side, side))
    for i in range(side):
        seen = (i + offsets) % period
        np.add.at(matrix[i], np.minimum(seen, period - seen), weights)
    return torch.from_numpy(matrix)


def _channels_last(images: Tensor) -> bool:
    return images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()


@functools.cache
def _placed(side: int, sigma: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return `blur_matrix` on the images' device, copied there once: a recorded step must copy nothing."""
    return blur_matrix(side, sigma).to(device, dtype)


def blurs(sigma: float) -> bool:
    """Return whether a blur changes anything: below an eighth of a pixel its filter is a single weight."""
    return _radius(sigma) > 0


def _radius(sigma: float) -> int:
    return int(TRUNCATE * sigma + 0.5)


def _check(sigma: float, most: float = LARGEST_NUMBER) -> None:
    if not sigma >= 0:
        raise UserError(f"sigma must be at least 0, got {sigma}")
    if sigma > most:
        raise UserError(f"sigma must be at most {most:g}, got {sigma}")
