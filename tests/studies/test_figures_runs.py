"""Each figure of a study names the runs that it shows, those and no others."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import torch

pytest.importorskip("IPython", reason="needs the notebooks extra")

import test_adaptive_noise as of_adaptive
import test_adversarial_noise_layer as of_anl
import test_colours
import test_noisy_dropout as of_dropout
import test_training_data_variation as of_data
from matplotlib import pyplot

from noiseutils.config import Data, Run, ScriptedNoise
from noiseutils.data import load
from noiseutils.studies import shelf, start_here
from noiseutils.studies.adaptive_noise import figures as adaptive_figures
from noiseutils.studies.adaptive_noise import tables as adaptive_tables
from noiseutils.studies.adversarial_noise_layer import figures as anl_figures
from noiseutils.studies.adversarial_noise_layer import grid as anl
from noiseutils.studies.noisy_dropout import figures as dropout_figures
from noiseutils.studies.shelf import Drawn, Shelf
from noiseutils.studies.training_data_variation import beyond
from noiseutils.studies.training_data_variation import figures as data_figures
from noiseutils.training.loop import Result

WORSE = of_adaptive.an.Cell("tinycnn", "momentum", 0.1, "none")  # 0.01 is the rate chosen without noise


class Case(NamedTuple):
    """A study's made-up results, its figures, and the keys of the runs that each of these shows."""

    outcome: Any
    drawn: list[Drawn]
    expected: dict[str, set[str]]


def keys(results: list[Result], wanted: Callable[[Run], bool]) -> set[str]:
    return {result.run.key for result in results if wanted(result.run)}


def dropout() -> Case:
    params = of_dropout.PARAMS.replace(probabilities=(0.2, 0.25))
    outcome = of_dropout.made_up(params, of_dropout.costly)
    last = outcome.results[-1]
    outcome.results[-1] = replace(last, status="diverged", metrics={})
    kept = outcome.results[:-1]
    expected = {"figure_02_layer": set()}
    for p, name in ((0.2, "p20"), (0.25, "p25")):
        number = 3 if p == 0.2 else 4
        scaled = keys(kept, lambda run, p=p: run.noise.p == p and run.noise.rescale)
        dropped = keys(
            kept, lambda run, p=p: run.noise.p == p and run.noise.rescale and run.noise.where == "dropped"
        )
        expected[f"figure_{number:02d}_per_class_{name}"] = dropped
        expected[f"figure_{number + 3:02d}_errors_{name}"] = scaled
        expected[f"figure_{number + 6:02d}_weighted_accuracy_{name}"] = scaled
        assert len(dropped) < len(scaled) < len(kept)
    expected["readings"] = keys(kept, lambda run: True)
    for name in ("robustness_fgsm", "robustness_input_noise"):
        expected[name] = keys(kept, lambda run: run.noise.rescale)
    ends = (0.0, params.base_std)
    expected["training_curves"] = keys(
        outcome.results,
        lambda run: (
            run.noise.p == 0.25
            and run.noise.rescale
            and run.noise.where == "dropped"
            and run.noise.std in ends
        ),
    )
    drawn = [*dropout_figures.layer({"input": torch.ones(2, 2)})]
    for name in ("per_class", "errors", "weighted_accuracy", "readings", "robustness", "curves"):
        drawn += getattr(dropout_figures, name)(outcome)
    return Case(outcome, drawn, expected)


def adaptive() -> Case:
    outcome = of_adaptive.made_up(of_adaptive.PARAMS.replace(optimizers=("sgd", "momentum")))
    (gone,) = (
        i
        for i, result in enumerate(outcome.results)
        if result.run == of_adaptive.an.run_of(outcome.params, WORSE, 0)
    )
    outcome.results[gone] = replace(outcome.results[gone], status="diverged")
    kept = [result for i, result in enumerate(outcome.results) if i != gone]
    expected: dict[str, set[str]] = {"schedule": set(), "state_machine": set()}
    for number, (name, momentum) in enumerate((("sgd", 0.0), ("momentum", 0.9)), 1):
        own = [result for result in kept if result.run.optimizer.momentum == momentum]
        assert 0 < len(own) < len(kept)
        expected[f"table_{number}_{name}"] = keys(
            own,
            lambda run: (
                not scripted(run) and run.schedule.learning_rate == (0.1 if run.parameter_noise else 0.01)
            ),
        )
        expected[f"rates_{name}"] = keys(own, lambda run: not scripted(run))
        expected[f"controls_{name}"] = keys(
            own, lambda run: scripted(run) or (gaussian(run) and run.schedule.learning_rate == 0.1)
        )
    shown = of_adaptive.an.Cell("tinycnn", "sgd", 0.1, "gaussian")
    expected["figure_01_training"] = {of_adaptive.an.run_of(outcome.params, shown, 0).key}
    history = adaptive_tables.play(of_adaptive.AdaptiveNoise(), 3, kept[0].history.assign(update_norm=1.0))
    drawn = [*adaptive_figures.schedule(outcome.params), *adaptive_figures.machine(history)]
    for name in ("training", "results", "rates", "controls"):
        drawn += getattr(adaptive_figures, name)(outcome)
    return Case(outcome, drawn, expected)


def scripted(run: Run) -> bool:
    return isinstance(run.parameter_noise, ScriptedNoise)


def gaussian(run: Run) -> bool:
    return run.parameter_noise is not None and run.parameter_noise.distribution == "gaussian"


def adversarial() -> Case:
    params = of_anl.PARAMS.replace(table3_models=("vgg16",), table2_models=("resnet20",))
    outcome = of_anl.made_up(params, of_anl.helpful)

    def of(part: str, seeds: int = params.seeds, **equal: Any) -> set[str]:
        found = {anl.run_of(params, c, s).key for c in outcome.of(part, **equal) for s in range(seeds)}
        assert found
        return found

    expected = {
        "construction": set(),
        "table_1_similarity": of("table1"),
        "figure_02_activation_std": of("table2", model="lenet5"),
        "figure_02_activation_std_table2_resnet20": of("table2", model="resnet20"),
        "figure_02_activation_std_ablation_vgg16": of("ablation"),
        "figure_03_feature_maps": of("table2", seeds=1, model="lenet5"),
        "figure_04_error_over_epsilon": of("figure4"),
        "table_2_errors": of("table2"),
        "table_3_errors": of("table3"),
        "table_4_fgsm": of("table4"),
        "attacks_8_255": of("table4", seeds=1),
        "attacks_curve": of("table4", seeds=1),
    }
    drawn = [*anl_figures.construction({"h": torch.ones(2, 2)})]
    for name in ("similarity", "activation_std", "feature_maps", "error_over_epsilon", "robustness"):
        drawn += getattr(anl_figures, name)(outcome)
    for part in ("table2", "table3"):
        drawn += anl_figures.errors(outcome, part)
    report = {
        "clean": {"accuracy": 0.9},
        "settings": {"images": 9},
        "deltas": [test_colours.attack_record(8 / 255)],
        "curve": {"deltas": [1 / 255, 2 / 255], "accuracies": [0.5, 0.0]},
    }
    drawn += anl_figures.attacks(outcome, {(cell, 0): report for cell in outcome.of("table4")})
    return Case(outcome, drawn, expected)


def data_variation() -> Case:
    params = of_data.PARAMS.replace(sigmas=(0.1, 0.3, 1.0), change_seeds=2)
    outcome = of_data.made_up(params)
    expected: dict[str, set[str]] = {
        "figure_01_examples": set(),
        "figure_02_modules": set(),
        "figure_03_corruptions": set(),
    }
    for kind, full in of_data.tdv.KINDS.items():

        def own(run: Run, full: str = full) -> bool:
            return run.corruption is None or run.corruption.kind == full

        number = 4 if kind == "noise" else 6
        whole = keys(outcome.results, own)
        assert len(whole) < len(keys(outcome.results, lambda run: True))
        expected[f"figure_{number:02d}_{kind}"] = whole
        expected[f"figure_{number + 1:02d}_change_{kind}"] = keys(
            outcome.results, lambda run, own=own: own(run) and run.seed < 2
        )
        for shown in of_data.tdv.KINDS:
            expected[f"matrix_{kind}_on_{shown}"] = whole
        expected[f"calibration_{kind}"] = whole
        expected[f"autoattack_{kind}"] = keys(
            outcome.results, lambda run, own=own: own(run) and run.seed == 0
        )
        # a line each for strengths 0.1 and 1, none for 0.3
        expected[f"common_{kind}"] = keys(
            outcome.results, lambda run: run.corruption is None or run.corruption.sigma not in (0.15, 0.3)
        )
    data = load(Data(name="shapes", train_size=60, test_size=20))
    drawn = [*data_figures.examples(data), *data_figures.modules()]
    drawn += data_figures.corrupted_examples(params, data)
    for draw in (
        data_figures.accuracy, data_figures.changes, beyond.matrices, beyond.common, beyond.autoattacked,
        beyond.calibration,
    ):  # fmt: skip
        drawn += draw(outcome)
    return Case(outcome, drawn, expected)


@pytest.fixture
def told(monkeypatch, tmp_path):
    """What `runs.json` of a study says; figures are not written."""
    monkeypatch.setenv("NOISEUTILS_OUTPUTS", str(tmp_path))
    monkeypatch.setattr(shelf, "_save", lambda figure, path: None)
    monkeypatch.setattr(shelf, "Image", lambda **said: None)
    monkeypatch.setattr(shelf, "display", lambda image: None)

    def read() -> dict[str, list[str]]:
        (path,) = tmp_path.glob("*/*/figures/runs.json")
        return json.loads(path.read_text())

    return read


@pytest.mark.parametrize("study", [dropout, adaptive, adversarial, data_variation], ids=lambda f: f.__name__)
def test_each_figure_names_the_runs_that_it_shows(study, told):
    case = study()
    shown = {d.name: {result.run.key for result in d.results} for d in case.drawn}
    assert shown.keys() == case.expected.keys()
    for name, found in shown.items():
        assert found == case.expected[name], name
    whole = {result.run.key for result in case.outcome.results}
    assert all(found <= whole for found in shown.values())
    place = Shelf(case.outcome.params, "shapes")
    place.keys = sorted(whole)
    place.show(case.drawn)
    assert told() == {name: sorted(found) for name, found in case.expected.items()}


def test_a_figure_without_results_named_shows_all_of_the_shelfs(told):
    results = of_adaptive.made_up(controls=False).results[:3]
    for result in results:
        result.info["data"]["label"] = "shapes"
    place = Shelf(of_adaptive.PARAMS, "shapes", results)
    place.show([Drawn("all", pyplot.figure(), "All."), Drawn("none", pyplot.figure(), "None.", ())])
    place.show([Drawn("one", pyplot.figure(), "One, twice.", iter([results[0], results[0]]))])
    assert told() == {
        "all": sorted(result.run.key for result in results),
        "none": [],
        "one": [results[0].run.key],
    }


def test_the_start_pages_curves_name_their_two_runs(told):
    results = of_adaptive.made_up(controls=False).results[:2]
    for result in results:
        result.info["data"]["label"] = "shapes"
    start_here.show_images(load(Data(name="shapes", train_size=60, test_size=20)))
    start_here.show_curves(dict(zip("ab", results, strict=True)))
    assert told() == {"images": [], "curves": sorted(result.run.key for result in results)}
