"""Each figure of a study names the runs that it shows, those and no others."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch

pytest.importorskip("IPython", reason="needs the notebooks extra")

import factory
from matplotlib import pyplot

from noiseutils.config import AdaptiveNoise, Data, Run, ScriptedNoise
from noiseutils.data import load
from noiseutils.studies import STUDIES, output, start_here
from noiseutils.studies.adaptive_noise import figures as adaptive_figures
from noiseutils.studies.adaptive_noise import tables as adaptive_tables
from noiseutils.studies.adaptive_noise.grid import Cell, run_of
from noiseutils.studies.adversarial_noise_layer import STUDY as ANL_STUDY
from noiseutils.studies.adversarial_noise_layer import figures as anl_figures
from noiseutils.studies.noisy_dropout import network_figures
from noiseutils.studies.output import Drawn, OutputWriter
from noiseutils.studies.results import Results
from noiseutils.studies.training_data_variation import figures as data_figures
from noiseutils.studies.training_data_variation.grid import KINDS
from noiseutils.training.loop import Result

WORSE = Cell("tinycnn", "momentum", 0.1, "none")  # 0.01 is the rate chosen without noise


class Case(NamedTuple):
    """A study's made-up results, its figures, and the keys of the runs that each of these shows."""

    results: Results
    drawn: list[Drawn]
    expected: dict[str, set[str]]


def keys(results: list[Result], wanted: Callable[[Run], bool]) -> set[str]:
    return {result.run.key for result in results if wanted(result.run)}


def dropout() -> Case:
    params = factory.DROPOUT.replace(probabilities=(0.2, 0.25))
    *kept, last = factory.dropout_results(params).stored
    results = STUDIES["noisy_dropout"].results(params, [*kept, factory.diverged(last)])
    expected = {"figure_02_layer": set()}
    for p, name in ((0.2, "p20"), (0.25, "p25")):
        number = 3 if p == 0.2 else 4
        scaled = keys(kept, lambda run, p=p: run.noise.p == p and run.noise.rescale)
        expected[f"figure_{number:02d}_per_class_{name}"] = scaled
        expected[f"figure_{number + 3:02d}_errors_{name}"] = scaled
        expected[f"figure_{number + 6:02d}_weighted_accuracy_{name}"] = scaled
        assert len(scaled) < len(kept)
    expected["readings"] = keys(kept, lambda run: True)
    for name in ("robustness_fgsm", "robustness_input_noise"):
        expected[name] = keys(kept, lambda run: run.noise.rescale)
    ends = (0.0, params.base_std)
    expected["training_curves"] = keys(
        results.stored,
        lambda run: (
            run.noise.p == 0.25
            and run.noise.rescale
            and run.noise.where == "dropped"
            and run.noise.std in ends
        ),
    )
    layer = network_figures.layer({"input": torch.ones(2, 2)}, {"input": torch.ones(2, 2)})
    return Case(results, [*layer, *factory.figures_of(results)], expected)


def adaptive() -> Case:
    params = factory.ADAPTIVE.replace(optimizers=("sgd", "momentum"))
    whole, gone = factory.adaptive_results(params).stored, run_of(params, WORSE, 0)
    kept = [result for result in whole if result.run != gone]
    dead = [factory.diverged(result) for result in whole if result.run == gone]
    results = STUDIES["adaptive_noise"].results(params, [*kept, *dead])
    expected: dict[str, set[str]] = {"schedule": set(), "state_machine": set()}
    for number, (name, momentum) in enumerate((("sgd", 0.0), ("momentum", 0.9)), 1):
        own = [result for result in kept if result.run.optimizer.momentum == momentum]
        assert 0 < len(own) < len(kept)
        # both at the rate of none, both at that of the noise, each at its own: all of the two rates
        expected[f"table_{number}_{name}"] = keys(own, lambda run: not scripted(run))
        expected[f"rates_{name}"] = keys(own, lambda run: not scripted(run))
        expected[f"controls_{name}"] = keys(
            own, lambda run: scripted(run) or (gaussian(run) and run.schedule.learning_rate == 0.1)
        )
    expected["figure_01_training"] = {run_of(params, Cell("tinycnn", "sgd", 0.1, "gaussian"), 0).key}
    history = adaptive_tables.play(AdaptiveNoise(), 3, kept[0].history.assign(update_norm=1.0))
    drawn = [*adaptive_figures.schedule(results.params), *adaptive_figures.machine(history)]
    return Case(results, [*drawn, *factory.figures_of(results)], expected)


def scripted(run: Run) -> bool:
    return isinstance(run.parameter_noise, ScriptedNoise)


def gaussian(run: Run) -> bool:
    return run.parameter_noise is not None and run.parameter_noise.distribution == "gaussian"


def adversarial() -> Case:
    params = factory.ANL.replace(table3_models=("vgg16",), table2_models=("resnet20",))
    results = factory.anl_results(params, reports=True)

    def of(part: str, seeds: int = params.seeds, **equal: Any) -> set[str]:
        found = {
            ANL_STUDY.run_of(params, c, s).key for c in results.of(part=part, **equal) for s in range(seeds)
        }
        assert found
        return found

    expected = {
        "construction": set(),
        "table_1_similarity": of("table1"),
        "figure_02_activation_std": of("table2", model="lenet5"),
        "figure_02_activation_std_table2_resnet20": of("table2", model="resnet20"),
        "figure_02_activation_std_ablation_vgg16": of("ablation"),
        "figure_03_feature_maps": of("table2", seeds=1, model="lenet5"),
        "ablation_errors": of("ablation"),
        "figure_04_error_over_epsilon": of("figure4"),
        "table_2_errors": of("table2"),
        "table_3_errors": of("table3"),
        "table_4_fgsm": of("table4") | of("phases"),
        "attacks_8_255": of("table4", seeds=1),
        "attacks_curve": of("table4", seeds=1),
    }
    construction = anl_figures.construction({"h": torch.ones(2, 2)})
    return Case(results, [*construction, *factory.figures_of(results)], expected)


def data_variation() -> Case:
    params = factory.VARIATION.replace(sigmas=(0.1, 0.3, 1.0), change_seeds=2)
    results = factory.variation_results(params)
    expected: dict[str, set[str]] = {
        "figure_01_examples": set(),
        "figure_02_modules": set(),
        "figure_03_corruptions": set(),
    }
    for kind, full in KINDS.items():

        def own(run: Run, full: str = full) -> bool:
            return run.corruption is None or run.corruption.kind == full

        number = 4 if kind == "noise" else 6
        whole = keys(results.stored, own)
        assert len(whole) < len(keys(results.stored, lambda run: True))
        expected[f"figure_{number:02d}_{kind}"] = whole
        expected[f"figure_{number + 1:02d}_change_{kind}"] = keys(
            results.stored, lambda run, own=own: own(run) and run.seed < 2
        )
        for shown in KINDS:
            if shown != kind:  # the same kind is Figures 4 and 6
                expected[f"matrix_{kind}_on_{shown}"] = whole
        expected[f"calibration_{kind}"] = whole
        expected[f"autoattack_{kind}"] = keys(results.stored, lambda run, own=own: own(run) and run.seed == 0)
        # a line each for strengths 0.1 and 1, none for 0.3
        expected[f"common_{kind}"] = keys(
            results.stored, lambda run: run.corruption is None or run.corruption.sigma not in (0.15, 0.3)
        )
    data = load(Data(name="shapes", train_size=60, test_size=20))
    drawn = [*data_figures.examples(data), *data_figures.modules()]
    drawn += data_figures.corrupted_examples(params, data)
    return Case(results, [*drawn, *factory.figures_of(results)], expected)


@pytest.fixture
def kept_keys(monkeypatch, tmp_path):
    """What `runs.json` of a study says; figures are not written."""
    monkeypatch.setenv("NOISEUTILS_OUTPUTS", str(tmp_path))
    monkeypatch.setattr(output, "_save", lambda figure, path: None)
    monkeypatch.setattr(output, "Image", lambda **said: None)
    monkeypatch.setattr(output, "display", lambda image: None)

    def read() -> dict[str, list[str]]:
        (path,) = tmp_path.glob("*/*/figures/runs.json")
        return json.loads(path.read_text())

    return read


@pytest.mark.parametrize("study", [dropout, adaptive, adversarial, data_variation], ids=lambda f: f.__name__)
def test_each_figure_names_the_runs_that_it_shows(study, kept_keys):
    case = study()
    shown = {d.name: {result.run.key for result in d.results} for d in case.drawn}
    assert shown.keys() == case.expected.keys()
    for name, found in shown.items():
        assert found == case.expected[name], name
    whole = {result.run.key for result in case.results.stored}
    assert all(found <= whole for found in shown.values())
    place = OutputWriter(case.results.params, "shapes")
    place.keys = sorted(whole)
    place.show(case.drawn)
    assert kept_keys() == {name: sorted(found) for name, found in case.expected.items()}


def test_a_figure_without_results_named_shows_all_of_the_writers(kept_keys):
    results = factory.adaptive_results(controls=False).stored[:3]
    for result in results:
        result.info["data"]["label"] = "shapes"
    place = OutputWriter(factory.ADAPTIVE, "shapes", results)
    place.show([Drawn("all", pyplot.figure(), "All."), Drawn("none", pyplot.figure(), "None.", ())])
    place.show([Drawn("one", pyplot.figure(), "One, twice.", iter([results[0], results[0]]))])
    assert kept_keys() == {
        "all": sorted(result.run.key for result in results),
        "none": [],
        "one": [results[0].run.key],
    }


def test_the_start_pages_curves_name_their_two_runs(kept_keys):
    results = factory.adaptive_results(controls=False).stored[:2]
    for result in results:
        result.info["data"]["label"] = "shapes"
    start_here.show_images(load(Data(name="shapes", train_size=60, test_size=20)))
    start_here.show_curves(dict(zip("ab", results, strict=True)))
    assert kept_keys() == {"images": [], "curves": sorted(result.run.key for result in results)}
