"""Data sets as uint8 tensors on the device, and batches of them, cropped and flipped whole batches at a time.

A set is read whole, once, unless it is streamed (see `noiseutils.data.streaming`). Nothing ever falls back to
other data: what is missing or damaged is an error that says where it was looked for, what was expected there
and what fetches it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from noiseutils import config
from noiseutils.data import embedded
from noiseutils.data.embedded import Arrays
from noiseutils.data.image_trees import load_tree
from noiseutils.data.subsets import fixed_choice
from noiseutils.data.torchvision_sets import load_cifar, load_idx
from noiseutils.errors import UserError

if TYPE_CHECKING:
    from noiseutils.data.streaming import StreamedImages


@dataclass(frozen=True, eq=False)
class Images:
    """One split, on the device. pixels: (N, C, H, W) uint8.   labels: (N,) int64."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def channels(self) -> int:
        return self.pixels.shape[1]

    @property
    def image_size(self) -> int:
        return self.pixels.shape[2]

    def sample(self) -> Images:
        """What a set's mean and std are taken from: all images."""
        return self

    def subset(self, indices: Tensor) -> Images:
        """The images at (M,) int64 indices, in that order."""
        return Images(self.pixels.index_select(0, indices), self.labels.index_select(0, indices))

    def take(self, n: int) -> Images:
        """The first n images (all of them if there are fewer)."""
        return Images(self.pixels[:n], self.labels[:n])

    def to(self, device: torch.device | str) -> Images:
        """The same images on another device."""
        return Images(self.pixels.to(device), self.labels.to(device))


BLOCK_VALUES = 1024 * 3 * 32 * 32  # pixels that are put together at once, several small batches of them

AnyImages: TypeAlias = "Images | StreamedImages"  # one split: held in memory, or decoded as it is used


@dataclass(frozen=True, eq=False)
class Dataset:
    """Both splits, and what every result says about them."""

    train: AnyImages
    test: AnyImages
    classes: tuple[str, ...]
    label: str  # where the pixels came from, as in `config.Data.label`
    fingerprint: str  # SHA-256 over classes, shapes, pixels and labels used; streamed: see load_streamed

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
        """Per channel, of the training pixels in [0, 1]; of a streamed set's, see `StreamedImages.sample`."""
        return tuple(mean for mean, _ in self._moments)

    @property
    def std(self) -> tuple[float, ...]:
        """Per channel, of the training pixels in [0, 1], over all pixels (divided by N, not N - 1)."""
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
        """The same set on another device."""
        return replace(self, train=self.train.to(device), test=self.test.to(device))


def load(data: config.Data, device: torch.device | str = "cpu") -> Dataset:
    """The data set that `data` names, whole and checked, on the device.

    Raises UserError if files are missing or damaged, or if there are fewer images than asked for.
    `train_size` and `test_size` take the same images whatever the run's seed, the smaller of two from among
    the larger; the two sizes of `shapes` are how many are drawn.
    """
    if data.streamed:
        from noiseutils.data.streaming import load_streamed  # it builds on this module

        return load_streamed(data, device)
    arrays = DATASETS[data.name](data)
    digest = hashlib.sha256(json.dumps(arrays.classes).encode())
    splits = []
    side = arrays.train_pixels.shape[1]
    if data.image_size not in (None, side):
        raise UserError(
            f"image_size {data.image_size} does not fit {data.name}, whose images are {side} pixels a side; "
            "allowed: none (only image trees are resized)"
        )
    for split, pixels, labels, size in (
        ("train", arrays.train_pixels, arrays.train_labels, data.train_size),
        ("test", arrays.test_pixels, arrays.test_labels, data.test_size),
    ):
        chosen = fixed_choice(len(labels), size, split, data)
        if chosen is not None:
            pixels, labels = pixels[chosen], labels[chosen]
        pixels, labels = np.ascontiguousarray(pixels), np.ascontiguousarray(labels, dtype="<i8")
        digest.update(repr(pixels.shape).encode())
        digest.update(pixels.data)
        digest.update(labels.data)
        planes = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()  # crops copy rows of one channel
        splits.append(Images(planes, torch.from_numpy(labels)).to(device))
    train, test = splits
    return Dataset(train, test, arrays.classes, data.label, digest.hexdigest())


def to_float(pixels: Tensor, memory_format: torch.memory_format = torch.channels_last) -> Tensor:
    """(N, C, H, W) uint8 -> float32 in [0, 1]."""
    return pixels.to(torch.float32, memory_format=memory_format).div_(255)


def draw_augmentation(n: int, generator: torch.Generator, padding: int = 4) -> tuple[Tensor, Tensor]:
    """n crops and flips on the generator's device: offsets (n, 2) int64 in 0 … 2 padding, flips (n,) bool."""
    device = generator.device
    offsets = torch.randint(2 * padding + 1, (n, 2), generator=generator, device=device)
    flips = torch.randint(2, (n,), generator=generator, device=device).bool()
    return offsets, flips


def crop_and_flip(images: Tensor, offsets: Tensor, flips: Tensor, padding: int = 4) -> Tensor:
    """Each image padded with zeros, cut at its own offset, and then mirrored left to right or not.

    images: (N, C, H, W) uint8.   offsets: (N, 2) int64, top and left in 0 … 2 padding.   flips: (N,) bool.
    Returns (N, C, H, W) uint8. Nothing waits for the device.
    """
    n, c, h, w = images.shape
    if n == 0:  # a shard's part of a small batch
        return images
    tall, wide = h + 2 * padding, w + 2 * padding
    # Rows of a crop lie in one piece in the padded image, so one index_select copies all of them, and cutting
    # a mirrored image elsewhere spares mirroring afterwards: a third of what indexing pixel by pixel takes.
    both = torch.cat([images, images.flip(3)])
    padded = F.pad(both, (padding, padding, padding, padding)).contiguous()
    every_row = padded.as_strided((padded.numel() - w + 1, w), (1, 1))
    top, left = offsets[:, 0], torch.where(flips, 2 * padding - offsets[:, 1], offsets[:, 1])
    image = torch.arange(n, device=images.device) + n * flips
    plane = image[:, None] * c + torch.arange(c, device=images.device)
    row = (plane * tall + top[:, None])[..., None] + torch.arange(h, device=images.device)
    cut = every_row.index_select(0, (row * wide + left[:, None, None]).view(-1))
    return cut.view(n, c, h, w)


def batch_parts(n: int, batch_size: int, shard: tuple[int, int] = (0, 1)) -> list[slice]:
    """Where in an epoch's order each batch of n images lies; of shard (r, w): its every w-th image from r on.

    All shards have equally many parts. A last batch of fewer than w images leaves some of them an empty part.
    """
    rank, world = shard
    if not 0 <= rank < world:
        raise ValueError(f"shard {shard}: expected (rank, world) with 0 <= rank < world")
    return [slice(start + rank, min(start + batch_size, n), world) for start in range(0, n, batch_size)]


def batches(
    images: AnyImages,
    batch_size: int,
    *,
    order: torch.Generator | None = None,
    augmentation: torch.Generator | None = None,
    shard: tuple[int, int] = (0, 1),
    memory_format: torch.memory_format = torch.channels_last,
    prepare: Callable[[Tensor], Tensor] | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """All images once: (B, C, H, W) float32 in [0, 1], and (B,) int64; the last may be less.

    order: shuffles, anew each call; None: as stored.   augmentation: draws crops (padding 4; streamed: random
    resized crops) and flips; None: none. Both generators on the images' device.
    shard: (rank, world), for one of several processes: its part of every batch of batch_size, see
    `batch_parts`. Given equal generators, all ranks' parts together are the batch that one process would see.
    memory_format, prepare: how images lie in memory, and what else is to be done to each by itself; streamed
    ones are channels last as they are.
    """
    if not isinstance(images, Images):
        yield from images.batches(batch_size, order=order, augmentation=augmentation, shard=shard)
        return
    drawn = draw_epoch(images, order, augmentation)
    parts = batch_parts(len(images), batch_size, shard)
    # a dozen small operations each: done for several batches at once they cost a quarter as much
    together = max(1, BLOCK_VALUES // (batch_size * images.pixels[:1].numel()))
    for start in range(0, len(parts), together):
        block = parts[start : start + together]
        x, y = assemble(images, *(_of(block, values) for values in drawn), memory_format=memory_format)
        if prepare is not None:
            x = prepare(x)
        sizes = [len(drawn[0][part]) for part in block]
        yield from zip(x.split(sizes), y.split(sizes), strict=True)


def draw_epoch(
    images: Images, order: torch.Generator | None, augmentation: torch.Generator | None
) -> tuple[Tensor, ...]:
    """What is drawn for an epoch: (N,) int64 rows; with augmentation also all images' offsets and flips."""
    n, device = len(images), images.labels.device
    if order is None:
        rows = torch.arange(n, device=device)
    else:
        rows = torch.randperm(n, generator=order, device=device)
    return (rows,) if augmentation is None else (rows, *draw_augmentation(n, augmentation))


def draws(
    images: Images,
    batch_size: int,
    *,
    order: torch.Generator | None = None,
    augmentation: torch.Generator | None = None,
) -> Iterator[tuple[Tensor, ...]]:
    """What `assemble` makes the batches of an epoch from, a batch at a time: those that `batches` gives."""
    drawn = draw_epoch(images, order, augmentation)
    for part in batch_parts(len(images), batch_size):
        yield tuple(values[part] for values in drawn)


def assemble(
    images: Images,
    rows: Tensor,
    offsets: Tensor | None = None,
    flips: Tensor | None = None,
    *,
    memory_format: torch.memory_format = torch.channels_last,
) -> tuple[Tensor, Tensor]:
    """The images at (M,) int64 rows, cropped and flipped as drawn: (M, C, H, W) in [0, 1], and (M,) labels.

    offsets, flips: see `draw_augmentation`; None: the images as they are. Nothing waits for the device.
    """
    batch = images.subset(rows)
    pixels = batch.pixels
    if offsets is not None and flips is not None:
        pixels = crop_and_flip(pixels, offsets, flips)
    return to_float(pixels, memory_format), batch.labels


def _of(parts: list[slice], values: Tensor) -> Tensor:
    """The values of several parts, one after the other: a view where they lie so."""
    if all(part.step in (None, 1) for part in parts):
        return values[parts[0].start : parts[-1].stop]
    return torch.cat([values[part] for part in parts])


def _shapes(data: config.Data) -> Arrays:
    return embedded.shapes(data.train_size or 2000, data.test_size or 1000)


def _digits(data: config.Data) -> Arrays:
    return embedded.digits()


DATASETS: dict[str, Callable[[config.Data], Arrays]] = {
    "shapes": _shapes,
    "digits": _digits,
    "cifar10": load_cifar,
    "cifar100": load_cifar,
    "mnist": load_idx,
    "fashion_mnist": load_idx,
    "imagenet": load_tree,
    "folder": load_tree,
}
