"""Noise for CNN training: one noise a file, its spec, formulas and site; `attach` puts it in any network.

A new noise is a file here and a line in one of the two unions below.
"""

from typing import Annotated

from pydantic import Field

from noiseutils.noise.adaptive import AdaptiveNoise, adaptive_sigma, cooldown_epochs, stuck_factor
from noiseutils.noise.anl import AdversarialNoise, adversarial_noise, noise_magnitude
from noiseutils.noise.canl import ClassAdversarialNoise
from noiseutils.noise.dropout import NoisyDropout, noisy_dropout
from noiseutils.noise.gaussian import GaussianNoise, add_gaussian
from noiseutils.noise.handle import Handle, attach
from noiseutils.noise.hooks import remove_noise
from noiseutils.noise.lat import LayerwiseAdversarialNoise, lat_noise
from noiseutils.noise.optimizer_hooks import OptimizerNoise, attach_to_optimizer
from noiseutils.noise.scripted import ScriptedNoise

# noise on activations, as a run's `noise`
AnyActivationNoise = Annotated[
    NoisyDropout | GaussianNoise | AdversarialNoise | ClassAdversarialNoise | LayerwiseAdversarialNoise,
    Field(discriminator="kind"),
]
# noise on gradients and weights, as a run's `parameter_noise`
AnyParameterNoise = Annotated[AdaptiveNoise | ScriptedNoise, Field(discriminator="kind")]

__all__ = [
    "AdaptiveNoise",
    "AdversarialNoise",
    "AnyActivationNoise",
    "AnyParameterNoise",
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
    "remove_noise",
    "stuck_factor",
]
