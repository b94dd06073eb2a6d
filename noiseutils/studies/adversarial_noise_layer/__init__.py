"""Noise on activations along the loss gradient (ANL, CANL), beside other noise and adversarial training."""

from noiseutils.studies.adversarial_noise_layer.attacks import analyse, answers, check_library
from noiseutils.studies.adversarial_noise_layer.claims import CAUSES, CLAIMS, MAIN
from noiseutils.studies.adversarial_noise_layer.contrasts import settings
from noiseutils.studies.adversarial_noise_layer.grid import cells, run_of, stages
from noiseutils.studies.adversarial_noise_layer.params import Params
from noiseutils.studies.adversarial_noise_layer.reported import numbers
from noiseutils.studies.study import Study

STUDY = Study(
    name="adversarial_noise_layer",
    notebook="03_adversarial_noise_layer",
    paper=("You, Ye, Li, Xu & Wang", "Adversarial Noise Layer: Regularize Neural Network By Adding Noise"),
    label="Adversarial Noise Layer",
    Params=Params,
    cells=cells,
    run_of=run_of,
    stages=stages,
    check=check_library,
    analyse=analyse,
    answers=answers,
    claims=CLAIMS,
    main=MAIN,
    causes=CAUSES,
    numbers=numbers,
    settings=settings,
    looks=lambda params: params.looks,
    data_parameters=("data", "similarity_data", "lenet_data", "imagenet_data"),
)
