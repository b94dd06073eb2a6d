"""LeNet-5, in the order that the Adversarial Noise Layer paper gives it.

LeCun, Bottou, Bengio & Haffner, *Gradient-based learning applied to document recognition*, 1998; You et al.,
*Adversarial Noise Layer*, footnote 1: CONV-ANL-RELU-POOL-CONV-ANL-RELU-POOL-FC-RELU-FC-RELU-FC. Noise goes
after `conv1` and `conv2`.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from noiseutils.models.plain import PlainCnn
from noiseutils.models.sizes import require_image_size, scaled


def lenet5(num_classes: int, in_channels: int, image_size: int, width: float) -> nn.Module:
    """Build LeNet-5: (N, in_channels, image_size, image_size) to logits (N, num_classes).

    conv1 5x5, 6 - relu1 - pool1 2x2 - conv2 5x5, 16 - relu2 - pool2 2x2 - flatten - fc1 120 - relu3 - fc2 84
    - relu4 - fc3. The convolutions have no padding; only at 28 pixels does conv1 pad by 2, which makes them
    the 32 that LeNet-5 was drawn for. 61,706 parameters at 1x28x28 and at 1x32x32, 10 classes; 62,006 with 3
    channels. The paper names only the order: the widths are LeCun's, the pools take the maximum.

    Raises `UserError` below 16 pixels a side.
    """
    require_image_size("lenet5", image_size, smallest=16)
    padding = 2 if image_size == 28 else 0
    side = ((image_size + 2 * padding - 4) // 2 - 4) // 2
    c1, c2, d1, d2 = (scaled(size, width) for size in (6, 16, 120, 84))
    return PlainCnn(
        OrderedDict(
            conv1=nn.Conv2d(in_channels, c1, 5, padding=padding),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(c1, c2, 5),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(c2 * side * side, d1),
            relu3=nn.ReLU(),
            fc2=nn.Linear(d1, d2),
            relu4=nn.ReLU(),
            fc3=nn.Linear(d2, num_classes),
        )
    )
