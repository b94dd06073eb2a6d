"""Attacks used in training and in the papers' own tests: FGSM. Stronger ones come from a library."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noiseutils.errors import UserError


def fgsm(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    delta: float,
    criterion: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
) -> Tensor:
    """Fast gradient sign method: clip(x + delta * sign(grad_x loss), 0, 1)   (Goodfellow et al. 2015).

    x: (N, C, H, W) in [0, 1].   y: (N,) true classes.   delta: at least 0, in units of the pixel range.
    Returns (N, C, H, W) in [0, 1]. The model's mode is left as it is and its parameters get no gradient.
    Raises UserError for pixels outside [0, 1] and a negative delta.
    """
    if not delta >= 0:
        raise UserError(f"delta must be at least 0, got {delta}")
    if delta == 0:
        return x
    low, high = torch.aminmax(x)
    if low < 0 or high > 1:
        raise UserError(f"fgsm takes pixels in [0, 1], got values from {low:.3g} to {high:.3g}")
    with frozen(model), torch.enable_grad():
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(criterion(model(x), y), x)
    return (x.detach() + delta * gradient.sign()).clamp(0, 1)


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Inside the block no parameter asks for a gradient, so that an attack pays for the input's alone."""
    asking = [p for p in model.parameters() if p.requires_grad]
    for p in asking:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in asking:
            p.requires_grad_(True)
