"""Three architectures trained on noisy or blurred images, shown both, and attacked."""

from noiseutils.studies.study import Study
from noiseutils.studies.training_data_variation.attacks import analyse, answers, check_libraries
from noiseutils.studies.training_data_variation.claims import CAUSES, CLAIMS, MAIN, settings
from noiseutils.studies.training_data_variation.grid import cells, records, run_of, stages
from noiseutils.studies.training_data_variation.params import Params

STUDY = Study(
    name="training_data_variation",
    notebook="04_training_data_variation",
    paper=(
        "Bartschat et al.",
        "Robustness of Deep Learning Architectures with Respect to Training Data Variation",
    ),
    label="Training-data variation",
    Params=Params,
    cells=cells,
    run_of=run_of,
    stages=stages,
    check=check_libraries,
    analyse=analyse,
    answers=answers,
    records=records,
    claims=CLAIMS,
    main=MAIN,
    causes=CAUSES,
    settings=settings,
)
