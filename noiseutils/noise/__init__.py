"""Noise formulas as pure functions, the values that describe them, and `attach` for any network."""

from noiseutils.config import GaussianNoise, NoisyDropout
from noiseutils.noise.activation import add_gaussian
from noiseutils.noise.dropout import noisy_dropout
from noiseutils.noise.sites import Handle, attach

__all__ = ["GaussianNoise", "Handle", "NoisyDropout", "add_gaussian", "attach", "noisy_dropout"]
