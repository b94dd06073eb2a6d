"""Take and restore checkpoints: the state of a training after a whole number of epochs.

On CPU a resumed training ends, bit for bit, as an uninterrupted one. Where several processes train together,
all of them take a checkpoint and all resume from one: the weights are rank 0's, the noise is each rank's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor

from noiseutils.training.distributed import gathered, rank, world
from noiseutils.training.state import TrainState

MOST_THREADS = 4096  # more cores than any machine that trains here


@dataclass(frozen=True)
class Checkpoint:
    """All that an unfinished run needs to go on, after a whole number of epochs."""

    rows: list[dict[str, float]]  # history so far
    tensors: dict[str, Tensor]  # weights, optimiser state, positions of the generators
    threads: int  # sums over threads round differently for another number of threads
    device: str  # type of device: a generator's position means nothing on another
    engine: str = "eager"  # another engine rounds differently


class CannotResume(Exception):
    """Raised for a checkpoint of another run, kind of device or number of processes."""


def take_checkpoint(state: TrainState) -> Checkpoint:
    """Return a checkpoint of a training; called on all ranks.

    Rank 0's checkpoint has the noise of all ranks, another rank's its own noise alone.
    """
    slots = state.optimizer.state_dict()["state"]
    tensors = {f"model/{name}": value for name, value in state.model.state_dict().items()}
    tensors |= {
        f"optimizer/{i}/{k}": v for i, slot in slots.items() for k, v in slot.items() if v is not None
    }
    tensors |= {f"streams/{name}": value for name, value in state.streams.state().items()}
    if state.handle is not None:
        states = gathered({name: value.detach().cpu() for name, value in state.handle.state().items()})
        tensors |= {f"{_noise(r)}/{name}": v for r, part in states.items() for name, v in part.items()}
    tensors |= {f"parameter_noise/{name}": value for name, value in state.parameter_noise.state().items()}
    if world() > 1:
        tensors["world/size"] = torch.tensor(world())
    copies = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}
    threads = torch.get_num_threads()
    return Checkpoint(list(state.rows), copies, threads, state.device.type, state.engine.name)


def restore_checkpoint(checkpoint: Checkpoint, state: TrainState) -> None:
    """Put a training into the state of a checkpoint.

    Raises CannotResume for a checkpoint from another kind of device or number of processes, and for history,
    tensors or settings that are not those of such a training.
    """
    if checkpoint.device != state.device.type:
        raise CannotResume(f"it was made on {checkpoint.device}, this is {state.device.type}")
    try:
        _check_history(checkpoint, state)
        _restore(checkpoint, state)
    except Exception as error:  # a file of another version, or edited: anything may be wrong with it
        why = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise CannotResume(f"it does not fit: {why}") from error


def _check_history(checkpoint: Checkpoint, state: TrainState) -> None:
    """Raise ValueError for a history that no such training has written."""
    rows, threads = checkpoint.rows, checkpoint.threads
    if not isinstance(threads, int) or not 1 <= threads <= MOST_THREADS:
        raise ValueError(f"threads are {threads!r}; allowed: 1 to {MOST_THREADS}")
    if not isinstance(rows, list) or not 1 <= len(rows) <= state.run.epochs:
        raise ValueError(f"its history is not that of 1 to {state.run.epochs} epochs")
    needed = {"epoch", "train_loss", "test_loss", "learning_rate", "seconds"}
    if state.validation is not None:
        needed |= {"validation_loss"}
    for epoch, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not needed <= row.keys() or row.keys() != rows[0].keys():
            raise ValueError(f"epoch {epoch} of its history lacks columns")
        if row["epoch"] != epoch or not all(
            isinstance(v, (int, float)) and isfinite(v) for v in row.values()
        ):
            raise ValueError(f"epoch {epoch} of its history is not of finite numbers")


def _restore(checkpoint: Checkpoint, state: TrainState) -> None:
    tensors = checkpoint.tensors
    if (size := int(tensors.get("world/size", 1))) != world():
        raise ValueError(f"{size} processes made it, here it is {world()}")
    parts: dict[str, dict[str, Tensor]] = {
        name: {} for name in ("model", "optimizer", "streams", "parameter_noise", _noise(rank()))
    }
    for key, value in tensors.items():
        part, name = key.split("/", 1)
        parts.setdefault(part, {})[name] = value
    _check_tensors("model", parts["model"], state.model.state_dict())
    state.model.load_state_dict(parts["model"])
    parameters = state.parameters
    _check_tensors("optimizer", parts["optimizer"], _slots(state))
    slots: dict[int, dict[str, Tensor]] = {}
    for key, value in parts["optimizer"].items():
        index, name = key.split("/")
        like = parameters[int(index)]
        # fused kernels walk memory: a slot needs its parameter's layout, which a stored file does not keep
        slot = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
        slots.setdefault(int(index), {})[name] = slot
    state.optimizer.load_state_dict({**state.optimizer.state_dict(), "state": slots})
    _check_tensors("streams", parts["streams"], state.streams.state())
    state.streams.restore(parts["streams"])
    if state.handle is not None:
        state.handle.restore(parts[_noise(rank())])
    _check_tensors("parameter_noise", parts["parameter_noise"], state.parameter_noise.state())
    state.parameter_noise.restore(parts["parameter_noise"], checkpoint.rows)
    state.rows = list(checkpoint.rows)
    state.epoch = len(state.rows) + 1
    state.step = len(state.rows) * state.steps_per_epoch


def _slots(state: TrainState) -> dict[str, Tensor]:
    """Return tensors of the kinds that the optimiser keeps of each parameter after a step, by name."""
    spec = state.run.optimizer
    names = ("exp_avg", "exp_avg_sq") if spec.name == "adam" else ("momentum_buffer",) * bool(spec.momentum)
    found = {f"{i}/{name}": p.detach() for i, p in enumerate(state.parameters) for name in names}
    if spec.name == "adam":
        found |= {f"{i}/step": torch.zeros(()) for i in range(len(state.parameters))}
    return found


def _check_tensors(part: str, found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Raise ValueError for other names, shapes or types: torch would take some, and results would change."""
    if found.keys() != expected.keys():
        raise ValueError(
            f"{part} has not the tensors of this training: {min(found.keys() ^ expected.keys())}"
        )
    for name, value in expected.items():
        if (found[name].shape, found[name].dtype) != (value.shape, value.dtype):
            has = f"{found[name].dtype} {list(found[name].shape)}"
            raise ValueError(f"{part}/{name} is {has}, not {value.dtype} {list(value.shape)}")


def _noise(rank: int) -> str:
    """Return the name under which a rank's noise is stored."""
    return f"noise.{rank}" if rank else "noise"
