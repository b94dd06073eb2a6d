"""The studies: one module a paper. Each has Params, runs(params), NOTEBOOK, tables and figures."""

from noiseutils.studies import adaptive_noise, adversarial_noise_layer, noisy_dropout

STUDIES = {
    "noisy_dropout": noisy_dropout,
    "adaptive_noise": adaptive_noise,
    "adversarial_noise_layer": adversarial_noise_layer,
}
