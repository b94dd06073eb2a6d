"""The noises that the live lab offers, each with its strength and the fields of a `Run`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from noiseutils.config import (
    AdaptiveNoise,
    AdversarialNoise,
    AdversarialTraining,
    ClassAdversarialNoise,
    Corruption,
    GaussianNoise,
    LayerwiseAdversarialNoise,
    NoisyDropout,
    ScriptedNoise,
)

DROPPED = 0.25  # probability of dropping a neuron, that in the middle of the first paper's grid


@dataclass(frozen=True)
class Kind:
    """A noise that the lab offers.

    title: its name, with its paper.   symbol, unit: of its strength.   usual, most: the strength at first,
    and the end of the slider.   parts: strength, epochs -> the fields of a `Run`.
    sites: whether the noise goes on activations, and needs places.
    """

    title: str
    symbol: str
    unit: str
    usual: float
    most: float
    parts: Callable[[float, int], dict[str, Any]]
    sites: bool = False


def _scripted(gradient: float, weight: float, epochs: int) -> dict[str, Any]:
    """Return noise as in Logean & Feillard, but always on: of the same std in every epoch."""
    levels = (gradient,) * epochs, (weight,) * epochs
    return {"parameter_noise": ScriptedNoise(gradient=levels[0], weight=levels[1], weight_every="step")}


def _adaptive(sigma: float, epochs: int) -> dict[str, Any]:
    """Return the paper's scheduler, whose 70 quiet epochs of 300 become two."""
    return {
        "parameter_noise": AdaptiveNoise(
            min_epochs=2,
            window=1,
            consecutive_trigger=3,
            cooldown_min=1,
            cooldown_max=2,
            sigma_min=sigma / 5,
            sigma_max=sigma,
        )
    }


ACTIVATIONS = "the activations' own units"
PARAMETERS = "units of gradients and weights"
SHARES = "times s(h), the activations' std"
KINDS = {
    "none": Kind("no noise", "", "", 0.0, 1.0, lambda strength, epochs: {}),
    "noisy_dropout": Kind(
        title="NoisyDropout: in dropped neurons (Oboa Franck & Mao)",
        symbol="σ",
        unit=ACTIVATIONS,
        usual=0.2,
        most=2.0,
        parts=lambda std, epochs: {"noise": NoisyDropout(p=DROPPED, std=std)},
        sites=True,
    ),
    "noisy_dropout_all": Kind(
        title="NoisyDropout, Equation 2: on every neuron (Oboa Franck & Mao)",
        symbol="σ",
        unit=ACTIVATIONS,
        usual=0.2,
        most=2.0,
        parts=lambda std, epochs: {"noise": NoisyDropout(p=DROPPED, std=std, where="all")},
        sites=True,
    ),
    "adaptive_noise": Kind(
        title="adaptive noise: on gradients and weights, when training stagnates (Logean & Feillard)",
        symbol="σ",
        unit=f"the greatest std, in {PARAMETERS}",
        usual=0.02,
        most=0.2,
        parts=_adaptive,
    ),
    "gradient_noise": Kind(
        title="Gaussian noise on gradients, always on (as in Logean & Feillard)",
        symbol="σ",
        unit=PARAMETERS,
        usual=0.01,
        most=0.2,
        parts=lambda sigma, epochs: _scripted(sigma, 0.0, epochs),
    ),
    "weight_noise": Kind(
        title="Gaussian noise on weights, always on (as in Logean & Feillard)",
        symbol="σ",
        unit=PARAMETERS,
        usual=0.002,
        most=0.05,
        parts=lambda sigma, epochs: _scripted(0.0, sigma, epochs),
    ),
    "adversarial_noise": Kind(
        title="ANL: on activations, along the loss gradient (You et al.)",
        symbol="ε",
        unit=SHARES,
        usual=0.1,
        most=1.0,
        parts=lambda epsilon, epochs: {"noise": AdversarialNoise(epsilon=epsilon)},
        sites=True,
    ),
    "class_adversarial_noise": Kind(
        title="CANL: along a gradient remembered for the class (You et al.)",
        symbol="ε",
        unit=SHARES,
        usual=0.1,
        most=1.0,
        parts=lambda epsilon, epochs: {"noise": ClassAdversarialNoise(epsilon=epsilon)},
        sites=True,
    ),
    "layerwise_adversarial_noise": Kind(
        title="LAT: along the sign of the last batch's gradient (You et al.)",
        symbol="ε",
        unit=ACTIVATIONS,
        usual=0.02,
        most=0.5,
        parts=lambda epsilon, epochs: {"noise": LayerwiseAdversarialNoise(epsilon=epsilon)},
        sites=True,
    ),
    "gaussian_noise": Kind(
        title="Gaussian noise on activations (You et al., for comparison)",
        symbol="σ",
        unit=ACTIVATIONS,
        usual=0.2,
        most=2.0,
        parts=lambda std, epochs: {"noise": GaussianNoise(std=std)},
        sites=True,
    ),
    "adversarial_training": Kind(
        title="adversarial training: half of the loss on FGSM images (You et al.)",
        symbol="δ",
        unit="255ths of the pixel range",
        usual=8.0,
        most=64.0,
        parts=lambda delta, epochs: {"adversarial_training": AdversarialTraining(delta=delta / 255)},
    ),
    "image_noise": Kind(
        title="Gaussian noise on the training images (Bartschat et al.)",
        symbol="σ",
        unit="pixels in [0, 1]",
        usual=0.1,
        most=1.0,
        parts=lambda sigma, epochs: {"corruption": Corruption(kind="gaussian_noise", sigma=sigma)},
    ),
    "image_blur": Kind(
        title="Gaussian blur of the training images (Bartschat et al.)",
        symbol="σ",
        unit="pixels across",
        usual=1.0,
        most=4.0,
        parts=lambda sigma, epochs: {"corruption": Corruption(kind="gaussian_blur", sigma=sigma)},
    ),
}
