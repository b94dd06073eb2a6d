"""The least time that a training epoch can take, by formula: what must be computed, and what must be moved.

    floor = max(operations / peak rate, bytes / bandwidth)

Rate and bandwidth are those that a machine has been seen to reach. An epoch's share of its floor, floor over
measured seconds, says how much is left to win; it stays below one as long as the rate is the machine's best.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from noiseutils.errors import UserError
from noiseutils.models import build_model

FLOAT = 4  # bytes of a weight, a gradient and a number of the optimiser's state
COUNTED = (nn.Conv2d, nn.Linear, _BatchNorm)  # what has parameters; anything else that does is refused


@dataclass(frozen=True)
class Work:
    """What one training step asks for. The first three are of one image.

    forward: multiply-adds of convolutions and dense layers. A bias, a BatchNorm, a ReLU and a pool are
    not counted: they are bound by what they move.
    backward: multiply-adds of the weights' gradients, as many as forward, and of the inputs' gradients, as
    many again, but for a layer whose input needs none: the first.
    saved: numbers that wait from the forward pass for the backward one: the inputs of convolutions, dense
    layers and BatchNorms, each tensor once however many layers read it. A ReLU keeps its sign in the input of
    the next layer, a pool a few bits a number: both are left out.
    parameters: numbers to learn, of the whole network.
    """

    forward: int
    backward: int
    saved: int
    parameters: int

    @property
    def operations(self) -> int:
        """Floating-point operations an image, forward and backward: two a multiply-add."""
        return 2 * (self.forward + self.backward)


def work_of(model: nn.Module, channels: int = 3, image_size: int = 32) -> Work:
    """Count a network's work on images (channels, image_size, image_size); nothing is computed.

    model: on the meta device, in training mode.   Raises UserError where a module has parameters and is no
    convolution, dense layer or BatchNorm.
    """
    forward = backward = 0
    saved: dict[int, Tensor] = {}  # by identity; the tensors are kept so that no identity is used again

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal forward, backward
        (x,) = inputs
        saved[id(x)] = x
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            # each output is a sum over one filter, or one row, of the weights
            adds = output.numel() * (module.weight.numel() // len(module.weight))
            forward += adds
            backward += adds * (1 + x.requires_grad)

    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, COUNTED):
            hooks.append(module.register_forward_hook(count))
        elif any(True for _ in module.parameters(recurse=False)):
            raise UserError(f"no formula for the work of {type(module).__name__} ({name or 'the model'})")
    images = 2  # BatchNorm trains on no fewer
    try:
        model(torch.empty(images, channels, image_size, image_size, device="meta"))
    finally:
        for hook in hooks:
            hook.remove()
    numbers = sum(x.numel() for x in saved.values())
    parameters = sum(p.numel() for p in model.parameters())
    return Work(forward // images, backward // images, numbers // images, parameters)


@functools.cache
def work_of_named(name: str, **options: float) -> Work:
    """The same of an entry of `MODELS`; options as `build_model` takes them."""
    with torch.device("meta"):
        model = build_model(name, **options)  # pyright: ignore[reportArgumentType]
    return work_of(model, int(options.get("in_channels", 3)), int(options.get("image_size", 32)))


@functools.cache
def outputs_of_named(name: str, width: float, channels: int, image_size: int) -> int:
    """Numbers that the layers of a network put out for one image: what a step keeps goes with it.

    Counted in a pass on the CPU, as every training asks; the meta device takes seconds to be imported.
    """
    found = 0

    def count(module: nn.Module, inputs: object, output: Tensor) -> None:
        nonlocal found
        found += output.numel()

    net = build_model(name, in_channels=channels, image_size=image_size, width=width).eval()
    for module in net.modules():
        if not list(module.children()):
            module.register_forward_hook(count)
    with torch.no_grad():
        net(torch.zeros(1, channels, image_size, image_size))
    return found


def step_bytes(work: Work, batch: int, *, cache: int = 0, states: int = 1, element: int = FLOAT) -> int:
    """Bytes that a step must at least write and read:   2 (A - C)+ + 2 (G - C)+ + 2 (S - C)+

    A = batch * saved * element   activations, written in the forward pass and read in the backward one
    G = 4 * parameters            gradients, written in the backward pass and read by the optimiser
    S = 4 * parameters * (1 + states)   weights and optimiser state, read and written by a step
    C = cache                     bytes that need not leave the last cache; 0 counts everything

    x+ = max(x, 0). The three wait at different moments (between the passes, after them, between two steps),
    so each may fill the whole cache. What is computed and used at once is not counted, nor are the images.

    states: numbers that the optimiser keeps a parameter: momentum 1, Adam 2.   element: bytes of a saved
    number: 4, or 2 in bfloat16.
    """
    activations = batch * work.saved * element
    gradients = FLOAT * work.parameters
    learned = FLOAT * work.parameters * (1 + states)
    return sum(2 * max(0, size - cache) for size in (activations, gradients, learned))


def floor_seconds(
    work: Work,
    images: int,
    batch: int,
    *,
    rate: float,
    bandwidth: float,
    cache: int = 0,
    states: int = 1,
    element: int = FLOAT,
) -> float:
    """Seconds that an epoch takes at least: max(operations / rate, bytes / bandwidth).

    images: of the epoch, its last batch counted as the part it is.   rate: operations a second.
    bandwidth: bytes read and written a second.   cache, states, element: see `step_bytes`.
    """
    moved = step_bytes(work, batch, cache=cache, states=states, element=element) * images / batch
    return max(work.operations * images / rate, moved / bandwidth)
