"""A study's grid as a list of trainings: which come first, and that each comes once."""

from dataclasses import replace

import pytest
from factory import DROPOUT

from noiseutils.config import Run
from noiseutils.studies import RENDERED
from noiseutils.studies.noisy_dropout import STUDY
from noiseutils.studies.noisy_dropout.grid import Cell
from noiseutils.studies.profiles import study_params

FIRST = [Cell(0.3, 0.5, "all"), Cell(0.3, 0.0, "dropped")]


def test_a_stage_is_finished_over_all_seeds_before_the_rest():
    plain = replace(STUDY, stages=lambda params: ())
    staged = replace(STUDY, stages=lambda params: [FIRST[:1], FIRST[1:]])
    runs = staged.runs(DROPOUT)
    assert runs[:6] == [STUDY.run_of(DROPOUT, cell, seed) for cell in FIRST for seed in range(3)]
    assert len(runs) == len(set(runs)) == 3 * len(STUDY.cells(DROPOUT))
    assert set(runs) == set(plain.runs(DROPOUT))


def test_without_stages_the_grid_is_trained_seed_after_seed():
    runs = replace(STUDY, stages=lambda params: ()).runs(DROPOUT)
    cells = STUDY.cells(DROPOUT)
    assert runs == [STUDY.run_of(DROPOUT, cell, seed) for seed in range(3) for cell in cells]


@pytest.mark.parametrize("name", ["noisy_dropout", "adaptive_noise", "adversarial_noise_layer"])
def test_the_trainings_of_a_cell_share_their_parts_and_have_the_keys_of_trainings_made_anew(name):
    study = RENDERED[name]
    params = study_params(name, "smoke")
    for cell in study.cells(params):
        first, second = (study.run_of(params, cell, seed) for seed in (1, 2))
        assert first.data is second.data
        assert first.schedule is second.schedule
        assert Run.model_validate_json(second.model_dump_json()).key == second.key != first.key
