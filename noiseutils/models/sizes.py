"""Compute sizes of layers at a width, and check the smallest image that a network takes."""

from __future__ import annotations

import math

from noiseutils.errors import UserError


def scaled(size: int, width: float) -> int:
    """Scale `size` channels or units by `width`, rounded to the nearest (halves up), and at least 1."""
    return max(1, math.floor(size * width + 0.5))


def require_image_size(model: str, image_size: int, smallest: int) -> None:
    """Raise `UserError` if images of `image_size` pixels a side vanish before the last pool."""
    if image_size < smallest:
        raise UserError(
            f"image_size {image_size} is too small for {model}; "
            f"its pools need at least {smallest} pixels a side"
        )
