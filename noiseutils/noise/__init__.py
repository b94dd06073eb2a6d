"""Noise formulas as pure functions, the values that describe them, and `attach` for any network."""

from noiseutils.config import (
    AdversarialNoise,
    ClassAdversarialNoise,
    GaussianNoise,
    LayerwiseAdversarialNoise,
    NoisyDropout,
)
from noiseutils.noise.activation import add_gaussian, adversarial_noise, lat_noise, noise_magnitude
from noiseutils.noise.dropout import noisy_dropout
from noiseutils.noise.sites import Handle, attach

__all__ = [
    "AdversarialNoise",
    "ClassAdversarialNoise",
    "GaussianNoise",
    "Handle",
    "LayerwiseAdversarialNoise",
    "NoisyDropout",
    "add_gaussian",
    "adversarial_noise",
    "attach",
    "lat_noise",
    "noise_magnitude",
    "noisy_dropout",
]
