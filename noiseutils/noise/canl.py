"""CANL: as ANL, along a gradient remembered for the sample's class   (You et al., Algorithm 2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from noiseutils.errors import UserError
from noiseutils.noise.anl import draw_magnitudes, released_scale, update_average
from noiseutils.noise.arithmetic import (
    activation_std,
    add_scaled,
    in_layout_of,
    peak,
    restored_list,
    rows,
    scale_to,
)
from noiseutils.noise.site import ActivationNoise, Pass, RememberingSite, on_gradient
from noiseutils.rng import SiteStreams
from noiseutils.spec import Finite, PositiveInt


class ClassAdversarialNoise(ActivationNoise):
    """CANL: as ANL, along a gradient remembered for the sample's class (You et al., Algorithm 2).

    `variant="released"` is this project's extrapolation: the authors' code has ANL and no CANL. It uses
    the rule of their ANL: a signed maximum, 1e-6 added to it, and a moving average of s(h) that starts at 0.
    """

    needs_loss: ClassVar[bool] = True

    kind: Literal["class_adversarial_noise"] = "class_adversarial_noise"
    epsilon: Finite
    num_classes: PositiveInt | None = None  # None, in a Run alone: as many as its data has
    scaled: bool = True
    variant: Literal["paper", "released"] = "paper"

    @property
    def uses_std(self) -> bool:
        """Whether the noise is scaled by s(h), the activations' std."""
        return self.scaled

    def site(self, streams: SiteStreams, shared: Pass) -> ClassSite:
        """Make the noise of one module; UserError without `num_classes`."""
        if self.num_classes is None:
            raise UserError("ClassAdversarialNoise needs num_classes: how many classes the labels have")
        return ClassSite(self, streams, shared)

    def for_classes(self, num_classes: int) -> Self:
        """Return the same noise for a data set with this many classes; UserError where it is for others."""
        if self.num_classes not in (None, num_classes):
            raise UserError(
                f"num_classes {self.num_classes} of the noise is not that of the data: {num_classes}"
            )
        return self.replace(num_classes=num_classes)

    def check_labels(self, y: Any) -> None:
        """Raise UserError for labels that are not classes 0 … num_classes - 1."""
        assert self.num_classes is not None
        if not isinstance(y, Tensor) or y.dim() != 1 or y.dtype != torch.int64:
            got = f"{(*y.shape,)} {y.dtype}" if isinstance(y, Tensor) else type(y).__name__
            raise UserError(
                f"CANL remembers a gradient for each class and needs class labels, (N,) int64, got {got}. "
                "Give handle.loss labels alone, of which the criterion makes its targets; soft labels, as "
                "mixup makes them, belong to no class: use ANL or LAT"
            )
        low, high = int(y.min()), int(y.max())
        if low < 0 or high >= self.num_classes:
            raise UserError(f"labels run from {low} to {high}, but num_classes is {self.num_classes}")

    def changed_to(self, other: ActivationNoise) -> ActivationNoise:
        """Return the noise that a training goes on with; `num_classes` stays: the memories have its size."""
        super().changed_to(other)
        assert isinstance(other, ClassAdversarialNoise)
        if other.num_classes not in (None, self.num_classes):
            raise UserError(
                f"num_classes cannot change during a training: {self.num_classes} here, got "
                f"{other.num_classes}"
            )
        return other.replace(num_classes=self.num_classes)


class ClassSite(RememberingSite):
    """CANL at one module: noise along the remembered gradient of each sample's class, none until then.

    memory: (num_classes, ...) float32, stretched to max|G| = 1.
    """

    def __init__(self, spec: ClassAdversarialNoise, streams: SiteStreams, shared: Pass) -> None:
        super().__init__(shared)
        self.spec, self.streams = spec, streams
        self.averages: list[Tensor] = []  # released: the moving average of s(h), one a call

    def __call__(self, x: Tensor, owner: nn.Module | None = None) -> Tensor:
        """x: (B, ...) activations.   Returns (B, ...) with noise, whose gradient renews the memory."""
        if not self.shared.runs():
            return x
        assert self.spec.num_classes is not None
        call, y = self.next_call(), self.shared.labels
        if len(x) != len(y):
            raise UserError(
                f"{self.name!r} puts out {(*x.shape,)} for {len(y)} labels: CANL needs the batch in "
                "dimension 0"
            )
        r = draw_magnitudes(x, self.spec.epsilon, self.streams)
        one_hot = self.shared.one_hot(self.spec.num_classes)
        seen, sample = one_of_each_class(one_hot, self.streams.get("sample", x.device))
        out = x
        if call < len(self.memory):
            self.check_shape(x, self.memory[call])
            self.memory[call] = in_layout_of(x, self.memory[call])
            factor = r * self._std(x, call) if self.spec.scaled else r
            out = add_scaled(x, rows(self.memory[call], y), factor, owned=owner is not None)
        return on_gradient(out, lambda gradient: self._renew(call, gradient, seen, sample))

    def _std(self, x: Tensor, call: int) -> Tensor:
        if self.spec.variant == "paper":
            return activation_std(x)
        while len(self.averages) <= call:
            self.averages.append(torch.zeros((), device=x.device))
        before = self.averages[call].clone()
        update_average(self.averages[call], activation_std(x))
        return before

    def _renew(self, call: int, gradient: Tensor, seen: Tensor, sample: Tensor) -> None:
        """Put one random sample of each class in the batch in the class's place in the memory."""
        fresh = rows(gradient, sample).float()
        largest = peak(fresh)
        fresh *= scale_to(largest, 1.0) if self.spec.variant == "paper" else released_scale(fresh, 1.0)
        # an overflowed gradient, as under loss scaling, is not worth remembering
        usable = seen.view(largest.shape) & (largest < torch.inf)
        if call == len(self.memory):
            self.memory.append(torch.zeros_like(fresh))
        if call < len(self.memory):
            torch.where(usable, fresh, self.memory[call], out=self.memory[call])

    def state(self) -> dict[str, Tensor]:
        """Return copies of what the next batch depends on."""
        return super().state() | {f"average.{i}": value.clone() for i, value in enumerate(self.averages)}

    def snapshot(self) -> dict[str, Any]:
        """Return copies of what the next call depends on."""
        return super().snapshot() | {"averages": [value.clone() for value in self.averages]}

    def forget(self) -> None:
        """Forget the gradients, and the moving averages of s(h)."""
        super().forget()
        self.averages = []

    def check_state(self, state: Mapping[str, Tensor]) -> None:
        """Raise UserError for gradients of another number of classes."""
        for key, value in state.items():
            if key.startswith("memory.") and len(value) != self.spec.num_classes:
                raise UserError(
                    f"the state remembers {len(value)} classes at {self.name!r}, num_classes is "
                    f"{self.spec.num_classes}"
                )

    def restore(self, state: dict[str, Tensor], device: torch.device) -> None:
        """Continue from what `state` returned."""
        super().restore(state, device)
        self.averages = restored_list(state, "average", self.averages, device)


def one_of_each_class(one_hot: Tensor, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw a sample of each class in a batch; return which classes it has, and the samples' indices.

    one_hot: (num_classes, B) float32.   Returns (num_classes,) bool and (num_classes,) int64; the index of a
    class that is not in the batch means nothing. Nothing waits for the device.
    """
    draw = torch.empty(one_hot.shape[1], device=one_hot.device).uniform_(1, 2, generator=source)
    largest, sample = (one_hot * draw).max(1)
    return largest > 0, sample
