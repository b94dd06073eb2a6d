"""Run networks that are one chain of convolutions, ReLUs, pools and dense layers faster."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# layers that run in oneDNN's own layout of tensors, gradients included
BLOCKED = (nn.Conv2d, nn.ReLU, nn.MaxPool2d, nn.Flatten, nn.Linear)
# layers whose output is a new tensor, which their backward pass does not read
FRESH = (nn.Conv2d, nn.MaxPool2d, nn.Linear)


class PlainCnn(nn.Sequential):
    """Run a `Sequential` by two short cuts while no hook observes its modules.

    A maximum and a ReLU commute, ties and gradients included, so the pool goes first and leaves a ReLU a
    quarter of the work; in the blocked layout a ReLU commutes with flattening, too, which drops the padding
    channels of that layout; and ReLUs overwrite their inputs. The pass is the same, bit for bit. With a
    hook on any module, such as a hook of noise, each module runs by itself and in its place.

    `blocked`: in training on CPU, tensors stay in oneDNN's blocked layout from the images to the logits.
    oneDNN's kernels for backward passes, pools and dense layers are faster there (tinycnn: two thirds of the
    time) and round differently. A training loop sets `blocked`; evaluation runs without.
    """

    blocked: bool = False

    def forward(self, input: Tensor) -> Tensor:
        """Map input, (N, C, H, W), to logits, (N, K)."""
        if any(_watched(module) for module in self):
            return super().forward(input)
        if self.training and self.blocked and runs_blocked(self, input):
            return self._short(input.to_mkldnn(), in_place=False).to_dense()
        return self._short(input, in_place=True)

    def _short(self, x: Tensor, *, in_place: bool) -> Tensor:
        relu_waits = fresh = False  # fresh: x is a layer's output that no other code holds
        for module in self:
            if isinstance(module, nn.ReLU):
                relu_waits = True
                continue
            is_flatten = isinstance(module, nn.Flatten)
            # in place on a view, a ReLU costs autograd more than it saves by leaving the padding out
            passes = isinstance(module, nn.MaxPool2d) or (is_flatten and not in_place)
            if relu_waits and not passes:
                x, relu_waits = F.relu(x, inplace=in_place and fresh), False
            x = x.reshape(len(x), -1) if is_flatten else module(x)
            fresh = (fresh and is_flatten) or isinstance(module, FRESH)
        return F.relu(x, inplace=in_place and fresh) if relu_waits else x


def runs_blocked(model: nn.Sequential, x: Tensor) -> bool:
    """Tell if oneDNN has the blocked layout for all of a chain and for its input."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled
        and not torch.compiler.is_compiling()
        and all(isinstance(module, BLOCKED) for module in model)
    )


def _watched(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )
