"""Data sets in Ray's object store: arrays, which lie in a node's memory once for all its workers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from noiseutils.config import Data
from noiseutils.data import Dataset
from noiseutils.data.images import Images

Packed = dict[str, Any]  # a data set whose images in memory are arrays

_sets: dict[tuple[str, str], Dataset] = {}  # of this worker


def packed(data: Dataset) -> Packed:
    """Return a data set for Ray's object store, which shares arrays between the processes of a node."""
    return {name: _arrays(value) for name, value in vars(data).items() if not name.startswith("_")}


def unpacked(packed: Packed) -> Dataset:
    """Return the data set of `packed`, its tensors in the memory of the arrays."""
    return Dataset(**{name: _tensors(value) for name, value in packed.items()})


def unpacked_once(data: Data, fingerprint: str, fetch: Callable[[], Packed]) -> Dataset:
    """Return a data set that is fetched and unpacked once a worker."""
    name = (data.model_dump_json(), fingerprint)
    if name not in _sets:
        _sets[name] = unpacked(fetch())
    return _sets[name]


def _arrays(value: Any) -> Any:
    if isinstance(value, Images):
        return tuple(tensor.cpu().numpy() for tensor in (value.pixels, value.labels))
    return value


def _tensors(value: Any) -> Any:
    if not (isinstance(value, tuple) and isinstance(value[0], np.ndarray)):
        return value
    with warnings.catch_warnings():  # arrays of the object store cannot be written to, and no training does
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return Images(*map(torch.from_numpy, value))
