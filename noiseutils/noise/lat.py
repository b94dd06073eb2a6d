"""LAT, layerwise adversarial training: noise along the sign of the gradient that the batch before left.

Sankaranarayanan et al. 2018, as You et al. give it in Equations 6 and 7.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from noiseutils.noise.arithmetic import add_scaled, in_layout_of
from noiseutils.noise.site import ActivationNoise, Pass, RememberingSite, on_gradient
from noiseutils.rng import SiteStreams
from noiseutils.spec import Finite


def lat_noise(grad: Tensor, epsilon: float) -> Tensor:
    """Return noise of layerwise adversarial training: eta = epsilon * sign(grad)   (You et al., Eq. 7).

    grad: (B, ...) loss gradient at the site in the batch before.   epsilon: in the activations' own units.
    Returns (B, ...), the type of grad.
    """
    return epsilon * grad.sign()


class LayerwiseAdversarialNoise(ActivationNoise):
    """LAT: noise along the sign of the gradient that the batch before left (You et al., Eq. 6 and 7)."""

    needs_loss: ClassVar[bool] = True

    kind: Literal["layerwise_adversarial_noise"] = "layerwise_adversarial_noise"
    epsilon: Finite  # in the activations' own units

    def site(self, streams: SiteStreams, shared: Pass) -> LayerwiseSite:
        """Make the noise of one module."""
        return LayerwiseSite(self, shared)


class LayerwiseSite(RememberingSite):
    """LAT at one module: signs of the gradient of the batch before, image by image in its order.

    memory: (B, ...) int8 signs, B images of the largest batch so far.
    """

    def __init__(self, spec: LayerwiseAdversarialNoise, shared: Pass) -> None:
        super().__init__(shared)
        self.spec = spec
        self.outgrown: list[Tensor] = []  # kept, as a captured step goes on writing there

    def __call__(self, x: Tensor, owner: nn.Module | None = None) -> Tensor:
        """x: (B, ...) activations.   Returns (B, ...) with noise, whose gradient renews the memory."""
        if not self.shared.runs():
            return x
        call = self.next_call()
        out = x
        if call < len(self.memory):
            self.check_shape(x, self.memory[call])
            signs = self.memory[call] = in_layout_of(x, self.memory[call])
            both = min(len(signs), len(x))  # more images than any batch before: the rest have no noise
            if owner:
                add_scaled(x[:both], signs[:both], self.spec.epsilon, owned=True)
            else:
                extra = signs.new_zeros(len(x) - both, *x.shape[1:])
                noise = torch.cat([signs[:both], extra]) if len(extra) else signs[:both]
                out = add_scaled(x, noise, self.spec.epsilon, owned=False)
        return on_gradient(out, lambda gradient: self._renew(call, gradient))

    def _renew(self, call: int, gradient: Tensor) -> None:
        if call == len(self.memory):
            self.memory.append(torch.empty_like(gradient, dtype=torch.int8))
        elif call > len(self.memory):
            return
        memory, size = self.memory[call], len(gradient)
        if size > len(memory):
            self.outgrown.append(memory)
            memory = self.memory[call] = torch.empty_like(gradient, dtype=torch.int8)
        memory[:size].copy_(gradient.sign())  # a NaN's sign is 0
        memory[size:].zero_()
