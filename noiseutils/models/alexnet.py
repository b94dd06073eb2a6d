"""AlexNet, for large images and cut down for small ones.

Krizhevsky, Sutskever & Hinton, *ImageNet classification with deep convolutional neural networks*, 2012, with
the widths of Krizhevsky's later one-column version, *One weird trick for parallelizing convolutional neural
networks*, 2014. Oboa Franck & Mao, *Examining Input Noise Injection During Dropout*, section 3.1.1,
"adapted the traditional AlexNet architecture" to make CIFAR10Net; You et al., *Adversarial Noise Layer*,
train the large one on ImageNet.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from torch import nn

from noiseutils.models.plain import PlainCnn
from noiseutils.models.sizes import require_image_size, scaled

# the smallest image that outlives the large one's stride and three pools
LARGE_SIDE = 63


def alexnet(num_classes: int, in_channels: int, image_size: int, width: float) -> nn.Module:
    """Build AlexNet: (N, in_channels, image_size, image_size) to logits (N, num_classes).

    conv1 64 - relu1 - pool1 - conv2 5x5, 192 - relu2 - pool2 - conv3 3x3, 384 - relu3 - conv4 3x3, 256 -
    relu4 - conv5 3x3, 256 - relu5 - pool5 - flatten - fc1 - relu6 - fc2 - relu7 - fc3; pools take the
    maximum.

    From 63 pixels on: conv1 11x11 with stride 4 and padding 2, pools 3x3 with stride 2, a mean to 6x6,
    `avgpool`, between pool5 and flatten, 4,096 units in fc1 and fc2. 61,100,840 parameters with 3 channels
    and 1,000 classes, at any size.

    Below, CIFAR-sized: conv1 5x5 with stride 2, pools 2x2, 1,024 units, as a 32-pixel image cannot bear a
    reduction by 32; convolutions keep the size (conv1 halves it). 4,560,714 parameters at 3x32x32, 10
    classes.

    Local response normalisation is left out. The original's dropout, in the first two dense layers, is for
    the caller to attach, after `relu6` and `relu7`.

    Raises `UserError` below 15 pixels a side.
    """
    require_image_size("alexnet", image_size, smallest=15)
    c1 = scaled(64, width)
    if image_size >= LARGE_SIDE:
        conv1 = nn.Conv2d(in_channels, c1, 11, stride=4, padding=2)
        layers = _convolutions(conv1, lambda: nn.MaxPool2d(3, stride=2), width)
        layers["avgpool"] = nn.AdaptiveAvgPool2d(6)
        side, units = 6, 4096
    else:
        conv1 = nn.Conv2d(in_channels, c1, 5, stride=2, padding=2)
        layers = _convolutions(conv1, lambda: nn.MaxPool2d(2), width)
        side, units = (image_size + 1) // 2 // 8, 1024
    units = scaled(units, width)
    layers["flatten"] = nn.Flatten()
    layers["fc1"] = nn.Linear(scaled(256, width) * side * side, units)
    layers["relu6"] = nn.ReLU()
    layers["fc2"] = nn.Linear(units, units)
    layers["relu7"] = nn.ReLU()
    layers["fc3"] = nn.Linear(units, num_classes)
    return PlainCnn(layers)


def _convolutions(
    conv1: nn.Conv2d, pool: Callable[[], nn.Module], width: float
) -> OrderedDict[str, nn.Module]:
    c2, c3, c4, c5 = (scaled(size, width) for size in (192, 384, 256, 256))
    return OrderedDict(
        conv1=conv1,
        relu1=nn.ReLU(),
        pool1=pool(),
        conv2=nn.Conv2d(conv1.out_channels, c2, 5, padding=2),
        relu2=nn.ReLU(),
        pool2=pool(),
        conv3=nn.Conv2d(c2, c3, 3, padding=1),
        relu3=nn.ReLU(),
        conv4=nn.Conv2d(c3, c4, 3, padding=1),
        relu4=nn.ReLU(),
        conv5=nn.Conv2d(c4, c5, 3, padding=1),
        relu5=nn.ReLU(),
        pool5=pool(),
    )
