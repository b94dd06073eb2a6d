"""Noise on gradients or weights, triggered and scaled by stagnation, and controls that follow a script."""

from noiseutils.studies.adaptive_noise.choice import controls, last_epoch
from noiseutils.studies.adaptive_noise.claims import CAUSES, CLAIMS, MAIN
from noiseutils.studies.adaptive_noise.grid import cells, run_of, settings, stages
from noiseutils.studies.adaptive_noise.params import Params
from noiseutils.studies.adaptive_noise.reported import numbers
from noiseutils.studies.study import Study

STUDY = Study(
    name="adaptive_noise",
    notebook="02_adaptive_noise",
    paper=("Logean & Feillard", "Effect of Adaptive Noise Injection in CNN Training"),
    label="Adaptive noise",
    Params=Params,
    cells=cells,
    run_of=run_of,
    stages=stages,
    follow_ups=controls,
    records=last_epoch,
    claims=CLAIMS,
    main=MAIN,
    causes=CAUSES,
    numbers=numbers,
    settings=settings,
    looks=lambda params: params.looks,
)
