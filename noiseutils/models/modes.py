"""Ways to use a network for a while, each undone at the end of its block."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Eval mode inside the block, every module's own mode restored after it."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Inside the block no parameter asks for a gradient: only that of inputs or activations is paid for."""
    asking = [p for p in model.parameters() if p.requires_grad]
    for p in asking:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in asking:
            p.requires_grad_(True)


@contextmanager
def overwriting(net: nn.Module) -> Iterator[None]:
    """Inside the block ReLUs overwrite what they are given; bit for bit the same in less memory and time.

    For networks in which nothing else reads that, such as those of `noiseutils.models`, while no hook keeps
    what a module has put out.
    """
    plain = [m for m in net.modules() if isinstance(m, nn.ReLU) and not m.inplace]
    for relu in plain:
        relu.inplace = True
    try:
        yield
    finally:
        for relu in plain:
            relu.inplace = False


@contextmanager
def still_statistics(model: nn.Module) -> Iterator[None]:
    """Inside the block BatchNorm in training mode uses its batch's statistics and keeps none of them."""
    moving = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    for norm in moving:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in moving:
            norm.track_running_stats = True


class _Exact:
    """How many blocks of `full_float32` are open, in all threads, and the flags before the first."""

    lock = threading.Lock()
    blocks = 0
    before: tuple[bool, Any] = (True, True)


@contextmanager
def full_float32() -> Iterator[None]:
    """TF32 off inside the block: CUDA convolutions would else round to ten bits and blur small attacks.

    The flags are the process's: where trainings run side by side in threads, the last block to end puts them
    back.
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
    """Whether a network keeps running statistics that noise in training could have moved."""
    return any(isinstance(m, _BatchNorm) for m in model.modules())
