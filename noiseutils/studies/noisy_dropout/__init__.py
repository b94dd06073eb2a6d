"""Noise in the neurons that dropout drops, and elsewhere: what it costs, and what it is good for."""

from noiseutils.studies.noisy_dropout.claims import CAUSES, CLAIMS, MAIN, settings
from noiseutils.studies.noisy_dropout.grid import cells, run_of, stages
from noiseutils.studies.noisy_dropout.left_on import analyse, answers
from noiseutils.studies.noisy_dropout.params import Params
from noiseutils.studies.noisy_dropout.reported import numbers
from noiseutils.studies.study import Study

STUDY = Study(
    name="noisy_dropout",
    notebook="01_noisy_dropout",
    paper=(
        "Oboa Franck & Mao",
        "Examining Input Noise Injection During Dropout for Robust CIFAR Dataset Image Recognition",
    ),
    label="NoisyDropout",
    Params=Params,
    cells=cells,
    run_of=run_of,
    stages=stages,
    analyse=analyse,
    answers=answers,
    claims=CLAIMS,
    main=MAIN,
    causes=CAUSES,
    numbers=numbers,
    settings=settings,
    looks=lambda params: params.looks,
)
