"""AlexNet for small images: what CIFAR10Net was cut down from.

Krizhevsky, Sutskever & Hinton, *ImageNet classification with deep convolutional neural networks*, 2012, with
the widths of Krizhevsky's later one-column version, *One weird trick for parallelizing convolutional neural
networks*, 2014. Oboa Franck & Mao, *Examining Input Noise Injection During Dropout*, section 3.1.1, begin
with it.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from noiseutils.models.sizes import require_image_size, scaled


def alexnet(num_classes: int, in_channels: int, image_size: int, width: float) -> nn.Module:
    """AlexNet, CIFAR-sized: (N, in_channels, image_size, image_size) to logits (N, num_classes).

    conv1 5x5 stride 2, 64 - relu1 - pool1 - conv2 5x5, 192 - relu2 - pool2 - conv3 3x3, 384 - relu3 - conv4
    3x3, 256 - relu4 - conv5 3x3, 256 - relu5 - pool5 - flatten - fc1 1024 - relu6 - fc2 1024 - relu7 - fc3.
    Pools are 2x2 maxima, convolutions keep the size (conv1 halves it). 4,560,714 parameters at 3x32x32, 10
    classes.

    Choices, as a 32-pixel image cannot bear the original's reduction by 32: conv1 is 5x5 with stride 2 for
    11x11 with stride 4, pools are 2x2 for 3x3 with stride 2, the dense layers have 1,024 units for 4,096.
    Local response normalisation is left out. The original's dropout, in the first two dense layers, is for
    the caller to attach, after `relu6` and `relu7`.

    Raises `UserError` below 15 pixels a side.
    """
    require_image_size("alexnet", image_size, smallest=15)
    side = (image_size + 1) // 2 // 8
    c1, c2, c3, c4, c5, d1, d2 = (scaled(size, width) for size in (64, 192, 384, 256, 256, 1024, 1024))
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(in_channels, c1, 5, stride=2, padding=2),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(c1, c2, 5, padding=2),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            conv3=nn.Conv2d(c2, c3, 3, padding=1),
            relu3=nn.ReLU(),
            conv4=nn.Conv2d(c3, c4, 3, padding=1),
            relu4=nn.ReLU(),
            conv5=nn.Conv2d(c4, c5, 3, padding=1),
            relu5=nn.ReLU(),
            pool5=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(c5 * side * side, d1),
            relu6=nn.ReLU(),
            fc2=nn.Linear(d1, d2),
            relu7=nn.ReLU(),
            fc3=nn.Linear(d2, num_classes),
        )
    )
