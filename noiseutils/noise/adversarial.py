"""What a site of LAT, ANL or CANL does and remembers: between two passes, or from one batch to the next.

A site is called with the activations in training mode. A module may run more than once in a forward pass:
whatever a site keeps, it keeps once a call, in order.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from noiseutils.config import AdversarialNoise, ClassAdversarialNoise, LayerwiseAdversarialNoise
from noiseutils.errors import UserError
from noiseutils.noise.activation import (
    activation_std,
    lat_noise,
    noise_magnitude,
    peak,
    released_scale,
    scale_to,
)
from noiseutils.rng import SiteStreams

MOVING_AVERAGE = 0.9  # of the released code's s(h), which starts at 0


@dataclass
class Pass:
    """What the sites of one network share while `handle.loss` runs."""

    labels: Tensor | None = None  # of the batch in hand; None outside `handle.loss`
    measuring: bool = False  # ANL's first round
    warned: bool = False

    def runs(self) -> bool:
        """Whether noise is due. A training pass outside `handle.loss` has no labels to make it from."""
        if self.labels is None and not self.warned:
            self.warned = True
            warnings.warn(
                "a forward pass in training mode outside handle.loss gets no adversarial noise: the noise "
                "needs the loss. Use handle.loss(criterion, x, y), or eval mode",
                stacklevel=2,
            )
        return self.labels is not None


class AdversarialSite:
    """ANL: a leaf eta = 0 in round one, whose gradient (Eq. 3) becomes the noise of round two (Eq. 4)."""

    def __init__(self, spec: AdversarialNoise, streams: SiteStreams, shared: Pass) -> None:
        self.spec, self.streams, self.shared = spec, streams, shared
        self.etas: list[Tensor] = []
        self.stds: list[Tensor] = []
        self.noise: list[tuple[Tensor, Tensor] | None] = []  # gradient and its factor, a call each
        self.average: Tensor | None = None  # released: the moving average of s(h)
        self.batch_size: int | None = None  # released: that of the first batch, the only one with noise

    def begin(self) -> None:
        """A new forward pass; what an interrupted round one has left is not this one's."""
        if self.shared.measuring:
            self.etas, self.stds = [], []

    def __call__(self, x: Tensor) -> Tensor:
        """x: (B, ...) activations; returns (B, ...): in round one with the leaf, in round two with noise."""
        if not self.shared.runs():
            return x
        if self.shared.measuring:
            eta = torch.zeros((), dtype=x.dtype, device=x.device).expand_as(x).requires_grad_()
            self.etas.append(eta)
            self.stds.append(activation_std(x))
            return x + eta
        if self.spec.variant == "released":
            before = torch.zeros((), device=x.device) if self.average is None else self.average
            self.average = MOVING_AVERAGE * before + (1 - MOVING_AVERAGE) * activation_std(x)
        noise = self.noise.pop(0) if self.noise else None
        return x if noise is None else added(x, *noise)

    def prepare(self, gradients: list[Tensor | None]) -> None:
        """Turn the gradients of round one, in the order of `etas`, into the noise of round two."""
        self.noise = [
            None if gradient is None else (gradient, self._factor(gradient, std))
            for gradient, std in zip(gradients, self.stds, strict=True)
        ]
        self.etas, self.stds = [], []

    def _factor(self, gradient: Tensor, std: Tensor) -> Tensor:
        r = magnitudes(gradient, self.spec.epsilon, self.streams)
        if self.spec.variant == "paper":
            return scale_to(peak(gradient.float()), r * std if self.spec.scaled else r)
        if self.batch_size is None:
            self.batch_size = len(gradient)
        if self.spec.scaled:
            r = r * (torch.zeros_like(std) if self.average is None else self.average)
        return released_scale(gradient.float(), r * (len(gradient) == self.batch_size))

    def state(self) -> dict[str, Tensor]:
        """What the next batch depends on."""
        found = {} if self.average is None else {"average": self.average}
        return found | ({} if self.batch_size is None else {"batch_size": torch.tensor(self.batch_size)})

    def restore(self, state: dict[str, Tensor], device: torch.device) -> None:
        """Continue from what `state` gave."""
        if "average" in state:
            self.average = state["average"].to(device)
        if "batch_size" in state:
            self.batch_size = int(state["batch_size"])


class ClassSite:
    """CANL: noise along the gradient remembered for each sample's class; none until a class was seen."""

    def __init__(self, spec: ClassAdversarialNoise, streams: SiteStreams, shared: Pass) -> None:
        self.spec, self.streams, self.shared = spec, streams, shared
        self.memory: list[Tensor] = []  # (num_classes, ...) float32, stretched to max|G| = 1; a call each
        self.averages: list[Tensor] = []  # released: the moving average of s(h), a call each
        self.calls = 0

    def begin(self) -> None:
        """A new forward pass."""
        self.calls = 0

    def __call__(self, x: Tensor) -> Tensor:
        """x: (B, ...) activations; returns (B, ...) with noise, and listens for its gradient."""
        if not self.shared.runs():
            return x
        assert self.shared.labels is not None
        assert self.spec.num_classes is not None
        call, y = self.calls, self.shared.labels
        self.calls += 1
        r = magnitudes(x, self.spec.epsilon, self.streams)
        seen, sample = one_of_each_class(y, self.spec.num_classes, self.streams.get("sample", x.device))
        out = x
        if call < len(self.memory):
            std = self._std(x, call) if self.spec.scaled else torch.ones((), device=x.device)
            out = added(x, rows(self.memory[call].to(x.device), y), r * std)
        return listening(out, lambda gradient: self._renew(call, gradient, seen, sample))

    def _std(self, x: Tensor, call: int) -> Tensor:
        if self.spec.variant == "paper":
            return activation_std(x)
        while len(self.averages) <= call:
            self.averages.append(torch.zeros((), device=x.device))
        before = self.averages[call]
        self.averages[call] = MOVING_AVERAGE * before + (1 - MOVING_AVERAGE) * activation_std(x)
        return before

    def _renew(self, call: int, gradient: Tensor, seen: Tensor, sample: Tensor) -> None:
        """One random sample of each class in the batch takes the class's place in the memory."""
        chosen = rows(gradient, sample).float()
        one, largest = torch.ones((), device=gradient.device), peak(chosen)
        scale = scale_to(largest, one) if self.spec.variant == "paper" else released_scale(chosen, one)
        fresh = chosen * scale
        # an overflowed gradient, as under loss scaling, is not worth remembering
        usable = seen.view(largest.shape) & largest.isfinite()
        if call < len(self.memory):
            self.memory[call] = torch.where(usable, fresh, self.memory[call].to(fresh.device))
        elif call == len(self.memory):
            self.memory.append(torch.where(usable, fresh, torch.zeros((), device=fresh.device)))

    def state(self) -> dict[str, Tensor]:
        """What the next batch depends on."""
        found = {f"memory.{i}": value for i, value in enumerate(self.memory)}
        return found | {f"average.{i}": value for i, value in enumerate(self.averages)}

    def restore(self, state: dict[str, Tensor], device: torch.device) -> None:
        """Continue from what `state` gave."""
        self.memory = listed(state, "memory", device)
        self.averages = listed(state, "average", device)


class LayerwiseSite:
    """LAT: noise along the sign of the gradient that the batch before left, image by image in its order."""

    def __init__(self, spec: LayerwiseAdversarialNoise, streams: SiteStreams, shared: Pass) -> None:
        self.spec, self.shared = spec, shared
        self.memory: list[Tensor] = []  # (B, ...) int8 signs, a call each
        self.calls = 0

    def begin(self) -> None:
        """A new forward pass."""
        self.calls = 0

    def __call__(self, x: Tensor) -> Tensor:
        """x: (B, ...) activations; returns (B, ...) with noise, and listens for its gradient."""
        if not self.shared.runs():
            return x
        call = self.calls
        self.calls += 1
        out = x
        if call < len(self.memory):
            noise = lat_noise(self.memory[call].to(x.device, x.dtype), self.spec.epsilon)
            if len(noise) < len(x):  # more images than the batch before: the rest have no noise
                noise = torch.cat([noise, torch.zeros_like(x[len(noise) :])])
            out = x + noise[: len(x)]
        return listening(out, lambda gradient: self._renew(call, gradient))

    def _renew(self, call: int, gradient: Tensor) -> None:
        signs = gradient.sign().nan_to_num_().to(torch.int8)
        if call < len(self.memory):
            self.memory[call] = signs
        elif call == len(self.memory):
            self.memory.append(signs)

    def state(self) -> dict[str, Tensor]:
        """What the next batch depends on."""
        return {f"memory.{i}": value for i, value in enumerate(self.memory)}

    def restore(self, state: dict[str, Tensor], device: torch.device) -> None:
        """Continue from what `state` gave."""
        self.memory = listed(state, "memory", device)


def magnitudes(x: Tensor, epsilon: float, streams: SiteStreams) -> Tensor:
    """r of Eq. 2, one draw a sample: (B, 1, ...) float32."""
    z = torch.empty((len(x), *[1] * (x.dim() - 1)), device=x.device)
    return noise_magnitude(z.normal_(generator=streams.get("noise", x.device)), epsilon)


def added(x: Tensor, gradient: Tensor, factor: Tensor) -> Tensor:
    """x + gradient * factor in the type of x, the product in float32."""
    if x.dtype == gradient.dtype == torch.float32:
        return torch.addcmul(x, gradient, factor)  # one pass over the memory
    return x + (gradient.float() * factor).to(x.dtype)


def listening(x: Tensor, hear: Callable[[Tensor], None]) -> Tensor:
    """x, whose loss gradient `hear` is called with when it comes; nothing happens where none is taken."""
    if not torch.is_grad_enabled():
        return x
    if not x.requires_grad:  # the input, or all below is frozen: a leaf of zeros has the gradient
        x = x + torch.zeros((), dtype=x.dtype, device=x.device).expand_as(x).requires_grad_()
    x.register_hook(lambda gradient: hear(gradient.detach()))
    return x


def one_of_each_class(y: Tensor, num_classes: int, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """A random sample of each class in a batch: (num_classes,) bool, whether there is one, and its index.

    y: (B,) int64. Nothing waits for the device.
    """
    order = torch.randperm(len(y), generator=source, device=y.device)
    rank = torch.full((num_classes,), -1, device=y.device)
    rank = rank.scatter_reduce(0, y[order], torch.arange(len(y), device=y.device), "amax")
    return rank >= 0, order[rank.clamp(min=0)]


def rows(x: Tensor, index: Tensor) -> Tensor:
    """x[index], in the layout of x: a select on the memory as it lies copies whole samples."""
    if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        return x.permute(0, 2, 3, 1).index_select(0, index).permute(0, 3, 1, 2)
    return x.index_select(0, index)


def listed(state: dict[str, Tensor], name: str, device: torch.device) -> list[Tensor]:
    """The tensors name.0, name.1, … of a state."""
    count = sum(key.startswith(f"{name}.") for key in state)
    return [state[f"{name}.{i}"].to(device) for i in range(count)]


def check_labels(y: Tensor, num_classes: int) -> None:
    """Raises UserError for labels that are not classes 0 … num_classes - 1."""
    if y.dim() != 1 or y.dtype != torch.int64:
        raise UserError(f"CANL needs class labels, (N,) int64, got {(*y.shape,)} {y.dtype}")
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= num_classes:
        raise UserError(f"labels run from {low} to {high}, but num_classes is {num_classes}")
