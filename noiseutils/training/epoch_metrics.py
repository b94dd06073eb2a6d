"""Sum loss, hits and gradient norm of an epoch's training steps on the device."""

from __future__ import annotations

import torch
from torch import Tensor

KEPT_STEPS = 32  # steps whose outputs are kept before they are summed


class EpochMetrics:
    """Sum over an epoch: loss times images, images classified right, and the gradient's L2 norm a step.

    On CPU a dozen small operations a step cost as much as a layer of a small network, so outputs are kept and
    summed for many steps at once. Elsewhere, where a recorded step must leave its results in a tensor that
    outlives it, each step adds to `sums`.
    """

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(3, dtype=torch.double, device=device)
        self.deferred = device.type == "cpu"
        self._outputs: list[tuple[Tensor, Tensor, Tensor]] = []
        self._norms: list[tuple[Tensor, ...]] = []

    def add_outputs(self, loss: Tensor, logits: Tensor, y: Tensor) -> None:
        """Add one step.   loss: () mean over the batch.   logits: (B, K).   y: (B,)."""
        self._outputs.append((loss.detach(), logits.detach(), y))
        if not self.deferred or len(self._outputs) == KEPT_STEPS:
            self._flush_outputs()

    def add_gradient(self, gradients: list[Tensor]) -> None:
        """Add the norm of one step's gradients, one tensor a parameter."""
        if not gradients:
            return
        if self._norms and len(self._norms[0]) != len(gradients):
            self._flush_norms()
        # one call for all of them; torch.nn.utils.get_total_norm makes it, too, and several small ones more
        self._norms.append(torch._foreach_norm(gradients))  # pyright: ignore[reportPrivateImportUsage]
        if not self.deferred or len(self._norms) == KEPT_STEPS:
            self._flush_norms()

    def totals(self) -> Tensor:
        """Return the sums so far, (3,) float64 on the device."""
        self._flush_outputs()
        self._flush_norms()
        return self.sums

    def clear(self) -> None:
        """Start a new epoch, in the same tensor."""
        self._outputs.clear()
        self._norms.clear()
        self.sums.zero_()

    def _flush_outputs(self) -> None:
        if self._outputs:
            _, logits, labels = zip(*self._outputs, strict=True)
            loss = torch.stack([loss.double() * len(y) for loss, _, y in self._outputs]).sum()
            correct = (torch.cat(logits).argmax(1) == torch.cat(labels)).sum()
            self.sums[:2] += torch.stack((loss, correct.double()))
            self._outputs.clear()

    def _flush_norms(self) -> None:
        if self._norms:
            each = torch.stack([norm for step in self._norms for norm in step]).view(len(self._norms), -1)
            self.sums[2] += torch.linalg.vector_norm(each.double(), dim=1).sum()
        self._norms.clear()
