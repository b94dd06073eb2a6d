"""PyramidNet: Han, Kim & Kim, *Deep pyramidal residual networks*, 2017, widened additively.

You et al., *Adversarial Noise Layer*, Table 3, train a PyramidNet-48 and a PyramidNet-270 and do not
explain the numbers. The numbers are read here as the widening factor alpha: no PyramidNet has 48 or 270
layers (a depth is 6 n + 2, or 9 n + 2 with bottlenecks), while alpha = 48 and alpha = 270, both at depth
110, are the smallest and the largest additive basic-block networks in Han et al.'s table for CIFAR.
"""

from __future__ import annotations

from torch import Tensor, nn

from noiseutils.models.resnet import ZeroChannels
from noiseutils.models.sizes import scaled
from noiseutils.models.weights import draw_he_normal


class PyramidBlock(nn.Module):
    """Apply bn1 - conv1 3x3 - bn2 - relu - conv2 3x3 - bn3, plus the input   (Han et al., figure 6d).

    (N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride)), with `out_channels` at
    least `in_channels`. There is no ReLU after the sum. The input gets the channels that it lacks as zeros,
    from `pad`; where the image is halved, the mean over each 2x2 square comes first, as in the authors' code.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        # the last row or column of an odd image is a mean over the pixels there are
        self.pool = None if stride == 1 else nn.AvgPool2d(stride, ceil_mode=True)
        self.pad = ZeroChannels(out_channels - in_channels)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.pad(x if self.pool is None else self.pool(x))
        x = self.relu(self.bn2(self.conv1(self.bn1(x))))
        return self.bn3(self.conv2(x)) + shortcut


class PyramidNet(nn.Module):
    """Apply conv1 3x3 - bn1 - layer1 - layer2 - layer3 - bn2 - relu - avgpool - flatten - fc.

    A layer is `blocks` blocks; layers 2 and 3 halve the image in their first. Block k of the 3 `blocks` = N
    has floor(16 + alpha k / N) channels, times `width`: Han et al.'s additive widening, its sum rounded down
    once, not at each step, which would never widen alpha = 48. Weights of convolutions: He et al. 2015,
    normal, fan-out, as the authors'.
    """

    def __init__(self, blocks: int, alpha: int, num_classes: int, in_channels: int, width: float) -> None:
        super().__init__()
        sizes = [scaled(16 + alpha * k // (3 * blocks), width) for k in range(3 * blocks + 1)]
        self.conv1 = nn.Conv2d(in_channels, sizes[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(sizes[0])
        layers: list[nn.Sequential] = []
        for first in range(0, 3 * blocks, blocks):
            strides = [1 if first == 0 else 2] + [1] * (blocks - 1)
            layers.append(
                nn.Sequential(
                    *(PyramidBlock(sizes[first + i], sizes[first + i + 1], s) for i, s in enumerate(strides))
                )
            )
        self.layer1, self.layer2, self.layer3 = layers
        self.bn2 = nn.BatchNorm2d(sizes[-1])
        self.relu = nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(sizes[-1], num_classes)
        draw_he_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.bn1(self.conv1(x)))))
        return self.fc(self.flatten(self.avgpool(self.relu(self.bn2(x)))))


def pyramidnet48(num_classes: int, in_channels: int, image_size: int, width: float) -> nn.Module:
    """Build PyramidNet-110, alpha = 48: (N, in_channels, image_size, image_size) to logits (N, num_classes).

    conv1 16 - bn1 - layer1 to layer3, 18 blocks each, 16 channels rising to 64 - bn2 - relu - avgpool -
    flatten - fc. 1,739,730 parameters with 3 channels and 10 classes; Han et al. print 1.7 million. Their
    code rounds the channels to the nearest where the equation of their paper, taken here, rounds down: that
    would be 1,772,706. Any image size will do. See the module's docstring for why 48 is alpha.
    """
    return PyramidNet(18, 48, num_classes, in_channels, width)


def pyramidnet270(num_classes: int, in_channels: int, image_size: int, width: float) -> nn.Module:
    """Build PyramidNet-110, alpha = 270: (N, in_channels, image_size, image_size) to logits (N, num_classes).

    As `pyramidnet48`, each block 5 channels wider than the last, up to 286. 28,485,477 parameters with 3
    channels and 10 classes; Han et al. print 28.3 million, and the 286. Any image size will do.
    """
    return PyramidNet(18, 270, num_classes, in_channels, width)
