"""The studies: one folder a paper, and one where all methods meet; each a `Study`.

The live lab is rendered like a study, with the command line's `run`; it makes no claim.
"""

from noiseutils.studies import (
    adaptive_noise,
    adversarial_noise_layer,
    head_to_head,
    live_lab,
    noisy_dropout,
    training_data_variation,
)

STUDIES = {
    "noisy_dropout": noisy_dropout.STUDY,
    "adaptive_noise": adaptive_noise.STUDY,
    "adversarial_noise_layer": adversarial_noise_layer.STUDY,
    "training_data_variation": training_data_variation.STUDY,
    "head_to_head": head_to_head.STUDY,
}
RENDERED = {**STUDIES, "live_lab": live_lab.STUDY}
