import json

import pytest

from noiseutils import Run, train
from noiseutils.config import AdaptiveNoise, Data, Evaluation, Model, NoisyDropout, Schedule
from noiseutils.errors import UserError
from noiseutils.live.stored import cells_of, profiles, stored
from noiseutils.provenance import reference_root
from noiseutils.studies import STUDIES
from noiseutils.sweeps.store import Store

RUN = Run(
    data=Data(name="digits", train_size=64, test_size=32),
    model=Model(name="lenet5", width=0.25),
    epochs=2,
    evaluation=Evaluation(recalibrate=False),
)


def test_cells_are_runs_that_differ_in_their_seed_alone_and_say_what_tells_them_apart():
    noisy = RUN.replace(noise=NoisyDropout(p=0.2, std=0.1), after=("relu1",))
    runs = [RUN, RUN.replace(seed=1), noisy, noisy.replace(noise=NoisyDropout(p=0.2, std=0.3))]
    cells = cells_of([train(run) for run in runs])
    assert [len(cell.results) for cell in cells] == [2, 1, 1]
    assert cells[0].label == "the plain one"
    assert cells[1].label == "noisy_dropout, std 0.1"
    assert cells[2].label == "noisy_dropout, std 0.3"
    uniform = AdaptiveNoise(distribution="uniform")
    noises = (None, AdaptiveNoise(), uniform)
    cells = cells_of([train(RUN.replace(parameter_noise=noise)) for noise in noises])
    labels = ["the plain one", "adaptive_noise", "adaptive_noise, distribution uniform"]
    assert [cell.label for cell in cells] == labels


def test_what_a_run_is_tested_with_makes_no_cell_of_its_own():
    results = [train(RUN), train(RUN.replace(seed=1, evaluation=Evaluation(noise=(0.1,))))]
    assert len(cells_of(results)) == 1


def test_curves_and_classes_are_means_over_seeds():
    results = [train(RUN.replace(seed=seed)) for seed in range(2)]
    [cell] = cells_of(results)
    expected = [sum(r.history.test_accuracy[epoch] for r in results) / 2 for epoch in range(2)]
    epochs, accuracies = zip(*cell.curve("test_accuracy"), strict=True)
    assert (epochs, accuracies) == ((1, 2), pytest.approx(tuple(expected)))
    assert cell.top1_error().mean == pytest.approx(sum(r.metrics["top1_error"] for r in results) / 2)
    assert cell.per_class()["3"] == pytest.approx(sum(r.metrics["per_class"]["3"] for r in results) / 2)


def test_a_cell_whose_training_diverged_has_neither_and_comes_last():
    wild = RUN.replace(schedule=Schedule(learning_rate=1e6))
    cells = cells_of([train(wild), train(RUN)])
    assert [bool(cell.per_class()) for cell in cells] == [True, False]
    assert cells[1].top1_error().n == 0


COMMITTED = [study for study in STUDIES if (reference_root() / study).is_dir()]


@pytest.mark.parametrize("study", COMMITTED)
def test_the_committed_results_of_every_study_can_be_browsed(study):
    name, profile = next(iter(profiles(study).items()))
    assert name.endswith(", committed")
    found = stored(study, profile)
    results = sum(len(cell.results) for cell in found.cells)
    assert results == len(list((found.folder / "runs").iterdir())) > 0, "whole, or published before its end"
    assert found.figures
    assert {"paper", "ours", "verdict"} <= set(found.beside) or found.beside.empty
    assert all(cell.label for cell in found.cells)
    assert len({cell.label for cell in found.cells}) == len(found.cells)


def test_a_figure_leads_to_its_runs_and_where_that_was_not_kept_to_none(tmp_path, monkeypatch):
    found = stored("noisy_dropout", profiles("noisy_dropout")["cifar10-jpeg, committed"])
    figure = next(iter(found.figures))
    assert type(found)(**{**vars(found), "behind": {}}).cells_behind(figure) == []
    one = found.cells[1].results[0].run.key
    other = type(found)(**{**vars(found), "behind": {figure: {one}}})
    assert other.cells_behind(figure) == [found.cells[1]]

    monkeypatch.setenv("NOISEUTILS_OUTPUTS", str(tmp_path))
    folder = tmp_path / "noisy_dropout" / "smoke" / "figures"
    folder.mkdir(parents=True)
    (folder / "curves.png").write_bytes(b"")
    (folder / "runs.json").write_text(json.dumps({"curves": ["k1", "k2"]}))
    mine = stored("noisy_dropout", "smoke", Store(tmp_path / "runs"))
    assert mine.behind == {"curves": {"k1", "k2"}}
    assert mine.cells == []
    assert mine.missing > 0
    (folder / "runs.json").write_text("{torn")
    assert stored("noisy_dropout", "smoke", Store(tmp_path / "runs")).behind == {}


def test_what_is_not_there_is_an_error_that_says_what_is():
    with pytest.raises(UserError, match="noisy_dropout"):
        stored("dropout", "quick")
    with pytest.raises(UserError, match="profiles of noisy_dropout"):
        stored("noisy_dropout", "huge")
