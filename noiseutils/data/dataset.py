"""Hold both splits of a data set, in memory or streamed, with their classes, mean and std."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

import torch

from noiseutils.data.images import Images
from noiseutils.data.streaming import StreamedImages

AnyImages: TypeAlias = Images | StreamedImages  # one split: held in memory, or decoded as it is used


@dataclass(frozen=True, eq=False)
class Dataset:
    """Hold both splits, and the description that every result carries."""

    train: AnyImages
    test: AnyImages
    classes: tuple[str, ...]
    label: str  # where the pixels came from, as in `Data.label`
    fingerprint: str  # SHA-256 over classes, shapes, pixels and labels used; streamed: see `load_streamed`

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def channels(self) -> int:
        return self.train.channels

    @property
    def image_size(self) -> int:
        return self.train.image_size

    @property
    def mean(self) -> tuple[float, ...]:
        """Return the mean per channel of the training pixels in [0, 1]; streamed: of their `sample`."""
        return tuple(mean for mean, _ in self._moments)

    @property
    def std(self) -> tuple[float, ...]:
        """Return the std per channel, over all pixels of the same images (divided by N, not N - 1)."""
        return tuple(std for _, std in self._moments)

    @cached_property
    def _moments(self) -> list[tuple[float, float]]:
        pixels, moments = self.train.sample().pixels, []
        for channel in range(self.channels):
            plane = pixels[:, channel].reshape(-1)
            counts = torch.bincount(plane.cpu(), minlength=256).tolist()  # integers: exact in any order
            n = sum(counts)
            total = sum(value * count for value, count in enumerate(counts))
            squares = sum(value * value * count for value, count in enumerate(counts))
            moments.append((total / (255 * n), (n * squares - total * total) ** 0.5 / (255 * n)))
        return moments

    def to(self, device: torch.device | str) -> Dataset:
        """Return the same set on another device."""
        return replace(self, train=self.train.to(device), test=self.test.to(device))
