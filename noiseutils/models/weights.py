"""Draw initial weights where a paper asks for others than torch's own."""

from __future__ import annotations

from torch import nn


def draw_he_normal(model: nn.Module) -> None:
    """Draw every convolution's weights anew: normal, variance 2 / fan-out   (He et al. 2015, Eq. 14).

    He, Zhang, Ren & Sun, *Delving deep into rectifiers*, 2015. Fan-out is the kernel's area times the output
    channels. Biases stay as they are.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
