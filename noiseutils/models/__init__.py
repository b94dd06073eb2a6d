"""Build the papers' networks, one family a file: `MODELS` lists them, `build_model` makes one from a seed.

A network here knows nothing of noise: the network has no dropout and draws nothing once built. Every place
where noise may go is a module with a name of its own that runs once in a forward pass, so that
`attach(model, noise, after="relu3")` is unambiguous. No ReLU works in place, but each could: nothing else
reads a ReLU's input (see `noiseutils.models.modes.overwriting`).
"""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import torch
from torch import nn

from noiseutils.errors import UserError, clipped, one_of
from noiseutils.models.alexnet import alexnet
from noiseutils.models.cifar10net import cifar10net
from noiseutils.models.custom_cnns import babycnn, simplecnn, tinycnn
from noiseutils.models.lenet import lenet5
from noiseutils.models.mobilenet import mobilenet, mobilenet_v2
from noiseutils.models.modules import module_inception, module_resnet, module_resnext
from noiseutils.models.pyramidnet import pyramidnet48, pyramidnet270
from noiseutils.models.resnet import resnet18, resnet20, resnet34, resnet56
from noiseutils.models.vgg import vgg11, vgg16
from noiseutils.rng import seeded
from noiseutils.spec import LARGEST_SIDE, THINNEST, WIDEST

__all__ = ["MODELS", "build_model"]

MOST_CLASSES = 1_000_000
MOST_WEIGHTS = 10**9  # 4 GB in float32, and gradients and momentum as much again
# up to these sizes every network has fewer; beyond them its weights are counted before they are made
USUAL_SIZES = {"num_classes": 1000, "in_channels": 4, "image_size": 224, "width": 1.0}

# each takes (num_classes, in_channels, image_size, width)
MODELS: dict[str, Callable[[int, int, int, float], nn.Module]] = {
    "lenet5": lenet5,
    "alexnet": alexnet,
    "cifar10net": cifar10net,
    "babycnn": babycnn,
    "tinycnn": tinycnn,
    "simplecnn": simplecnn,
    "resnet18": resnet18,
    "resnet34": resnet34,
    "resnet20": resnet20,
    "resnet56": resnet56,
    "vgg11": vgg11,
    "vgg16": vgg16,
    "mobilenet": mobilenet,
    "mobilenet_v2": mobilenet_v2,
    "pyramidnet48": pyramidnet48,
    "pyramidnet270": pyramidnet270,
    "module_resnet": module_resnet,
    "module_inception": module_inception,
    "module_resnext": module_resnext,
}


def build_model(
    name: str,
    num_classes: int = 10,
    in_channels: int = 3,
    image_size: int = 32,
    width: float = 1.0,
    seed: int = 0,
) -> nn.Module:
    """Build a network in float32 on the CPU, its weights drawn from `seed` alone.

    The network takes images (N, in_channels, image_size, image_size) in any normalisation and memory format
    and returns logits (N, num_classes). `width` scales every hidden layer, convolutional and dense: size
    times width, rounded to the nearest (halves up), at least 1; 1.0 is the paper's width. Torch's global
    generator is left as it was. Raises `UserError` for a name that is not in `MODELS`, a size that is not a
    whole number from 1 to some thousands, a width outside 1e-6 … 16, an image too small for the pools, and
    sizes that make more than `MOST_WEIGHTS` weights.
    """
    if name not in tuple(MODELS):  # a list has no hash
        raise one_of("model", name, MODELS)
    for what, value, most in (
        ("num_classes", num_classes, MOST_CLASSES),
        ("in_channels", in_channels, LARGEST_SIDE),
        ("image_size", image_size, LARGEST_SIDE),
    ):
        if isinstance(value, bool) or not isinstance(value, Integral) or not 1 <= value <= most:
            raise UserError(
                f"{what} {clipped(value)} of model {name!r} is not allowed; it must be at least 1 and at "
                f"most {most:,}, a whole number"
            )
    if isinstance(width, bool) or not isinstance(width, Real) or not THINNEST <= width <= WIDEST:
        raise UserError(
            f"width {clipped(width)} of model {name!r} is not allowed; it must be positive and finite, from "
            f"{THINNEST:g} to {WIDEST:g}"
        )
    sizes = {"num_classes": num_classes, "in_channels": in_channels, "image_size": image_size, "width": width}
    if any(sizes[what] > most for what, most in USUAL_SIZES.items()):
        _require_memory(name, sizes)
    with seeded(seed):
        return MODELS[name](num_classes, in_channels, image_size, width)


def _require_memory(name: str, sizes: dict[str, Any]) -> None:
    """Raise UserError if a network of these sizes has too many weights; makes none of them."""
    with torch.device("meta"):
        count = sum(weight.numel() for weight in MODELS[name](*sizes.values()).parameters())
    if count > MOST_WEIGHTS:
        given = ", ".join(f"{what} {size}" for what, size in sizes.items())
        raise UserError(
            f"model {name!r} with {given} has {count:,} weights; allowed: up to {MOST_WEIGHTS:,}. "
            "Wide layers and large images make most of them"
        )
