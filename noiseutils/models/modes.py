"""Switch modes of a network for the length of a block."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Switch to eval mode inside the block, and restore every module's own mode after the block."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def _set(objects: Iterable[Any], name: str, value: bool) -> Iterator[None]:
    """Set an attribute of all objects inside the block, and the opposite after the block."""
    changed = [each for each in objects if getattr(each, name) is not value]
    for each in changed:
        setattr(each, name, value)
    try:
        yield
    finally:
        for each in changed:
            setattr(each, name, not value)


def frozen(model: nn.Module) -> AbstractContextManager[None]:
    """Freeze all parameters inside the block: only gradients of inputs or activations are computed."""
    return _set(model.parameters(), "requires_grad", False)


def overwriting(net: nn.Module) -> AbstractContextManager[None]:
    """Let ReLUs overwrite their inputs inside the block: bit for bit the same in less memory and time.

    For networks in which nothing else reads a ReLU's input, such as those of `noiseutils.models`, while no
    hook keeps a module's output.
    """
    return _set((m for m in net.modules() if isinstance(m, nn.ReLU)), "inplace", True)


def still_statistics(model: nn.Module) -> AbstractContextManager[None]:
    """Let BatchNorm in training mode use its batch's statistics inside the block, without keeping any."""
    moving = (m for m in model.modules() if isinstance(m, _BatchNorm) and m.training)
    return _set(moving, "track_running_stats", False)


class _Exact:
    """Count the open blocks of `full_float32` in all threads, and keep the flags before the first."""

    lock = threading.Lock()
    blocks = 0
    before: tuple[bool, Any] = (True, True)


@contextmanager
def full_float32() -> Iterator[None]:
    """Switch TF32 off inside the block: CUDA convolutions would round to ten bits and blur small attacks.

    The flags are the process's: where trainings run side by side in threads, the last block to end restores
    the flags.
    """
    products = torch.backends.cuda.matmul
    with _Exact.lock:
        if _Exact.blocks == 0:
            _Exact.before = (torch.backends.cudnn.allow_tf32, products.allow_tf32)
            torch.backends.cudnn.allow_tf32 = products.allow_tf32 = False
        _Exact.blocks += 1
    try:
        yield
    finally:
        with _Exact.lock:
            _Exact.blocks -= 1
            if _Exact.blocks == 0:
                torch.backends.cudnn.allow_tf32, products.allow_tf32 = _Exact.before


def has_batchnorm(model: nn.Module) -> bool:
    """Tell if a network keeps running statistics, which noise in training could have moved."""
    return any(isinstance(m, _BatchNorm) for m in model.modules())
