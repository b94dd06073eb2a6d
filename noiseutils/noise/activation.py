"""Noise added to activations whatever the loss says: Gaussian.

The baseline that You et al. (section "The Impact of Various Noise") set beside their adversarial noise.
"""

from __future__ import annotations

from torch import Tensor

from noiseutils.config import GaussianNoise
from noiseutils.errors import UserError
from noiseutils.rng import SiteStreams, draw_normal


def add_gaussian(x: Tensor, z: Tensor, *, std: float) -> Tensor:
    """x + std * z   (You et al., Figure 3b with std = epsilon / 4).

    x: (...) activations.   z: (...) drawn from N(0, 1).   std: at least 0, in the units of x.
    Returns (...), the type of x. Raises UserError for shapes that differ and a negative std.
    """
    if not std >= 0:
        raise UserError(f"std of the noise must be at least 0, got {std}")
    if x.shape != z.shape:
        raise UserError(f"x and z need one shape, got {(*x.shape,)} and {(*z.shape,)}")
    return x + std * z


class GaussianNoiseSite:
    """Draws the noise of one site and applies `add_gaussian`."""

    def __init__(self, spec: GaussianNoise, streams: SiteStreams) -> None:
        self.spec, self.streams = spec, streams

    def __call__(self, x: Tensor) -> Tensor:
        """x: (N, ...) activations in training; returns (N, ...)."""
        if self.spec.std == 0:
            return x
        return add_gaussian(x, draw_normal(x, self.streams.get("noise", x.device)), std=self.spec.std)
