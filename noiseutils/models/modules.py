"""Three modules and the networks of them: Bartschat et al., *Robustness of Deep Learning Architectures with
Respect to Training Data Variation*, section 2.2 and Figure 2.

A module takes `channels` maps to as many, and its convolutions have, at the paper's 256 maps, as many weights
as the paper counts: 69,632 (ResNet), 192,512 (Inception), 70,144 (ResNeXt). A convolution block is a
convolution, a ReLU and a BatchNorm, in the paper's order; the counts leave no room for biases.

The paper prints the Inception module's total and not its widths. With the 5x5 as two 3x3, as in Inception-v3
(its reference 8), and powers of two for every width, six splits have that total; the one with equally many
maps from all four paths is taken here:

    1x1                      256 -> 64                  16,384
    3x3                      256 -> 128 -> 64          106,496
    5x5, as two 3x3          256 -> 64 -> 32 -> 64      53,248
    max-pool 3x3, then 1x1   256 -> 64                  16,384
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from noiseutils.errors import UserError
from noiseutils.models.sizes import require_image_size, scaled
from noiseutils.models.weights import draw_he_normal

RESNEXT_PATHS = 32  # paths of the ResNeXt module


class ConvBlock(nn.Module):
    """Apply conv - relu - bn: (N, in_channels, H, W) to (N, out_channels, H, W)."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, padding=kernel // 2, groups=groups, bias=False
        )
        self.relu = nn.ReLU()
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.relu(self.conv(x)))


class Residual(nn.Module):
    """Add a branch to its input: x + branch(x), both (N, C, H, W)."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class Paths(nn.Module):
    """Apply several paths to the same input, and concatenate their maps."""

    def __init__(self, **paths: nn.Module) -> None:
        super().__init__()
        self.names = list(paths)
        for name, path in paths.items():
            self.add_module(name, path)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([getattr(self, name)(x) for name in self.names], dim=1)


def resnet_module(channels: int) -> nn.Module:
    """Build a bottleneck: 1x1 to a quarter of the maps, 3x3, 1x1 back, plus the input; keeps (N, C, H, W)."""
    inner = max(1, channels // 4)
    return Residual(
        nn.Sequential(
            ConvBlock(channels, inner, 1), ConvBlock(inner, inner, 3), ConvBlock(inner, channels, 1)
        )
    )


def inception_module(channels: int) -> nn.Module:
    """Build four paths of a quarter of the maps each, plus the input; keeps (N, C, H, W).

    Raises `UserError` below 4 maps.
    """
    if channels < 4:
        raise UserError(f"an Inception module of {channels} maps has none for each of its 4 paths")
    half, quarter, eighth = channels // 2, channels // 4, max(1, channels // 8)
    one = channels - 3 * quarter  # the rest, where 4 does not divide the maps
    return Residual(
        Paths(
            one=ConvBlock(channels, one, 1),
            three=nn.Sequential(ConvBlock(channels, half, 1), ConvBlock(half, quarter, 3)),
            five=nn.Sequential(
                ConvBlock(channels, quarter, 1),
                ConvBlock(quarter, eighth, 3),
                ConvBlock(eighth, quarter, 3),
            ),
            pool=nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), ConvBlock(channels, quarter, 1)),
        )
    )


def resnext_module(channels: int) -> nn.Module:
    """Build 32 bottlenecks side by side, each of channels / 64 maps, plus the input; keeps (N, C, H, W).

    All paths are one grouped convolution, and the last 1x1 sums over the paths: its ReLU and BatchNorm
    come after the sum, as in the paper's reference 10, and not in each path.
    """
    inner = RESNEXT_PATHS * max(1, channels // 64)
    return Residual(
        nn.Sequential(
            ConvBlock(channels, inner, 1),
            ConvBlock(inner, inner, 3, groups=RESNEXT_PATHS),
            ConvBlock(inner, channels, 1),
        )
    )


MODULES: dict[str, Callable[[int], nn.Module]] = {
    "resnet": resnet_module,
    "inception": inception_module,
    "resnext": resnext_module,
}


class ModuleNet(nn.Module):
    """Apply pre1 - pre2 - 3 x (module - pool) - post - flatten - fc.

    pre1, pre2, post: convolution blocks 3x3.   module1 ... module3: of one kind, each followed by a 2x2
    max-pool.   Weights of convolutions: He et al. 2015, normal, fan-out.
    """

    def __init__(
        self,
        module: Callable[[int], nn.Module],
        channels: tuple[int, int],
        num_classes: int,
        in_channels: int,
        image_size: int,
    ) -> None:
        super().__init__()
        first, maps = channels
        self.pre1 = ConvBlock(in_channels, first, 3)
        self.pre2 = ConvBlock(first, maps, 3)
        self.module1, self.pool1 = module(maps), nn.MaxPool2d(2)
        self.module2, self.pool2 = module(maps), nn.MaxPool2d(2)
        self.module3, self.pool3 = module(maps), nn.MaxPool2d(2)
        self.post = ConvBlock(maps, maps, 3)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(maps * (image_size // 8) ** 2, num_classes)
        draw_he_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pre2(self.pre1(x))
        x = self.pool1(self.module1(x))
        x = self.pool2(self.module2(x))
        x = self.pool3(self.module3(x))
        return self.fc(self.flatten(self.post(x)))


def module_resnet(num_classes: int, in_channels: int, image_size: int, width: float) -> nn.Module:
    """Build a net of ResNet modules: (N, in_channels, image_size, image_size) to logits (N, num_classes).

    pre1 64 - pre2 256 - 3 x (module 256 - pool) - post 256 - flatten - fc: the paper gives the modules' 256
    maps alone. 992,330 parameters at 3x32x32, 10 classes. Raises `UserError` below 8 pixels a side.
    """
    return _net("resnet", num_classes, in_channels, image_size, width)


def module_inception(num_classes: int, in_channels: int, image_size: int, width: float) -> nn.Module:
    """Build a net of Inception modules, as `module_resnet`. 1,361,546 parameters at 3x32x32, 10 classes."""
    return _net("inception", num_classes, in_channels, image_size, width)


def module_resnext(num_classes: int, in_channels: int, image_size: int, width: float) -> nn.Module:
    """Build a net of ResNeXt modules, as `module_resnet`. 994,634 parameters at 3x32x32, 10 classes."""
    return _net("resnext", num_classes, in_channels, image_size, width)


def _net(name: str, num_classes: int, in_channels: int, image_size: int, width: float) -> nn.Module:
    require_image_size(f"module_{name}", image_size, smallest=8)
    channels = scaled(64, width), max(4, scaled(256, width))  # no path of a module without a map
    return ModuleNet(MODULES[name], channels, num_classes, in_channels, image_size)
