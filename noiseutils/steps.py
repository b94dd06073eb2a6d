"""One training step's loss, as a value: what differs between methods, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from noiseutils.noise import Handle

Criterion = Callable[[Tensor, Tensor], Tensor]
Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # (x, y) -> (loss, logits)


def sigmoid_bce(logits: Tensor, y: Tensor) -> Tensor:
    """One-vs-rest loss of sigmoid outputs: mean over images of the sum over classes of binary cross-entropy.

    logits: (N, K).   y: (N,) classes.   Returns ().
    """
    target = F.one_hot(y, logits.shape[1]).to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, target, reduction="sum") / len(logits)


LOSSES: dict[str, Criterion] = {"cross_entropy": F.cross_entropy, "sigmoid_bce": sigmoid_bce}


@dataclass(frozen=True)
class CleanStep:
    """The plain loss of a batch."""

    model: nn.Module
    criterion: Criterion

    def __call__(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.model(x)
        return self.criterion(logits, y), logits


@dataclass(frozen=True)
class NoisyStep:
    """The loss of a batch with attached noise in it."""

    handle: Handle
    criterion: Criterion

    def __call__(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.handle.forward(self.criterion, x, y)
