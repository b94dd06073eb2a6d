"""Small data sets, in memory and in files."""

import struct

import numpy as np
import torch
from PIL import Image

from noiseutils.config import Data
from noiseutils.data import Images


def some_images(n=50, channels=3, size=8, seed=0):
    draws = np.random.RandomState(seed)
    pixels = torch.from_numpy(draws.randint(0, 256, (n, size, size, channels)).astype(np.uint8))
    return Images(pixels.permute(0, 3, 1, 2), torch.arange(n))


def make_tree(root, sizes=(8, 8), train=4, test=2, mode="RGB", classes=("cat", "dog")):
    draws = np.random.RandomState(1)
    for split, count in (("train", train), ("test", test)):
        for name in classes:
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = draws.randint(0, 256, (sizes[1], sizes[0], 3)).astype(np.uint8)
                Image.fromarray(pixels).convert(mode).save(root / split / name / f"{i}.png")
    return root


def folder(root, **changes):
    return Data(name="folder", root=str(root), **changes)


def pixel_rows(images):
    return sorted(image.numpy().tobytes() for image in images.pixels.contiguous())


def write_idx(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def make_idx(raw, train=20, test=10):
    draws, arrays = np.random.RandomState(2), {}
    for prefix, n in (("train", train), ("t10k", test)):
        arrays[prefix] = draws.randint(0, 256, (n, 28, 28)), np.arange(n) % 10
        write_idx(raw / f"{prefix}-images-idx3-ubyte", arrays[prefix][0])
        write_idx(raw / f"{prefix}-labels-idx1-ubyte", arrays[prefix][1])
    return arrays
