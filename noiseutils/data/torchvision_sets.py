"""CIFAR-10, CIFAR-100, MNIST and Fashion-MNIST in torchvision's layout, held against their checksums."""

from __future__ import annotations

import hashlib
import os
import shlex
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from noiseutils.data.embedded import Arrays
from noiseutils.data.spec import Data
from noiseutils.errors import UserError
from noiseutils.provenance import data_root

TORCHVISION = {
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "mnist": "MNIST",
    "fashion_mnist": "FashionMNIST",
}

# MD5 of the unpacked files, in the order of IDX_FILES: torchvision knows those of the .gz archives only
IDX_FILES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
IDX_MD5 = {
    "mnist": (
        "6bbc9ace898e44ae57da46a324031adb",
        "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea",
        "27ae3e4e09519cfbb04c329615203637",
    ),
    "fashion_mnist": (
        "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "9018921c3c673c538a1fc5bad174d6f9",
        "8181f5470baa50b63fa0f6fddb340f0a",
        "15d484375f8d13e6eb1aabb0c3f46965",
    ),
}


def torchvision_class(name: str) -> Any:
    """Return torchvision's class for one of the four sets."""
    from torchvision import datasets  # two seconds to import

    return getattr(datasets, TORCHVISION[name])


def official_files(data: Data) -> dict[Path, str]:
    """Return the files of an official set, and their MD5 sums."""
    root, source = data_root(data.root), torchvision_class(data.name)
    if data.name in IDX_MD5:
        names = [f"{name}-ubyte" for name in IDX_FILES]
        folders = [root / source.__name__ / "raw", root / "raw", root]
        stored = [*names, *(f"{name}.gz" for name in names)]
        folder = next((f for f in folders if any(os.path.exists(f / name) for name in stored)), folders[0])
        return {folder / name: md5 for name, md5 in zip(names, IDX_MD5[data.name], strict=True)}
    listed = [*source.train_list, *source.test_list, (source.meta["filename"], source.meta["md5"])]
    return {root / source.base_folder / name: md5 for name, md5 in listed}


def _unpack(data: Data, missing: list[Path]) -> str:
    """Return the command that unpacks the archives which hold missing files; "" if no archive is there."""
    if data.name in IDX_MD5:
        packed = [archive for path in missing if os.path.isfile(archive := path.with_name(f"{path.name}.gz"))]
        return f"gunzip --keep {shlex.join(map(str, packed))}" if packed else ""
    root = data_root(data.root)
    archive = root / torchvision_class(data.name).filename
    return (
        shlex.join(["tar", "-xzf", str(archive), "-C", str(root)])
        if missing and os.path.isfile(archive)
        else ""
    )


def _damage(path: Path, md5: str) -> str:
    """Describe the damage of an official file; "" if there is none."""
    if not os.path.isfile(path):
        return "missing"
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "md5").hexdigest()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "" if found == md5 else f"not the official file: MD5 {found}, expected {md5}"


def check_official(data: Data) -> list[str]:
    """Describe each file in a line. Raises UserError if files are missing, or differ without an own label."""
    files = official_files(data)
    damage = {path: _damage(path, md5) for path, md5 in files.items()}
    lines = [f"  {path.name}: {wrong or 'there, checksum right'}" for path, wrong in damage.items()]
    folder = next(iter(files)).parent
    if "missing" in damage.values():
        command = _unpack(data, [path for path, wrong in damage.items() if wrong == "missing"])
        unpack = f"\nthere, but packed; to unpack them: {command}" if command else ""
        others = "; also looked in its root and in raw/ there" if data.name in IDX_MD5 else ""
        raise UserError(
            f"{data.name} is not complete in {folder}{others}:\n"
            + "\n".join(lines)
            + "\nexpected: these files "
            f"as torchvision lays them out, unpacked{unpack}\nto fetch them: noiseutils data make {data.name}"
        )
    own = data.name in IDX_MD5 and data.label != data.name
    if any(damage.values()) and not own:
        hint = " (a set of your own needs its own `label`)" if data.name in IDX_MD5 else ""
        raise UserError(
            f"{data.name} in {folder} is not the official set{hint}:\n" + "\n".join(lines) + "\n"
            f"to fetch it again: delete the files that differ, then noiseutils data make {data.name}"
        )
    return [f"{data.label}, in {folder}", *lines]


def load_cifar(data: Data) -> Arrays:
    """Load CIFAR-10 or CIFAR-100."""
    check_official(data)
    source = torchvision_class(data.name)
    with warnings.catch_warnings():
        # the official pickles were written by a numpy that spelled a flag as 0
        warnings.simplefilter("ignore", np.exceptions.VisibleDeprecationWarning)
        train, test = (source(data_root(data.root), train=train) for train in (True, False))
    labels, test_labels = (np.array(split.targets, dtype=np.int64) for split in (train, test))
    return Arrays(train.data, labels, test.data, test_labels, tuple(train.classes))


def load_idx(data: Data) -> Arrays:
    """Load MNIST or Fashion-MNIST, or a set of the same layout under a label of its own."""
    check_official(data)
    from torchvision.datasets.mnist import read_image_file, read_label_file

    classes = tuple(name.split(" - ")[0] for name in torchvision_class(data.name).classes)
    parts = []
    for path in official_files(data):
        try:
            read = read_image_file if "images" in path.name else read_label_file
            parts.append(read(str(path)).numpy())
        except (AssertionError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise UserError(f"{path} is not a whole IDX file: {error}; expected: as MNIST's") from error
    for images, labels in (parts[:2], parts[2:]):
        if len(images) != len(labels) or len(labels) == 0 or labels.max() >= len(classes):
            raise UserError(
                f"{data.label} in {path.parent}: {len(images):,} images and {len(labels):,} labels up to "
                f"{labels.max(initial=0)}; expected: as many labels as images, each below {len(classes)}"
            )
    train, train_labels, test, test_labels = parts
    return Arrays(train[..., None], train_labels, test[..., None], test_labels, classes)
