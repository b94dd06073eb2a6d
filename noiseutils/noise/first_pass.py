"""ANL's first pass: the loss gradient at activations, in float16, too, and what forbids it.

Noise goes along each sample's gradient at a size of its own (Eq. 4), so that a scale of the loss leaves the
noise as it is, as long as no gradient is rounded to zero or overflows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from noiseutils.errors import UserError

FIRST_SCALE = 2.0**12  # to look at the outputs' gradient with: a sum over samples is 2^12 at each at most
LARGEST_GRADIENT = 64.0  # of the scaled logits: a thousandth of float16's range, 10^9 times its least number
# words of torch's or Fabric's error where no gradient can be taken at activations, and what to do
NO_GRADIENT = {
    "use_reentrant": "re-entrant activation checkpointing does not allow: "
    "use checkpoint(..., use_reentrant=False)",
    "fabric.backward": "Fabric does not allow in a network that it has set up: attach to the network itself, "
    "before fabric.setup, and call handle.loss inside `with fabric.autocast():`",
}


def loss_gradients(loss: Tensor, etas: list[Any]) -> Sequence[Tensor | None]:
    """Return the gradient of the loss at each eta, None where it has none.

    Raises UserError where torch or a framework allows no such gradient.
    """
    if not loss.requires_grad:  # all sites lie where no gradient is taken
        return [None] * len(etas)
    try:
        return torch.autograd.grad(loss, etas, allow_unused=True)
    except RuntimeError as error:
        for word, said in NO_GRADIENT.items():
            if word in str(error):
                raise UserError(f"ANL takes the loss gradient at activations, which {said}") from error
        raise


def underflow_scale(loss: Tensor, outputs: Any) -> Tensor:
    """Return a power of two to multiply the loss by, () on its device.

    loss: ().   outputs: of the network, a tensor or tensors in lists, tuples and dicts. Their scaled gradient
    is `LARGEST` at most; where nothing is known of it the scale is 1. Nothing waits for the device.
    """
    leaves = [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor) and leaf.requires_grad]
    # outputs in float16 are handed a gradient that may be zero already
    scaled = loss * FIRST_SCALE
    found = torch.autograd.grad(scaled, leaves, retain_graph=True, allow_unused=True) if leaves else ()
    peaks = [gradient.abs().amax().float() for gradient in found if gradient is not None]
    if not peaks:
        return torch.ones_like(loss)
    scale = torch.exp2(torch.floor(torch.log2(LARGEST_GRADIENT * FIRST_SCALE / torch.stack(peaks).amax())))
    # nothing left of the gradient, or more than float16 holds
    return torch.where(scale.isfinite() & (scale > 0), scale, torch.ones_like(scale))


def versions_of(values: object) -> list[int]:
    """Return the versions of all tensors in values, which a change in place raises."""
    tensors = [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]
    return [leaf._version for leaf in tensors if not leaf.is_inference()]
