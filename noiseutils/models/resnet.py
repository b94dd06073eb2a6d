"""Residual networks for small images: He et al., *Deep residual learning for image recognition*, 2016.

Parameters are named as in torchvision's ResNet, so weights pass from one to the other except for the stem's.
"""

from __future__ import annotations

from torch import Tensor, nn

from noiseutils.models.sizes import scaled


class BasicBlock(nn.Module):
    """conv1 3x3 - bn1 - relu1 - conv2 3x3 - bn2, plus the input - relu2   (He et al., figure 2).

    (N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride)). Where the shape changes,
    the input passes through `downsample`, a 1x1 convolution and a BatchNorm (option B).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )
        # a ReLU each, where torchvision runs one twice: each place in the network keeps its own name
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(x)) + shortcut)


class ResNet(nn.Module):
    """conv1 3x3 - bn1 - relu - layer1 ... - avgpool - fc; layer i + 1 is `blocks[i]` blocks of `channels[i]`.

    The CIFAR stem: no stride and no max-pool; from `layer2` on, each layer halves the image. Any image size
    will do. Weights of convolutions: He et al. 2015, normal, fan-out, as torchvision's.
    """

    def __init__(
        self, blocks: tuple[int, ...], channels: tuple[int, ...], num_classes: int, in_channels: int
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
            layer = nn.Sequential(*(BasicBlock(n, size, s) for n, s in zip(inputs, strides, strict=True)))
            self.layers.append(f"layer{i}")
            self.add_module(f"layer{i}", layer)
            previous = size
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(previous, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        for name in self.layers:
            x = getattr(self, name)(x)
        return self.fc(self.flatten(self.avgpool(x)))


def resnet18(num_classes: int, in_channels: int, image_size: int, width: float) -> nn.Module:
    """ResNet-18 with the CIFAR stem: (N, in_channels, image_size, image_size) to logits (N, num_classes).

    conv1 64 - bn1 - relu - layer1 2 x 64 - layer2 2 x 128 - layer3 2 x 256 - layer4 2 x 512 - avgpool -
    flatten - fc. 11,173,962 parameters with 3 channels and 10 classes, as Logean & Feillard, II-B4, say: that
    count is the CIFAR stem's. Any image size will do.
    """
    channels = tuple(scaled(size, width) for size in (64, 128, 256, 512))
    return ResNet((2, 2, 2, 2), channels, num_classes, in_channels)
