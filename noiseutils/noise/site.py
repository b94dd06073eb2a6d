"""Define the parts of every noise on activations: a spec, and a site for each module that gets the noise.

A site is called with the module's output in training mode, and with the output's `owner`: the module, if
nothing else holds the output, so that noise may be written into the output's memory. A module may run more
than once in a forward pass: a site keeps its values once for each call, in order.

Values that a site remembers from one step to the next stay at their address from the first step on and are
renewed in place, and no site reads a value on a GPU: a CUDA graph can capture a step, including `backward()`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from noiseutils.errors import UserError
from noiseutils.noise.arithmetic import restored_list
from noiseutils.rng import SiteStreams
from noiseutils.spec import Spec

WARN_AFTER_PASSES = 3  # passes without a loss gradient before a warning
MOST_PASSES = 16  # whose recorded calls are kept, at most, waiting for a backward pass


@dataclass
class Pass:
    """State of the forward pass inside `handle.loss`, shared by the sites of one network."""

    active: bool = False  # inside `handle.loss`
    labels: Any = None  # of the current batch; a tensor (N,) where the noise goes by classes
    measuring: bool = False  # the first of two passes
    keeps_statistics: bool = False  # BatchNorm's running ones stay as they are
    number: int = 0  # of the last pass; 0: none was inside `handle.loss`
    records: bool = False  # a backward pass can follow, in which activation checkpointing repeats parts
    recorded: bool = False  # a part may be repeated
    over: set[int] = field(default_factory=set)  # numbers of recorded passes whose backward pass has begun
    warned: bool = False
    _one_hot: Tensor | None = None

    def begin(self, labels: Any, *, measuring: bool, keeps_statistics: bool) -> None:
        """Start a forward pass inside `handle.loss`."""
        self.active, self.labels, self.measuring = True, labels, measuring
        self.keeps_statistics = keeps_statistics
        self.records, self.recorded = torch.is_grad_enabled(), False
        self.number += 1
        self.over.discard(self.number - MOST_PASSES)

    def end(self) -> None:
        """End the pass."""
        self.active, self.labels, self.measuring, self._one_hot = False, None, False, None
        self.keeps_statistics = False

    def runs(self) -> bool:
        """Return whether noise is due; warn, once, in a training pass outside `handle.loss`."""
        if not self.active and not self.warned:
            self.warned = True
            warnings.warn(
                "a forward pass in training mode outside handle.loss gets no adversarial noise: the noise "
                "needs the loss. Use handle.loss(criterion, x, y), or eval mode",
                stacklevel=2,
            )
        return self.active

    def one_hot(self, num_classes: int) -> Tensor:
        """Return `one_hot` of the labels, made once for all sites."""
        if self._one_hot is None:
            self._one_hot = one_hot(self.labels, num_classes)
        return self._one_hot

    def snapshot(self) -> dict[str, Any]:
        """Return what a site reads of the pass, for a call that is to be repeated after the pass."""
        return {"active": self.active, "labels": self.labels, "measuring": self.measuring, "_one_hot": None}

    def forget_recorded(self, loss: Tensor | None = None) -> None:
        """Let go of the calls recorded in this pass: now, or once the backward pass of `loss` has begun."""
        if self.recorded and loss is None:
            self.over.add(self.number)
        elif self.recorded and loss is not None and loss.requires_grad:
            number = self.number
            loss.register_hook(lambda _: self.over.add(number))


def one_hot(y: Tensor, num_classes: int) -> Tensor:
    """Return (num_classes, B) float32 of labels (B,): 1 where a sample is of a class, else 0."""
    return (y == torch.arange(num_classes, device=y.device).unsqueeze(1)).float()


class Site:
    """Noise at one module: called with activations, returns them with noise."""

    name: str = ""  # of the module, dotted
    spec: Any  # replaced when values change during a training
    etas: list[Any]  # of the first of two passes, tensors or edges: where the loss gradient is taken
    no_gradient = False  # the first of two passes: no loss gradient reaches a call
    half = False  # the first of two passes: activations are in float16
    # called with the noise, by a site that changes its input in other ways than by adding noise
    on_noise: Callable[[Tensor], None] | None = None

    def begin(self) -> None:
        """Start a forward pass."""

    def __call__(self, x: Tensor, owner: nn.Module | None = None) -> Tensor:
        """x: (B, ...) activations in training mode.   Returns (B, ...), in the memory of x if owned."""
        raise NotImplementedError

    def end(self) -> None:
        """End a forward pass; UserError where the calls of the module cannot be told apart."""

    def prepare(self, gradients: list[Tensor | None]) -> None:
        """Turn the first pass's gradients, in the order of `etas`, into the noise of the second."""

    def snapshot(self) -> dict[str, Any]:
        """Return the attributes that the next call depends on; later calls and steps do not change them."""
        return {}

    def forget(self) -> None:
        """Forget what earlier batches have left."""

    def check_state(self, state: Mapping[str, Tensor]) -> None:
        """Raise UserError unless `restore` can take the state."""

    def state(self) -> dict[str, Tensor]:
        """Return copies of what the next batch depends on."""
        return {}

    def restore(self, state: dict[str, Tensor], device: torch.device) -> None:
        """Continue from what `state` returned."""


class RememberingSite(Site):
    """A site that remembers the loss gradient: a tensor for each call of its module in a forward pass."""

    def __init__(self, shared: Pass) -> None:
        self.shared = shared
        self.memory: list[Tensor] = []
        self.calls = 0
        self.calls_before: int | None = None  # of the last pass in which the module ran
        self.waited = 0  # passes in which the module ran and no gradient had come yet

    def begin(self) -> None:
        """Start a forward pass."""
        self.calls = 0

    def end(self) -> None:
        """End a forward pass; UserError where the module ran more or less often than in the pass before."""
        if self.calls:
            check_calls(self.name, self.calls_before, self.calls, "the pass before")
            self.calls_before = self.calls
            self.waited += self.shared.records and not self.memory
            if self.waited == WARN_AFTER_PASSES:
                warnings.warn(
                    f"no loss gradient came to {self.name!r} in {WARN_AFTER_PASSES} passes, and no noise "
                    "acts there: the module runs under torch.no_grad, its output does not count in the loss, "
                    "or backward() was not called",
                    stacklevel=2,
                )

    def check_shape(self, x: Tensor, remembered: Tensor) -> None:
        """Raise UserError unless a sample of x is shaped as a remembered one."""
        if x.shape[1:] != remembered.shape[1:]:
            raise UserError(
                f"{self.name!r} puts out {(*x.shape,)}, a gradient is remembered for samples of "
                f"{(*remembered.shape[1:],)}: the noise takes one size of activations, with the batch in "
                "dimension 0. After a change of size call handle.forget()"
            )

    def snapshot(self) -> dict[str, Any]:
        """Return copies of what the next call depends on."""
        return {"memory": [value.clone() for value in self.memory], "calls": self.calls}

    def forget(self) -> None:
        """Forget the gradients."""
        self.memory, self.calls_before = [], None

    def next_call(self) -> int:
        """Return the number of this call in the forward pass, from 0."""
        self.calls += 1
        return self.calls - 1

    def state(self) -> dict[str, Tensor]:
        """Return copies of what the next batch depends on."""
        return {f"memory.{i}": value.clone() for i, value in enumerate(self.memory)}

    def restore(self, state: dict[str, Tensor], device: torch.device) -> None:
        """Continue from what `state` returned."""
        self.memory = restored_list(state, "memory", self.memory, device)


class ActivationNoise(Spec):
    """Base of the specs of noise on activations; the attributes say what a noise needs."""

    kind: str
    needs_loss: ClassVar[bool] = False  # made from the loss, so drawn inside `handle.loss` alone
    two_passes: ClassVar[bool] = False  # measured in a forward pass before the one with noise

    def site(self, streams: SiteStreams, shared: Pass) -> Site:
        """Make the noise of one module."""
        raise NotImplementedError

    @property
    def uses_std(self) -> bool:
        """Whether the noise is scaled by s(h), the activations' std."""
        return False

    def for_classes(self, num_classes: int) -> Self:
        """Return the same noise for a data set with this many classes."""
        return self

    def check_labels(self, y: Any) -> None:
        """Raise UserError for labels that the noise cannot use."""

    def keeps_statistics(self, *, measuring: bool) -> bool:
        """Return whether BatchNorm's running statistics stay as they are in the first pass, or the second."""
        return False

    def changed_to(self, other: ActivationNoise) -> ActivationNoise:
        """Return the noise that a training goes on with; UserError for another kind of noise."""
        if type(other) is not type(self):
            raise UserError(f"the noise here is {self!r}; {other!r} is another kind: attach it anew")
        return other


def check_calls(name: str, expected: int | None, calls: int, where: str) -> None:
    """Raise UserError where a module that may run more than once ran more or less often than expected."""
    if expected is not None and calls != expected and max(calls, expected) > 1:
        raise UserError(
            f"{name!r} ran {calls} times in this forward pass and {expected} in {where}: which gradient "
            "belongs to which call cannot be told. Leave the module out of the noise, or run it equally often"
        )


def on_gradient(x: Tensor, receive: Callable[[Tensor], None]) -> Tensor:
    """Return x; `backward()` calls `receive` with the loss gradient of x, if a gradient is taken."""
    if not torch.is_grad_enabled():
        return x
    if not x.requires_grad:  # the input, or all below is frozen: a leaf of zeros has the gradient
        x = x + torch.zeros((), dtype=x.dtype, device=x.device).expand_as(x).requires_grad_()
    x.register_hook(lambda gradient: receive(gradient.detach()))
    return x
