"""Compute the least time that a training epoch can take, from its operations and the bytes that it moves.

    roofline = max(operations / peak rate, bytes / bandwidth)

Rate and bandwidth are those that a machine has been seen to reach. An epoch's share of its roofline, roofline
over measured seconds, says how much is left to win, and stays below one while no rate beats the peak.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode

from noiseutils.errors import UserError
from noiseutils.models import build_model

FLOAT_BYTES = 4  # bytes of a weight, a gradient and a number of the optimiser's state
COUNTED_LAYERS = (nn.Conv2d, nn.Linear, _BatchNorm)  # others with parameters are refused


@dataclass(frozen=True)
class Work:
    """Count the work of one training step.

    operations: floating-point operations an image, forward and backward, two a multiply-add, of convolutions
    and dense layers. Biases, BatchNorms, ReLUs and pools are bound by the bytes that they move.
    saved: numbers an image that wait from the forward pass for the backward one: the inputs of convolutions,
    dense layers and BatchNorms, each tensor once however many layers read it. A ReLU keeps its sign in the
    input of the next layer, a pool a few bits a number: both are left out.
    parameters: numbers to learn, of the whole network.
    """

    operations: int
    saved: int
    parameters: int


def work_of(model: nn.Module, channels: int = 3, image_size: int = 32) -> Work:
    """Count a network's work on images (channels, image_size, image_size); nothing is computed.

    model: on the meta device, in training mode, made for this count alone.   Raises UserError where a module
    has parameters and is no convolution, dense layer or BatchNorm.
    """
    saved: dict[int, Tensor] = {}  # by identity; the tensors are kept so that no identity is used again

    def save_input(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        saved[id(inputs[0])] = inputs[0]

    for name, module in model.named_modules():
        if isinstance(module, COUNTED_LAYERS):
            module.register_forward_pre_hook(save_input)
        elif any(True for _ in module.parameters(recurse=False)):
            raise UserError(f"no formula for the work of {type(module).__name__} ({name or 'the model'})")
    images = 2  # BatchNorm trains on no fewer
    formulas = {torch.ops.aten.convolution_backward: convolution_backward_operations}
    with FlopCounterMode(display=False, custom_mapping=formulas) as counter:
        model(torch.empty(images, channels, image_size, image_size, device="meta")).sum().backward()
    numbers = sum(x.numel() for x in saved.values())
    parameters = sum(p.numel() for p in model.parameters())
    return Work(int(counter.get_total_flops()) // images, numbers // images, parameters)


def convolution_backward_operations(grad_out, x, weight, *args, out_shape, **kwargs) -> int:
    """Return the operations of a convolution's backward pass: of each gradient, as many as forward.

    torch's own formula counts the channels of all groups together: 7 times too many in mobilenet_v2.
    """
    # of the input, where it needs one, and of the weight
    gradients = sum(shape is not None for shape in out_shape[:2])
    return gradients * 2 * math.prod(grad_out) * math.prod(weight[1:])


@functools.cache
def work_of_named(name: str, **options: float) -> Work:
    """Count the work of an entry of `MODELS`; options as `build_model` takes them."""
    with torch.device("meta"):
        model = build_model(name, **options)  # pyright: ignore[reportArgumentType]
    return work_of(model, int(options.get("in_channels", 3)), int(options.get("image_size", 32)))


def step_bytes(work: Work, batch: int, *, cache: int = 0) -> int:
    """Return the bytes that a step of SGD moves at least:   2 (A - C)+ + 2 (G - C)+ + 2 (S - C)+

    A = 4 * batch * saved     activations, written in the forward pass and read in the backward one
    G = 4 * parameters        gradients, written in the backward pass and read by the optimiser
    S = 4 * 2 * parameters    weights and momentum, read and written by a step
    C = cache                 bytes that need not leave the last cache; 0 counts everything

    x+ = max(x, 0). The three wait at different moments (between the passes, after them, between two steps),
    so each may fill the whole cache. Numbers computed and used at once are not counted, nor are the images.
    """
    activations = FLOAT_BYTES * batch * work.saved
    gradients = FLOAT_BYTES * work.parameters
    learned = 2 * gradients
    return sum(2 * max(0, size - cache) for size in (activations, gradients, learned))


def roofline_seconds(
    work: Work, images: int, batch: int, *, rate: float, bandwidth: float, cache: int = 0
) -> float:
    """Return the least seconds of an epoch: max(operations / rate, bytes / bandwidth).

    images: of the epoch, its last batch counted as the part it is.   rate: operations a second.
    bandwidth: bytes read and written a second.   cache: see `step_bytes`.
    """
    moved = step_bytes(work, batch, cache=cache) * images / batch
    return max(work.operations * images / rate, moved / bandwidth)
