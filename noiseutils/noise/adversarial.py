"""What a site of LAT, ANL or CANL does and remembers: between two passes, or from one batch to the next.

A site is called with the activations in training mode, and told their `owner`: the module that has put them
out, if nothing else holds them, so that noise may go into their memory. A module may run more than once in a
forward pass: whatever a site keeps, it keeps once a call, in order.

What a site remembers from one step to the next stays where it is from the first step on and is renewed in
place, and nothing looks at a value on a GPU: a step can be captured in a CUDA graph, `backward()` too.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from noiseutils.config import AdversarialNoise, ClassAdversarialNoise, LayerwiseAdversarialNoise
from noiseutils.errors import UserError
from noiseutils.noise.activation import (
    noise_magnitude,
    output_std,
    peak,
    plus,
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
    _there: Tensor | None = None

    def begin(self, labels: Tensor, *, measuring: bool) -> None:
        """A forward pass inside `handle.loss`."""
        self.labels, self.measuring = labels, measuring

    def end(self) -> None:
        """It is over."""
        self.labels, self.measuring, self._there = None, False, None

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

    def classes_there(self, num_classes: int) -> Tensor:
        """`classes_there` of the batch in hand, made once for all sites."""
        if self._there is None:
            assert self.labels is not None
            self._there = classes_there(self.labels, num_classes)
        return self._there


class AdversarialSite:
    """ANL: a leaf eta = 0 in round one, whose gradient (Eq. 3) becomes the noise of round two (Eq. 4)."""

    def __init__(self, spec: AdversarialNoise, streams: SiteStreams, shared: Pass) -> None:
        self.spec, self.streams, self.shared = spec, streams, shared
        self.etas: list[Tensor | GradientEdge] = []
        self.stds: list[Tensor] = []
        self.noise: list[tuple[Tensor, Tensor] | None] = []  # gradient and its factor, a call each
        self.average: Tensor | None = None  # released: the moving average of s(h)
        self.batch_size: int | None = None  # released: that of the first batch, the only one with noise

    def begin(self) -> None:
        """A new forward pass; what an interrupted round one has left is not this one's."""
        if self.shared.measuring:
            self.etas, self.stds = [], []

    def __call__(self, x: Tensor, owner: nn.Module | None = None) -> Tensor:
        """x: (B, ...) activations; returns (B, ...): in round one with the leaf, in round two with noise."""
        if not self.shared.runs():
            return x
        if self.shared.measuring:
            self.stds.append(output_std(x, owner))
            if owner and x.requires_grad:  # d loss/d eta at eta = 0 is d loss/d x: no sum need be taken
                self.etas.append(get_gradient_edge(x))
                return x
            eta = torch.zeros((), dtype=x.dtype, device=x.device).expand_as(x).requires_grad_()
            self.etas.append(eta)
            return x + eta
        if self.spec.variant == "released":
            if self.average is None:
                self.average = torch.zeros((), device=x.device)
            average_(self.average, output_std(x, owner))
        noise = self.noise.pop(0) if self.noise else None
        return x if noise is None else plus(x, *noise, owned=owner is not None)

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
        """What the next batch depends on, as it is now."""
        found = {} if self.average is None else {"average": self.average.clone()}
        return found | ({} if self.batch_size is None else {"batch_size": torch.tensor(self.batch_size)})

    def restore(self, state: dict[str, Tensor], device: torch.device) -> None:
        """Continue from what `state` gave."""
        if "average" in state:
            self.average = put(state["average"], self.average, device)
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

    def __call__(self, x: Tensor, owner: nn.Module | None = None) -> Tensor:
        """x: (B, ...) activations; returns (B, ...) with noise, and listens for its gradient."""
        if not self.shared.runs():
            return x
        assert self.shared.labels is not None
        assert self.spec.num_classes is not None
        call, y = self.calls, self.shared.labels
        self.calls += 1
        r = magnitudes(x, self.spec.epsilon, self.streams)
        there = self.shared.classes_there(self.spec.num_classes)
        seen, sample = one_of_each(there, self.streams.get("sample", x.device))
        out = x
        if call < len(self.memory):
            self.memory[call] = beside(x, self.memory[call])
            factor = r * self._std(x, owner, call) if self.spec.scaled else r
            out = plus(x, rows(self.memory[call], y), factor, owned=owner is not None)
        return listening(out, lambda gradient: self._renew(call, gradient, seen, sample))

    def _std(self, x: Tensor, owner: nn.Module | None, call: int) -> Tensor:
        if self.spec.variant == "paper":
            return output_std(x, owner)
        while len(self.averages) <= call:
            self.averages.append(torch.zeros((), device=x.device))
        before = self.averages[call].clone()
        average_(self.averages[call], output_std(x, owner))
        return before

    def _renew(self, call: int, gradient: Tensor, seen: Tensor, sample: Tensor) -> None:
        """One random sample of each class in the batch takes the class's place in the memory."""
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
        """What the next batch depends on, as it is now."""
        found = {f"memory.{i}": value.clone() for i, value in enumerate(self.memory)}
        return found | {f"average.{i}": value.clone() for i, value in enumerate(self.averages)}

    def restore(self, state: dict[str, Tensor], device: torch.device) -> None:
        """Continue from what `state` gave."""
        self.memory = listed(state, "memory", self.memory, device)
        self.averages = listed(state, "average", self.averages, device)


class LayerwiseSite:
    """LAT: noise along the sign of the gradient that the batch before left, image by image in its order."""

    def __init__(self, spec: LayerwiseAdversarialNoise, streams: SiteStreams, shared: Pass) -> None:
        self.spec, self.shared = spec, shared
        self.memory: list[Tensor] = []  # (B, ...) int8 signs, a call each; B: of the largest batch so far
        self.outgrown: list[Tensor] = []  # kept, as a captured step goes on writing there
        self.calls = 0

    def begin(self) -> None:
        """A new forward pass."""
        self.calls = 0

    def __call__(self, x: Tensor, owner: nn.Module | None = None) -> Tensor:
        """x: (B, ...) activations; returns (B, ...) with noise, and listens for its gradient."""
        if not self.shared.runs():
            return x
        call = self.calls
        self.calls += 1
        out = x
        if call < len(self.memory):
            signs = self.memory[call] = beside(x, self.memory[call])
            both = min(len(signs), len(x))  # more images than any batch before: the rest have no noise
            if owner:
                plus(x[:both], signs[:both], self.spec.epsilon, owned=True)
            else:
                extra = signs.new_zeros(len(x) - both, *x.shape[1:])
                noise = torch.cat([signs[:both], extra]) if len(extra) else signs[:both]
                out = plus(x, noise, self.spec.epsilon, owned=False)
        return listening(out, lambda gradient: self._renew(call, gradient))

    def _renew(self, call: int, gradient: Tensor) -> None:
        if call == len(self.memory):
            self.memory.append(torch.empty_like(gradient, dtype=torch.int8))
        elif call > len(self.memory):
            return
        memory, size = self.memory[call], len(gradient)
        if size > len(memory):
            self.outgrown.append(memory)
            memory = self.memory[call] = torch.empty_like(gradient, dtype=torch.int8)
        memory[:size].copy_(gradient.sign())  # a NaN's sign is 0
        memory[size:].zero_()

    def state(self) -> dict[str, Tensor]:
        """What the next batch depends on, as it is now."""
        return {f"memory.{i}": value.clone() for i, value in enumerate(self.memory)}

    def restore(self, state: dict[str, Tensor], device: torch.device) -> None:
        """Continue from what `state` gave."""
        self.memory = listed(state, "memory", self.memory, device)


def magnitudes(x: Tensor, epsilon: float, streams: SiteStreams) -> Tensor:
    """r of Eq. 2, one draw a sample: (B, 1, ...) float32."""
    z = torch.empty((len(x), *[1] * (x.dim() - 1)), device=x.device)
    return noise_magnitude(z.normal_(generator=streams.get("noise", x.device)), epsilon)


def average_(average: Tensor, value: Tensor) -> None:
    """The released code's moving average: average = 0.9 * average + 0.1 * value, in place."""
    average.mul_(MOVING_AVERAGE).add_(value, alpha=1 - MOVING_AVERAGE)


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

    y: (B,) int64. Nothing waits for the device. The sample of a class that is not there means nothing.
    """
    return one_of_each(classes_there(y, num_classes), source)


def classes_there(y: Tensor, num_classes: int) -> Tensor:
    """(num_classes, B) float32: 1 where a sample is of a class, else 0."""
    return (y == torch.arange(num_classes, device=y.device).unsqueeze(1)).float()


def one_of_each(there: Tensor, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """The same, from `classes_there`."""
    draw = torch.empty(there.shape[1], device=there.device).uniform_(1, 2, generator=source)
    largest, sample = (there * draw).max(1)
    return largest > 0, sample


def rows(x: Tensor, index: Tensor) -> Tensor:
    """x[index], in the layout of x: a select on the memory as it lies copies whole samples."""
    if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        return x.permute(0, 2, 3, 1).index_select(0, index).permute(0, 3, 1, 2)
    return x.index_select(0, index)


def beside(x: Tensor, memory: Tensor) -> Tensor:
    """The memory itself if it is on x's device and laid out as x; else, as after `restore`, one that is."""
    if memory.device != x.device:
        memory = memory.to(x.device)
    if x.dim() == memory.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        return memory.contiguous(memory_format=torch.channels_last)
    return memory


def put(value: Tensor, old: Tensor | None, device: torch.device) -> Tensor:
    """A copy of a stored value: in the place of the old one, if there is one like it."""
    if old is None or (old.shape, old.dtype, old.device) != (value.shape, value.dtype, device):
        return value.to(device, copy=True)
    return old.copy_(value)


def listed(state: dict[str, Tensor], name: str, old: list[Tensor], device: torch.device) -> list[Tensor]:
    """The tensors name.0, name.1, … of a state, in the places of old ones where there are any."""
    count = sum(key.startswith(f"{name}.") for key in state)
    places = [*old[:count], *[None] * (count - len(old))]
    return [put(state[f"{name}.{i}"], place, device) for i, place in enumerate(places)]


def check_labels(y: Tensor, num_classes: int) -> None:
    """Raises UserError for labels that are not classes 0 … num_classes - 1."""
    if y.dim() != 1 or y.dtype != torch.int64:
        raise UserError(f"CANL needs class labels, (N,) int64, got {(*y.shape,)} {y.dtype}")
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= num_classes:
        raise UserError(f"labels run from {low} to {high}, but num_classes is {num_classes}")
