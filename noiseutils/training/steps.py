"""One training step, and its loss as a value: methods differ in their loss step alone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noiseutils.config import Run
from noiseutils.corruptions import corrupt
from noiseutils.evaluation.attacks import fgsm
from noiseutils.models.modes import still_statistics
from noiseutils.noise import Handle
from noiseutils.training import distributed

if TYPE_CHECKING:
    from noiseutils.training.state import TrainState

Criterion = Callable[[Tensor, Tensor], Tensor]
LossStep = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # (x, y) -> (loss, logits)


def sigmoid_bce(logits: Tensor, y: Tensor) -> Tensor:
    """Return the one-vs-rest loss of sigmoid outputs: cross-entropy, sum over classes, mean over images.

    logits: (N, K).   y: (N,) classes.   Returns ().
    """
    target = F.one_hot(y, logits.shape[1]).to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, target, reduction="sum") / len(logits)


LOSSES: dict[str, Criterion] = {"cross_entropy": F.cross_entropy, "sigmoid_bce": sigmoid_bce}


@dataclass(frozen=True)
class CleanStep:
    """Compute the plain loss of a batch."""

    model: nn.Module
    criterion: Criterion

    def __call__(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.model(x)
        return self.criterion(logits, y), logits


@dataclass(frozen=True)
class AdversarialTrainingStep:
    """Compute the loss of a batch and its FGSM images, (1 - weight) J(x) + weight J(x + delta sign(grad J)).

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
        attacked_loss = self.criterion(self.model(attacked), y)
        return (1 - self.weight) * self.criterion(logits, y) + self.weight * attacked_loss, logits


@dataclass(frozen=True)
class NoisyStep:
    """Compute the loss of a batch with attached noise in the network."""

    handle: Handle
    criterion: Criterion

    def __call__(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.handle.forward(self.criterion, x, y)


def loss_of(run: Run, model: nn.Module, handle: Handle | None, criterion: Criterion) -> LossStep:
    """Return the loss step of a run."""
    if handle is not None:
        return NoisyStep(handle, criterion)
    if (attack := run.adversarial_training) is not None:
        return AdversarialTrainingStep(model, criterion, attack.delta, attack.weight)
    return CleanStep(model, criterion)


def update(state: TrainState, x: Tensor, y: Tensor) -> None:
    """Take one training step, whose results are in the weights, the optimiser, the noise and the metrics.

    x: (B, C, H, W) pixels in [0, 1], or normalised where the engine normalises.   y: (B,) classes. This
    process's part of the batch; a part below `state.least` images takes no part in the loss.
    """
    parameters = state.parameters
    for p in parameters:
        p.grad = None
    taken = len(y) if len(y) >= state.least else 0
    if state.run.corruption is not None:
        x = corrupt(x, state.run.corruption, state.image_noise)
    with distributed.raise_on_all():
        if taken:
            with torch.autocast("cuda", torch.bfloat16) if x.is_cuda else nullcontext():
                loss, logits = state.loss(x, y)
            loss.backward()
            state.metrics.add_outputs(loss, logits, y)
    distributed.average_gradients(parameters, taken)
    state.metrics.add_gradient([p.grad for p in parameters if p.grad is not None])
    state.parameter_noise.add_to_gradients()
    state.optimizer.step()
    state.parameter_noise.add_to_weights()
