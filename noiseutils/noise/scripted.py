"""Scripted noise on gradients and weights in given epochs, whatever the training does: a control."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from noiseutils.errors import UserError
from noiseutils.noise.parameters import Action, EpochStatistics, Spared, WeightEvery
from noiseutils.spec import NonNegative, Spec

Stds = Annotated[tuple[NonNegative, ...], Field(strict=False, max_length=100_000)]


class ScriptedNoise(Spec):
    """Noise on gradients or weights in given epochs, whatever the training does: a control."""

    kind: Literal["scripted_noise"] = "scripted_noise"
    distribution: Literal["gaussian", "uniform"] = "gaussian"
    gradient: Stds = ()  # std of the noise on gradients, one an epoch; 0: none
    weight: Stds = ()  # of that on weights
    weight_every: WeightEvery = "epoch"  # as in AdaptiveNoise
    spared: Spared = "none"  # as in AdaptiveNoise

    @model_validator(mode="after")
    def _as_many_epochs(self) -> Self:
        if len(self.gradient) != len(self.weight):
            raise ValueError(f"gradient has {len(self.gradient)} epochs, weight {len(self.weight)}")
        return self

    @property
    def needs_train_loss(self) -> bool:
        """False: a script goes by no loss."""
        return False

    def scheduler(self, epochs: int) -> Scripted:
        """Return what decides on each epoch's noise in a training of so many epochs."""
        return Scripted(self)

    def check_epochs(self, epochs: int) -> None:
        """Raise UserError unless the script is as long as the training."""
        if len(self.gradient) != epochs:
            raise UserError(f"the script of the noise has {len(self.gradient)} epochs, not {epochs}")


class Scripted:
    """Scheduler of scripted noise."""

    def __init__(self, spec: ScriptedNoise) -> None:
        self.spec = spec
        self.done = 0

    def begin(self) -> Action:
        """Return the action of the epoch after those done, none after the script's end."""
        if self.done >= len(self.spec.gradient):
            return Action()
        return Action(gradient=self.spec.gradient[self.done], weight=self.spec.weight[self.done])

    def observe(self, statistics: EpochStatistics) -> Action:
        """Return the action of the next epoch, given what the epoch before was like."""
        self.done += 1
        return self.begin()

    def change(self, spec: ScriptedNoise, action: Action) -> Action:
        """Use another script from now on; return its action for the current epoch."""
        self.spec = spec
        return self.begin()
