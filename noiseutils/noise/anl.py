"""ANL, noise along the loss gradient of the same batch, from a first pass.

You, Ye, Li, Xu & Wang, *Adversarial Noise Layer: Regularize Neural Network By Adding Noise*, Equations 1 to 4
and Algorithm 1. `variant="released"` is the rule of the authors' code, which differs from the paper: a signed
maximum, 1e-6 added to it, and a moving average of s(h) that starts at 0.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge

from noiseutils.errors import UserError
from noiseutils.noise.arithmetic import activation_std, add_scaled, peak, restored, scale_to
from noiseutils.noise.site import ActivationNoise, Pass, Site, check_calls
from noiseutils.rng import SiteStreams
from noiseutils.spec import Finite

MOVING_AVERAGE = 0.9  # of the released code's s(h), which starts at 0


def noise_magnitude(z: Tensor, epsilon: float) -> Tensor:
    """Return the noise's magnitude r = clip(epsilon / 2 + epsilon / 4 * z, 0, epsilon)   (You et al., Eq. 2).

    z: (...) drawn from N(0, 1).   epsilon: no unit; a negative one gives r in [epsilon, 0], the noise against
    the gradient that the paper's Figure 3e and Table 2 try.   Returns (...), the type of z.
    """
    return epsilon * (0.5 + 0.25 * z).clamp(0, 1)


def adversarial_noise(grad: Tensor, std: Tensor, r: Tensor) -> Tensor:
    """Return noise along the loss gradient: eta = r * std * grad / max|grad|   (You et al., Eq. 4).

    grad: (B, ...) loss gradient at the site, at eta = 0 (Eq. 3).   std: () of the activations, s(h).
    r: (B, 1, ...) or anything that broadcasts with grad: the magnitude, see `noise_magnitude`.
    Returns (B, ...), float32. The maximum is over each sample. A sample whose gradient is zero everywhere (or
    below the smallest normal float32, 1.2e-38) gets no noise.
    """
    grad = grad.float()
    return grad * scale_to(peak(grad), std * r)


def released_scale(grad: Tensor, magnitude: float | Tensor) -> Tensor:
    """Return the factor in the authors' code: magnitude / (max grad + 1e-6), the maximum a *signed* one.

    grad: (B, ...) float32.   magnitude: broadcasts to (B, 1, ...).   Returns (B, 1, ...). For a sample whose
    gradient is far below 1e-6 the noise fades; where all of it is negative the noise turns round.
    """
    return magnitude / (grad.amax(tuple(range(1, grad.dim())), keepdim=True) + 1e-6)


def draw_magnitudes(x: Tensor, epsilon: float, streams: SiteStreams) -> Tensor:
    """Draw r of Eq. 2, one a sample: (B, 1, ...) float32."""
    z = torch.empty((len(x), *[1] * (x.dim() - 1)), device=x.device)
    return noise_magnitude(z.normal_(generator=streams.get("noise", x.device)), epsilon)


def update_average(average: Tensor, value: Tensor) -> None:
    """Renew the released code's moving average in place: average = 0.9 * average + 0.1 * value."""
    average.mul_(MOVING_AVERAGE).add_(value, alpha=1 - MOVING_AVERAGE)


class AdversarialNoise(ActivationNoise):
    """ANL: noise along the loss gradient of the same batch, from a first pass (You et al., Algorithm 1)."""

    needs_loss: ClassVar[bool] = True
    two_passes: ClassVar[bool] = True

    kind: Literal["adversarial_noise"] = "adversarial_noise"
    epsilon: Finite  # no unit: it scales the activations' std; negative: against the gradient
    scaled: bool = True  # times s(h), the activations' std (Eq. 4); False is the paper's ablation
    batchnorm: Literal["both", "clean", "noisy"] = "both"  # which pass moves the running statistics
    variant: Literal["paper", "released"] = "paper"  # released: the rule of the authors' code

    @property
    def uses_std(self) -> bool:
        """Whether the noise is scaled by s(h), the activations' std."""
        return self.scaled

    def site(self, streams: SiteStreams, shared: Pass) -> AdversarialSite:
        """Make the noise of one module."""
        return AdversarialSite(self, streams, shared)

    def keeps_statistics(self, *, measuring: bool) -> bool:
        """Return whether BatchNorm's running statistics stay as they are in the first pass, or the second."""
        return self.batchnorm == ("noisy" if measuring else "clean")


class AdversarialSite(Site):
    """ANL at one module: the gradient at a leaf eta = 0 (Eq. 3) in pass one, noise (Eq. 4) in pass two."""

    def __init__(self, spec: AdversarialNoise, streams: SiteStreams, shared: Pass) -> None:
        self.spec, self.streams, self.shared = spec, streams, shared
        self.etas, self.stds = [], []  # of pass one, one a call
        self.noise: list[tuple[Tensor, Tensor] | None] = []  # gradient and its factor, one a call
        self.average: Tensor | None = None  # released: the moving average of s(h)
        self.batch_size: int | None = None  # released: that of the first batch, the only one with noise
        self.calls = self.calls_measured = 0  # of the module, in this pass and in pass one

    def begin(self) -> None:
        """Start a forward pass, without what an interrupted first pass has left."""
        self.calls = 0
        if self.shared.measuring:
            self.etas, self.stds = [], []
            self.no_gradient = self.half = False

    def end(self) -> None:
        """End a pass; UserError where the module did not run as often in both."""
        if self.shared.measuring:
            self.calls_measured = self.calls
        elif self.calls and self.calls_measured:
            check_calls(self.name, self.calls_measured, self.calls, "the first of its two passes")

    def __call__(self, x: Tensor, owner: nn.Module | None = None) -> Tensor:
        """x: (B, ...) activations.   Returns (B, ...): with the leaf in pass one, with noise in pass two."""
        if not self.shared.runs():
            return x
        self.calls += 1
        if self.shared.measuring:
            self.no_gradient |= not torch.is_grad_enabled()
            self.half |= x.dtype == torch.float16
            self.stds.append(activation_std(x))
            if owner and x.requires_grad:  # d loss/d eta at eta = 0 is d loss/d x: no sum need be taken
                self.etas.append(get_gradient_edge(x))
                return x
            eta = torch.zeros((), dtype=x.dtype, device=x.device).expand_as(x).requires_grad_()
            self.etas.append(eta)
            return x + eta
        if self.spec.variant == "released":
            if self.average is None:
                self.average = torch.zeros((), device=x.device)
            update_average(self.average, activation_std(x))
        noise = self.noise.pop(0) if self.noise else None
        if noise is None:
            return x
        if noise[0].shape != x.shape:
            raise UserError(
                f"{self.name!r} puts out {(*x.shape,)}, {(*noise[0].shape,)} in the first of its two passes: "
                "both must run the same way"
            )
        return add_scaled(x, *noise, owned=owner is not None)

    def prepare(self, gradients: list[Tensor | None]) -> None:
        """Turn the gradients of pass one, in the order of `etas`, into the noise of pass two."""
        self.noise = [
            None if gradient is None else (gradient, self._factor(gradient, std))
            for gradient, std in zip(gradients, self.stds, strict=True)
        ]
        self.no_gradient |= any(gradient is None for gradient in gradients)
        self.etas, self.stds = [], []

    def snapshot(self) -> dict[str, Any]:
        """Return what the next call depends on."""
        average = None if self.average is None else self.average.clone()
        lists = {"etas": list(self.etas), "stds": list(self.stds), "noise": list(self.noise)}
        return {
            **lists,
            "average": average,
            "calls": self.calls,
            "no_gradient": self.no_gradient,
            "half": self.half,
        }

    def _factor(self, gradient: Tensor, std: Tensor) -> Tensor:
        if gradient.dtype == torch.float16:  # a sample that overflowed gets no noise
            gradient.masked_fill_(~peak(gradient).isfinite(), 0)
        r = draw_magnitudes(gradient, self.spec.epsilon, self.streams)
        if self.spec.variant == "paper":
            return scale_to(peak(gradient.float()), r * std if self.spec.scaled else r)
        if self.batch_size is None:
            self.batch_size = len(gradient)
        if self.spec.scaled:
            r = r * (torch.zeros_like(std) if self.average is None else self.average)
        return released_scale(gradient.float(), r * (len(gradient) == self.batch_size))

    def state(self) -> dict[str, Tensor]:
        """Return copies of what the next batch depends on."""
        found = {} if self.average is None else {"average": self.average.clone()}
        return found | ({} if self.batch_size is None else {"batch_size": torch.tensor(self.batch_size)})

    def restore(self, state: dict[str, Tensor], device: torch.device) -> None:
        """Continue from what `state` returned."""
        if "average" in state:
            self.average = restored(state["average"], self.average, device)
        if "batch_size" in state:
            self.batch_size = int(state["batch_size"])
