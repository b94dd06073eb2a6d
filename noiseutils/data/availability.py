"""Check which data sets are on this machine, and fetch missing ones."""

from __future__ import annotations

import os

from noiseutils.data.image_trees import LAYOUT, find_tree, load_tree
from noiseutils.data.spec import EMBEDDED, TREES, Data
from noiseutils.data.torchvision_sets import TORCHVISION, check_official, official_files, torchvision_class
from noiseutils.errors import UserError
from noiseutils.provenance import data_root


def check(data: Data) -> str:
    """Describe the files of a set without loading them. Raises UserError naming the missing files."""
    if data.name in EMBEDDED:
        return f"{data.name}: made in memory, nothing to fetch"
    if data.name in TORCHVISION:
        return "\n".join(check_official(data))
    classes, train, test = find_tree(data)
    return "\n".join(
        [
            f"{data.label}, in {train.folder.parent}",
            f"  {len(train.files):,} training and {len(test.files):,} test images, "
            f"{len(classes)} classes: {', '.join(classes[:10])}{', …' if len(classes) > 10 else ''}",
            *(f"  {said}" for split in (train, test) if (said := split.said())),
        ]
    )


def fetch(data: Data) -> str:
    """Download one of torchvision's four sets, or decode and cache a tree; return the description."""
    if data.name in TORCHVISION:
        try:
            torchvision_class(data.name)(data_root(data.root), download=True)
        except (OSError, RuntimeError) as error:
            raise UserError(f"{data.name} could not be fetched to {data_root(data.root)}: {error}") from error
    elif data.name in TREES and not data.streamed:
        load_tree(data)
    return check(data)


def overview() -> str:
    """List the data sets, one line each: name, folder, and whether the files exist."""
    lines = [f"{name:<14} made in memory" for name in EMBEDDED]
    for name in TORCHVISION:
        files = official_files(Data(name=name))  # pyright: ignore[reportArgumentType]
        there = sum(map(os.path.isfile, files))
        state = (
            "there" if there == len(files) else f"{there} of {len(files)} files; noiseutils data make {name}"
        )
        lines.append(f"{name:<14} {next(iter(files)).parent}: {state}")
    lines.append(
        f"{'imagenet':<14} {data_root() / 'imagenet'}: train/<wnid>/*, val/<wnid>/*; needs image_size"
    )
    lines.append(f"{'a path':<14} any folder with {LAYOUT}")
    return "\n".join(lines)
