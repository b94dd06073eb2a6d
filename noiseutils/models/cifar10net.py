"""CIFAR10Net: Oboa Franck & Mao, *Examining Input Noise Injection During Dropout*, 3.1.1 and Figure 1."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from noiseutils.models.plain import PlainCnn
from noiseutils.models.sizes import require_image_size, scaled


def cifar10net(num_classes: int, in_channels: int, image_size: int, width: float) -> nn.Module:
    """Build CIFAR10Net: (N, in_channels, image_size, image_size) to logits (N, num_classes).

    conv1 24 - relu1 - pool1 - conv2 32 - relu2 - pool2 - conv3 64 - relu3 - pool3 - conv4 128 - relu4 -
    flatten - fc1 256 - relu5 - fc2 64 - relu6 - fc3. All convolutions are 5x5 with padding 2, the pools 2x2
    maxima. 818,890 parameters at 3x32x32, 10 classes; 13.9 million multiply-adds an image.

    The paper's dropout in "the third and fourth layer" goes after `relu3` and `relu4`. The paper has pools
    "between the convolutional layers", read literally: none after the fourth. The sigmoid belongs to the
    loss (one against the rest), so the network returns logits.

    The paper gives no widths. These grow with depth, as the paper says, and were taken because their errors
    are those of its Figures 6 to 8 without noise (top-1 error 25.5, 26.2, 25.3 %, top-5 error 1.9, 1.7, 2.0
    % at dropout 0.2, 0.25, 0.3): at dropout 0.25, after 10 epochs of Adam at 1e-3 with batches of 128 and
    no augmentation, on a JPEG copy of CIFAR-10, one seed: 25.6 and 1.9 % with cross-entropy, 25.6 and 2.0 %
    with one-against-the-rest cross-entropy summed over the classes.

    Raises `UserError` below 8 pixels a side.
    """
    require_image_size("cifar10net", image_size, smallest=8)
    side = image_size // 8
    c1, c2, c3, c4, d1, d2 = (scaled(size, width) for size in (24, 32, 64, 128, 256, 64))
    return PlainCnn(
        OrderedDict(
            conv1=nn.Conv2d(in_channels, c1, 5, padding=2),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(c1, c2, 5, padding=2),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            conv3=nn.Conv2d(c2, c3, 5, padding=2),
            relu3=nn.ReLU(),
            pool3=nn.MaxPool2d(2),
            conv4=nn.Conv2d(c3, c4, 5, padding=2),
            relu4=nn.ReLU(),
            flatten=nn.Flatten(),
            fc1=nn.Linear(c4 * side * side, d1),
            relu5=nn.ReLU(),
            fc2=nn.Linear(d1, d2),
            relu6=nn.ReLU(),
            fc3=nn.Linear(d2, num_classes),
        )
    )
