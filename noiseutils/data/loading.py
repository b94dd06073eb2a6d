"""Load data sets by name, read whole and checked, or streamed.

Nothing ever falls back to other data: an error says what is missing or damaged, where it was looked for,
which layout was expected there, and which command fetches the files.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable

import numpy as np
import torch

from noiseutils.data import embedded
from noiseutils.data.dataset import Dataset
from noiseutils.data.embedded import Arrays
from noiseutils.data.image_trees import find_tree, load_tree, say_passed_over
from noiseutils.data.images import Images
from noiseutils.data.spec import Data
from noiseutils.data.streaming import StreamedImages
from noiseutils.data.subsets import fixed_choice
from noiseutils.data.torchvision_sets import load_cifar, load_idx
from noiseutils.errors import UserError

DATASETS: dict[str, Callable[[Data], Arrays]] = {
    "shapes": lambda data: embedded.shapes(data.train_size or 2000, data.test_size or 1000),
    "digits": lambda data: embedded.digits(),
    "cifar10": load_cifar,
    "cifar100": load_cifar,
    "mnist": load_idx,
    "fashion_mnist": load_idx,
    "imagenet": load_tree,
    "folder": load_tree,
}


def load(data: Data, device: torch.device | str = "cpu") -> Dataset:
    """Return the data set that `data` names, whole and checked, on the device.

    Raises UserError if files are missing or damaged, or if there are fewer images than asked for.
    `train_size` and `test_size` take the same images whatever the run's seed, the smaller of two from among
    the larger; the two sizes of `shapes` are how many are drawn.
    """
    if data.streamed:
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


def load_streamed(data: Data, device: torch.device | str = "cpu") -> Dataset:
    """Return an image tree as a streamed set: its files are listed, and none is decoded yet.

    The files used, and their classes, are those of a set held in memory. The fingerprint is SHA-256 over
    the classes and, of every file that is used, its name below the split's folder, its size in bytes and its
    label: other pixels in files of the same names and sizes go unnoticed.
    """
    assert data.image_size is not None, "checked by Data"
    classes, *found = find_tree(data)
    say_passed_over(data, *found)
    digest = hashlib.sha256(json.dumps(classes).encode())
    # processes that torchrun started on this machine share its cores
    workers = min(max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))), 32)
    splits = []
    for split in found:
        for (name, size, _), label in zip(split.files, split.labels.tolist(), strict=True):
            digest.update(os.fsencode(name) + f"\0{size}\0{label}\n".encode())
        digest.update(b"\n")
        labels = torch.from_numpy(split.labels.astype(np.int64)).to(device)
        files = tuple(os.path.join(split.folder, name) for name, _, _ in split.files)
        splits.append(StreamedImages(files, labels, data.image_size, workers))
    train, test = splits
    return Dataset(train, test, classes, data.label, digest.hexdigest())
