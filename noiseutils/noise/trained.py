"""Find what an optimiser trains and where it lies, and agree between processes that train one network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from noiseutils.errors import UserError
from noiseutils.noise.parameters import is_shared


def unwrapped_optimizer(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Return the optimiser inside wrappers that hold one: theirs is the step that has hooks."""
    while isinstance(inner := getattr(optimizer, "optimizer", None), torch.optim.Optimizer):
        optimizer = inner
    return optimizer


def trained_parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Return the parameters that take a gradient, in the order of the groups."""
    return [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]


def device_of(parameters: Sequence[Tensor]) -> torch.device:
    """Return the parameters' device. Raises UserError unless there is one."""
    devices = {p.device for p in parameters}
    if len(devices) != 1:
        names = ", ".join(sorted(map(str, devices))) or "none"
        raise UserError(f"the optimiser's trainable parameters must lie on one device, they lie on: {names}")
    return devices.pop()


def shard_of(parameters: Sequence[Tensor]) -> tuple[int, ...]:
    """Return which of the parameters' shards this process has, by mesh dimension; () where it has the whole.

    Raises UserError for parameters that are split in several ways, and for those of
    FullyShardedDataParallel, which do not say what they are part of.
    """
    if any(getattr(p, "_fsdp_flattened", False) for p in parameters):
        raise UserError(
            "parameters of FullyShardedDataParallel do not say which shard they are: noise needs "
            "torch.distributed.fsdp.fully_shard, or DistributedDataParallel"
        )
    shared: list[Any] = [p for p in parameters if is_shared(p)]
    splits = {(p.device_mesh, tuple(not way.is_replicate() for way in p.placements)) for p in shared}
    if len(splits) > 1 or len(shared) not in (0, len(parameters)):
        raise UserError(
            f"{len(shared)} of the optimiser's {len(parameters)} parameters are shared between processes, in "
            f"{len(splits)} ways: noise needs all of them to be split over one mesh, in one way"
        )
    for mesh, split in splits:
        place = mesh.get_coordinate()
        return tuple(at for at, is_split in zip(place, split, strict=True) if is_split)
    return ()


def total_norm(tensors: list[Tensor]) -> Tensor:
    """Return the L2 norm of all tensors together, (): of shared ones that of the whole, in all processes."""
    norm = nn.utils.get_total_norm(tensors).detach()
    return norm.full_tensor() if is_shared(norm) else norm  # pyright: ignore[reportAttributeAccessIssue]


def of_all_processes(row: dict[str, float], seed: int, device: torch.device) -> dict[str, float]:
    """Return an epoch's row with the losses' means over the processes that train one network.

    Processes that train one network have equal gradients; those that do not are left alone.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return row
    rows = torch.zeros(dist.get_world_size(), 4, dtype=torch.float64, device=device)
    mine = [row["gradient_norm"], row["validation_loss"], row["train_loss"], seed % 2**52]  # exact in float64
    rows[dist.get_rank()] = torch.tensor(mine, dtype=torch.float64)
    dist.all_reduce(rows)
    norms, validation, train, seeds = rows.cpu().unbind(1)
    if not torch.allclose(norms, norms[0].expand_as(norms), rtol=1e-4, atol=0):
        return row
    if len(set(seeds.tolist())) > 1:
        raise UserError("processes that train one network need noise of one seed: theirs differ")
    return row | {"validation_loss": validation.mean().item(), "train_loss": train.mean().item()}
