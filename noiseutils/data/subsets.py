"""Choose the images of a smaller set: at random, the same ones whatever the run's seed."""

from __future__ import annotations

import numpy as np

from noiseutils.data.spec import Data
from noiseutils.errors import UserError
from noiseutils.rng import derived_seed


def fixed_choice(available: int, size: int | None, split: str, data: Data) -> np.ndarray | None:
    """Choose the images of a split that are used: their numbers, or None for all."""
    if size is None or size == available:
        return None
    if size > available:
        raise UserError(
            f"{split}_size {size:,} is more than there are: {data.label} has {available:,} {split} images; "
            f"allowed: 1 to {available:,}, or none for all"
        )
    # RandomState's stream is frozen, so the choice is the same under every version of numpy and torch
    return fixed_order(available, split)[:size]


def fixed_order(n: int, split: str) -> np.ndarray:
    """Return 0 … n - 1 in a random order that depends on n and the split's name alone."""
    return np.random.RandomState(derived_seed(0, f"subset/{split}") % 2**32).permutation(n)
