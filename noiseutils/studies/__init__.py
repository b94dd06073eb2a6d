"""The studies: one module a paper. Each has Params, runs(params), NOTEBOOK, tables and figures."""

from noiseutils.studies import (
    adaptive_noise,
    adversarial_noise_layer,
    noisy_dropout,
    training_data_variation,
)

STUDIES = {
    "noisy_dropout": noisy_dropout,
    "adaptive_noise": adaptive_noise,
    "adversarial_noise_layer": adversarial_noise_layer,
    "training_data_variation": training_data_variation,
}
