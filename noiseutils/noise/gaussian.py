"""Additive Gaussian noise on activations (You et al., Figure 3b, has it beside ANL)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from noiseutils.errors import UserError
from noiseutils.noise.arithmetic import add_scaled
from noiseutils.noise.site import ActivationNoise, Pass, Site
from noiseutils.rng import SiteStreams, view_in_layout_of
from noiseutils.spec import NonNegative


def add_gaussian(x: Tensor, z: Tensor, *, std: float) -> Tensor:
    """Return x + std * z   (You et al., Figure 3b with std = epsilon / 4).

    x: (...) activations.   z: (...) drawn from N(0, 1).   std: at least 0, in the units of x.
    Returns (...), the type of x. Raises UserError for shapes that differ and a negative std.
    """
    if not std >= 0:
        raise UserError(f"std of the noise must be at least 0, got {std}")
    if x.shape != z.shape:
        raise UserError(f"x and z need one shape, got {(*x.shape,)} and {(*z.shape,)}")
    return torch.add(x, z, alpha=std)


class GaussianNoise(ActivationNoise):
    """Additive Gaussian noise on activations, N(0, std²), in the activations' own units."""

    kind: Literal["gaussian_noise"] = "gaussian_noise"
    std: NonNegative

    def site(self, streams: SiteStreams, shared: Pass) -> GaussianNoiseSite:
        """Make the noise of one module."""
        return GaussianNoiseSite(self, streams)


class GaussianNoiseSite(Site):
    """Gaussian noise of one module."""

    def __init__(self, spec: GaussianNoise, streams: SiteStreams) -> None:
        self.spec, self.streams = spec, streams
        self.buffer = torch.empty(0)  # on CPU kept: fresh memory for every draw would cost a good part of it

    def __call__(self, x: Tensor, owner: nn.Module | None = None) -> Tensor:
        """x: (N, ...) activations in training.   Returns (N, ...), in the memory of x if owned."""
        if self.spec.std == 0:
            return x
        z = view_in_layout_of(x, self._buffer(x).normal_(generator=self.streams.get("noise", x.device)))
        return add_scaled(x, z, self.spec.std, owned=True) if owner else add_gaussian(x, z, std=self.spec.std)

    def _buffer(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":  # there memory is at hand, and a CUDA graph brings its own
            return torch.empty(x.numel(), dtype=x.dtype, device=x.device)
        if self.buffer.dtype != x.dtype or len(self.buffer) < x.numel():
            self.buffer = torch.empty(x.numel(), dtype=x.dtype)
        return self.buffer[: x.numel()]
