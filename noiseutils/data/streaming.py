"""Image trees that do not fit in memory: decoded anew each epoch, a few batches ahead of their use.

A `StreamedImages` serves where `noiseutils.data.Images` does, wherever images are taken batch by batch. Which
part of which image stands where in which batch is settled before anything is decoded, so the result depends
on the generators alone: not on the number of workers, nor on which of them is done first.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from noiseutils.config import Data
from noiseutils.data.image_trees import find_tree, read_rgb
from noiseutils.data.images import Dataset, Images, batch_parts, to_float
from noiseutils.errors import UserError
from noiseutils.training.distributed import local_world

AREA = (0.08, 1.0)  # of a random crop, as a share of its image
RATIO = (3 / 4, 4 / 3)  # its width over its height
ATTEMPTS = 10  # draws of a crop before the middle of the image is taken
MARGIN = 256 / 224  # shorter side before the middle is cut out, over the side of what is cut out
AHEAD = 2  # batches decoded beyond the one that is asked for
SAMPLE = 1000  # training images from which mean and std are taken

Job = tuple[int, int | None]  # which image, and the seed of its crop and flip; None: its middle


@dataclass(frozen=True, eq=False)
class StreamedImages:
    """One split, on disk. labels: (N,) int64, on the device that batches are made on."""

    files: tuple[str, ...]  # paths, in the order of labels
    labels: Tensor
    image_size: int  # pixels a side, after cutting
    workers: int  # threads that decode; no result depends on it

    channels = 3  # grey images become RGB

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        return self.labels.device

    @property
    def pixels(self) -> Tensor:
        """Never there; a sentence for code that is about to read a whole split."""
        raise UserError(
            f"these {len(self):,} images are streamed and not held in memory: take them in batches, or "
            "some with take(n); or leave out `streamed`, if they fit"
        )

    def sample(self) -> Images:
        """What a set's mean and std are taken from: its first 1,000 images, which are mixed."""
        return self.take(SAMPLE)

    def take(self, n: int) -> Images:
        """The first n images (all of them if there are fewer), their middles, in memory."""
        labels = self.labels[:n]
        (pixels,) = self._decoded([[(i, None) for i in range(len(labels))]])
        return Images(pixels.to(self.device).permute(0, 3, 1, 2), labels)

    def subset(self, indices: Tensor) -> StreamedImages:
        """The images at (M,) int64 indices, in that order."""
        files = tuple(self.files[i] for i in indices.tolist())
        return replace(self, files=files, labels=self.labels.index_select(0, indices))

    def to(self, device: torch.device | str) -> StreamedImages:
        """The same images, their batches made on another device."""
        return replace(self, labels=self.labels.to(device))

    def batches(
        self,
        batch_size: int,
        *,
        order: torch.Generator | None = None,
        augmentation: torch.Generator | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """As `noiseutils.data.batches`; augmentation draws random resized crops and horizontal flips.

        Closed or dropped early, it waits for the images that are being decoded and leaves no thread.
        """
        n, device = len(self), self.device
        parts = batch_parts(n, batch_size, shard)
        indices = torch.arange(n, device=device)
        if order is not None:
            indices = torch.randperm(n, generator=order, device=device)
        seeds = None
        if augmentation is not None:  # one number an image, whatever its crop will draw from it
            seeds = torch.randint(2**63 - 1, (n,), generator=augmentation, device=device).cpu()
        places = indices.cpu()  # the device is waited for here, not once a batch
        jobs = (_jobs(places[part], None if seeds is None else seeds[part]) for part in parts)
        with closing(self._decoded(jobs)) as decoded:
            for part, pixels in zip(parts, decoded, strict=True):
                pixels = pixels.to(device, non_blocking=True).permute(0, 3, 1, 2)
                yield to_float(pixels), self.labels.index_select(0, indices[part])

    def _decoded(self, batches: Iterable[list[Job]]) -> Generator[Tensor, None, None]:
        """(B, S, S, 3) uint8 a batch, in page-locked memory where they go on to a GPU."""
        # Threads, as Pillow decodes and resizes without the interpreter's lock: 610 images a second on one
        # core and 1,000 on two (400 JPEGs of 500 × 375 pixels, random crops to 224), where torch's DataLoader
        # with as many processes does 590 and 880.
        side, pin = self.image_size, self.device.type == "cuda"
        pool = ThreadPoolExecutor(self.workers, "decode")
        waiting: deque[tuple[Tensor, list[Future[None]]]] = deque()
        try:
            for jobs in batches:
                pixels = torch.empty((len(jobs), side, side, 3), dtype=torch.uint8, pin_memory=pin)
                rows = pixels.numpy()
                submitted = [
                    pool.submit(_decode_into, rows[row], self.files[i], seed)
                    for row, (i, seed) in enumerate(jobs)
                ]
                waiting.append((pixels, submitted))
                # with AHEAD alone, small batches would leave workers idle
                if len(waiting) > AHEAD + self.workers // max(1, len(jobs)):
                    yield _finished(*waiting.popleft())
            while waiting:
                yield _finished(*waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)


def load_streamed(data: Data, device: torch.device | str = "cpu") -> Dataset:
    """An image tree as a streamed set: its files are listed, and none is decoded yet.

    Which files are used, and their classes, are as for a set held in memory. The fingerprint is SHA-256 over
    the classes and, of every file that is used, its name below the split's folder, its size in bytes and its
    label: other pixels in files of the same names and sizes go unnoticed.
    """
    if data.image_size is None:
        raise UserError(f"{data.label}: a streamed set needs image_size: pixels a side, after cutting")
    classes, *found = find_tree(data)
    digest = hashlib.sha256(json.dumps(classes).encode())
    splits = []
    for split in found:
        for (name, size, _), label in zip(split.files, split.labels.tolist(), strict=True):
            digest.update(os.fsencode(name) + f"\0{size}\0{label}\n".encode())
        digest.update(b"\n")
        labels = torch.from_numpy(split.labels.astype(np.int64)).to(device)
        files = tuple(os.path.join(split.folder, name) for name, _, _ in split.files)
        workers = min(max(1, (os.cpu_count() or 1) // local_world()), 32)
        splits.append(StreamedImages(files, labels, data.image_size, workers))
    train, test = splits
    return Dataset(train, test, classes, data.label, digest.hexdigest())


def random_box(width: int, height: int, draw: Callable[[], float]) -> tuple[int, int, int, int]:
    """A random part of an image, as is standard for ImageNet: (left, top, right, bottom) in pixels.

    Its area is U(8 %, 100 %) of the image's, its width / height exp(U(log 3/4, log 4/3)), its place uniform
    (Szegedy et al. 2015, section 6). Drawn again while it does not fit; after ten draws the largest part of
    the middle that keeps to those ratios.
    draw: gives a number from U[0, 1) at each call.
    """
    low, high = math.log(RATIO[0]), math.log(RATIO[1])
    for _ in range(ATTEMPTS):
        area = (AREA[0] + (AREA[1] - AREA[0]) * draw()) * width * height
        ratio = math.exp(low + (high - low) * draw())
        wide, tall = max(1, round((area * ratio) ** 0.5)), max(1, round((area / ratio) ** 0.5))
        if wide <= width and tall <= height:
            left, top = int(draw() * (width - wide + 1)), int(draw() * (height - tall + 1))
            return left, top, left + wide, top + tall
    return _middle(width, height, min(width, round(height * RATIO[1])), min(height, round(width / RATIO[0])))


def _middle(width: int, height: int, wide: int, tall: int) -> tuple[int, int, int, int]:
    left, top = round((width - wide) / 2), round((height - tall) / 2)
    return left, top, left + wide, top + tall


def _jobs(places: Tensor, seeds: Tensor | None) -> list[Job]:
    drawn = [None] * len(places) if seeds is None else seeds.tolist()
    return list(zip(places.tolist(), drawn, strict=True))


def _finished(pixels: Tensor, submitted: list[Future[None]]) -> Tensor:
    for one in submitted:
        one.result()
    return pixels


def _decode_into(row: np.ndarray, path: str, seed: int | None) -> None:
    """Fill row (S, S, 3) uint8 with an image's middle, or with the random part that the seed says."""
    from PIL import Image

    bilinear, side = Image.Resampling.BILINEAR, len(row)
    rgb, _ = read_rgb(path)
    if seed is None:
        shorter, margin = min(rgb.size), round(side * MARGIN)
        # the longer side is rounded down, as torchvision's Resize does
        width, height = (length * margin // shorter for length in rgb.size)
        row[...] = rgb.resize((width, height), bilinear).crop(_middle(width, height, side, side))
        return
    draw = random.Random(seed).random  # seeding and stream are frozen, Python's documentation says
    box = random_box(*rgb.size, draw)
    cut = np.asarray(rgb.crop(box).resize((side, side), bilinear))
    row[...] = cut[:, ::-1] if draw() < 0.5 else cut
