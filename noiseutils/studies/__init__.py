"""The studies: one module a paper. Each has Params, runs(params), NOTEBOOK, tables and figures."""

from noiseutils.studies import adversarial_noise_layer, noisy_dropout

STUDIES = {"noisy_dropout": noisy_dropout, "adversarial_noise_layer": adversarial_noise_layer}
