"""The training-data study: its grid, what the networks are asked, tables, figures."""

from __future__ import annotations

import numpy as np
import pytest
from factory import VARIATION as PARAMS
from factory import accuracy_of, figures_of, variation_results
from matplotlib import pyplot
from torch import nn

from noiseutils.book import pipeline
from noiseutils.config import Corruption, Data
from noiseutils.data import load
from noiseutils.errors import UserError
from noiseutils.evaluation.minimal_change import ATTACKS
from noiseutils.models.modules import MODULES
from noiseutils.provenance import reference_root
from noiseutils.studies.autoattacked import attacked_images
from noiseutils.studies.params import data_of
from noiseutils.studies.profiles import read_profile
from noiseutils.studies.training_data_variation import STUDY, attacks, figures, tables
from noiseutils.studies.training_data_variation.changes import READINGS
from noiseutils.studies.training_data_variation.grid import COMMON, COPY, Cell, shown_levels
from noiseutils.studies.training_data_variation.params import Params
from noiseutils.sweeps.store import Store

# --- the grid


def test_the_papers_grid_is_all_there():
    params = read_profile(Params, "training_data_variation", "paper")
    cells = STUDY.cells(params)
    assert len(cells) == len(set(cells)) == 3 * (1 + 6 + 6 + 1)
    runs = STUDY.runs(params)
    assert len({run.key for run in runs}) == len(runs) == (42 - 9) * 6, "a blur up to 0.1 pixels is none"
    run = STUDY.run_of(params, Cell("inception", "noise", 0.5), 2)
    assert run.corruption == Corruption(kind="gaussian_noise", sigma=0.25), "pixels here are in [0, 1]"
    assert (run.model.name, run.epochs, run.seed, run.augment) == ("module_inception", 90, 2, False)
    copied = STUDY.run_of(params, Cell("resnet", COPY, 0.1), 0)
    assert copied.corruption == Corruption(kind="gaussian_noise", sigma=0.05, fresh=False)
    blurred = STUDY.run_of(params, Cell("resnet", "blur", 5.0), 0)
    assert blurred.corruption == Corruption(kind="gaussian_blur", sigma=5.0)
    assert STUDY.run_of(params, Cell("resnet", "none", 0.0), 0).corruption is None
    assert {0.005, 0.025, 0.05, 0.25, 0.5, 2.5, 0.04, 0.06, 0.08, 0.09, 0.1} == set(run.evaluation.noise)
    assert {0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 0.4, 0.6, 0.7, 0.8} == set(run.evaluation.blur)


def test_the_most_telling_cells_come_first():
    first = STUDY.cells(Params())[:9]
    assert [cell.sigma for cell in first] == [0, 0, 0, 0.1, 0.1, 0.1, 1, 1, 1]


def test_all_seeds_of_a_comparison_come_before_the_next_one():
    params = Params()
    runs = STUDY.runs(params)
    first = {(run.corruption and run.corruption.sigma, run.seed) for run in runs[: 6 * 6]}
    assert first == {(size, seed) for size in (None, 0.05) for seed in range(6)}
    assert {run.corruption.sigma for run in runs[6 * 6 : 9 * 6]} == {0.5}
    assert STUDY.stages(params.replace(sigmas=(5.0,))) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architectures": ("vgg",)}, "architectures"),
        ({"kinds": ("jpeg",)}, "kinds"),
        ({"sigmas": (0.1, 0.1)}, "sigmas: the values must differ, and 0.1 is there twice"),
        ({"attack_255": (1.0, 1.0000001)}, "attack_255 must differ"),
        ({"kinds": ("noise", "noise")}, "kinds: the values must differ"),
        ({"sigmas": (0.0,)}, "sigmas"),
        ({"change_attack": "fgsm"}, "change_attack 'fgsm' is not known; allowed: best"),
        ({"attack_255": (300.0,)}, "attack_255"),
        ({"epoch": 3}, "epoch: unknown key"),
    ],
)
def test_what_cannot_be_is_refused(changes, words):
    with pytest.raises(UserError, match=words):
        Params.read({**PARAMS.model_dump(), **changes}, "here")


# --- what the networks are asked


def tiny() -> Params:
    return Params(
        data="digits", train_size=40, test_size=30, architectures=("resnet",), kinds=("noise",),
        sigmas=(0.1,), width=1 / 64, epochs=1, batch_size=20, common=False, recalibrate=False,
        change_attack="ddn", change_images=6, change_steps=4, attack_images=5, attack_255=(4.0,),
        attack_queries=5, seeds=1,
    )  # fmt: skip


def test_a_sweep_trains_then_asks_once_and_keeps_the_answers(tmp_path, monkeypatch):
    monkeypatch.setenv("NOISEUTILS_OUTPUTS", str(tmp_path))
    params, place = tiny(), Store(tmp_path / "runs")
    pipeline.sweep_study(params, "inline", budget=1000)
    found = attacks.answers(params, place)
    plain, noisy = STUDY.cells(params)
    asked = [(cell, question) for cell, _, question in found]
    assert asked == [
        (plain, "ddn"), (noisy, "ddn"), *((plain, a) for a in ATTACKS if a != "ddn"),
        (plain, "autoattack"), (noisy, "autoattack"),
    ]  # fmt: skip
    change, auto = found[plain, 0, "ddn"], found[plain, 0, "autoattack"]
    assert len(change["size"]) == len(change["predicted_size"]) == 6
    for own, predicted in zip(change["size"], change["predicted_size"], strict=True):
        assert own in (0.0, predicted), "0 where the network is wrong anyway, the same change elsewhere"
    assert all(change["predicted_size"]), "every class can be changed"
    assert len(auto["clean"]) == len(auto["correct"]["4"]) == 5
    assert all(a >= b for a, b in zip(auto["clean"], auto["correct"]["4"], strict=True))
    monkeypatch.setattr(attacks, "_keep_answer", None)  # nothing is asked again
    attacks.analyse(params, place)
    results = STUDY.collect(params, "inline")
    assert results.answers == found
    assert len(attacks.answers(params.replace(change_steps=5), place)) == 2, "other settings, other answers"


def test_libraries_are_missed_before_the_training_and_not_where_attacks_are_stored(tmp_path, monkeypatch):
    def missing():
        raise UserError("not installed")

    monkeypatch.setenv("NOISEUTILS_OUTPUTS", str(tmp_path))
    monkeypatch.setattr(attacks, "foolbox_library", missing)
    path = reference_root() / "training_data_variation" / "cifar10-jpeg" / "params.yaml"
    committed = read_profile(Params, "training_data_variation", str(path))
    STUDY.check(committed)
    with pytest.raises(UserError, match="not installed"):
        STUDY.check(committed.replace(epochs=committed.epochs + 1))
    STUDY.check(committed.replace(epochs=committed.epochs + 1, change_images=0))


def test_a_blur_that_is_none_is_the_plain_network():
    params = Params()
    same = [STUDY.run_of(params, Cell("resnet", *kind), 0).key for kind in (("none", 0.0), ("blur", 0.1))]
    assert same[0] == same[1]
    assert STUDY.run_of(params, Cell("resnet", "blur", 0.5), 0).key != same[0]
    results = variation_results()
    stored = {
        c: results.values(c, "accuracy") for c in (Cell("resnet", "blur", 0.1), Cell("resnet", "none", 0.0))
    }
    assert len({tuple(values.items()) for values in stored.values()}) == 1


def test_what_cannot_be_attacked_is_said_and_left_out(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("NOISEUTILS_OUTPUTS", str(tmp_path))
    params, place = tiny().replace(change_images=31, attack_images=0), Store(tmp_path / "runs")
    pipeline.sweep_study(params, "inline", budget=1000)
    assert attacks.answers(params, place) == {}
    assert "31 images are to be attacked, the test set has 30" in caplog.text


def test_attacked_images_are_of_several_classes_and_the_smaller_set_is_part_of_the_larger():
    params = tiny()
    few, more = (attacked_images(data_of(params), count) for count in (10, 20))
    assert len(set(few.labels.tolist())) > 3
    assert (few.pixels == more.pixels[:10]).all()


# --- tables


def test_modules_table_adds_up_to_the_papers_counts():
    sums = tables.modules_table().groupby("module").weights.sum()
    assert sums.to_dict() == {"resnet": 69_632, "inception": 192_512, "resnext": 70_144}


def test_figure_2_shows_the_modules_as_they_are_built():
    for name, paths in figures.BOXES.items():
        boxes = [text.split(", ") for path in paths for text in path if text[0].isdigit()]
        built = [m for m in MODULES[name](256).modules() if isinstance(m, nn.Conv2d)]
        if name == "resnext":  # two of 32 paths are drawn: their maps, not those of all
            assert [(m.out_channels // 32, m.groups) for m in built[:2]] == [(4, 1), (4, 32)]
            continue
        drawn = sorted((kernel, int(maps)) for kernel, maps in boxes)
        assert drawn == sorted((f"{m.kernel_size[0]}×{m.kernel_size[1]}", m.out_channels) for m in built)


def test_the_matrix_has_every_pair_of_strengths_and_the_best_on_its_diagonal():
    table = tables.matrix_table(variation_results(), "noise", "noise")
    one = table[(table.architecture == "resnet") & table.level.isin([0, 0.1, 1.0])]
    assert len(one) == 9
    assert set(one.n) == {3}
    best = one.loc[one.groupby("level").accuracy.idxmax()]
    assert (best.sigma == best.level).all()
    across = tables.matrix_table(variation_results(), "noise", "blur")
    assert set(across.level) == {0.0, *shown_levels(PARAMS, "blur")}


def change_row(results, reading, kind="noise", sigma=0.0):
    table = tables.change_table(results).set_index(["reading", "architecture", "kind", "sigma"])
    return table.loc[reading, "resnet", kind, sigma]


def test_the_three_readings_of_the_change_differ_in_what_is_wrong_already():
    results = variation_results()
    correct, zero, predicted = (change_row(results, reading) for reading in READINGS)
    assert (correct.images, zero.images, predicted.images) == (10, 11, 11)
    assert correct["size"] == pytest.approx(0.85)
    assert zero["size"] == pytest.approx(8.5 / 11)
    assert predicted["size"] == pytest.approx(8.9 / 11)
    assert (correct.n, correct.wrong, correct.failed) == (3, 1, 1)
    assert correct.percent == pytest.approx(0.85 / 2.55)
    assert (correct.half, correct.rounded) == (0.1, 0.1)


def test_correct_images_are_those_that_every_network_of_a_row_gets_right():
    results = variation_results()
    results.answers[Cell("resnet", "noise", 1.0), 0, "best"]["size"][2] = 0.0  # of the smallest change
    row = change_row(results, "correct")
    assert row.images == pytest.approx((9 + 10 + 10) / 3)
    assert row["size"] > 0.85
    assert change_row(results, "zero")["size"] == pytest.approx(8.5 / 11)


def test_a_network_at_chance_takes_no_images_from_the_others():
    results = variation_results()
    for (cell, _), result in results.by_cell.items():
        result.info["data"]["classes"] = list("abcdefghij")
        if cell == Cell("resnet", "noise", 1.0):
            clean = next(r for r in result.metrics["conditions"] if r["condition"] == "clean")
            clean["top1_error"] = 0.9
    for seed in range(3):
        answer = results.answers[Cell("resnet", "noise", 1.0), seed, "best"]
        answer["size"] = [0.0] * len(answer["size"])
    assert change_row(results, "correct").images == 10
    assert change_row(results, "correct", sigma=1.0).images == 0
    assert np.isnan(change_row(results, "correct", sigma=1.0)["size"])
    assert change_row(results, "zero", sigma=1.0)["size"] == 0
    drawn = next(figures.changes(results))
    assert "at chance" in [text.get_text() for text in drawn.figure.axes[0].texts]


def test_older_answers_have_two_readings():
    results = variation_results()
    for answer in results.answers.values():
        answer.pop("predicted_size", None)
    assert set(tables.change_table(results).reading) == {"correct", "zero"}
    verdicts = STUDY.verdicts(results).set_index("name").verdict
    assert verdicts["change-rises-0.1-predicted"] == "not run"
    assert verdicts["change-rises-0.1-zero"] == "embedded images: no verdict"


def test_the_attacks_stand_side_by_side_on_the_images_that_all_of_them_mislead():
    results = variation_results()
    results.answers[Cell("resnet", "none", 0.0), 0, "fmn_l1"]["size"][3] = None
    table = tables.attacks_table(results)
    assert table.attack.tolist() == [*ATTACKS, *ATTACKS]
    assert table.n.tolist() == [9] * len(ATTACKS) + [10] * len(ATTACKS)
    assert set(table.seconds) == {2.0}


def test_autoattack_table_has_the_accuracy_with_and_without():
    table = tables.autoattack_table(variation_results(PARAMS.replace(attack_seeds=2)))
    row = table[(table.architecture == "resnet") & (table.kind == "none") & (table.seed == 1)]
    assert row.delta_255.tolist() == [0, 2]
    assert row.accuracy.tolist() == [0.8, 0.4]
    assert ((row.low < row.accuracy) & (row.accuracy < row.high)).all()


def test_common_corruptions_are_averaged_over_their_severities():
    table = tables.common_table(variation_results())
    row = table[(table.shown == "noise") & (table.kind == "none") & (table.architecture == "resnet")].iloc[0]
    expected = np.mean(
        [accuracy_of(Cell("resnet", "none", 0.0), "noise", 2 * level, 1) for level in COMMON["noise"]]
    )
    assert row.accuracy == pytest.approx(expected)
    assert row.n == 3


# --- figures


def test_every_figure_is_drawn_and_says_where_its_data_come_from():
    results = variation_results()
    drawn = figures_of(results)
    assert [d.name for d in drawn] == [
        "figure_04_noise", "figure_06_blur", "figure_05_change_noise", "figure_07_change_blur",
        "matrix_noise_on_blur", "matrix_blur_on_noise",
        "common_noise", "common_blur", "autoattack_noise", "autoattack_blur",
        "calibration_noise", "calibration_blur",
    ]  # fmt: skip
    for figure in drawn:
        assert "shapes, embedded data" in figure.figure.get_suptitle()
        assert figure.alt
        figure.figure.draw_without_rendering()


def test_examples_are_of_the_papers_classes_where_there_are_such():
    data = load(Data(name="shapes", train_size=60, test_size=20))
    images, names = figures._examples(data, figures.EXAMPLES)
    assert len(images) == 5
    assert set(names) <= set(data.classes)
    drawn = [*figures.examples(data), *figures.corrupted_examples(PARAMS, data), *figures.modules()]
    assert [d.name for d in drawn] == ["figure_01_examples", "figure_03_corruptions", "figure_02_modules"]


def test_what_is_missing_is_left_out():
    empty = STUDY.results(PARAMS, [])
    assert figures_of(empty) == []
    assert not pyplot.get_fignums(), "nothing is opened that is not shown"
    for table in (tables.change_table, tables.attacks_table, tables.autoattack_table, tables.common_table):
        assert table(empty).empty
    assert set(STUDY.verdicts(empty).verdict) == {"not run"}


def test_the_lines_of_the_change_say_of_how_many_images_they_are():
    for drawn in figures.changes(variation_results(PARAMS.replace(copy_sigmas=()))):
        panels = drawn.figure.axes
        assert [ax.get_title() for ax in panels] == list(READINGS.values())
        for ax, n in zip(panels, (10, 11, 11), strict=True):
            labels = [text.get_text() for text in ax.texts]
            assert f"ResNet, n = {n}" in labels
            assert f"Inception, n = {n}" in labels


def test_one_meaning_has_one_colour():
    drawn = {d.name: d.figure for d in figures_of(variation_results())}
    for kind, number in (("noise", 4), ("blur", 6)):
        first, second = drawn[f"figure_0{number}_{kind}"], drawn[f"calibration_{kind}"]
        assert first.axes[0].get_xlabel() == second.axes[0].get_xlabel()
        colours = [
            [line.get_color() for line in f.axes[0].lines if line.get_label()[0] != "_"]
            for f in (first, second)
        ]
        assert colours[0] == colours[1]
