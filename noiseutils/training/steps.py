"""One training step's loss, as a value: what differs between methods, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from noiseutils.config import Run
from noiseutils.evaluation.attacks import fgsm
from noiseutils.models.modes import still_statistics
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
class AdversarialTrainingStep:
    """The loss of a batch and of its FGSM images, (1 - weight) J(x) + weight J(x + delta sign(grad J)).

    Goodfellow, Shlens & Szegedy 2015, section 6. The attack is made in training mode and moves no BatchNorm
    statistics; both losses do. Returns the clean images' logits.
    """

    model: nn.Module
    criterion: Criterion
    delta: float  # pixels in [0, 1]
    weight: float

    def __call__(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        with still_statistics(self.model):
            attacked = fgsm(self.model, x, y, delta=self.delta, criterion=self.criterion)
        logits = self.model(x)
        hard = self.criterion(self.model(attacked), y)
        return (1 - self.weight) * self.criterion(logits, y) + self.weight * hard, logits


@dataclass(frozen=True)
class NoisyStep:
    """The loss of a batch with attached noise in it."""

    handle: Handle
    criterion: Criterion

    def __call__(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.handle.forward(self.criterion, x, y)


def loss_of(run: Run, model: nn.Module, handle: Handle | None, criterion: Criterion) -> Step:
    """How the run takes the loss of a batch."""
    if handle is not None:
        return NoisyStep(handle, criterion)
    if (hard := run.adversarial_training) is not None:
        return AdversarialTrainingStep(model, criterion, hard.delta, hard.weight)
    return CleanStep(model, criterion)
