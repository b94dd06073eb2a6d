"""Noise on gradients and weights when training stagnates: how strong, when, and the noise itself.

Logean & Feillard, *Effect of Adaptive Noise Injection in CNN Training*, section II-C2 and Table V. The
formulas are pure functions. `Adaptive` is a state machine: it is told what an epoch was like and answers what
the next one does. `ParameterNoise` draws the noise.

Readings, where the text leaves it open:
    rate of change  of a quantity v over a window of W epochs: (v[t - W] - v[t]) / (W v[t - W]), the relative
                    improvement an epoch; positive when v falls
    gradient flag   the gradient norm's improvement is below GradientPlateau, or the mean L2 norm of an
                    epoch's weight update over the window below LowWeightUpdate; the norms are those
                    of the gradient before noise goes on it, and of the change over the epoch's steps
    weight flag     the validation loss's improvement is below ValPlateauDelta, or it has risen for
                    NEpochsOverfit epochs in a row (Table V's words; the text adds the training loss)
    weight noise    once in a noisy epoch, before its first step, or (`weight_every="step"`) after every step:
                    the text has no word on it. Steps add up: 352 of them at sigma 0.03 move each weight by
                    0.56, many times its size, and no network survives that
    sigma           from the improvement and threshold of the flag's own plateau; both flags: both noises
    cooldown        after ConsecutiveTrigger noisy epochs in a row, CD epochs without noise, CD from the
                    gradient's F_stuck
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from noiseutils.config import AdaptiveNoise, ScriptedNoise
from noiseutils.errors import UserError

Target = Literal["gradient", "weight"]


def stuck_factor(improvement: float, threshold: float) -> float:
    """F_stuck = 1 - sigmoid(k * improvement - threshold), k = 2 / threshold, as printed: in [0, 1].

    improvement: relative, positive when the quantity falls.   threshold: delta_plateau; UserError unless
    above 0.
    """
    if not threshold > 0:
        raise UserError(f"the threshold of a plateau must be above 0, got {threshold}")
    x = 2 / threshold * improvement - threshold
    # 1 - sigmoid(x), in the form that cannot overflow
    return 1 / (1 + math.exp(x)) if x < 0 else math.exp(-x) / (1 + math.exp(-x))


def adaptive_sigma(
    improvement: float,
    threshold: float,
    epoch: float,
    epochs: int,
    sigma_min: float = 0.01,
    sigma_max: float = 0.05,
) -> float:
    """sigma = (sigma_min + F_stuck (sigma_max - sigma_min)) * (1 + cos(pi epoch / epochs)) / 2.

    epoch: how many of `epochs` are done: towards the end the noise fades to 0.
    """
    raw = sigma_min + stuck_factor(improvement, threshold) * (sigma_max - sigma_min)
    return raw * 0.5 * (1 + math.cos(math.pi * epoch / epochs))


def cooldown_epochs(improvement: float, threshold: float, cd_min: int = 3, cd_max: int = 10) -> int:
    """CD = CD_min + F_stuck (CD_max - CD_min), to the nearest whole epoch."""
    return round(cd_min + stuck_factor(improvement, threshold) * (cd_max - cd_min))


@dataclass(frozen=True)
class EpochStatistics:
    """What an epoch left behind, as in a run's history."""

    gradient_norm: float  # mean over steps
    update_norm: float  # L2, of the change of the weights over the epoch's steps
    validation_loss: float

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> EpochStatistics:
        """From a row of a run's history; without a validation split the test images validate."""
        loss = row["validation_loss"] if "validation_loss" in row else row["test_loss"]
        return cls(float(row["gradient_norm"]), float(row["update_norm"]), float(loss))


@dataclass(frozen=True)
class Action:
    """What the next epoch does, and why.

    gradient, weight: std of the noise on each, 0 for none.   gradient_flag, weight_flag: what stagnated.
    cooldown: epochs of it that are left, the next one included.
    """

    gradient: float = 0.0
    weight: float = 0.0
    gradient_flag: bool = False
    weight_flag: bool = False
    cooldown: int = 0
    gradient_improvement: float = 0.0  # 0 while the window is not full
    validation_improvement: float = 0.0

    @property
    def noisy(self) -> bool:
        """Whether there is noise at all."""
        return self.gradient > 0 or self.weight > 0

    def row(self) -> dict[str, float]:
        """What a history says of the epoch that it is for: gradient_noise, weight_noise, and the others."""
        told = {name: float(value) for name, value in asdict(self).items()}
        return {"gradient_noise": told.pop("gradient"), "weight_noise": told.pop("weight"), **told}


class Adaptive:
    """When there is noise: `observe` is told what an epoch was like, and answers what the next one does.

    Quiet until `min_epochs` are done and the window is full; then noise while a flag is up; after
    `consecutive_trigger` noisy epochs in a row a cooldown; nothing after the last epoch.
    """

    def __init__(self, spec: AdaptiveNoise, epochs: int) -> None:
        self.spec, self.epochs = spec, epochs
        self.seen: list[EpochStatistics] = []  # the last window + 1, or as many as the overfit flag needs
        self.done = 0  # epochs
        self.noisy = 0  # epochs in a row
        self.cooldown = 0  # epochs left

    def begin(self) -> Action:
        """The action of the first epoch."""
        return Action()

    def observe(self, statistics: EpochStatistics) -> Action:
        """After an epoch: the action of the next."""
        spec = self.spec
        self.done += 1
        self.seen = [*self.seen, statistics][-max(spec.window, spec.overfit_epochs) - 1 :]
        if self.done >= self.epochs or self.done < spec.min_epochs or len(self.seen) <= spec.window:
            return Action()
        past, now = self.seen[-spec.window - 1], self.seen[-1]
        gradient = improvement(past.gradient_norm, now.gradient_norm, spec.window)
        validation = improvement(past.validation_loss, now.validation_loss, spec.window)
        update = sum(s.update_norm for s in self.seen[-spec.window :]) / spec.window
        flags = {
            "gradient_flag": gradient < spec.gradient_plateau or update < spec.low_weight_update,
            "weight_flag": validation < spec.validation_plateau or self._rising() >= spec.overfit_epochs,
        }
        told = {**flags, "gradient_improvement": gradient, "validation_improvement": validation}
        if self.cooldown == 0 and self.noisy >= spec.consecutive_trigger and any(flags.values()):
            limits = spec.cooldown_min, spec.cooldown_max
            self.cooldown = cooldown_epochs(gradient, spec.gradient_plateau, *limits)
        if self.cooldown > 0:
            left, self.cooldown, self.noisy = self.cooldown, self.cooldown - 1, 0
            return Action(cooldown=left, **told)
        if not any(flags.values()):
            self.noisy = 0
            return Action(**told)
        self.noisy += 1
        return Action(
            gradient=self._sigma(gradient, spec.gradient_plateau) if flags["gradient_flag"] else 0.0,
            weight=self._sigma(validation, spec.validation_plateau) if flags["weight_flag"] else 0.0,
            **told,
        )

    def change(self, spec: AdaptiveNoise, action: Action) -> Action:
        """Other values from now on: what is noisy by `action` stays so, at the std that they give."""
        self.spec = spec
        again = {
            "gradient": self._sigma(action.gradient_improvement, spec.gradient_plateau),
            "weight": self._sigma(action.validation_improvement, spec.validation_plateau),
        }
        return replace(action, **{name: std for name, std in again.items() if getattr(action, name)})

    def _sigma(self, found: float, threshold: float) -> float:
        spec = self.spec
        return adaptive_sigma(found, threshold, self.done, self.epochs, spec.sigma_min, spec.sigma_max)

    def _rising(self) -> int:
        """For how many epochs in a row the validation loss has risen."""
        losses, count = [s.validation_loss for s in self.seen], 0
        while count + 1 < len(losses) and losses[-1 - count] > losses[-2 - count]:
            count += 1
        return count

    def state(self) -> dict[str, Any]:
        """All that the next answers depend on, as JSON holds it."""
        seen = [asdict(statistics) for statistics in self.seen]
        return {"seen": seen, "done": self.done, "noisy": self.noisy, "cooldown": self.cooldown}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` gave."""
        self.seen = [EpochStatistics(**statistics) for statistics in state["seen"]]
        self.done, self.noisy, self.cooldown = state["done"], state["noisy"], state["cooldown"]


class Scripted:
    """The same interface for noise in given epochs, whatever the training does."""

    def __init__(self, spec: ScriptedNoise) -> None:
        self.spec = spec
        self.done = 0

    def begin(self) -> Action:
        """The action of the epoch after those done, none after the script's end."""
        if self.done >= len(self.spec.gradient):
            return Action()
        return Action(gradient=self.spec.gradient[self.done], weight=self.spec.weight[self.done])

    def observe(self, statistics: EpochStatistics) -> Action:
        """After an epoch: the action of the next."""
        self.done += 1
        return self.begin()

    def change(self, spec: ScriptedNoise, action: Action) -> Action:
        """Another script from now on: what it says of the epoch in hand."""
        self.spec = spec
        return self.begin()

    def state(self) -> dict[str, Any]:
        """Where it is."""
        return {"done": self.done}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` gave."""
        self.done = state["done"]


def scheduler_of(spec: AdaptiveNoise | ScriptedNoise, epochs: int) -> Adaptive | Scripted:
    """What decides of the noise of a run."""
    return Adaptive(spec, epochs) if isinstance(spec, AdaptiveNoise) else Scripted(spec)


def improvement(past: float, now: float, epochs: int) -> float:
    """Relative improvement an epoch: (past - now) / (epochs * past); 0 where the past is 0."""
    return (past - now) / (epochs * abs(past)) if past else 0.0


class ParameterNoise:
    """The noise of one training: asks its scheduler after each epoch, draws, and adds.

    One draw for all parameters into one row of numbers, which every parameter's noise is a view of; one call
    adds all of it. The std are tensors on the device, too, which a recorded step reads anew.

    source: on the parameters' device; of several processes that train together each has the same.
    """

    def __init__(
        self,
        spec: AdaptiveNoise | ScriptedNoise,
        epochs: int,
        parameters: Iterable[Tensor],
        source: torch.Generator,
    ) -> None:
        self.spec, self.scheduler = spec, scheduler_of(spec, epochs)
        self.parameters = list(parameters)
        self.source, self.device = source, source.device
        self.width = math.sqrt(3) if spec.distribution == "uniform" else None  # half of it, at std 1
        self._scale = {target: torch.zeros((), device=self.device) for target in ("gradient", "weight")}
        self._row: Tensor | None = None
        self._views: list[Tensor] = []
        self.action = Action()
        self._act(self.scheduler.begin())

    def observe(self, row: Mapping[str, Any]) -> bool:
        """After an epoch, its history row; whether the next epoch's steps differ from this one's."""
        before = self._in_steps()
        self._act(self.scheduler.observe(EpochStatistics.of(row)))
        return before != self._in_steps()

    def change(self, spec: AdaptiveNoise | ScriptedNoise) -> None:
        """Other values of the same noise from the next step on. Raises UserError for another kind."""
        old = self.spec
        fixed = type(old), old.distribution, old.weight_every
        if (type(spec), spec.distribution, spec.weight_every) != fixed:
            raise UserError(f"the noise here is {old!r}; {spec!r} is another kind: train anew")
        self.spec = spec
        self._act(self.scheduler.change(spec, self.action))  # pyright: ignore[reportArgumentType]

    @torch.no_grad()
    def begin_epoch(self) -> None:
        """Before an epoch's first step; nothing unless weights get their noise once an epoch."""
        if self.action.weight and self.spec.weight_every == "epoch":
            self._add(self.parameters, "weight")

    def add_to_gradients(self) -> None:
        """Between `backward()` and the optimiser's step; nothing while its std is 0."""
        if self.action.gradient:
            self._add([p.grad for p in self.parameters if p.grad is not None], "gradient")

    @torch.no_grad()
    def add_to_weights(self) -> None:
        """After the optimiser's step; nothing while its std is 0 or where it comes once an epoch."""
        if self.action.weight and self.spec.weight_every == "step":
            self._add(self.parameters, "weight")

    def _in_steps(self) -> tuple[bool, bool]:
        """Whether a step has noise on gradients, and on weights."""
        return self.action.gradient > 0, self.action.weight > 0 and self.spec.weight_every == "step"

    def _act(self, action: Action) -> None:
        self.action = action
        for target, scale in self._scale.items():
            scale.fill_(getattr(action, target))
        if action.noisy and self._row is None:  # not while a step is recorded
            self._row = torch.empty(sum(p.numel() for p in self.parameters), device=self.device)
            parts = self._row.split([p.numel() for p in self.parameters])
            # laid out as the parameters are, so that one call takes all
            self._views = [
                part.as_strided(p.shape, p.stride()) for part, p in zip(parts, self.parameters, strict=True)
            ]

    def _add(self, tensors: list[Tensor], target: Target) -> None:
        if len(tensors) != len(self.parameters):
            raise RuntimeError("noise on gradients needs the gradients of all parameters")
        assert self._row is not None
        if self.width is None:
            self._row.normal_(generator=self.source)
        else:
            self._row.uniform_(-self.width, self.width, generator=self.source)
        factor: float = getattr(self.action, target)
        if self.device.type != "cpu":  # a number would be fixed in a recording
            self._row.mul_(self._scale[target])
            factor = 1.0
        torch._foreach_add_(tensors, self._views, alpha=factor)  # pyright: ignore[reportPrivateImportUsage]

    def state(self) -> dict[str, Tensor]:
        """Where its generator is. Its scheduler is told the history again."""
        return {"random": self.source.get_state()}

    def restore(self, state: Mapping[str, Tensor], rows: Iterable[Mapping[str, Any]]) -> None:
        """Continue from what `state` gave after epochs with these history rows."""
        self.source.set_state(state["random"].cpu())
        for row in rows:
            self.observe(row)
