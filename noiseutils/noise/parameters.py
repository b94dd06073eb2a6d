"""Noise on gradients and weights: what an epoch does, and the draws.

A scheduler, made by the noise's spec, decides after each epoch on the next one; `ParameterNoise` draws the
noise and adds it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from noiseutils.errors import UserError

Target = Literal["gradient", "weight"]
WeightEvery = Literal["step", "epoch", "step_restored"]
Spared = Literal["none", "norms_and_biases"]


@dataclass(frozen=True)
class EpochStatistics:
    """Statistics of one epoch, as in a run's history."""

    gradient_norm: float  # mean over steps
    update_norm: float  # L2, of the change of the weights over the epoch's steps
    validation_loss: float
    train_loss: float = math.nan  # mean over steps; nan where nothing goes by it

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> EpochStatistics:
        """Read a row of a run's history; without a validation split the test images validate."""
        loss = row["validation_loss"] if "validation_loss" in row else row["test_loss"]
        train_loss = float(row.get("train_loss", math.nan))
        return cls(float(row["gradient_norm"]), float(row["update_norm"]), float(loss), train_loss)


@dataclass(frozen=True)
class Action:
    """Noise of the next epoch, and why.

    gradient, weight: std of the noise on each, 0 for none.   gradient_flag, weight_flag: what stagnated.
    cooldown: epochs left without noise, the next one included.
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
        """True where either std is above 0."""
        return self.gradient > 0 or self.weight > 0

    def row(self) -> dict[str, float]:
        """Return the columns of the epoch's history row: gradient_noise, weight_noise, and the others."""
        values = {name: float(value) for name, value in asdict(self).items()}
        return {"gradient_noise": values.pop("gradient"), "weight_noise": values.pop("weight"), **values}


class Scheduler(Protocol):
    """Decides on the noise of each epoch."""

    def begin(self) -> Action:
        """Return the action of the first epoch."""
        ...

    def observe(self, statistics: EpochStatistics) -> Action:
        """Return the action of the next epoch, given what the epoch before was like."""
        ...

    def change(self, spec: Any, action: Action) -> Action:
        """Use other values from now on.   action: of the current epoch.   Returns its action under them."""
        ...


@runtime_checkable
class ParameterNoiseSpec(Protocol):
    """Spec of a noise on gradients and weights."""

    @property
    def distribution(self) -> Literal["gaussian", "uniform"]: ...
    @property
    def weight_every(self) -> WeightEvery: ...
    @property
    def spared(self) -> Spared: ...
    @property
    def needs_train_loss(self) -> bool: ...

    def scheduler(self, epochs: int) -> Scheduler:
        """Return what decides on each epoch's noise in a training of so many epochs."""
        ...

    def check_epochs(self, epochs: int) -> None:
        """Raise UserError where the noise does not fit a training of so many epochs."""
        ...


class ParameterNoise:
    """Noise of one training: asks its scheduler after each epoch, draws, and adds.

    One draw fills one row of numbers for all parameters; each parameter's noise is a view of the row, and one
    call adds all views. The std are tensors on the device, too, which a recorded step reads anew.

    parameters: of each what this process holds, where processes share them (`local_part`).   source: on the
    parameters' device; of several processes that train together each has the same, or its shard's.
    """

    def __init__(
        self,
        spec: ParameterNoiseSpec,
        epochs: int,
        parameters: Iterable[Tensor],
        source: torch.Generator,
    ) -> None:
        self.spec, self.scheduler = spec, spec.scheduler(epochs)
        self.source, self.device = source, source.device
        self.width = math.sqrt(3) if spec.distribution == "uniform" else None  # half of it, at std 1
        self._scale = {target: torch.zeros((), device=self.device) for target in ("gradient", "weight")}
        self._row: Tensor | None = None
        self._views: list[Tensor] = []
        self._clean: list[Tensor] = []  # the weights without noise, while a step has it
        self.action = Action()
        self.cover(parameters)
        self._act(self.scheduler.begin())

    def cover(self, parameters: Iterable[Tensor]) -> None:
        """Put noise on these parameters from now on. Raises UserError where the spec spares all of them."""
        parameters = list(parameters)
        covered = [p for p in parameters if self.spec.spared == "none" or p.dim() > 1]
        if not covered:
            raise UserError(
                f"no parameter gets noise: spared={self.spec.spared!r} leaves out all {len(parameters)} "
                "parameters; use spared='none'"
            )
        self.parameters, self._row = covered, None
        self._local = [local_part(p) for p in covered]
        self._shared = any(local is not p for local, p in zip(self._local, covered, strict=True))
        self._act(self.action)

    def observe(self, row: Mapping[str, Any]) -> bool:
        """Decide on the next epoch's noise; return whether its steps differ from those of this epoch.

        row: of the history, for the epoch that ended.
        """
        before = self._in_steps()
        self._act(self.scheduler.observe(EpochStatistics.of(row)))
        return before != self._in_steps()

    def change(self, spec: ParameterNoiseSpec) -> None:
        """Use other values of the same noise from the next step on. Raises UserError for another kind."""
        old = self.spec
        fixed = type(old), old.distribution, old.weight_every, old.spared
        if (type(spec), spec.distribution, spec.weight_every, spec.spared) != fixed:
            raise UserError(f"the noise here is {old!r}; {spec!r} is another kind: train anew")
        self.spec = spec
        self._act(self.scheduler.change(spec, self.action))

    @torch.no_grad()
    def begin_epoch(self) -> None:
        """Add noise to weights before an epoch's first step, if they get noise once an epoch."""
        if self.action.weight and self.spec.weight_every == "epoch":
            self._add(self.parameters, "weight")

    @torch.no_grad()
    def begin_step(self) -> None:
        """Add noise to weights before a step's forward pass, if it is taken back after the backward pass."""
        if self.action.weight and self.spec.weight_every == "step_restored":
            torch._foreach_copy_(self._clean, self.parameters)  # pyright: ignore[reportPrivateImportUsage]
            self._add(self.parameters, "weight")

    @torch.no_grad()
    def end_backward(self) -> None:
        """Put the weights without noise back, bit for bit, where `begin_step` has added some."""
        if self.action.weight and self.spec.weight_every == "step_restored":
            torch._foreach_copy_(self.parameters, self._clean)  # pyright: ignore[reportPrivateImportUsage]

    def add_to_gradients(self, factor: Tensor | None = None) -> None:
        """Add noise between `backward()` and the optimiser's step; nothing while its std is 0.

        factor: () on the device, multiplies the noise, for gradients of a scaled loss; None: 1.
        """
        if self.action.gradient:
            self._add([p.grad for p in self.parameters if p.grad is not None], "gradient", factor)

    @torch.no_grad()
    def add_to_weights(self, factor: Tensor | None = None) -> None:
        """Add noise after the optimiser's step; nothing at std 0 or where it comes once an epoch.

        factor: () on the device, multiplies the noise: 0 for a step that was skipped; None: 1.
        """
        if self.action.weight and self.spec.weight_every == "step":
            self._add(self.parameters, "weight", factor)

    def example(self, x: Tensor, source: torch.Generator) -> Tensor | None:
        """Draw such noise for a tensor shaped as x, at the current epoch's std; None where that is 0.

        source: in place of the training's own generator, whose draws stay as they are.
        """
        std = max(self.action.gradient, self.action.weight)
        return std * self._draw(torch.empty_like(x), source) if std else None

    def _draw(self, x: Tensor, source: torch.Generator) -> Tensor:
        """Fill x with noise of std 1."""
        if self.width is None:
            return x.normal_(generator=source)
        return x.uniform_(-self.width, self.width, generator=source)

    def _in_steps(self) -> tuple[bool, bool]:
        """Return whether a step has noise on gradients, and on weights."""
        return self.action.gradient > 0, self.action.weight > 0 and self.spec.weight_every != "epoch"

    def _act(self, action: Action) -> None:
        self.action = action
        for target, scale in self._scale.items():
            scale.fill_(getattr(action, target))
        if action.noisy and self._row is None:  # not while a step is recorded
            self._row = torch.empty(sum(p.numel() for p in self._local), device=self.device)
            parts = self._row.split([p.numel() for p in self._local])
            # laid out as the parameters are, so that one call takes all
            self._views = [
                part.as_strided(p.shape, p.stride()) for part, p in zip(parts, self._local, strict=True)
            ]
            if self.spec.weight_every == "step_restored":
                self._clean = [p.detach().clone() for p in self.parameters]

    def _add(self, tensors: list[Tensor], target: Target, factor: Tensor | None = None) -> None:
        if len(tensors) != len(self.parameters):
            raise RuntimeError("noise on gradients needs the gradients of all parameters")
        assert self._row is not None
        self._draw(self._row, self.source)
        alpha: float = getattr(self.action, target)
        if self.device.type != "cpu":  # a number would be fixed in a recording, and reading one waits
            self._row.mul_(self._scale[target] if factor is None else self._scale[target] * factor)
            alpha = 1.0
        elif factor is not None:
            alpha *= factor.item()
        if self._shared:
            tensors = [local_part(tensor) for tensor in tensors]
        torch._foreach_add_(tensors, self._views, alpha=alpha)  # pyright: ignore[reportPrivateImportUsage]

    def state(self) -> dict[str, Tensor]:
        """Return the generator's position. The scheduler's state follows from the history."""
        return {"random": self.source.get_state()}

    def restore(self, state: Mapping[str, Tensor], rows: Iterable[Mapping[str, Any]]) -> None:
        """Continue from what `state` returned after epochs with these history rows."""
        self.source.set_state(state["random"].cpu())
        for row in rows:
            self.observe(row)


def is_shared(tensor: Tensor) -> bool:
    """Return whether a tensor is one of several processes, a DTensor, of which each may hold a shard."""
    module = sys.modules.get("torch.distributed.tensor")  # importing it takes a second
    return module is not None and isinstance(tensor, module.DTensor)


@torch.no_grad()
def local_part(tensor: Tensor) -> Tensor:
    """Return the part of a tensor that this process holds, in the same memory: of a plain one, itself."""
    return tensor.to_local() if is_shared(tensor) else tensor  # pyright: ignore[reportAttributeAccessIssue]


class _NoAction:
    def row(self) -> dict[str, float]:
        return {}


class NoParameterNoise:
    """Stand-in for `ParameterNoise` in a run without such noise: every method does nothing."""

    source = None
    action = _NoAction()

    def begin_epoch(self) -> None:
        """Do nothing before an epoch."""

    def begin_step(self) -> None:
        """Do nothing before a forward pass."""

    def end_backward(self) -> None:
        """Do nothing after a backward pass."""

    def add_to_gradients(self) -> None:
        """Do nothing before an optimiser step."""

    def add_to_weights(self) -> None:
        """Do nothing after an optimiser step."""

    def example(self, x: Tensor, source: torch.Generator) -> None:
        """Return None: there is no noise to draw."""

    def observe(self, row: Mapping[str, Any]) -> bool:
        """Return False: steps stay as they are."""
        return False

    def change(self, spec: ParameterNoiseSpec) -> None:
        """Do nothing when the run's values change."""

    def state(self) -> dict[str, Tensor]:
        """Return an empty state."""
        return {}

    def restore(self, state: Mapping[str, Tensor], rows: Iterable[Mapping[str, Any]]) -> None:
        """Do nothing after a checkpoint was loaded."""
