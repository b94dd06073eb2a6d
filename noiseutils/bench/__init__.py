"""Measure ratios of medians, and every network's share of its roofline: `noiseutils bench`.

Two ways of doing the same thing take turns in one process; the cost of a first call is recorded apart.
"""

from noiseutils.bench.steps import noise_steps, noisy_dropout_step

__all__ = ["noise_steps", "noisy_dropout_step"]
