"""Tensor arithmetic that several noises share, in the forms that are fastest on CPU."""

from __future__ import annotations

import math

import torch
from torch import Tensor

FLOAT32 = torch.finfo(torch.float32)


def activation_std(x: Tensor) -> Tensor:
    """Return s(h): () float32, the standard deviation over the whole batch tensor (by N - 1), no gradient."""
    x = in_memory_order(x.detach()).float()
    if x.numel() < 2:  # one number has no spread: no noise
        return torch.zeros((), device=x.device)
    if x.device.type != "cpu":
        return x.std()  # to look at a value, as below, would wait for the device; a CUDA graph cannot
    # two plain reductions take a quarter of torch's running one, and are as exact unless the mean dwarfs it
    n, mean, norm = x.numel(), x.mean().item(), torch.linalg.vector_norm(x).item()
    square = norm**2 / n
    variance = square - mean**2
    return torch.tensor(math.sqrt(variance * n / (n - 1))) if variance > 1e-3 * square else x.std()


def peak(grad: Tensor) -> Tensor:
    """Return max|grad| of each sample: (B, 1, ...)."""
    over = tuple(range(1, grad.dim()))
    if not over:  # one number a sample; reducing over no dimension would reduce over all
        return grad.abs()
    # two reductions read the gradient twice but write nothing as large as it, which abs() would
    ordered = in_memory_order(grad)
    return torch.maximum(ordered.amax(over), -ordered.amin(over)).view(-1, *[1] * len(over))


def scale_to(largest: Tensor, magnitude: float | Tensor) -> Tensor:
    """Return the factors that stretch samples whose `peak` is `largest` to `magnitude`; 0 where it is 0.

    largest: (B, 1, ...) float32.   magnitude: broadcasts to it.
    """
    factor = (magnitude / largest).clamp(FLOAT32.min, FLOAT32.max)
    return torch.where(largest >= FLOAT32.tiny, factor, torch.zeros((), device=largest.device))


def add_scaled(x: Tensor, noise: Tensor, factor: float | Tensor, *, owned: bool) -> Tensor:
    """Return x + factor * noise in the type of x; a tensor of factors is applied in float32.

    x, noise: (B, ...), the noise without gradient.   factor: a number, or a tensor that broadcasts.
    owned: nothing else holds x or reads its values, so the noise may go into the memory of x. Autograd's
    history of x stays right: noise is constant to the gradient.
    """
    into = x.detach() if owned else x
    if not isinstance(factor, Tensor):
        sum_ = into.add_(noise, alpha=factor) if owned else torch.add(x, noise, alpha=factor)
    elif x.dtype == noise.dtype == torch.float32:  # one pass over the memory
        sum_ = into.addcmul_(noise, factor) if owned else torch.addcmul(x, noise, factor)
    else:
        product = (noise.float() * factor).to(x.dtype)
        sum_ = into.add_(product) if owned else x + product
    return x if owned else sum_


def in_memory_order(x: Tensor) -> Tensor:
    """Return x with dimensions in memory order: on CPU a reduction then takes less than half the time."""
    if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        return x.permute(0, 2, 3, 1)
    return x


def rows(x: Tensor, index: Tensor) -> Tensor:
    """Return x[index] in the layout of x: a select in memory order copies whole samples."""
    if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        return x.permute(0, 2, 3, 1).index_select(0, index).permute(0, 3, 1, 2)
    return x.index_select(0, index)


def in_layout_of(x: Tensor, memory: Tensor) -> Tensor:
    """Return `memory` on the device and in the layout of x: itself, or a copy, as after a restore."""
    if memory.device != x.device:
        memory = memory.to(x.device)
    if x.dim() == memory.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        return memory.contiguous(memory_format=torch.channels_last)
    return memory


def restored(value: Tensor, old: Tensor | None, device: torch.device) -> Tensor:
    """Return a copy of a stored value, in the memory of the old one if both are alike."""
    if old is None or (old.shape, old.dtype, old.device) != (value.shape, value.dtype, device):
        return value.to(device, copy=True)
    return old.copy_(value)


def restored_list(
    state: dict[str, Tensor], name: str, old: list[Tensor], device: torch.device
) -> list[Tensor]:
    """Return copies of the tensors name.0, name.1, … of a state, in the memory of old ones where they fit."""
    count = sum(key.startswith(f"{name}.") for key in state)
    before = [*old[:count], *[None] * (count - len(old))]
    return [restored(state[f"{name}.{i}"], tensor, device) for i, tensor in enumerate(before)]
