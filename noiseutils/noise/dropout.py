"""NoisyDropout: Gaussian noise in the dropped neurons (Oboa Franck & Mao, section 3.2).

The paper's text and its Figure 2 put the noise into the dropped neurons; its Equation 2 adds it to every
neuron. Both readings are here. The paper says nothing of inverted scaling, which every framework applies:
`rescale=False` is the network as Equations 1 and 2 are printed.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from noiseutils.errors import UserError, one_of
from noiseutils.noise.site import ActivationNoise, Pass, Site
from noiseutils.rng import SiteStreams, draw_keep, draw_normal
from noiseutils.spec import NonNegative, Probability


def noisy_dropout(
    x: Tensor,
    keep: Tensor,
    z: Tensor,
    *,
    p: float,
    std: float,
    where: str = "dropped",
    rescale: bool = True,
) -> Tensor:
    """Return activations after dropout with Gaussian noise   (Oboa Franck & Mao, section 3.2.1 and Eq. 2).

    where='dropped' (the text):  keep * x / (1 - p) + (1 - keep) * std * z
    where='all'     (Eq. 2):     keep * x / (1 - p) + std * z

    x: (...) activations.   keep: (...) bool, true with probability 1 - p.   z: (...) drawn from N(0, 1).
    p: drop probability, in [0, 1).   std: of the noise, at least 0, in the units of x.
    rescale=False leaves out the factor 1 / (1 - p), as the paper's equations do.
    Returns (...), the type of x. Raises UserError for shapes that differ and values out of range.
    """
    if not 0 <= p < 1:
        raise UserError(f"p is the drop probability, allowed: 0 <= p < 1, got {p}")
    if not std >= 0:
        raise UserError(f"std of the noise must be at least 0, got {std}")
    if not x.shape == keep.shape == z.shape:
        raise UserError(f"x, keep and z need one shape, got {(*x.shape,)}, {(*keep.shape,)}, {(*z.shape,)}")
    if keep.dtype != torch.bool:
        raise UserError(f"keep must be a bool tensor, got {keep.dtype}")
    if where not in ("dropped", "all"):
        raise one_of("where", where, ("dropped", "all"))
    # products with a mask of 0 and 1: `torch.where` on a bool mask takes three times as long on CPU
    mask = keep.to(x.dtype)
    kept = x * mask / (1 - p) if rescale else x * mask
    return torch.addcmul(kept, z, 1 - mask, value=std) if where == "dropped" else kept + std * z


class NoisyDropout(ActivationNoise):
    """Dropout with Gaussian noise, see `noisy_dropout`; std = 0 is ordinary dropout."""

    kind: Literal["noisy_dropout"] = "noisy_dropout"
    p: Probability  # probability that a neuron is dropped
    std: NonNegative = 0.0  # of the noise, in the activations' own units
    where: Literal["dropped", "all"] = "dropped"  # which neurons get the noise: the text's, or Eq. 2's
    rescale: bool = True  # kept activations times 1 / (1 - p), as in every framework

    def site(self, streams: SiteStreams, shared: Pass) -> NoisyDropoutSite:
        """Make the noise of one module."""
        return NoisyDropoutSite(self, streams)


class NoisyDropoutSite(Site):
    """NoisyDropout at one module.

    Mask and noise have generators of their own, so that two runs of one seed drop the same neurons
    whatever their noise level.
    """

    def __init__(self, spec: NoisyDropout, streams: SiteStreams) -> None:
        self.spec, self.streams = spec, streams

    def __call__(self, x: Tensor, owner: nn.Module | None = None) -> Tensor:
        """x: (N, ...) activations in training; returns (N, ...)."""
        spec = self.spec
        keep = draw_keep(x, 1 - spec.p, self.streams.get("mask", x.device))
        if spec.std == 0:  # ordinary dropout needs no draw
            z = torch.zeros((), dtype=x.dtype, device=x.device).expand_as(x)
        else:
            z = draw_normal(x, self.streams.get("noise", x.device))
        if self.on_noise is not None:
            self.on_noise(spec.std * (z if spec.where == "all" else z * ~keep))
        return noisy_dropout(x, keep, z, p=spec.p, std=spec.std, where=spec.where, rescale=spec.rescale)
