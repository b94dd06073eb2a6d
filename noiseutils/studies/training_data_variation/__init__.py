"""Bartschat et al., *Robustness of Deep Learning Architectures with Respect to Training Data Variation*."""

from noiseutils.studies.training_data_variation.attacks import analyse
from noiseutils.studies.training_data_variation.grid import NOTEBOOK, Params, runs

__all__ = ["NOTEBOOK", "Params", "analyse", "runs"]
