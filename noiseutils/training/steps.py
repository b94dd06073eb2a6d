"""Take one training step. The step's loss is a value, a `LossStep`: methods differ in this value alone."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noiseutils.config import Run
from noiseutils.corruptions import corrupt
from noiseutils.data.mixup_cutout import mixup
from noiseutils.evaluation.attacks import fgsm
from noiseutils.noise import Handle
from noiseutils.training import distributed
from noiseutils.training.mixup_cutout import MixupCutout
from noiseutils.training.state import Criterion, LossStep, TrainState


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

    model: nn.Module  # attacked
    network: nn.Module  # trained: the model, or its wrapper where several processes train
    criterion: Criterion
    delta: float  # pixels in [0, 1]
    weight: float

    def __call__(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        attacked = fgsm(self.model, x, y, delta=self.delta, criterion=self.criterion, training=True)
        logits = self.network(x)
        attacked_loss = self.criterion(self.network(attacked), y)
        return (1 - self.weight) * self.criterion(logits, y) + self.weight * attacked_loss, logits


@dataclass(frozen=True)
class MixupStep:
    """Compute the loss of mixed images against both labels: r J(f(x), y) + (1 - r) J(f(x), y before it).

    Zhang et al. 2018, Eq. 1: as cross-entropy is linear in its target, this is the loss on mixed labels.
    """

    network: nn.Module
    criterion: Criterion
    draws: MixupCutout

    def __call__(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        ratio = self.draws.next_ratio()
        logits = self.network(mixup(x, ratio))
        losses = self.criterion(logits, y), self.criterion(logits, y.roll(1))
        return ratio * losses[0] + (1 - ratio) * losses[1], logits


@dataclass(frozen=True)
class NoisyStep:
    """Compute the loss of a batch with attached noise in the network."""

    handle: Handle
    network: nn.Module  # as in `AdversarialTrainingStep`
    criterion: Criterion

    def __call__(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.handle.forward(self.criterion, x, y, network=self.network)


def training_criterion(run: Run) -> Criterion:
    """Return the loss that a run is trained with: that of `LOSSES`, its labels smoothed where asked for."""
    if run.label_smoothing:
        return partial(F.cross_entropy, label_smoothing=run.label_smoothing)
    return LOSSES[run.loss]


def loss_of(
    run: Run,
    model: nn.Module,
    network: nn.Module,
    handle: Handle | None,
    mixup_cutout: MixupCutout,
) -> LossStep:
    """Return the loss step of a run.   network: `model`, or its wrapper where several processes train."""
    criterion = training_criterion(run)
    if handle is not None:
        return NoisyStep(handle, network, criterion)
    if (attack := run.adversarial_training) is not None:
        return AdversarialTrainingStep(model, network, criterion, attack.delta, attack.weight)
    if run.mixup:
        return MixupStep(network, criterion, mixup_cutout)
    return CleanStep(network, criterion)


def update(state: TrainState, x: Tensor, y: Tensor) -> None:
    """Take one training step, whose results are in the weights, the optimiser, the noise and the metrics.

    x: (B, C, H, W) pixels in [0, 1], or normalised where the engine normalises.   y: (B,) classes. This
    process's part of the batch.
    """
    for p in state.parameters:
        p.grad = None
    if state.run.corruption is not None and state.run.corruption.fresh:
        x = corrupt(x, state.run.corruption, state.image_noise)
    x = state.mixup_cutout.erase(x)
    state.parameter_noise.begin_step()
    with distributed.raise_on_all():
        with torch.autocast("cuda", torch.bfloat16) if x.is_cuda else nullcontext():
            loss, logits = state.loss(x, y)
        state.metrics.add_outputs(loss, logits, y)
    distributed.backward(loss, len(y), state.images_in_batch)
    state.metrics.add_gradient([p.grad for p in state.parameters if p.grad is not None])
    state.parameter_noise.end_backward()
    state.parameter_noise.add_to_gradients()
    state.optimizer.step()
    state.parameter_noise.add_to_weights()
