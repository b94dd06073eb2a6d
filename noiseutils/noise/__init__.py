"""Noise formulas as pure functions, the values that describe them, and `attach` for any network."""

from noiseutils.config import (
    AdaptiveNoise,
    AdversarialNoise,
    ClassAdversarialNoise,
    GaussianNoise,
    LayerwiseAdversarialNoise,
    NoisyDropout,
    ScriptedNoise,
)
from noiseutils.noise.activation import add_gaussian, adversarial_noise, lat_noise, noise_magnitude
from noiseutils.noise.dropout import noisy_dropout
from noiseutils.noise.optimizer_hooks import OptimizerNoise, attach_to_optimizer
from noiseutils.noise.parameters import adaptive_sigma, cooldown_epochs, stuck_factor
from noiseutils.noise.sites import Handle, attach

__all__ = [
    "AdaptiveNoise",
    "AdversarialNoise",
    "ClassAdversarialNoise",
    "GaussianNoise",
    "Handle",
    "LayerwiseAdversarialNoise",
    "NoisyDropout",
    "OptimizerNoise",
    "ScriptedNoise",
    "adaptive_sigma",
    "add_gaussian",
    "adversarial_noise",
    "attach",
    "attach_to_optimizer",
    "cooldown_epochs",
    "lat_noise",
    "noise_magnitude",
    "noisy_dropout",
    "stuck_factor",
]
