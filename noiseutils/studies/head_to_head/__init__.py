"""All noises of the four papers in one setting, beside the regularisers that people use instead."""

from noiseutils.studies.head_to_head.attacks import analyse, answers, check_library
from noiseutils.studies.head_to_head.choice import follow_ups
from noiseutils.studies.head_to_head.findings import in_short, overview
from noiseutils.studies.head_to_head.grid import cells, records, run_of, settings, stages, trial_seeds
from noiseutils.studies.head_to_head.params import Params
from noiseutils.studies.study import Study

STUDY = Study(
    name="head_to_head",
    notebook="05_head_to_head",
    label="Head to head",
    Params=Params,
    cells=cells,
    run_of=run_of,
    seeds=trial_seeds,
    stages=stages,
    follow_ups=follow_ups,
    check=check_library,
    analyse=analyse,
    answers=answers,
    records=records,
    settings=settings,
    overview=overview,
    in_short=in_short,
)
