"""You, Ye, Li, Xu & Wang, *Adversarial Noise Layer: Regularize Neural Network By Adding Noise*."""

from noiseutils.studies.adversarial_noise_layer.attacks import analyse
from noiseutils.studies.adversarial_noise_layer.grid import DATA_PARAMETERS, NOTEBOOK, Params, runs

__all__ = ["DATA_PARAMETERS", "NOTEBOOK", "Params", "analyse", "runs"]
