"""Image trees: train/<class>/* and test/<class>/*, decoded once and cached as uint8 arrays beside them."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import secrets
import unicodedata
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from noiseutils.data.embedded import Arrays
from noiseutils.data.spec import Data
from noiseutils.data.subsets import fixed_choice, fixed_order
from noiseutils.errors import UserError, clipped, one_line
from noiseutils.files import Unusable, not_written, set_aside, size_of
from noiseutils.provenance import data_root

if TYPE_CHECKING:
    from PIL import Image

log = logging.getLogger("noiseutils")

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
GREY_MODES = ("1", "L", "LA")  # modes of Pillow: grey, and colour (transparency is dropped)
COLOUR_MODES = ("RGB", "RGBA", "P", "CMYK")
CACHE = ".noiseutils-cache"
CACHE_FORMAT = 2  # raise it when the same files come to be decoded otherwise
LARGEST_ASPECT_RATIO = 50  # times that a side may be as long as the other
IMAGES_AT_ONCE = 64  # images that a thread decodes before the progress bar moves
LAYOUT = "train/<class>/* and test/<class>/*"


@dataclass(frozen=True)
class Split:
    """List the images of a split that are used."""

    folder: Path
    files: list[tuple[str, int, int]]  # path below the folder, bytes, time of change in ns
    labels: np.ndarray
    passed_over: Mapping[str, int]  # files without an image's suffix, or in no class folder, by suffix

    def said(self) -> str:
        """Describe the files that are passed over; "" if there are none."""
        counts = ", ".join(f"{n:,} {what}" for what, n in sorted(self.passed_over.items()))
        return f"{self.folder}: passed over: {counts}" if counts else ""


def find_tree(data: Data) -> tuple[tuple[str, ...], Split, Split]:
    """List the classes, and the files of both splits in a fixed random order, so that take(n) is mixed.

    Hidden files are passed over, and, counted by suffix, those without an image's suffix and those outside of
    the class folders; everything else that is not an image in a class folder is an error. A class goes by its
    folder's name in Unicode's composed form (NFC), as file systems differ in the form they keep.
    torchvision's ImageFolder takes hidden folders for classes, and images of folders within a class, without
    a word; listing 50,000 files takes 0.25 s here and 0.27 s there.
    """
    if data.root is None and data.name == "folder":
        raise UserError(f"data 'folder' needs `root`: the folder that holds {LAYOUT}")
    root = Path(os.path.expanduser(data.root)) if data.root else data_root() / data.name
    found = []
    for split in ("train", "test"):
        names = ("test", "val") if (split, data.name) == ("test", "imagenet") else (split,)
        folder = next((root / name for name in names if os.path.isdir(root / name)), None)
        if folder is None:
            raise UserError(
                f"{data.label}: no folder {' or '.join(str(root / name) for name in names)}; "
                f"expected: {LAYOUT} in {root}, images with a suffix of {', '.join(SUFFIXES)}; "
                f"once it is there, noiseutils data make {root} decodes it"
            )
        try:
            found.append((folder, *_class_files(folder)))
        except OSError as error:  # no right to look, a link to itself, a disk that fails
            raise UserError(f"{error.filename or folder} cannot be listed: {error.strerror}") from error
    (train_folder, train, _), (test_folder, test, _) = found
    for one, other in ((train, test), (test, train)):
        if lone := sorted(set(one) - set(other)):
            has, lacks = (train_folder, test_folder) if one is train else (test_folder, train_folder)
            raise UserError(
                f"{data.label}: class {', '.join(map(one_line, lone[:10]))}{', …' * (len(lone) > 10)} is in "
                f"{has} but not in {lacks}; "
                "expected: the same class folders in both"
            )
    splits = []
    for split, (folder, classes, passed_over), size in zip(
        ("train", "test"), found, (data.train_size, data.test_size), strict=True
    ):
        files = [file for members in classes.values() for file in members]
        labels = np.repeat(np.arange(len(classes)), [len(members) for members in classes.values()])
        fixed_choice(len(files), size, split, data)
        order = fixed_order(len(files), split)[:size]
        splits.append(Split(folder, [files[i] for i in order], labels[order], passed_over))
    return tuple(train), *splits


def _class_files(folder: Path) -> tuple[dict[str, list[tuple[str, int, int]]], Counter[str]]:
    """Map each class to its image files, both sorted by name; count the files passed over by their suffix."""
    folders: dict[str, str] = {}
    passed_over: Counter[str] = Counter()
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        if not entry.is_dir():
            _check_link(entry)
            passed_over[f"{_suffix(entry.name)} in no class folder"] += 1
            continue
        if not entry.name.isascii() and re.search("[\ud800-\udfff]", entry.name):
            raise UserError(f"{folder} holds the folder {entry.name!r}, whose name is not in UTF-8")
        name = unicodedata.normalize("NFC", entry.name)
        if name in folders:
            raise UserError(
                f"{folder} holds two folders {name!r}, whose names differ by Unicode's form alone"
            )
        folders[name] = entry.name
    classes = {}
    for name, stored in sorted(folders.items()):
        files = []
        with os.scandir(folder / stored) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    raise UserError(
                        f"{entry.path} is a folder within a class; expected: images only ({LAYOUT})"
                    )
                _check_link(entry)
                if not entry.is_file():  # to open a pipe waits for its other end
                    raise UserError(f"{entry.path} is a pipe, socket or device; expected: files ({LAYOUT})")
                if entry.name.lower().endswith(SUFFIXES):
                    stat = entry.stat()
                    files.append((f"{stored}/{entry.name}", stat.st_size, stat.st_mtime_ns))
                else:
                    passed_over[_suffix(entry.name)] += 1
        if not files:
            raise UserError(f"{folder / stored} holds no image; expected: files with {', '.join(SUFFIXES)}")
        classes[name] = sorted(files)
    if len(classes) < 2:
        found = f"the class folder {clipped(*classes)} alone" if classes else "no class folders"
        raise UserError(f"{folder} holds {found}; expected: {LAYOUT}, two classes or more")
    return classes, passed_over


def _check_link(entry: os.DirEntry[str]) -> None:
    """Raise UserError for a link to what is not there."""
    if entry.is_symlink() and not os.path.exists(entry.path):
        raise UserError(f"{entry.path} is a link to {os.readlink(entry.path)}, which is not there")


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower() or "without a suffix"


def say_passed_over(data: Data, *splits: Split) -> None:
    """Log the files of a tree that are passed over, by split and suffix."""
    for split in splits:
        if said := split.said():
            log.warning("%s: %s; read are %s", data.label, said, ", ".join(SUFFIXES))


def _cache_file(data: Data, root: Path) -> Path | None:
    """Name the cache: beside the images, else under `data_root`; None if neither can be written."""
    sizes = [data.image_size or "stored", data.train_size or "all", data.test_size or "all"]
    name = f"{'-'.join(map(str, sizes))}.npz"
    try:
        (root / CACHE).mkdir(exist_ok=True)
        if os.access(root / CACHE, os.W_OK):
            return root / CACHE / name
    except OSError:
        pass
    elsewhere = data_root() / CACHE / hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]
    try:
        elsewhere.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # decoding again next time is no harm
        log.warning("the decoded images are not cached: %s", not_written(elsewhere, error))
        return None
    return elsewhere / name


def load_tree(data: Data) -> Arrays:
    """Load a folder or ImageNet: from the cache if that is whole and of the same files, else decoded."""
    classes, train, test = find_tree(data)
    say_passed_over(data, train, test)
    listing = [CACHE_FORMAT, data.name, data.image_size, *([s.folder.name, s.files] for s in (train, test))]
    key = hashlib.sha256(json.dumps(listing).encode()).hexdigest()
    file = _cache_file(data, train.folder.parent)
    counts = (len(train.files), len(test.files))
    pixels = None if file is None else _read_cache(file, key, counts)
    if pixels is None:
        pixels = _decode(data, (train, test))
        try:
            if file is not None:
                _write_cache(file, key, pixels)
        except OSError as error:  # decoding again next time is no harm
            log.warning("the decoded images are not cached: %s", not_written(file or "", error))
    return Arrays(pixels[0], train.labels, pixels[1], test.labels, classes)


def _read_cache(file: Path, key: str, counts: tuple[int, int]) -> list[np.ndarray] | None:
    """Read both splits' pixels; return None if they are missing, of other files, or damaged, which is said.

    counts: images of the splits.
    """
    try:
        if size_of(file) is None:
            return None
        # reading checks the checksums of a zip file
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as cached:
            if cached["key"] != key:
                return None
            found = [cached["train"], cached["test"]]
        for pixels, count in zip(found, counts, strict=True):
            if pixels.dtype != np.uint8 or pixels.ndim != 4 or len(pixels) != count:
                raise ValueError(f"pixels are {pixels.dtype} {pixels.shape}")
        return found
    except Unusable as damage:
        why = str(damage)
    except Exception as error:  # numpy and zipfile raise many kinds for a file that is incomplete or edited
        why = f"{file} is incomplete or edited ({type(error).__name__}: {error})"
    log.warning("%s: the images are decoded again", why)
    return None


def _write_cache(file: Path, key: str, pixels: list[np.ndarray]) -> None:
    part = file.with_name(f".{secrets.token_hex(4)}.part")
    try:
        with part.open("wb") as out:
            np.savez(out, key=np.array(key), train=pixels[0], test=pixels[1])
        if file.is_dir():
            set_aside(file)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def _decode(data: Data, splits: tuple[Split, Split]) -> list[np.ndarray]:
    """Decode both splits to (N, S, S, C) uint8; C is 1 if every image is grey, else 3.

    With an image size S, the shorter side is resized to S (bilinear, antialiased) and the middle cut out.
    """
    size = data.image_size or _stored_size(splits[0].folder / splits[0].files[0][0])
    paths = [split.folder / name for split in splits for name, _, _ in split.files]
    pixels = np.empty((len(paths), size, size, 3), dtype=np.uint8)
    grey: list[Path] = []

    def decode(start: int) -> int:
        some = paths[start : start + IMAGES_AT_ONCE]
        for i, path in enumerate(some, start):
            pixels[i], is_grey = _decode_one(path, size, resize=data.image_size is not None)
            if is_grey:
                grey.append(path)
        return len(some)

    # threads: Pillow decodes without the interpreter's lock, and 60,000 small JPEGs take 10 s on two cores
    with (
        tqdm(total=len(paths), desc=f"decode {data.label}", unit="image", disable=None) as bar,
        ThreadPoolExecutor(min(os.cpu_count() or 1, 32)) as workers,
    ):
        try:
            for done in workers.map(decode, range(0, len(paths), IMAGES_AT_ONCE)):
                bar.update(done)
        except BaseException:  # Ctrl-C, or a damaged image: the rest need not be decoded first
            workers.shutdown(cancel_futures=True)
            raise
    if grey and data.name != "imagenet":  # ImageNet has some, and everybody takes them as RGB
        if len(grey) < len(paths):
            raise UserError(
                f"{min(grey)} is a grey image ({len(grey):,} of {len(paths):,} are) in a set with colour "
                "ones; allowed: all images grey, or all in colour"
            )
        pixels = pixels[..., :1].copy()
    return np.split(pixels, [len(splits[0].files)])


def _stored_size(path: Path) -> int:
    width, height = read_rgb(path)[0].size
    if width != height:
        raise UserError(f"{path} is {width}×{height} pixels; set image_size: pixels a side, after cutting")
    return width


def read_rgb(path: str | Path) -> tuple[Image.Image, str]:
    """Read an image as RGB, turned as its EXIF orientation says; return the stored image's mode beside it."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            ImageOps.exif_transpose(image, in_place=True)
            mode, rgb = image.mode, image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} cannot be read as an image: {error}") from error
    shorter, longer = sorted(rgb.size)
    if longer > LARGEST_ASPECT_RATIO * shorter:  # resized by its shorter side it would fill the memory
        raise UserError(
            f"{path} is {rgb.width}×{rgb.height} pixels; allowed: a side up to {LARGEST_ASPECT_RATIO} times "
            "the other"
        )
    if mode not in (*GREY_MODES, *COLOUR_MODES):
        raise UserError(
            f"{path} has pixels of mode {mode}; allowed: {', '.join((*GREY_MODES, *COLOUR_MODES))}"
        )
    return rgb, mode


def _decode_one(path: Path, size: int, resize: bool) -> tuple[np.ndarray, bool]:
    """Decode an image to (S, S, 3) uint8; return also whether the image is grey."""
    from PIL import Image

    rgb, mode = read_rgb(path)
    if not resize and rgb.size != (size, size):
        width, height = rgb.size
        raise UserError(
            f"{path} is {width}×{height} pixels and others are {size}×{size}; set image_size: pixels a side"
        )
    if resize and rgb.size != (size, size):
        shorter = min(rgb.size)
        width, height = (max(size, round(side * size / shorter)) for side in rgb.size)
        left, top = (width - size) // 2, (height - size) // 2
        rgb = rgb.resize((width, height), Image.Resampling.BILINEAR)
        rgb = rgb.crop((left, top, left + size, top + size))
    return np.asarray(rgb), mode in GREY_MODES
