"""Batches of an epoch: the images shuffled, cropped and flipped, a whole batch at a time on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import torch
import torch.nn.functional as F
from torch import Tensor

from noiseutils.data.dataset import AnyImages
from noiseutils.data.images import Images, to_float
from noiseutils.data.streaming import StreamedImages

BLOCK_VALUES = 1024 * 3 * 32 * 32  # pixels that are put together at once, several small batches of them


def draw_augmentation(n: int, generator: torch.Generator, padding: int = 4) -> tuple[Tensor, Tensor]:
    """Draw n crops and flips on the generator's device.

    Returns offsets, (n, 2) int64 in 0 … 2 padding, and flips, (n,) bool.
    """
    device = generator.device
    offsets = torch.randint(2 * padding + 1, (n, 2), generator=generator, device=device)
    flips = torch.randint(2, (n,), generator=generator, device=device).bool()
    return offsets, flips


def crop_and_flip(images: Tensor, offsets: Tensor, flips: Tensor, padding: int = 4) -> Tensor:
    """Pad each image with zeros, cut the image out at its own offset, and mirror it left to right or not.

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
    """Return where in an epoch's order of n images each batch lies.

    Of shard (r, w), a part is every w-th image of a batch from the r-th on. All shards have equally many
    parts; a last batch of fewer than w images leaves some shards an empty part.
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
    """Yield all images once: (B, C, H, W) float32 in [0, 1], and (B,) int64; the last may be less.

    order: shuffles, anew each call; None: as stored.   augmentation: draws crops (padding 4; streamed: random
    resized crops) and flips; None: none. Both generators are on the images' device.
    shard: (rank, world), for one of several processes, which takes its part of every batch, see
    `batch_parts`. Given equal generators, all ranks' parts together are the batch that one process would see.
    memory_format, prepare: layout in memory, and a function applied to several batches at once; streamed
    images are channels last and not prepared.
    """
    parts = batch_parts(len(images), batch_size, shard)
    if isinstance(images, StreamedImages):
        yield from _streamed_batches(images, parts, order, augmentation)
        return
    drawn = draw_epoch(images, order, augmentation)
    # a dozen small operations each: done for several batches at once they cost a quarter as much
    together = max(1, BLOCK_VALUES // (batch_size * images.pixels[:1].numel()))
    for start in range(0, len(parts), together):
        block = parts[start : start + together]
        x, y = assemble(images, *(_of(block, values) for values in drawn), memory_format=memory_format)
        if prepare is not None:
            x = prepare(x)
        sizes = [len(drawn[0][part]) for part in block]
        yield from zip(x.split(sizes), y.split(sizes), strict=True)


def _streamed_batches(
    images: StreamedImages,
    parts: list[slice],
    order: torch.Generator | None,
    augmentation: torch.Generator | None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the same of a streamed split; closed or dropped early, leave no thread decoding."""
    rows, n = _rows(images, order), len(images)
    seeds: list[int | None] = [None] * n
    if augmentation is not None:  # one number an image, however many its crop will draw from the seed
        seeds = torch.randint(2**63 - 1, (n,), generator=augmentation, device=images.device).tolist()
    places = rows.tolist()  # the device is waited for here, not once a batch
    jobs = (list(zip(places[part], seeds[part], strict=True)) for part in parts)
    with closing(images.decode(jobs)) as decoded:
        for part, pixels in zip(parts, decoded, strict=True):
            yield to_float(pixels), images.labels.index_select(0, rows[part])


def _rows(images: AnyImages, order: torch.Generator | None) -> Tensor:
    """Return (N,) int64 image numbers: shuffled, or as stored."""
    n, device = len(images), images.device
    if order is None:
        return torch.arange(n, device=device)
    return torch.randperm(n, generator=order, device=device)


def draw_epoch(
    images: Images, order: torch.Generator | None, augmentation: torch.Generator | None
) -> tuple[Tensor, ...]:
    """Draw an epoch's (N,) int64 image numbers; with augmentation also all images' offsets and flips."""
    rows = _rows(images, order)
    return (rows,) if augmentation is None else (rows, *draw_augmentation(len(images), augmentation))


def draws(
    images: Images,
    batch_size: int,
    *,
    order: torch.Generator | None = None,
    augmentation: torch.Generator | None = None,
) -> Iterator[tuple[Tensor, ...]]:
    """Yield, a batch at a time, the arguments from which `assemble` makes the batches of `batches`."""
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
    """Return the images at (M,) int64 rows, cropped and flipped as drawn: (M, C, H, W) in [0, 1], and labels.

    offsets, flips: see `draw_augmentation`; None: the images as they are. Nothing waits for the device.
    """
    batch = images.subset(rows)
    pixels = batch.pixels
    if offsets is not None and flips is not None:
        pixels = crop_and_flip(pixels, offsets, flips)
    return to_float(pixels, memory_format), batch.labels


def _of(parts: list[slice], values: Tensor) -> Tensor:
    """Return the values of several parts, one after the other: a view where they lie so."""
    if all(part.step in (None, 1) for part in parts):
        return values[parts[0].start : parts[-1].stop]
    return torch.cat([values[part] for part in parts])
