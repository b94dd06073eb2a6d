"""MobileNets for small images.

Howard et al., *MobileNets: efficient convolutional neural networks for mobile vision applications*, 2017;
Sandler et al., *MobileNetV2: inverted residuals and linear bottlenecks*, 2018. You et al., *Adversarial Noise
Layer*, Table 3, train both on CIFAR.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from noiseutils.models.sizes import scaled


class DepthwiseSeparable(nn.Module):
    """Apply depthwise 3x3 - bn1 - relu1 - pointwise 1x1 - bn2 - relu2   (Howard et al., figure 3).

    (N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.depthwise = _depthwise(in_channels, stride)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU()
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.bn1(self.depthwise(x)))
        return self.relu2(self.bn2(self.pointwise(x)))


class InvertedResidual(nn.Module):
    """Apply expand 1x1 - bn1 - relu1 - depthwise 3x3 - bn2 - relu2 - project 1x1 - bn3.

    Sandler et al., table 1. (N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W /
    stride)). At stride 1 the input is added to the output; `projected`, it passes through `shortcut` first,
    a 1x1 convolution and a BatchNorm.
    """

    def __init__(
        self, in_channels: int, hidden: int, out_channels: int, stride: int, projected: bool
    ) -> None:
        super().__init__()
        self.expand = nn.Conv2d(in_channels, hidden, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.relu1 = nn.ReLU()
        self.depthwise = _depthwise(hidden, stride)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.relu2 = nn.ReLU()
        self.project = nn.Conv2d(hidden, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.residual = stride == 1
        self.shortcut = None
        if projected:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu1(self.bn1(self.expand(x)))
        out = self.relu2(self.bn2(self.depthwise(out)))
        out = self.bn3(self.project(out))
        if not self.residual:
            return out
        return out + (x if self.shortcut is None else self.shortcut(x))


def mobilenet(num_classes: int, in_channels: int, image_size: int, width: float) -> nn.Module:
    """Build MobileNet v1: (N, in_channels, image_size, image_size) to logits (N, num_classes).

    conv1 3x3, 32 - bn1 - relu1 - block1 64 - block2 128, stride 2 - block3 128 - block4 256, stride 2 -
    block5 256 - block6 512, stride 2 - block7 to block11 512 - block12 1024, stride 2 - block13 1024 -
    avgpool - flatten - fc. 3,217,226 parameters with 3 channels and 10 classes. Any image size will do.

    The CIFAR form: `conv1` has stride 1 where Howard et al. have 2, so 32 pixels come down to 2 and not to 1.
    The nonlinearity is their ReLU.
    """
    sizes = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
    halving = (2, 4, 6, 12)
    before = scaled(32, width)
    layers = _stem(in_channels, before)
    for i, size in enumerate(sizes, 1):
        after = scaled(size, width)
        layers[f"block{i}"] = DepthwiseSeparable(before, after, 2 if i in halving else 1)
        before = after
    return _with_head(layers, before, num_classes)


def mobilenet_v2(num_classes: int, in_channels: int, image_size: int, width: float) -> nn.Module:
    """Build MobileNetV2: (N, in_channels, image_size, image_size) to logits (N, num_classes).

    conv1 3x3, 32 - bn1 - relu1 - block1 16 - blocks 2, 3: 24 - blocks 4 to 6: 32 - blocks 7 to 10: 64 -
    blocks 11 to 13: 96 - blocks 14 to 16: 160 - block17 320 - conv2 1x1, 1280 - bn2 - relu2 - avgpool -
    flatten - fc. Each block is six times as wide inside as its input, the first just as wide. 2,296,922
    parameters with 3 channels and 10 classes. Any image size will do.

    The CIFAR form: `conv1` and block2 have stride 1 where Sandler et al. have 2; blocks 4, 7 and 14 keep
    their stride of 2, so 32 pixels come down to 4.

    You et al. give 2.3 million parameters. Sandler et al.'s own network has 2,236,682 at 10 classes, 2.2
    million. The 60,240 more are what the code released with You et al. has in four `shortcut` projections, at
    each block of stride 1 whose number of channels changes (1, 2, 11, 17), and in block1's `expand`, which an
    expansion by one could do without. Both are kept here, and so is that code's ReLU, where Sandler et al.
    have ReLU6. Dropout before `fc` is for the caller to attach, after `flatten`.
    """
    # expansion, channels, blocks, stride of the first of them
    stages = (
        (1, 16, 1, 1),
        (6, 24, 2, 1),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )
    before = 32
    layers = _stem(in_channels, scaled(before, width))
    blocks = [(t, c, stride if i == 0 else 1) for t, c, n, stride in stages for i in range(n)]
    for i, (expansion, after, stride) in enumerate(blocks, 1):
        inside = scaled(expansion * before, width)
        # asked of the full sizes, so that no width changes which modules there are
        projected = stride == 1 and before != after
        layers[f"block{i}"] = InvertedResidual(
            scaled(before, width), inside, scaled(after, width), stride, projected
        )
        before = after
    last = scaled(1280, width)
    layers["conv2"] = nn.Conv2d(scaled(before, width), last, 1, bias=False)
    layers["bn2"] = nn.BatchNorm2d(last)
    layers["relu2"] = nn.ReLU()
    return _with_head(layers, last, num_classes)


def _depthwise(channels: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, stride=stride, padding=1, groups=channels, bias=False)


def _stem(in_channels: int, channels: int) -> OrderedDict[str, nn.Module]:
    return OrderedDict(
        conv1=nn.Conv2d(in_channels, channels, 3, padding=1, bias=False),
        bn1=nn.BatchNorm2d(channels),
        relu1=nn.ReLU(),
    )


def _with_head(layers: OrderedDict[str, nn.Module], channels: int, num_classes: int) -> nn.Module:
    layers["avgpool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(channels, num_classes)
    return nn.Sequential(layers)
