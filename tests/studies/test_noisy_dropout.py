import ast
import math
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from factory import DROPOUT as PARAMS
from factory import costly, diverged, dropout_results, figures_of

from noiseutils import train
from noiseutils.data import load
from noiseutils.errors import UserError
from noiseutils.models import build_model
from noiseutils.studies import study
from noiseutils.studies.evidence import JUDGED
from noiseutils.studies.noisy_dropout import STUDY, contrasts, network_figures, reported, tables
from noiseutils.studies.noisy_dropout import left_on as left_on_module
from noiseutils.studies.noisy_dropout.grid import READINGS, Cell
from noiseutils.studies.noisy_dropout.left_on import LEFT_ON, left_on_table, metrics_left_on
from noiseutils.studies.noisy_dropout.params import Params
from noiseutils.studies.noisy_dropout.tables import CIFAR10
from noiseutils.studies.output import OutputWriter
from noiseutils.studies.params import data_of
from noiseutils.studies.profiles import read_profile
from noiseutils.studies.registry import AS_COUNTED
from noiseutils.sweeps.store import Store

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "notebooks" / "01_noisy_dropout.ipynb"
NOTEBOOKS = sorted(
    (*(ROOT / "notebooks").glob("*.ipynb"), *(ROOT / "notebooks" / "solutions").glob("*.ipynb"))
)


def test_the_papers_grid_is_all_there():
    params = read_profile(Params, "noisy_dropout", "paper")
    grid = STUDY.cells(params)
    assert len(grid) == len(set(grid)) == 3 + 2 * 3 * 5 + 3 * 2 + 3
    assert len(STUDY.runs(params)) == len({run.key for run in STUDY.runs(params)}) == 6 * len(grid)
    assert {run.epochs for run in STUDY.runs(params)} == {10}
    assert {run.model.width for run in STUDY.runs(params)} == {1.0}


def test_noise_levels_are_the_papers_printed_ones():
    printed = [0.007975, 0.01595, 0.04785, 0.07975, 0.1595]
    params = Params()
    ours = [STUDY.run_of(params, Cell(0.2, level, "dropped"), 0).noise.std for level in params.noise_levels]
    assert ours == pytest.approx(printed)


def test_each_reading_is_the_layer_that_it_says():
    noise = {r: STUDY.run_of(PARAMS, Cell(0.2, 0.5, r), 0).noise for r in READINGS}
    assert (noise["dropped"].where, noise["dropped"].rescale) == ("dropped", True)
    assert (noise["all"].where, noise["all"].rescale) == ("all", True)
    assert (noise["unscaled"].where, noise["unscaled"].rescale) == ("dropped", False)
    assert (noise["printed"].where, noise["printed"].rescale) == ("all", False)


def test_a_sweep_cut_short_has_all_seeds_of_the_middle_probability_first():
    params = read_profile(Params, "noisy_dropout", "overnight")
    runs = STUDY.runs(params)
    assert {(run.noise.p, run.noise.where, run.noise.std) for run in runs[:18]} == {
        (0.25, "dropped", 0), (0.25, "dropped", 0.5 * 0.1595), (0.25, "all", 0.5 * 0.1595),
    }  # fmt: skip
    assert {run.seed for run in runs[:18]} == set(range(6))
    counted = [
        STUDY.run_of(params, c, s) for c in STUDY.cells(params) if c.reading == "dropped" for s in range(6)
    ]
    assert set(counted) <= set(runs[: len(counted) + 6])
    assert {run.noise.p for run in runs[: 5 * 6]} == {0.25}


def test_overnight_gives_every_claim_six_seeds_in_eight_hours_on_two_cores():
    params = read_profile(Params, "noisy_dropout", "overnight")
    assert len(STUDY.runs(params)) * 490 / 3600 <= 16, "core-hours"
    real = params.replace(data="./cifar10-jpeg")
    table = STUDY.verdicts(dropout_results(real, costly, classes=CIFAR10)).set_index("name")
    asked = table[~table.index.str.endswith("left-on") & (table.verdict != AS_COUNTED)]
    assert table.verdict[table.counted].ne(AS_COUNTED).all()
    assert set(asked.verdict) <= {"held", "the opposite", "not shown"}
    assert set(asked.settings) == {"copy"}


def test_overnight_takes_up_the_committed_results():
    stored = ROOT / "outputs" / "reference" / "noisy_dropout" / "cifar10-jpeg" / "runs"
    runs = STUDY.runs(read_profile(Params, "noisy_dropout", "overnight").replace(data="./cifar10-jpeg"))
    assert all((stored / run.key).is_dir() for run in runs[:18]), "its first comparison, six seeds"


def notebook(path: Path):
    return nbformat.read(path, as_version=4)


def test_the_notebook_finds_its_parameters_and_refuses_unknown_ones(notebook_parameters):
    defaults = notebook_parameters("noisy_dropout")
    names = defaults | {"In": ["", "x = 1"], "std": 0.3, "np": np}
    assert Params.from_notebook(names) == read_profile(Params, "noisy_dropout", "smoke")
    names["In"].append("# Parameters\nepoch = 3\nseeds = 2\n")
    names["epoch"] = 3
    with pytest.raises(UserError, match="epoch: unknown key"):
        Params.from_notebook(names)
    with pytest.raises(UserError, match="seeds"):
        Params.from_notebook(defaults | {"seeds": "two"})


def test_reported_numbers_stand_in_the_sentences_they_are_quoted_from():
    table = reported.reported()
    assert len(table) == 23
    for row in table.itertuples():
        percent = f"{row.value * 100:.2f}%"
        assert percent in row.quote or f"{row.value:.2f}" in row.quote, row


def test_reported_table_takes_extremes_per_seed_and_judges_only_comparable_data():
    full = PARAMS.replace(noise_levels=(0.05, 0.1, 0.3, 0.5, 1.0))
    results = dropout_results(full, lambda cell, seed, condition: 0.25 + cell.level / 10 + seed / 1000)
    table = reported.reported_table(results)
    highest = table[(table.figure == 6) & (table.quantity == "top1_error") & (table.over == "max")].iloc[0]
    assert highest.ours == pytest.approx(0.351)
    assert highest.n == 3
    assert set(table.verdict) == {"embedded images: no verdict"}
    real = full.replace(data="some/cifar10-jpeg", seeds=6)
    found = reported.reported_table(dropout_results(real, costly))
    values = {"agrees", "ours is higher", "ours is lower"}
    with_noise = found.loc[found.level != 0, "verdict"]
    assert set(with_noise) <= values | {"not shown", "ours is not below", "ours is not above"}
    assert set(found.loc[found.level == 0, "verdict"]) == {reported.WIDTHS_CHOSEN}
    assert set(found.settings) == {"copy"}
    missing = reported.reported_table(dropout_results(real.replace(probabilities=(0.25,)), costly))
    assert set(missing[missing.p == 0.2].verdict) == {"not run"}


def test_extremes_over_an_incomplete_grid_are_not_run():
    table = reported.reported_table(dropout_results(PARAMS, costly))
    assert set(table[table.over.notna()].verdict) <= {"not run"}


REAL = PARAMS.replace(data="./photographs", seeds=6)


def test_claims_follow_the_differences():
    table = STUDY.verdicts(dropout_results(REAL, costly)).set_index("name")
    assert table.loc["error-0.25", "difference"] == pytest.approx(0.045 + 0.0125)
    assert table.loc["error-0.25", "verdict"] == "held"
    assert table.loc["steeper", "difference"] == pytest.approx(0.03)
    assert table.loc["lower-rates", "difference"] == pytest.approx(0.03)
    assert (table.loc["fgsm-0.25", "claimed"], table.loc["fgsm-0.25", "verdict"]) == ("down", "held")
    assert table.loc["top5-0.25", "claimed"] == "within ±0.005"
    assert table.loc["top5-0.25", "verdict"] in JUDGED
    assert table.loc["precision", "verdict"] == "held"
    assert not table.counted[[name for name in table.index if name.endswith("-all")]].any()


def left_on(results, rise: dict[str, float], seeds=range(6)):
    """Return results whose networks err by 0.1 more with the layer left on, and with noise by `rise` more."""
    found = {}
    for cell, seed in results.by_cell:
        if seed in seeds:
            off = results.values(cell, "top1_error")[seed]
            more = 0.1 + rise[cell.reading] * (cell.level > 0) + seed / 1000
            found[cell, seed, LEFT_ON] = {"top1_error": off + more}
    return replace(results, answers=found)


def test_the_layer_left_on_is_compared_with_the_layer_off_on_equal_seeds():
    results = left_on(dropout_results(REAL, lambda *_: 0.25), dict.fromkeys(READINGS, 0.02), range(4))
    table = left_on_table(results)
    row = table[(table.p == 0.25) & (table.level == 0.5) & (table.reading == "dropped")].iloc[0]
    assert (row.n, row.missing) == (4, 2)
    assert (row.off, row.on) == pytest.approx((0.25, 0.25 + 0.12 + 0.0015))
    assert row.difference == pytest.approx(row.on - row.off)
    nothing = left_on_table(dropout_results(REAL, costly))
    assert set(nothing.n) == {0}
    assert set(nothing.missing) == {6}


def test_noise_with_the_layer_left_on_is_compared_with_dropout_left_on():
    rise = {"dropped": 0.02, "all": -0.02, "unscaled": 0, "printed": 0}
    table = STUDY.verdicts(left_on(dropout_results(REAL, lambda *_: 0.25), rise)).set_index("name")
    assert table.loc["error-0.25-left-on", "difference"] == pytest.approx(0.02)
    assert table.loc["error-0.25-left-on", "verdict"] == "held"
    assert table.loc["error-0.25-all-left-on", "verdict"] == "the opposite"
    assert not table.counted[[name for name in table.index if name.endswith("left-on")]].any()


def test_networks_are_asked_once_with_their_layer_left_on(tmp_path, monkeypatch):
    params = read_profile(Params, "noisy_dropout", "smoke").replace(probabilities=(0.25,), seeds=1)
    store, runs = Store(tmp_path / "runs"), STUDY.runs(params)
    STUDY.analyse(params, store)
    assert STUDY.answers(params, store) == {}, "without weights there is no network to ask"
    for run in runs[:2]:
        store.save(train(run))
    STUDY.analyse(params, store, 60.0)
    found = STUDY.answers(params, store)
    assert len(found) == 2
    monkeypatch.setattr(left_on_module, "metrics_left_on", lambda *_: pytest.fail("asked again"))
    STUDY.analyse(params, store)
    monkeypatch.undo()
    again = metrics_left_on(store.load(runs[0], weights=True).model, runs[0], load(data_of(params)))
    assert again == found[STUDY.cells(params)[0], 0, LEFT_ON]
    quiet = runs[0].replace(noise=runs[0].noise.replace(p=0.0))
    clean = metrics_left_on(store.load(runs[0], weights=True).model, quiet, load(data_of(params)))
    assert clean["top1_error"] == store.load(runs[0]).metrics["top1_error"]


def test_the_error_grows_with_the_level_where_it_does():
    def error(cell: Cell, seed: int, condition: str) -> float:
        return 0.25 + 0.02 * cell.level * (1 + seed / 10) * (cell.reading == "all")

    table = STUDY.verdicts(dropout_results(REAL, error)).set_index("name")
    assert table.loc["level-0.25-all", "difference"] == pytest.approx(0.02 * 1.25)
    assert table.loc["level-0.25-all", "verdict"] == "held"
    assert table.loc["level-0.25", "difference"] == pytest.approx(0)
    assert table.loc["level-0.25", "p_holm"] == 1


def test_a_class_is_compared_with_the_mean_change_of_all_classes():
    results = dropout_results(REAL, lambda cell, seed, condition: 0.3)
    for (cell, seed), result in results.by_cell.items():
        for record in result.metrics["conditions"]:
            noise = 0.1 * (cell.level > 0)
            record["per_class"] = {"bird": 0.5 - noise, "dog": 0.5 - 4 * noise - seed / 1000 * (noise > 0)}
    table = STUDY.verdicts(STUDY.results(REAL, results.stored)).set_index("name")
    assert table.loc["class-bird-0.25", "difference"] == pytest.approx(0.15 + 0.00125)
    assert table.loc["class-bird-0.25", "verdict"] == "held"
    assert table.loc["class-dog-0.3", "difference"] == 0, "from noise level to noise level"
    assert table.loc["high-bird-0.25", "difference"] == pytest.approx(0.15 + 0.00125)
    assert table.loc["class-automobile-0.25", "verdict"] == "not run", "no such class"


def test_levels_are_compared_from_the_lowest_to_the_highest_and_not_where_one_was_trained():
    results = dropout_results(REAL, lambda cell, seed, condition: 0.3 + 0.1 * cell.level + seed / 1000)
    table = STUDY.verdicts(results).set_index("name")
    for name, sign in (("top5-0.25", 1), ("stable-0.2", -1)):
        assert np.sign(table.loc[name, "difference"]) == sign, name
    one = dropout_results(REAL.replace(noise_levels=(0.5,)), costly)
    few = STUDY.verdicts(one).set_index("name").verdict
    assert set(few[["top5-0.25", "stable-0.2", "class-dog-0.3"]]) == {"not run"}


def test_robustness_is_of_the_images_that_are_right_without_the_corruption():
    def error(cell: Cell, seed: int, condition: str) -> float:
        clean = 0.2 + 0.2 * (cell.level > 0) + seed / 1000
        return clean if condition == "clean" else clean + (1 - clean) / 2

    table = STUDY.verdicts(dropout_results(REAL, error)).set_index("name")
    for name in ("fgsm", "noisy-images"):
        assert table.loc[f"{name}-0.25", "difference"] == pytest.approx(0), "half of them are lost in each"
        assert table.loc[f"{name}-0.25-all-images", "difference"] == pytest.approx(0.1)


def test_the_best_level_is_chosen_by_the_other_seeds():
    lucky = {0: 0.5, 1: 1.0, 2: 0.5, 3: 1.0, 4: 0.5, 5: 1.0}  # the level that is better on a seed itself

    def error(cell: Cell, seed: int, condition: str) -> float:
        return 0.3 - 0.01 * (cell.level == lucky[seed]) if cell.level else 0.295

    table = STUDY.verdicts(dropout_results(REAL, error)).set_index("name")
    assert table.loc["best-level", "difference"] > 0, "each seed's own best would be -0.005"
    assert table.loc["best-level", "verdict"] in JUDGED


def test_a_best_of_one_level_is_no_choice_and_has_no_verdict():
    results = dropout_results(REAL.replace(noise_levels=(0.5,)))
    table = STUDY.verdicts(results).set_index("name")
    assert table.loc["best-level", "verdict"] == contrasts.ONE_LEVEL
    assert np.isnan(table.loc["best-level", "p_holm"])


def test_the_nearest_reading_is_the_one_whose_cost_is_the_papers_at_all_of_its_levels():
    def error(cell: Cell, seed: int, condition: str) -> float:
        rise = {"dropped": 0.001, "all": 0.06, "unscaled": 0.02, "printed": 0.04}[cell.reading]
        return 0.25 + seed / 1000 + (rise if cell.level else 0)

    whole = REAL.replace(noise_levels=reported.PAPER_LEVELS, unscaled_levels=(0.0, *reported.PAPER_LEVELS))
    table = reported.readings_table(dropout_results(whole, error))
    middle = table[table.p == 0.25].set_index("reading")
    assert middle.paper.tolist() == pytest.approx([0.3238 - 0.2618] * 4)
    assert middle.cost.tolist() == pytest.approx([0.001, 0.06, 0.02, 0.04])
    assert middle.nearest.to_dict() == {"dropped": "", "all": "nearest", "unscaled": "", "printed": ""}
    for fewer in (whole.replace(noise_levels=(0.5, 1.0)), whole.replace(seeds=5), whole.replace(width=0.5)):
        assert set(reported.readings_table(dropout_results(fewer, error)).nearest) == {""}


@pytest.mark.parametrize(
    "change",
    [{"model": "alexnet"}, {"learning_rate": 0.01}, {"base_std": 1.0}, {"epochs": 9}, {"train_size": 500}],
)
def test_other_settings_than_ours_of_the_paper_are_told_apart(change):
    cell = Cell(0.25, 0.5, "dropped")
    assert STUDY.settings(REAL.replace(data="./cifar10-jpeg"), cell) == "copy"
    assert STUDY.settings(REAL.replace(data="cifar10"), cell) == "paper"
    assert STUDY.settings(REAL.replace(data="cifar10", **change), cell) == "other"


def test_a_probability_without_results_leaves_a_gap_and_no_error(tmp_path, monkeypatch):
    monkeypatch.setenv("NOISEUTILS_OUTPUTS", str(tmp_path))
    whole = dropout_results(PARAMS, costly)
    results = STUDY.results(PARAMS, [r for r in whole.stored if r.run.noise.p != 0.2])
    output = OutputWriter(PARAMS, "shapes", results.stored)
    output.show(figures_of(results))
    for table in (tables.grid_table, tables.robustness_table, tables.significance_table, STUDY.verdicts):
        assert len(table(results))
    assert "not run" in set(STUDY.verdicts(results).verdict)


def test_a_study_of_which_nothing_finished_is_one_clear_error(monkeypatch):
    monkeypatch.setattr(study, "gather", lambda runs, place, executor: [])
    with pytest.raises(UserError, match="none of the study's"):
        STUDY.collect(PARAMS)


def test_one_seed_gives_no_verdict():
    table = STUDY.verdicts(dropout_results(REAL.replace(seeds=1), costly))
    assert set(table.verdict) == {"too few seeds", "not run"}


def test_significance_compares_every_cell_with_ordinary_dropout_on_equal_seeds():
    results = dropout_results(PARAMS, costly)
    table = tables.significance_table(results)
    assert len(table) == len(STUDY.cells(PARAMS)) - 3
    assert (table.n == 3).all()
    row = table[(table.p == 0.3) & (table.level == 0.5) & (table.reading == "dropped")].iloc[0]
    assert row.difference == pytest.approx(0.06 + 0.011)
    assert (table.p_holm >= table.p_value).all()


def test_classes_are_tested_in_both_readings_and_every_probability():
    results = dropout_results(REAL, lambda cell, seed, _: 0.3 + 0.02 * (cell.reading == "all") + seed / 1000)
    for (cell, seed), result in results.by_cell.items():
        for record in result.metrics["conditions"]:
            record["per_class"]["a"] += (0.1 + seed / 1000) * cell.level
    table = tables.per_class_tests(STUDY.results(REAL, results.stored))
    assert len(table) == 3 * 2 * 3
    found = table[table.p == 0.3].set_index(["class", "reading"])
    assert set(found.levels) == {"50 % 100 %"}
    assert found.difference["a", "dropped"] == pytest.approx(0.075 + 0.75 * 0.0025)
    assert found.difference["b", "all"] == pytest.approx(-0.02)
    assert found.difference["b", "dropped"] == pytest.approx(0, abs=1e-12)
    assert set(found.n) == {6}
    assert (table.p_holm >= table.p_value).all()
    summary = tables.per_class_summary(results)
    assert set(summary.reading) == set(READINGS)
    assert list(summary.columns) == ["reading", "p", "level", "a", "b", "c", "n"]


def test_the_papers_rises_stand_at_the_places_that_it_prints():
    def paper(p: float, quantity: str) -> dict[str, float]:
        found = reported.places(dropout_results(whole, costly), p, quantity)
        values = {place.label: reported.paper_at(p, quantity, place) for place in found}
        return {label: value for label, value in values.items() if not math.isnan(value)}

    whole = PARAMS.replace(noise_levels=reported.PAPER_LEVELS)
    assert paper(0.2, "top1_error") == {"least of the levels": 0.2889, "greatest of the levels": 0.3132}
    assert paper(0.2, "top5_error") == {"greatest of the levels (the paper: below)": 0.031}
    assert paper(0.25, "top5_error") == {"100 %": 0.0298}
    assert paper(0.3, "weighted_accuracy") == {"5 %": 0.68, "100 %": 0.67, "least of the levels": 0.66}


def test_extremes_of_a_profile_with_fewer_levels_are_not_drawn_as_the_papers():
    greatest = reported.Place("", None, "max")
    for params, count in ((PARAMS, 0), (PARAMS.replace(noise_levels=reported.PAPER_LEVELS), 3)):
        results = dropout_results(params, costly)
        assert len(reported.ours_at(results, 0.2, "dropped", "top1_error", greatest)) == count


def test_figure_1_is_drawn_from_the_network_that_was_built():
    net = build_model("cifar10net", width=0.5, image_size=32)
    steps = {step.name: step for step in network_figures.forward_steps(net, (3, 32, 32))}
    assert steps["image"].shape == (3, 32, 32)
    assert steps["conv3"].shape == (32, 8, 8)
    assert steps["fc3"].shape == (10,)
    assert steps["conv1"].text == "conv1\n5×5\n12×32×32"
    results = dropout_results(PARAMS, costly)
    assert not list(network_figures.architecture(results)), "made-up results have no network"
    results.stored[0].info["data"] |= {"channels": 3, "image_size": 32}
    (drawn,) = network_figures.architecture(results)
    assert "818,890 parameters" in drawn.figure.axes[0].get_title()


def test_a_missing_seed_drops_out_of_the_pairing():
    whole = dropout_results(PARAMS, costly)
    gone = STUDY.run_of(PARAMS, Cell(0.25, 0.5, "dropped"), 1).key
    results = STUDY.results(PARAMS, [r for r in whole.stored if r.run.key != gone])
    table = tables.significance_table(results)
    row = table[(table.p == 0.25) & (table.level == 0.5) & (table.reading == "dropped")].iloc[0]
    assert row.n == 2


def test_a_diverged_run_is_counted_and_never_averaged_in():
    whole = dropout_results(PARAMS, costly)
    bad, *others = whole.stored
    grid = tables.grid_table(STUDY.results(PARAMS, [diverged(bad), *others]))
    row = grid[(grid.p == 0.25) & (grid.level == 0) & (grid.reading == "dropped")].iloc[0]
    assert (row.n, row.diverged) == (2, 1)
    assert row.top1_error == pytest.approx(np.mean([costly(Cell(0.25, 0, ""), s, "clean") for s in (1, 2)]))


def test_dataset_std_is_the_plain_one():
    params = Params(train_size=50, test_size=20)
    data = load(data_of(params))
    table = tables.dataset_std(params).set_index("over").loc[:, "std"]
    pixels = data.train.pixels.numpy() / 255
    assert table["all pixels"] == pytest.approx(pixels.std())
    assert table["channel 1"] == pytest.approx(pixels[:, 1].std())
    assert table["the paper's"] == 0.1595


def test_classes_that_cifar10_lacks_are_named():
    table = tables.class_names(dropout_results(PARAMS, costly)).set_index("named")
    lacking = set(table[table["in CIFAR-10"] == "no"].index)
    assert lacking == {"Fruit", "Rabbit", "Train", "Baby"}
    assert table.loc["Bird", "in the data here"] == "yes"


def test_results_are_shown_where_the_images_are_not(capsys):
    table = tables.dataset_std(Params(data="./no/such/cifar10-jpeg"))
    assert table.over.tolist() == ["the paper's"]
    assert "The images are not here" in capsys.readouterr().out


def test_cost_is_a_median_over_epochs_and_seeds():
    table = tables.cost_table(dropout_results(PARAMS, costly))
    assert set(table.seconds_per_epoch) == {2.0}
    assert set(table.n) == {6}


def test_every_figure_of_the_paper_is_drawn_and_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("NOISEUTILS_OUTPUTS", str(tmp_path))
    results = dropout_results(PARAMS, costly)
    output = OutputWriter(PARAMS, "shapes", results.stored)
    output.show(figures_of(results))
    folder = tmp_path / "noisy_dropout" / "smoke" / "figures"
    names = {path.stem for path in folder.glob("*.png")}
    assert {int(name.split("_")[1]) for name in names if name.startswith("figure_")} == set(range(3, 12))
    assert names == {path.stem for path in folder.glob("*.svg")}
    assert {"readings", "robustness_fgsm", "robustness_input_noise", "training_curves"} <= names


def test_tables_say_data_commit_and_device(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NOISEUTILS_OUTPUTS", str(tmp_path))
    results = dropout_results(PARAMS, costly)
    OutputWriter(PARAMS, "cifar10-jpeg", results.stored).table(tables.grid_table(results), "grid", "Grid.")
    kept = pd.read_csv(tmp_path / "noisy_dropout" / "smoke" / "tables" / "grid.csv")
    assert set(kept.data) == {"cifar10-jpeg"}
    assert set(kept.commit) == {"abc"}
    assert {"n", "top1_error_low", "top1_error_high", "device"} <= set(kept.columns)
    assert not math.isnan(kept.top1_error_low.iloc[0])


def test_results_of_different_images_under_one_name_are_refused():
    results = dropout_results(PARAMS, costly)
    results.stored[0].info["data"]["fingerprint"] = "another"
    with pytest.raises(UserError, match="2 different sets of images"):
        OutputWriter(PARAMS, "photos", results.stored)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_committed_clean_and_thin(path):
    for cell in notebook(path).cells:
        if cell.cell_type != "code":
            continue
        assert not cell.outputs
        assert cell.execution_count is None
        assert not any(isinstance(n, ast.FunctionDef) for n in ast.walk(ast.parse(cell.source)))
        if "parameters" not in cell.metadata.get("tags", ()):
            assert len(cell.source.splitlines()) <= 20
