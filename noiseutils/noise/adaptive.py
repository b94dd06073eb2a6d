"""Adaptive noise on gradients and weights when training stagnates: when, and how strong.

Logean & Feillard, *Effect of Adaptive Noise Injection in CNN Training*, section II-C2 and Table V.

Readings, where the text leaves it open:
    rate of change  of a quantity v over a window of W epochs: (v[t - W] - v[t]) / (W v[t - W]), the relative
                    improvement an epoch; positive when v falls. `rate_of_change="window"`: not divided by W.
                    II-C2 has words for both: "average gradient norm rate of change normalized on the window
                    size" and "improvement percentage of the gradient or validation loss over the epoch window
                    size". II-C2 normalises two of its four metrics, the gradient norm's change and the update
                    norm, and not the validation loss's change; here one rule holds for the gradient norm and
                    the validation loss, in flags, sigma and cooldown
    gradient flag   the gradient norm's improvement is below GradientPlateau, or the mean L2 norm of an
                    epoch's weight update over the window below LowWeightUpdate; the norms are those
                    of the gradient before noise goes on it, and of the change over the epoch's steps
    weight flag     the validation loss's improvement is below ValPlateauDelta (`validation_change`: relative,
                    or absolute, in nats), or it has risen for NEpochsOverfit epochs in a row. Table V names
                    the validation loss alone; in a row is our reading. `overfit="both"`: training and
                    validation loss have (II-C2 names both); `"counted"`: the validation loss has risen so
                    often within the window
    F_stuck         as printed, 0.12 at the threshold; `stuck_argument="shifted"`: of k (improvement - delta),
                    one half there
    parameters      all get noise; `spared="norms_and_biases"`: those with more than one dimension alone
    weight noise    once in a noisy epoch, before its first step; `weight_every="step"`: after every step;
                    `"step_restored"`: before every step, taken back before the optimiser's: the gradient is
                    that at the noisy weights. The text has no word on it. Noise that stays adds up: 352 steps
                    at sigma 0.03 move each weight by 0.56, many times its size
    sigma           from the improvement and threshold of the flag's own plateau; both flags: both noises
    cooldown        after ConsecutiveTrigger noisy epochs in a row, CD epochs without noise, CD from the
                    gradient's F_stuck. The cooldown begins only if a flag is up at the check after those
                    epochs; with no flag the row ends, and no cooldown follows. The paper has no such
                    condition: Table V says "Consecutive noisy epochs to trigger a cooldown"
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Literal, Self

from pydantic import model_validator

from noiseutils.errors import UserError
from noiseutils.noise.parameters import Action, EpochStatistics, Spared, WeightEvery
from noiseutils.spec import NonNegative, Positive, PositiveInt, Spec

StuckArgument = Literal["printed", "shifted"]
HEEDED_FLAGS = {
    "both": ("gradient", "weight"),
    "gradient": ("gradient",),
    "weight": ("weight",),
}  # how flags begin


def stuck_factor(improvement: float, threshold: float, argument: StuckArgument = "printed") -> float:
    """Return F_stuck = 1 - sigmoid(k * improvement - threshold), k = 2 / threshold, as printed: in [0, 1].

    improvement: relative, positive when the quantity falls.   threshold: delta_plateau; UserError unless
    above 0.   argument: "shifted" for 1 - sigmoid(k * (improvement - threshold)), one half at the threshold.
    """
    if not threshold > 0:
        raise UserError(f"the threshold of a plateau must be above 0, got {threshold}")
    k = 2 / threshold
    x = k * improvement - (threshold if argument == "printed" else k * threshold)
    # 1 - sigmoid(x), in the form that cannot overflow
    return 1 / (1 + math.exp(x)) if x < 0 else math.exp(-x) / (1 + math.exp(-x))


def adaptive_sigma(
    improvement: float,
    threshold: float,
    epoch: float,
    epochs: int,
    sigma_min: float = 0.01,
    sigma_max: float = 0.05,
    argument: StuckArgument = "printed",
) -> float:
    """Return sigma = (sigma_min + F_stuck (sigma_max - sigma_min)) * (1 + cos(pi epoch / epochs)) / 2.

    epoch: epochs done, of `epochs`: towards the end the noise fades to 0.   argument: of `stuck_factor`.
    """
    raw = sigma_min + stuck_factor(improvement, threshold, argument) * (sigma_max - sigma_min)
    return raw * 0.5 * (1 + math.cos(math.pi * epoch / epochs))


def cooldown_epochs(
    improvement: float,
    threshold: float,
    cd_min: int = 3,
    cd_max: int = 10,
    argument: StuckArgument = "printed",
) -> int:
    """Return CD = CD_min + F_stuck (CD_max - CD_min), to the nearest whole epoch."""
    return round(cd_min + stuck_factor(improvement, threshold, argument) * (cd_max - cd_min))


def improvement(past: float, now: float, epochs: int) -> float:
    """Return the relative improvement an epoch: (past - now) / (epochs * past); 0 where the past is 0."""
    return (past - now) / (epochs * abs(past)) if past else 0.0


class AdaptiveNoise(Spec):
    """Noise on gradients or weights when training stagnates (Logean & Feillard, II-C2; defaults: Table V)."""

    kind: Literal["adaptive_noise"] = "adaptive_noise"
    distribution: Literal["gaussian", "uniform"] = "gaussian"
    min_epochs: PositiveInt = 70  # none before so many epochs are done
    window: PositiveInt = 10  # epochs that a rate of change is taken over
    gradient_plateau: Positive = 0.025  # gradient norm: below this relative improvement an epoch it stagnates
    low_weight_update: NonNegative = 5e-4  # mean L2 norm of an epoch's change of all weights
    validation_plateau: Positive = 1e-4  # validation loss: relative improvement an epoch
    overfit_epochs: PositiveInt = 3  # epochs in a row in which the validation loss rises
    sigma_min: NonNegative = 0.01  # std of the noise, in the units of gradients and weights
    sigma_max: NonNegative = 0.05
    # once before an epoch's first step; after each step; or before each and taken back after its gradient
    weight_every: WeightEvery = "epoch"
    consecutive_trigger: PositiveInt = 10  # noisy epochs in a row that a cooldown follows
    cooldown_min: PositiveInt = 3  # epochs
    cooldown_max: PositiveInt = 10
    rate_of_change: Literal["epoch", "window"] = "epoch"  # what an improvement is counted by
    overfit: Literal["row", "both", "counted"] = "row"  # rises in a row, of both losses, or in the window
    stuck_argument: StuckArgument = "printed"  # see `stuck_factor`
    validation_change: Literal["relative", "absolute"] = "relative"  # its plateau: a share, or in nats
    spared: Spared = "none"  # parameters that get no noise
    targets: Literal["both", "gradient", "weight"] = "both"  # flags that are heeded; one alone isolates it

    @model_validator(mode="after")
    def _ranges_are_in_order(self) -> Self:
        if self.sigma_min > self.sigma_max:
            raise ValueError(f"sigma_min {self.sigma_min} is above sigma_max {self.sigma_max}")
        if self.cooldown_min > self.cooldown_max:
            raise ValueError(f"cooldown_min {self.cooldown_min} is above cooldown_max {self.cooldown_max}")
        return self

    def scheduler(self, epochs: int) -> Adaptive:
        """Return what decides on each epoch's noise in a training of so many epochs."""
        return Adaptive(self, epochs)

    def check_epochs(self, epochs: int) -> None:
        """Accept a training of any length."""

    @property
    def needs_train_loss(self) -> bool:
        """True where the overfit flag goes by the training loss, too."""
        return self.overfit == "both"


class Adaptive:
    """Scheduler of adaptive noise: a state machine over epochs.

    Quiet until `min_epochs` are done and the window is full; then noise while a flag is up; after
    `consecutive_trigger` noisy epochs in a row a cooldown, if a flag is still up; nothing after the last
    epoch.
    """

    def __init__(self, spec: AdaptiveNoise, epochs: int) -> None:
        self.spec, self.epochs = spec, epochs
        self.seen: list[EpochStatistics] = []  # the last window + 1, or as many as the overfit flag needs
        self.done = 0  # epochs
        self.noisy = 0  # epochs in a row
        self.cooldown = 0  # epochs left

    def begin(self) -> Action:
        """Return the action of the first epoch."""
        return Action()

    def observe(self, statistics: EpochStatistics) -> Action:
        """Return the action of the next epoch, given what the epoch before was like."""
        spec = self.spec
        self.done += 1
        self.seen = [*self.seen, statistics][-max(spec.window, spec.overfit_epochs) - 1 :]
        if self.done >= self.epochs or self.done < spec.min_epochs or len(self.seen) <= spec.window:
            return Action()
        past, now = self.seen[-spec.window - 1], self.seen[-1]
        by = spec.window if spec.rate_of_change == "epoch" else 1
        gradient = improvement(past.gradient_norm, now.gradient_norm, by)
        validation = improvement(past.validation_loss, now.validation_loss, by)
        if spec.validation_change == "absolute":
            validation = (past.validation_loss - now.validation_loss) / by
        update = sum(s.update_norm for s in self.seen[-spec.window :]) / spec.window
        flags = {
            "gradient_flag": gradient < spec.gradient_plateau or update < spec.low_weight_update,
            "weight_flag": validation < spec.validation_plateau or self._rising() >= spec.overfit_epochs,
        }
        flags = {name: up and name.startswith(HEEDED_FLAGS[spec.targets]) for name, up in flags.items()}
        why = {**flags, "gradient_improvement": gradient, "validation_improvement": validation}
        if self.cooldown == 0 and self.noisy >= spec.consecutive_trigger and any(flags.values()):
            limits = spec.cooldown_min, spec.cooldown_max
            self.cooldown = cooldown_epochs(gradient, spec.gradient_plateau, *limits, spec.stuck_argument)
        if self.cooldown > 0:
            left, self.cooldown, self.noisy = self.cooldown, self.cooldown - 1, 0
            return Action(cooldown=left, **why)
        if not any(flags.values()):
            self.noisy = 0
            return Action(**why)
        self.noisy += 1
        return Action(
            gradient=self._sigma(gradient, spec.gradient_plateau) if flags["gradient_flag"] else 0.0,
            weight=self._sigma(validation, spec.validation_plateau) if flags["weight_flag"] else 0.0,
            **why,
        )

    def change(self, spec: AdaptiveNoise, action: Action) -> Action:
        """Use other values from now on: what is noisy by `action` stays so, at the new std."""
        self.spec = spec
        again = {
            "gradient": self._sigma(action.gradient_improvement, spec.gradient_plateau),
            "weight": self._sigma(action.validation_improvement, spec.validation_plateau),
        }
        return replace(action, **{name: std for name, std in again.items() if getattr(action, name)})

    def _sigma(self, found: float, threshold: float) -> float:
        spec = self.spec
        limits = spec.sigma_min, spec.sigma_max
        return adaptive_sigma(found, threshold, self.done, self.epochs, *limits, spec.stuck_argument)

    def _rising(self) -> int:
        """Count epochs in which the loss has risen: the last in a row, or all of the window."""
        rises = [self._rose(before, after) for before, after in itertools.pairwise(self.seen)]
        if self.spec.overfit == "counted":
            return sum(rises[-self.spec.window :])
        return sum(1 for _ in itertools.takewhile(bool, reversed(rises)))

    def _rose(self, before: EpochStatistics, after: EpochStatistics) -> bool:
        rose = after.validation_loss > before.validation_loss
        return rose and (self.spec.overfit != "both" or after.train_loss > before.train_loss)
