"""Logean & Feillard, *Effect of Adaptive Noise Injection in CNN Training*."""

from noiseutils.studies.adaptive_noise.grid import NOTEBOOK, Params, follow_ups, runs

__all__ = ["NOTEBOOK", "Params", "follow_ups", "runs"]
