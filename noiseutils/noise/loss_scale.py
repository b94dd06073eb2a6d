"""A loss scale for ANL's first pass in float16, where small gradients vanish.

Noise goes along each sample's gradient at a size of its own (Eq. 4), so that a scale of the loss leaves the
noise as it is, as long as no gradient is rounded to zero or overflows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

FIRST = 2.0**16  # a scale to look at the outputs' gradient with: a mean over one sample is 2^16 at most
LARGEST = 64.0  # of the logits' scaled gradient: a thousandth of float16's range, 10^9 times its least number


def underflow_scale(loss: Tensor, outputs: Any) -> Tensor:
    """Return a power of two to multiply the loss by, () on its device.

    loss: ().   outputs: of the network, a tensor or tensors in lists, tuples and dicts. Their scaled gradient
    is `LARGEST` at most; where nothing is known of it the scale is 1. Nothing waits for the device.
    """
    leaves = [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor) and leaf.requires_grad]
    # outputs in float16 are handed a gradient that may be zero already
    found = torch.autograd.grad(loss * FIRST, leaves, retain_graph=True, allow_unused=True) if leaves else ()
    peaks = [gradient.abs().amax().float() for gradient in found if gradient is not None]
    if not peaks:
        return torch.ones_like(loss)
    scale = torch.exp2(torch.floor(torch.log2(LARGEST * FIRST / torch.stack(peaks).amax())))
    return torch.where(scale.isfinite(), scale, torch.ones_like(scale))
