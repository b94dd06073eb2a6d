"""BabyCNN, TinyCNN, SimpleCNN: Logean & Feillard, *Effect of Adaptive Noise Injection in CNN Training*, II-B.

All three are convolutions 3x3 with padding 1, each followed by a ReLU and a 2x2 max-pool, then dense layers
with a ReLU between them; they differ in number and width alone. Modules: `conv1`, `relu1`, `pool1`, `conv2`,
..., `flatten`, `fc1`, the next `relu`, `fc2`, ...
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

from torch import nn

from noiseutils.models.plain import PlainCnn
from noiseutils.models.sizes import require_image_size, scaled


def babycnn(num_classes: int, in_channels: int, image_size: int, width: float) -> nn.Module:
    """Build BabyCNN (II-B1): (N, in_channels, image_size, image_size) to logits (N, num_classes).

    conv1 8 - relu1 - pool1 - flatten - fc1. 20,714 parameters at 3x32x32, 10 classes, as the paper says.

    Raises `UserError` below 2 pixels a side.
    """
    require_image_size("babycnn", image_size, smallest=2)
    return _plain((8,), (), num_classes, in_channels, image_size, width)


def tinycnn(num_classes: int, in_channels: int, image_size: int, width: float) -> nn.Module:
    """Build TinyCNN (II-B2): (N, in_channels, image_size, image_size) to logits (N, num_classes).

    conv1 32 - relu1 - pool1 - conv2 64 - relu2 - pool2 - flatten - fc1 128 - relu3 - fc2. 545,098 parameters
    at 3x32x32, 10 classes, as the paper says.

    Raises `UserError` below 4 pixels a side.
    """
    require_image_size("tinycnn", image_size, smallest=4)
    return _plain((32, 64), (128,), num_classes, in_channels, image_size, width)


def simplecnn(num_classes: int, in_channels: int, image_size: int, width: float) -> nn.Module:
    """Build SimpleCNN (II-B3): (N, in_channels, image_size, image_size) to logits (N, num_classes).

    conv1 256 - relu1 - pool1 - conv2 512 - relu2 - pool2 - conv3 512 - relu3 - pool3 - flatten - fc1 2048 -
    relu4 - fc2 1024 - relu5 - fc3 512 - relu6 - fc4. 22,954,506 parameters at 3x32x32, 10 classes, as the
    paper says.

    Raises `UserError` below 8 pixels a side.
    """
    require_image_size("simplecnn", image_size, smallest=8)
    return _plain((256, 512, 512), (2048, 1024, 512), num_classes, in_channels, image_size, width)


def _plain(
    convs: tuple[int, ...],
    dense: tuple[int, ...],
    num_classes: int,
    in_channels: int,
    image_size: int,
    width: float,
) -> nn.Module:
    channels = [in_channels, *(scaled(size, width) for size in convs)]
    side = image_size // 2 ** len(convs)
    units = [channels[-1] * side * side, *(scaled(size, width) for size in dense)]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, (before, after) in enumerate(pairwise(channels), 1):
        layers[f"conv{i}"] = nn.Conv2d(before, after, 3, padding=1)
        layers[f"relu{i}"] = nn.ReLU()
        layers[f"pool{i}"] = nn.MaxPool2d(2)
    layers["flatten"] = nn.Flatten()
    for i, (before, after) in enumerate(pairwise(units), 1):
        layers[f"fc{i}"] = nn.Linear(before, after)
        layers[f"relu{len(convs) + i}"] = nn.ReLU()
    layers[f"fc{len(units)}"] = nn.Linear(units[-1], num_classes)
    return PlainCnn(layers)
