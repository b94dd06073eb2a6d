"""A training's state after a whole number of epochs: taken, and gone on from.

On CPU the training that goes on from one ends, bit for bit, as if it had not stopped. Of several processes
that train together, all take one and all go on from one; the weights are rank 0's, the noise is each rank's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from noiseutils.noise import Handle
from noiseutils.noise.parameters import ParameterNoise
from noiseutils.rng import Streams
from noiseutils.training.distributed import gathered, rank, world


@dataclass(frozen=True)
class Snapshot:
    """All that an unfinished run needs to go on, after a whole number of epochs."""

    rows: list[dict[str, float]]  # the history so far
    tensors: dict[str, Tensor]  # weights, optimiser state, positions of the generators
    threads: int  # sums over threads round differently for another number of them
    device: str  # type of device: a generator's position means nothing on another
    engine: str = "eager"  # another one rounds differently


class CannotResume(Exception):
    """A snapshot is not of this run on this kind of device."""


def take(
    rows: list[dict[str, float]],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    random: Streams,
    handle: Handle | None,
    shaken: ParameterNoise | None,
    engine: str,
) -> Snapshot:
    """Called on all ranks; rank 0's has the noise of all of them, another's its own alone."""
    slots = optimizer.state_dict()["state"]
    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    tensors |= {
        f"optimizer/{i}/{k}": v for i, slot in slots.items() for k, v in slot.items() if v is not None
    }
    tensors |= {f"streams/{name}": value for name, value in random.state().items()}
    if handle is not None:
        states = gathered({name: value.detach().cpu() for name, value in handle.state().items()})
        tensors |= {f"{_noise(r)}/{name}": v for r, state in states.items() for name, v in state.items()}
    if shaken is not None:
        tensors |= {f"shaken/{name}": value for name, value in shaken.state().items()}
    if world() > 1:
        tensors["world/size"] = torch.tensor(world())
    copies = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}
    device = next(model.parameters()).device.type
    return Snapshot(list(rows), copies, torch.get_num_threads(), device, engine)


def restore(
    resume: Snapshot,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    random: Streams,
    handle: Handle | None,
    shaken: ParameterNoise | None,
) -> None:
    """Raises ValueError, KeyError or RuntimeError when the tensors are not those of such a training."""
    tensors = resume.tensors
    if (size := int(tensors.get("world/size", 1))) != world():
        raise ValueError(f"{size} processes made it, here it is {world()}")
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}, "streams": {}, _noise(rank()): {}}
    for key, value in tensors.items():
        part, name = key.split("/", 1)
        parts.setdefault(part, {})[name] = value
    model.load_state_dict(parts["model"])
    parameters = list(model.parameters())
    slots: dict[int, dict[str, Tensor]] = {}
    for key, value in parts["optimizer"].items():
        index, name = key.split("/")
        like = parameters[int(index)]
        # fused kernels walk memory: a slot needs its parameter's layout, which a stored file does not keep
        slot = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
        slots.setdefault(int(index), {})[name] = slot
    optimizer.load_state_dict({**optimizer.state_dict(), "state": slots})
    random.restore(parts["streams"])
    if handle is not None:
        handle.restore(parts[_noise(rank())])
    if shaken is not None:
        shaken.restore(parts["shaken"], resume.rows)


def _noise(rank: int) -> str:
    """Under which name a rank's noise is stored."""
    return f"noise.{rank}" if rank else "noise"
