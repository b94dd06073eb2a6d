"""Residual networks for small images: He et al., *Deep residual learning for image recognition*, 2016.

Parameters are named as in torchvision's ResNet, so weights pass from one to the other except for the stem's.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from noiseutils.models.sizes import scaled
from noiseutils.models.weights import draw_he_normal

VECTOR_LANES = 16  # of the widest registers, in float32: fewer channels than that do not fill oneDNN's blocks


class ZeroChannels(nn.Module):
    """Append `extra` channels of zeros: (N, C, H, W) to (N, C + extra, H, W)."""

    def __init__(self, extra: int) -> None:
        super().__init__()
        self.extra = extra

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, 0, 0, self.extra))

    def extra_repr(self) -> str:
        return f"extra={self.extra}"


def padded(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Build He et al.'s option A: every `stride`-th pixel of the input, zeros for the new channels."""
    return nn.Sequential(nn.AvgPool2d(1, stride=stride), ZeroChannels(out_channels - in_channels))


class Projection(nn.Conv2d):
    """Convolve every s-th pixel with a 1x1 kernel: (N, C, H, W) to (N, C', ceil(H / s), ceil(W / s)).

    Of few channels, the pixels are taken first: there oneDNN, which skips pixels itself, writes beyond its
    memory for the gradient of the weights, in the channels-last layout (uxlfoundation/oneDNN#6035; torch 2.13
    has oneDNN 3.12). On CPUs with AVX2 processes died of that.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__(in_channels, out_channels, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.in_channels >= VECTOR_LANES:
            return super().forward(x)
        rows, columns = self.stride
        return F.conv2d(x[:, :, ::rows, ::columns], self.weight)


def projection(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Build He et al.'s option B: a 1x1 convolution and a BatchNorm."""
    return nn.Sequential(Projection(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels))


class BasicBlock(nn.Module):
    """Apply conv1 3x3 - bn1 - relu1 - conv2 3x3 - bn2, plus the input - relu2   (He et al., figure 2).

    (N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride)). Where the shape changes,
    the input passes through `downsample`, which is `shortcut(in_channels, out_channels, stride)`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        shortcut: Callable[[int, int, int], nn.Module] = projection,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = shortcut(in_channels, out_channels, stride)
        # a ReLU each, where torchvision runs one twice: each place in the network keeps its own name
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu1(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        # where ReLUs overwrite their inputs, so may the sum before a ReLU
        return self.relu2(x.add_(shortcut) if self.relu2.inplace else x + shortcut)


class ResNet(nn.Module):
    """Apply conv1 3x3 - bn1 - relu - layer1 ... - avgpool - fc.

    Layer i + 1 is `blocks[i]` blocks of `channels[i]`. The CIFAR stem: no stride and no max-pool; from
    `layer2` on, each layer halves the image. Any image size will do. Weights of convolutions: He et al.
    2015, normal, fan-out, as torchvision's.
    """

    def __init__(
        self,
        blocks: tuple[int, ...],
        channels: tuple[int, ...],
        num_classes: int,
        in_channels: int,
        shortcut: Callable[[int, int, int], nn.Module] = projection,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0])
        self.relu = nn.ReLU()
        self.layers: list[str] = []
        previous = channels[0]
        for i, (depth, size) in enumerate(zip(blocks, channels, strict=True), 1):
            strides = [1 if i == 1 else 2] + [1] * (depth - 1)
            inputs = [previous] + [size] * (depth - 1)
            layer = nn.Sequential(
                *(BasicBlock(n, size, s, shortcut) for n, s in zip(inputs, strides, strict=True))
            )
            self.layers.append(f"layer{i}")
            self.add_module(f"layer{i}", layer)
            previous = size
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(previous, num_classes)
        draw_he_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        for name in self.layers:
            x = getattr(self, name)(x)
        return self.fc(self.flatten(self.avgpool(x)))


def resnet18(num_classes: int, in_channels: int, image_size: int, width: float) -> nn.Module:
    """Build ResNet-18, CIFAR stem: (N, in_channels, image_size, image_size) to logits (N, num_classes).

    conv1 64 - bn1 - relu - layer1 2 x 64 - layer2 2 x 128 - layer3 2 x 256 - layer4 2 x 512 - avgpool -
    flatten - fc. 11,173,962 parameters with 3 channels and 10 classes, as Logean & Feillard, II-B4, say: that
    count is the CIFAR stem's. Any image size will do.
    """
    channels = tuple(scaled(size, width) for size in (64, 128, 256, 512))
    return ResNet((2, 2, 2, 2), channels, num_classes, in_channels)


def resnet34(num_classes: int, in_channels: int, image_size: int, width: float) -> nn.Module:
    """Build ResNet-34, CIFAR stem: (N, in_channels, image_size, image_size) to logits (N, num_classes).

    As `resnet18`, with layers of 3, 4, 6 and 3 blocks. 21,282,122 parameters with 3 channels and 10 classes.
    Any image size will do.
    """
    channels = tuple(scaled(size, width) for size in (64, 128, 256, 512))
    return ResNet((3, 4, 6, 3), channels, num_classes, in_channels)


def resnet20(num_classes: int, in_channels: int, image_size: int, width: float) -> nn.Module:
    """Build ResNet-20: (N, in_channels, image_size, image_size) to logits (N, num_classes).

    conv1 16 - bn1 - relu - layer1 3 x 16 - layer2 3 x 32 - layer3 3 x 64 - avgpool - flatten - fc, with
    shortcuts of option A throughout (He et al., section 4.2). 269,722 parameters with 3 channels and 10
    classes: their 0.27 million. Any image size will do.
    """
    channels = tuple(scaled(size, width) for size in (16, 32, 64))
    return ResNet((3, 3, 3), channels, num_classes, in_channels, shortcut=padded)


def resnet56(num_classes: int, in_channels: int, image_size: int, width: float) -> nn.Module:
    """Build ResNet-56: (N, in_channels, image_size, image_size) to logits (N, num_classes).

    As `resnet20`, with 9 blocks a layer. 853,018 parameters with 3 channels and 10 classes: He et al.'s 0.85
    million. Any image size will do.
    """
    channels = tuple(scaled(size, width) for size in (16, 32, 64))
    return ResNet((9, 9, 9), channels, num_classes, in_channels, shortcut=padded)
