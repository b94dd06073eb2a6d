"""VGG for small images: Simonyan & Zisserman, *Very deep convolutional networks for large-scale image
recognition*, 2015, configurations A and D, with a BatchNorm behind every convolution.

You et al., *Adversarial Noise Layer*, Tables 2 to 4, train VGG-11 and VGG-16 on CIFAR and put noise after
every BatchNorm. Their count, 14.7 million for VGG-16, is that of this form: biases in the convolutions and a
single dense layer in place of three.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from noiseutils.models.sizes import require_image_size, scaled


def vgg11(num_classes: int, in_channels: int, image_size: int, width: float) -> nn.Module:
    """Build VGG-11: (N, in_channels, image_size, image_size) to logits (N, num_classes).

    conv1 64 - pool1 - conv2 128 - pool2 - conv3, conv4 256 - pool3 - conv5, conv6 512 - pool4 - conv7, conv8
    512 - pool5 - avgpool - flatten - fc. Convolutions are 3x3 with padding 1, each followed by its bn and
    relu; pools are 2x2 maxima. 9,231,114 parameters with 3 channels and 10 classes, at any size. `avgpool`,
    to one pixel, has work to do from 64 pixels on.

    Raises `UserError` below 32 pixels a side.
    """
    stages = ((64,), (128,), (256, 256), (512, 512), (512, 512))
    return _vgg("vgg11", stages, num_classes, in_channels, image_size, width)


def vgg16(num_classes: int, in_channels: int, image_size: int, width: float) -> nn.Module:
    """Build VGG-16: (N, in_channels, image_size, image_size) to logits (N, num_classes).

    As `vgg11`, with conv1, conv2 64 - pool1 - conv3, conv4 128 - pool2 - conv5 to conv7 256 - pool3 - conv8
    to conv10 512 - pool4 - conv11 to conv13 512 - pool5. 14,728,266 parameters with 3 channels and 10
    classes, the 14.7 million that You et al. report.

    Raises `UserError` below 32 pixels a side.
    """
    stages = ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3)
    return _vgg("vgg16", stages, num_classes, in_channels, image_size, width)


def _vgg(
    name: str,
    stages: tuple[tuple[int, ...], ...],
    num_classes: int,
    in_channels: int,
    image_size: int,
    width: float,
) -> nn.Module:
    require_image_size(name, image_size, smallest=2 ** len(stages))
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    before, number = in_channels, 0
    for i, stage in enumerate(stages, 1):
        for size in stage:
            number, after = number + 1, scaled(size, width)
            layers[f"conv{number}"] = nn.Conv2d(before, after, 3, padding=1)
            layers[f"bn{number}"] = nn.BatchNorm2d(after)
            layers[f"relu{number}"] = nn.ReLU()
            before = after
        layers[f"pool{i}"] = nn.MaxPool2d(2)
    layers["avgpool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(before, num_classes)
    return nn.Sequential(layers)
