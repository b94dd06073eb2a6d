"""Images of a tree that does not fit in memory: decoded anew each epoch, a few batches ahead of their use.

Which part of which image stands where in which batch is settled before anything is decoded, so the result
depends on the generators alone: not on the number of workers, nor on which of them is done first.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from noiseutils.data.image_trees import read_rgb
from noiseutils.data.images import Images
from noiseutils.errors import UserError

CROP_AREA = (0.08, 1.0)  # of a random crop, as a share of its image
CROP_RATIO = (3 / 4, 4 / 3)  # its width over its height
CROP_ATTEMPTS = 10  # draws of a crop before the middle of the image is taken
CENTRE_MARGIN = 256 / 224  # shorter side before the middle is cut out, over the side of what is cut out
BATCHES_AHEAD = 2  # batches decoded beyond the one that is asked for
STATISTICS_IMAGES = 1000  # training images from which mean and std are taken

Job = tuple[int, int | None]  # number of an image, and the seed of its crop and flip; None: its middle


@dataclass(frozen=True, eq=False)
class StreamedImages:
    """Name the files of one split. labels: (N,) int64, on the device that batches are made on."""

    files: tuple[str, ...]  # paths, in the order of labels
    labels: Tensor
    image_size: int  # pixels a side, after cutting
    workers: int  # threads that decode; no result depends on the number

    channels = 3  # grey images become RGB

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        return self.labels.device

    @property
    def pixels(self) -> Tensor:
        """Raise UserError for code that is about to read a whole split."""
        raise UserError(
            f"these {len(self):,} images are streamed and not held in memory: take them in batches, or "
            "some with take(n); or leave out `streamed`, if they fit"
        )

    def sample(self) -> Images:
        """Return the images from which mean and std are computed: the first 1,000, of mixed classes."""
        return self.take(STATISTICS_IMAGES)

    def take(self, n: int) -> Images:
        """Return the middles of the first n images, or of all if there are fewer, in memory."""
        labels = self.labels[:n]
        (pixels,) = self.decode([[(i, None) for i in range(len(labels))]])
        return Images(pixels, labels)

    def subset(self, indices: Tensor) -> StreamedImages:
        """Return the images at (M,) int64 indices, in the order of the indices."""
        files = tuple(self.files[i] for i in indices.tolist())
        return replace(self, files=files, labels=self.labels.index_select(0, indices))

    def to(self, device: torch.device | str) -> StreamedImages:
        """Return the same images, their batches made on another device."""
        return replace(self, labels=self.labels.to(device))

    def decode(self, batches: Iterable[list[Job]]) -> Generator[Tensor, None, None]:
        """Yield the pixels of each batch, (B, 3, S, S) uint8 on the device, decoding a few batches ahead.

        Closed or dropped early, wait for the images that are being decoded and leave no thread.
        """
        # Threads, as Pillow decodes and resizes without the interpreter's lock. torch's DataLoader with as
        # many processes is slower (on two cores 880 images a second against 1,000, JPEGs of 500 × 375 pixels
        # cropped to 224; an epoch begins after 0.29 s against 0.02 s), and the daemon processes of the local
        # executor may not start its workers.
        side, pin = self.image_size, self.device.type == "cuda"
        pool = ThreadPoolExecutor(self.workers, "decode")
        waiting: deque[tuple[Tensor, list[Future[None]]]] = deque()

        def next_decoded() -> Tensor:
            pixels, decoding = waiting.popleft()
            for image in decoding:
                image.result()
            return pixels.to(self.device, non_blocking=True).permute(0, 3, 1, 2)

        try:
            for jobs in batches:
                pixels = torch.empty((len(jobs), side, side, 3), dtype=torch.uint8, pin_memory=pin)
                rows = pixels.numpy()
                decoding = [
                    pool.submit(_decode_into, rows[row], self.files[i], seed)
                    for row, (i, seed) in enumerate(jobs)
                ]
                waiting.append((pixels, decoding))
                # with BATCHES_AHEAD alone, small batches would leave workers idle
                if len(waiting) > BATCHES_AHEAD + self.workers // max(1, len(jobs)):
                    yield next_decoded()
            while waiting:
                yield next_decoded()
        finally:
            pool.shutdown(cancel_futures=True)


def random_box(width: int, height: int, draw: Callable[[], float]) -> tuple[int, int, int, int]:
    """Draw a part of an image, as is standard for ImageNet: (left, top, right, bottom) in pixels.

    The part's area is U(8 %, 100 %) of the image's, its width / height exp(U(log 3/4, log 4/3)), its place
    uniform (Szegedy et al. 2015, section 6). A part that does not fit is drawn again; after ten draws, the
    largest part of the middle that keeps to those ratios is returned.
    draw: gives a number from U[0, 1) at each call.
    """
    low, high = math.log(CROP_RATIO[0]), math.log(CROP_RATIO[1])
    for _ in range(CROP_ATTEMPTS):
        area = (CROP_AREA[0] + (CROP_AREA[1] - CROP_AREA[0]) * draw()) * width * height
        ratio = math.exp(low + (high - low) * draw())
        wide, tall = max(1, round((area * ratio) ** 0.5)), max(1, round((area / ratio) ** 0.5))
        if wide <= width and tall <= height:
            left, top = int(draw() * (width - wide + 1)), int(draw() * (height - tall + 1))
            return left, top, left + wide, top + tall
    return _middle(
        width, height, min(width, round(height * CROP_RATIO[1])), min(height, round(width / CROP_RATIO[0]))
    )


def _middle(width: int, height: int, wide: int, tall: int) -> tuple[int, int, int, int]:
    left, top = round((width - wide) / 2), round((height - tall) / 2)
    return left, top, left + wide, top + tall


def _decode_into(row: np.ndarray, path: str, seed: int | None) -> None:
    """Fill row, (S, S, 3) uint8, with an image's middle, or with the random part that the seed gives."""
    from PIL import Image

    bilinear, side = Image.Resampling.BILINEAR, len(row)
    rgb, _ = read_rgb(path)
    if seed is None:
        shorter, margin = min(rgb.size), round(side * CENTRE_MARGIN)
        # the longer side is rounded down, as torchvision's Resize does
        width, height = (length * margin // shorter for length in rgb.size)
        row[...] = rgb.resize((width, height), bilinear).crop(_middle(width, height, side, side))
        return
    draw = random.Random(seed).random  # seeding and stream are frozen, Python's documentation says
    box = random_box(*rgb.size, draw)
    cut = np.asarray(rgb.crop(box).resize((side, side), bilinear))
    row[...] = cut[:, ::-1] if draw() < 0.5 else cut
