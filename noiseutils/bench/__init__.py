"""Ratios of medians, and how far each network is from its floor: what `noiseutils bench` measures.

Two ways of doing the same thing take turns in one process; what a first call pays once is recorded apart.
"""

from noiseutils.bench.steps import noise_steps, noisy_dropout_step

__all__ = ["noise_steps", "noisy_dropout_step"]
