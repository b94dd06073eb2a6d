"""The studies: one module a paper. Each has Params, runs(params), NOTEBOOK, tables and figures.

The live lab has the first three, too, so that `noiseutils run` renders it; it is no study.
"""

from noiseutils.studies import (
    adaptive_noise,
    adversarial_noise_layer,
    live_lab,
    noisy_dropout,
    training_data_variation,
)

STUDIES = {
    "noisy_dropout": noisy_dropout,
    "adaptive_noise": adaptive_noise,
    "adversarial_noise_layer": adversarial_noise_layer,
    "training_data_variation": training_data_variation,
}
RENDERED = {**STUDIES, "live_lab": live_lab}
