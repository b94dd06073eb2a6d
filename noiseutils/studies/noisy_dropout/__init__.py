"""Oboa Franck & Mao, *Examining Input Noise Injection During Dropout for Robust CIFAR Dataset Image
Recognition*.
"""

from noiseutils.studies.noisy_dropout.grid import NOTEBOOK, Params, runs

__all__ = ["NOTEBOOK", "Params", "runs"]
