"""Networks inside wrappers: the module that holds the sites, and the wrapper that training must run.

DistributedDataParallel averages gradients only where its own forward pass has run, and a module does not know
that it was wrapped.
"""

from __future__ import annotations

import gc
import sys
import warnings

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from noiseutils.errors import UserError


def unwrapped(network: nn.Module) -> nn.Module:
    """Return the module inside DistributedDataParallel, DataParallel and torch.compile, in any order.

    Raises UserError for DataParallel on several devices, which copies the module at every step.
    """
    while (inner := _inside(network)) is not None:
        network = inner
    return network


def first_pass_network(network: nn.Module) -> nn.Module:
    """Return what a pass runs that no `backward()` follows: the network without DistributedDataParallel.

    The wrapper expects the gradients of all parameters after each of its own forward passes. A compiled
    network stays compiled where the wrapper lies around it.
    """
    inner: nn.Module | None = network
    while inner is not None:
        if isinstance(inner, DistributedDataParallel):
            network = inner.module
        inner = _inside(inner)
    return network


def averaging(model: nn.Module) -> nn.Module | None:
    """Return the DistributedDataParallel around a model, made before or after noise was attached.

    None: a single process, sharded parameters, or a wrapper's own forward pass that is running. Warns where
    several processes train and the wrapper is nowhere, or lies around more than the model.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return None
    if DistributedDataParallel._active_ddp_module is not None:
        return None
    if any(hasattr(p, "device_mesh") for p in model.parameters()):  # FSDP2: the module does it itself
        return None
    # a module holds no reference to its wrapper: look at every object once
    wrappers = [o for o in gc.get_objects() if issubclass(type(o), DistributedDataParallel)]
    for wrapper in wrappers:
        if unwrapped(wrapper) is model:
            return wrapper
    around = any(model is module for wrapper in wrappers for module in wrapper.modules())
    warnings.warn(
        f"{dist.get_world_size()} processes train, but handle.loss runs "
        + (
            "a part of what DistributedDataParallel wraps, outside of the wrapper's forward pass"
            if around
            else "a network that no DistributedDataParallel wraps"
        )
        + ": gradients stay this process's own. Wrap the network that noise is attached to",
        stacklevel=4,
    )
    return None


def forget_compiled() -> None:
    """Forget compiled code: a compiled network does not notice hooks that come after its first call."""
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()


def _inside(network: nn.Module) -> nn.Module | None:
    if isinstance(network, DataParallel) and len(network.device_ids) > 1:
        raise UserError(
            "DataParallel copies the network at every step, and its copies would share one noise: use "
            "DistributedDataParallel"
        )
    if isinstance(network, (DistributedDataParallel, DataParallel)):
        return network.module
    return network.__dict__.get("_modules", {}).get("_orig_mod")  # of torch.compile
