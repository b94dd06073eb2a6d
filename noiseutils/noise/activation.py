"""Noise added to activations: Gaussian, and along the loss gradient (LAT, ANL, CANL).

You, Ye, Li, Xu & Wang, *Adversarial Noise Layer: Regularize Neural Network By Adding Noise* (ANL and CANL,
Equations 1 to 4, Algorithms 1 and 2); LAT, layerwise adversarial training, as its Equations 6 and 7 give it
(Sankaranarayanan et al. 2018). The formulas are pure functions of tensors; what a site remembers between two
passes is in `noiseutils.noise.adversarial`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from noiseutils.config import GaussianNoise
from noiseutils.errors import UserError
from noiseutils.rng import SiteStreams, laid_out_as

FLOAT32 = torch.finfo(torch.float32)


def add_gaussian(x: Tensor, z: Tensor, *, std: float) -> Tensor:
    """x + std * z   (You et al., Figure 3b with std = epsilon / 4).

    x: (...) activations.   z: (...) drawn from N(0, 1).   std: at least 0, in the units of x.
    Returns (...), the type of x. Raises UserError for shapes that differ and a negative std.
    """
    if not std >= 0:
        raise UserError(f"std of the noise must be at least 0, got {std}")
    if x.shape != z.shape:
        raise UserError(f"x and z need one shape, got {(*x.shape,)} and {(*z.shape,)}")
    return torch.add(x, z, alpha=std)


def noise_magnitude(z: Tensor, epsilon: float) -> Tensor:
    """How strong the noise is: r = clip(epsilon / 2 + epsilon / 4 * z, 0, epsilon)   (You et al., Eq. 2).

    z: (...) drawn from N(0, 1).   epsilon: no unit; a negative one gives r in [epsilon, 0], the noise against
    the gradient that the paper's Figure 3e and Table 2 try.   Returns (...), the type of z.
    """
    return epsilon * (0.5 + 0.25 * z).clamp(0, 1)


def adversarial_noise(grad: Tensor, std: Tensor, r: Tensor) -> Tensor:
    """Noise along the loss gradient: eta = r * std * grad / max|grad|   (You et al., Eq. 4).

    grad: (B, ...) loss gradient at the site, at eta = 0 (Eq. 3).   std: () of the activations, s(h).
    r: (B, 1, ...) or anything that broadcasts with grad: the magnitude, see `noise_magnitude`.
    Returns (B, ...), float32. The maximum is over each sample. A sample whose gradient is zero everywhere (or
    below the smallest normal float32, 1.2e-38) gets no noise.
    """
    grad = grad.float()
    return grad * scale_to(peak(grad), std * r)


def peak(grad: Tensor) -> Tensor:
    """(B, 1, ...): max|grad| of each sample."""
    over = tuple(range(1, grad.dim()))
    if not over:  # one number a sample; reducing over no dimension would reduce over all
        return grad.abs()
    # two reductions read the gradient twice but write nothing as large as it, which abs() would
    lying = as_it_lies(grad)
    return torch.maximum(lying.amax(over), -lying.amin(over)).view(-1, *[1] * len(over))


def as_it_lies(x: Tensor) -> Tensor:
    """x with its dimensions in the order of memory: on CPU a reduction takes less than half the time."""
    if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        return x.permute(0, 2, 3, 1)
    return x


def scale_to(largest: Tensor, magnitude: float | Tensor) -> Tensor:
    """The factors that stretch samples whose `peak` is `largest` to `magnitude`; 0 where there is nothing.

    largest: (B, 1, ...) float32.   magnitude: broadcasts to it.
    """
    factor = (magnitude / largest).clamp(FLOAT32.min, FLOAT32.max)
    return torch.where(largest >= FLOAT32.tiny, factor, torch.zeros((), device=largest.device))


def released_scale(grad: Tensor, magnitude: float | Tensor) -> Tensor:
    """The factor in the authors' released code: magnitude / (max grad + 1e-6), the maximum a *signed* one.

    grad: (B, ...) float32.   magnitude: broadcasts to (B, 1, ...).   Returns (B, 1, ...). For a sample whose
    gradient is far below 1e-6 the noise fades; where all of it is negative the noise turns round.
    """
    return magnitude / (grad.amax(tuple(range(1, grad.dim())), keepdim=True) + 1e-6)


def lat_noise(grad: Tensor, epsilon: float) -> Tensor:
    """Noise of layerwise adversarial training: eta = epsilon * sign(grad)   (You et al., Eq. 7).

    grad: (B, ...) loss gradient at the site in the batch before.   epsilon: in the activations' own units.
    Returns (B, ...), the type of grad.
    """
    return epsilon * grad.sign()


def activation_std(x: Tensor) -> Tensor:
    """s(h): () float32, the standard deviation over the whole batch tensor (by N - 1), without gradient."""
    x = as_it_lies(x.detach()).float()
    if x.numel() < 2:  # one number has no spread: no noise
        return torch.zeros((), device=x.device)
    if x.device.type != "cpu":
        return x.std()  # to look at a value, as below, would wait for the device; a CUDA graph cannot
    # two plain reductions take a quarter of torch's running one, and are as exact unless the mean dwarfs it
    n, mean, norm = x.numel(), x.mean().item(), torch.linalg.vector_norm(x).item()
    square = norm**2 / n
    variance = square - mean**2
    return torch.tensor(math.sqrt(variance * n / (n - 1))) if variance > 1e-3 * square else x.std()


def output_std(x: Tensor, owner: nn.Module | None) -> Tensor:
    """`activation_std` of what a module has put out, without a pass over it where the module knows.

    owner: the module, if it is known and x is as it was put out.
    """
    found = batchnorm_std(x, owner) if isinstance(owner, _BatchNorm) else None
    return activation_std(x) if found is None else found


def batchnorm_std(x: Tensor, norm: _BatchNorm) -> Tensor | None:
    """s(h) of what a BatchNorm has put out in training: () float32, from its weights and its graph.

    In each channel the output has the mean beta and the variance gamma^2 * v / (v + eps), where v is the
    batch's; autograd keeps 1 / sqrt(v + eps). None where it does not: without a graph, with another kernel.
    """
    kept = getattr(x.grad_fn, "_saved_result2", None)
    if kept is None or kept.shape != (norm.num_features,):
        return None
    gamma = torch.ones_like(kept) if norm.weight is None else norm.weight.detach().float()
    beta = torch.zeros_like(kept) if norm.bias is None else norm.bias.detach().float()
    scaled = gamma * kept
    parts = gamma.dot(gamma), scaled.dot(scaled), beta.var(correction=0)
    # on CPU the rest is arithmetic of numbers; elsewhere to look at one would wait for the device
    own, lost, between = (part.item() if x.device.type == "cpu" else part.double() for part in parts)
    variance = ((own - norm.eps * lost) / len(kept) + between) * (x.numel() / (x.numel() - 1))
    if isinstance(variance, Tensor):
        return variance.clamp_min(0).sqrt().float()
    return torch.tensor(math.sqrt(max(0.0, variance)))


def plus(x: Tensor, noise: Tensor, factor: float | Tensor, *, owned: bool) -> Tensor:
    """x + factor * noise in the type of x; a tensor of factors is applied in float32.

    x, noise: (B, ...), the noise without gradient.   factor: a number, or a tensor that broadcasts.
    owned: nothing else holds x or asks for it as it was, so the noise may go into it. Its history is left as
    it is, and right: noise is constant to the gradient.
    """
    into = x.detach() if owned else x
    if not isinstance(factor, Tensor):
        sum_ = into.add_(noise, alpha=factor) if owned else torch.add(x, noise, alpha=factor)
    elif x.dtype == noise.dtype == torch.float32:  # one pass over the memory
        sum_ = into.addcmul_(noise, factor) if owned else torch.addcmul(x, noise, factor)
    else:
        product = (noise.float() * factor).to(x.dtype)
        sum_ = into.add_(product) if owned else x + product
    return x if owned else sum_


class GaussianNoiseSite:
    """Draws the noise of one site and applies `add_gaussian`."""

    def __init__(self, spec: GaussianNoise, streams: SiteStreams) -> None:
        self.spec, self.streams = spec, streams
        self.buffer = torch.empty(0)  # on CPU kept: fresh memory for every draw would cost a good part of it

    def __call__(self, x: Tensor, owner: nn.Module | None = None) -> Tensor:
        """x: (N, ...) activations in training; returns (N, ...), in the memory of x if that has an owner."""
        if self.spec.std == 0:
            return x
        z = laid_out_as(x, self._buffer(x).normal_(generator=self.streams.get("noise", x.device)))
        return plus(x, z, self.spec.std, owned=True) if owner else add_gaussian(x, z, std=self.spec.std)

    def _buffer(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":  # there memory is at hand, and a CUDA graph brings its own
            return torch.empty(x.numel(), dtype=x.dtype, device=x.device)
        if self.buffer.dtype != x.dtype or len(self.buffer) < x.numel():
            self.buffer = torch.empty(x.numel(), dtype=x.dtype)
        return self.buffer[: x.numel()]
