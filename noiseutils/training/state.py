"""Hold the state of one training between steps: `TrainState`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn

from noiseutils.config import Run
from noiseutils.data import AnyImages, Dataset
from noiseutils.noise import Handle
from noiseutils.noise.parameters import NoParameterNoise, ParameterNoise
from noiseutils.rng import Streams
from noiseutils.training.classifier import Classifier
from noiseutils.training.engines import Engine
from noiseutils.training.epoch_metrics import EpochMetrics
from noiseutils.training.mixup_cutout import MixupCutout

Criterion = Callable[[Tensor, Tensor], Tensor]  # (logits, y) -> loss
LossStep = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # (x, y) -> (loss, logits)


@dataclass
class TrainState:
    """Training state, yielded after each step by `noiseutils.training.loop.training`.

    Reading a state changes nothing. ReLUs overwrite their inputs in training mode, so a forward hook copies
    what it wants to keep.
    """

    run: Run  # current values, after any change
    device: torch.device
    data: Dataset
    images: AnyImages  # training images, without those held out
    validation: AnyImages | None  # images held out
    model: Classifier  # in training mode
    network: nn.Module  # `model`, or its wrapper where several processes train
    handle: Handle | None  # noise on activations
    parameter_noise: ParameterNoise | NoParameterNoise  # noise on gradients and weights
    image_noise: torch.Generator  # of the corruption; seeded anew at each epoch
    mixup_cutout: MixupCutout
    noise_seed: int  # of this process
    streams: Streams
    criterion: Criterion  # of evaluation; labels are smoothed in training alone
    optimizer: torch.optim.Optimizer
    engine: Engine
    loss: LossStep
    batches: Callable[[], Iterable[tuple[Tensor, ...]]]  # one epoch, as `take` expects them
    take: Callable[..., None]  # one training step
    metrics: EpochMetrics  # of the current epoch
    steps_per_epoch: int
    epoch: int = 1  # current epoch, from 1
    step: int = 0  # steps taken
    rows: list[dict[str, float]] = field(default_factory=list)  # history of the epochs before
    changed_after: list[int] = field(default_factory=list)  # steps after which the run was changed

    @cached_property
    def parameters(self) -> list[nn.Parameter]:
        return list(self.model.parameters())

    @property
    def images_in_batch(self) -> int:
        """Number of images in the batch of the next step, over all processes."""
        start = self.step % self.steps_per_epoch * self.run.batch_size
        return min(self.run.batch_size, len(self.images) - start)
