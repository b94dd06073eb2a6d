"""The same noise in a forward pass that activation checkpointing repeats during `backward()`.

`torch.utils.checkpoint` keeps no activations of a segment and runs its forward pass again when gradients are
due. It puts torch's global generators back, and knows nothing of a site's own generators and memories. A call
of a site inside a segment is therefore recorded, found again by a part of its input, and repeated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._autograd import _top_saved_tensors_default_hooks

from noiseutils.errors import UserError
from noiseutils.noise.site import MOST_PASSES, Pass, Site

CHECKPOINT = "torch.utils.checkpoint"
MOST_CALLS = 64  # calls of one site that are kept outside `handle.loss`, where no backward pass is seen
INPUT_TOLERANCE = 1e-2  # relative distance of a repeated input: another kernel may round otherwise


@dataclass
class Call:
    """One call of a site inside a checkpointed segment, as it was before the call."""

    part: Tensor  # of the input
    site: dict[str, Any]
    generators: dict[str, torch.Generator]
    shared: dict[str, Any]
    number: int  # of the pass
    repeated: bool = False


class RepeatableSite:
    """A site whose calls inside checkpointed segments can be repeated; elsewhere just the site."""

    def __init__(self, site: Site, shared: Pass) -> None:
        self.site, self.shared = site, shared
        self.calls: list[Call] = []

    def __call__(self, x: Tensor, owner: nn.Module | None = None) -> Tensor:
        """Call the site, or repeat its call with this input if a backward pass is running."""
        if torch._C._current_graph_task_id() != -1:
            return self._repeat(x, owner)
        due = self.shared.records if self.shared.active else not self.site.spec.needs_loss
        if due and _inside_segment():
            self._record(x)
        return self.site(x, owner)

    def _record(self, x: Tensor) -> None:
        if x.is_cuda and torch.cuda.is_current_stream_capturing():
            raise UserError(
                f"{self.site.name!r} lies in a segment of activation checkpointing, whose noise cannot be "
                "repeated in a CUDA graph: leave one of the two out"
            )
        if self.shared.keeps_statistics and not self.shared.measuring:
            raise UserError(
                f"batchnorm={self.site.spec.batchnorm!r} lets the second pass leave BatchNorm's statistics "
                "alone, but activation checkpointing repeats that pass and moves them: use batchnorm='both'"
            )
        self.shared.recorded = True
        streams = getattr(self.site, "streams", None)
        call = Call(
            _part(x),
            self.site.snapshot(),
            {} if streams is None else {k: _copied(source) for k, source in streams.generators.items()},
            self.shared.snapshot(),
            self.shared.number,
        )
        if call.number == 0:
            kept = [old for old in self.calls if not old.repeated][1 - MOST_CALLS :]
        else:
            kept = [old for old in self.calls if old.number not in self.shared.over]
            kept = [old for old in kept if old.number > call.number - MOST_PASSES]
        self.calls = [*kept, call]

    def _repeat(self, x: Tensor, owner: nn.Module | None) -> Tensor:
        call = self._found(x)
        call.repeated = True
        streams = getattr(self.site, "streams", None)
        before = dict(vars(self.site)), dict(vars(self.shared))
        generators = {} if streams is None else streams.generators
        try:
            vars(self.site).update({name: _unshared(value) for name, value in call.site.items()})
            vars(self.shared).update(call.shared)
            if streams is not None:
                # one that the call itself has made is made anew, at its first position
                streams.generators = {name: _copied(source) for name, source in call.generators.items()}
            return self.site(x, owner)
        finally:
            vars(self.site).update(before[0])
            vars(self.shared).update(before[1])
            if streams is not None:
                streams.generators = generators

    def _found(self, x: Tensor) -> Call:
        part = _part(x)
        alike = [call for call in self.calls if _near(call.part, part)]
        alike = [call for call in alike if torch.equal(call.part, part)] or alike
        new = [call for call in alike if not call.repeated]
        if not alike or len(new) > 1:
            why = "several had the same input" if alike else "none of those recorded had this input"
            raise UserError(
                f"a backward pass runs {self.site.name!r} again, as activation checkpointing does, and the "
                f"noise must be that of the first time, but which call it was cannot be told: {why}. Leave "
                "the module out of the checkpointed segment, or out of the noise"
            )
        return new[0] if new else alike[-1]


def _inside_segment() -> bool:
    """Return whether a call may be repeated: in a checkpointed segment, or without gradients as in one."""
    if not torch.is_grad_enabled():  # a re-entrant segment, for one
        return True
    hooks = _top_saved_tensors_default_hooks(True)
    return hooks is not None and getattr(hooks[0], "__module__", "") == CHECKPOINT


def _part(x: Tensor) -> Tensor:
    """Return up to 64 features of every sample, from the middle of each."""
    index = (slice(None), slice(64), *(n // 2 for n in x.shape[2:]))[: x.dim()]
    return x.detach()[index].to(torch.float32, copy=True).nan_to_num_()


def _near(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.device != other.device:
        return False
    return bool(torch.linalg.vector_norm(one - other) <= INPUT_TOLERANCE * torch.linalg.vector_norm(other))


def _copied(source: torch.Generator) -> torch.Generator:
    copy = torch.Generator(device=source.device)
    copy.set_state(source.get_state())
    return copy


def _unshared(value: Any) -> Any:
    """Return what a repeated call may change, so that the record stays as it is."""
    if isinstance(value, list):
        return [_unshared(each) for each in value]
    return value.clone() if isinstance(value, Tensor) else value
