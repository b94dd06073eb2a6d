"""Images of one split, held in memory as one tensor on the device, uint8 as a rule."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Images:
    """Hold one split on the device. pixels: (N, C, H, W) uint8; float32 with noise.   labels: (N,) int64."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        return self.labels.device

    @property
    def channels(self) -> int:
        return self.pixels.shape[1]

    @property
    def image_size(self) -> int:
        return self.pixels.shape[2]

    def sample(self) -> Images:
        """Return the images from which mean and std are computed: all of them."""
        return self

    def subset(self, indices: Tensor) -> Images:
        """Return the images at (M,) int64 indices, in the order of the indices."""
        return Images(self.pixels.index_select(0, indices), self.labels.index_select(0, indices))

    def take(self, n: int) -> Images:
        """Return the first n images, or all of them if there are fewer."""
        return Images(self.pixels[:n], self.labels[:n])

    def to(self, device: torch.device | str) -> Images:
        """Return the same images on another device."""
        return Images(self.pixels.to(device), self.labels.to(device))


def to_float(pixels: Tensor, memory_format: torch.memory_format = torch.channels_last) -> Tensor:
    """Convert (N, C, H, W) uint8 to float32 in [0, 1]; float32 pixels stay what they are."""
    if pixels.is_floating_point():
        return pixels.to(memory_format=memory_format)
    return pixels.to(torch.float32, memory_format=memory_format).div_(255)
