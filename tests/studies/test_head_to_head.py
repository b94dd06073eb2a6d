"""Head to head: equal budgets, choices by validation images alone, paired differences, ranks, figures."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from factory import HEAD_TO_HEAD as PARAMS
from factory import diverged, figures_of, head_to_head_results
from matplotlib import pyplot
from scipy import stats

from noiseutils import train
from noiseutils.book.pipeline import status_of, sweep_study
from noiseutils.config import Corruption, NoisyDropout, Optimizer
from noiseutils.errors import UserError
from noiseutils.stats import holm, one_sample
from noiseutils.studies.autoattacked import AUTOATTACK
from noiseutils.studies.head_to_head import STUDY, attacks, choice, comparisons, figures, tables
from noiseutils.studies.head_to_head.grid import TRIAL_SEEDS, Cell, cells, records, run_of
from noiseutils.studies.head_to_head.methods import KINDS, METHODS, adaptive
from noiseutils.studies.head_to_head.params import Params, Setting
from noiseutils.studies.profiles import read_profile
from noiseutils.studies.registry import NO_GAP
from noiseutils.studies.study import open_store

BABY, VGG = (setting.name for setting in PARAMS.settings)
TOP1 = comparisons.quantities(PARAMS)["top1"]


def tiny(**changes) -> Params:
    smoke = read_profile(Params, "head_to_head", "smoke")
    small = {"settings": smoke.settings[:1], "methods": ("none", "anl", "cutout", "crop_flip"), "seeds": 1}
    return smoke.replace(**(small | changes))


# --- the grid


def test_every_method_with_a_strength_has_the_same_budget():
    assert {len(method.strengths) for method in METHODS.values()} == {0, 4}
    for method in METHODS.values():
        assert list(method.strengths) == sorted(set(method.strengths))
        for trials in (1, 2, 3, 4):
            assert len(method.tried(trials)) == (trials if method.strengths else 0)
    grid = Counter((cell.setting, cell.method) for cell in cells(PARAMS))
    assert set(grid.values()) == {4}
    assert len(grid) == 2 * 16


def test_all_methods_of_a_setting_differ_in_the_method_alone():
    plain = run_of(PARAMS, Cell(BABY, "none", stage="final"), 3)
    own = {
        "noise", "after", "corruption", "parameter_noise", "optimizer", "label_smoothing", "mixup", "cutout",
        "augment", "schedule",
    }  # fmt: skip
    for name, method in METHODS.items():
        run = run_of(PARAMS, Cell(BABY, name, (*method.strengths, 0.0)[0], "final"), 3)
        changed = {f for f in type(run).model_fields if getattr(run, f) != getattr(plain, f)}
        assert changed <= own
        assert bool(changed) == (name != "none")
        assert len(changed - {"after"}) == (name != "none"), "one cause"
    assert plain.optimizer == Optimizer(momentum=0.9)
    assert plain.validation_size == PARAMS.validation_size


def test_noise_goes_where_its_paper_has_it():
    def after(setting: str, method: str) -> tuple[str, ...]:
        return run_of(PARAMS, Cell(setting, method, 0.1, "final"), 0).after

    assert (after(BABY, "anl"), after(VGG, "anl")) == (("Conv2d",), ("BatchNorm2d",))
    assert after(BABY, "dropout") == after(BABY, "noisy_dropout") == ("flatten",)
    net = PARAMS.replace(settings=(Setting(model="cifar10net"),))
    run = run_of(net, Cell("cifar10net, all images", "noisy_dropout_all", 0.25, "final"), 0)
    assert (run.noise, run.after) == (NoisyDropout(p=0.25, std=0.08, where="all"), ("relu3", "relu4"))
    blurred = run_of(net, Cell("cifar10net, all images", "image_blur", 0.7, "final"), 0)
    assert blurred.corruption == Corruption(kind="gaussian_blur", sigma=0.7)


def test_images_held_out_come_on_top_of_those_trained_on():
    run = run_of(PARAMS, Cell(BABY, "none", stage="final"), 0)
    assert run.data.train_size == 100 + PARAMS.validation_size
    assert run_of(PARAMS, Cell(VGG, "none", stage="final"), 0).data.train_size is None


def test_adaptive_noise_is_the_papers_in_proportion():
    table, tenth = adaptive(0.05, 300, "both"), adaptive(0.05, 30, "gradient")
    assert (table.min_epochs, table.window, table.cooldown_max, table.sigma_min) == (70, 10, 10, 0.01)
    assert table == type(table)()
    assert (tenth.min_epochs, tenth.window, tenth.cooldown_min, tenth.targets) == (7, 1, 1, "gradient")
    assert tenth.gradient_plateau == pytest.approx(0.25)


def test_no_noises_time_is_fewer_epochs_of_a_costly_method():
    cell = Cell(VGG, "anl", 0.1, "final")
    runs = [run_of(PARAMS, replace(cell, stage=stage), 2) for stage in ("final", "same_time")]
    assert [run.epochs for run in runs] == [20, 12]
    assert [run.schedule.every for run in runs] == [20, 12]
    assert runs[0].seed == runs[1].seed == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"methods": ("dropout", "anl")}, "methods must include none, the baseline"),
        ({"methods": ("none", "crop_flip")}, "must include one with a strength"),
        ({"methods": ("none", "anl", "anl")}, "values must differ"),
        ({"methods": ("none", "magic")}, "methods"),
        ({"settings": (Setting(), Setting(epochs=5))}, "settings must differ in network, width or images"),
        ({"trials": 5}, "less than or equal to 4"),
    ],
)
def test_parameters_that_cannot_be_are_refused(changes, said):
    with pytest.raises(UserError, match=said):
        PARAMS.replace(**changes)


# --- choices


def test_validation_images_choose_and_test_images_do_not():
    results = head_to_head_results()
    for setting in (BABY, VGG):
        taken = choice.chosen(results, setting, "dropout")
        assert taken == Cell(setting, "dropout", 0.5), "best on validation images, worst on test images"
    tests = {c: results.interval(c, "top1_error").mean for c in cells(PARAMS) if c.method == "dropout"}
    assert min(tests.values()) == tests[Cell(BABY, "dropout", 0.1)]
    changed = head_to_head_results()
    for cell in [c for c in cells(PARAMS) if c.method == "dropout"]:
        last = changed.by_cell[cell, 0].history
        last.loc[2, "validation_accuracy"] = 1 - last.validation_accuracy[2]
    again = STUDY.results(PARAMS, changed.stored)
    assert choice.chosen(again, BABY, "dropout") == Cell(BABY, "dropout", 0.1)


def test_networks_that_chose_are_not_judged():
    results = head_to_head_results()
    judged = {result.run.seed for (cell, _), result in results.by_cell.items() if cell.stage != "trial"}
    chose = {result.run.seed for (cell, _), result in results.by_cell.items() if cell.stage == "trial"}
    assert judged == set(range(6))
    assert chose == {TRIAL_SEEDS}


def test_nothing_is_chosen_from_some_of_the_trials():
    results = head_to_head_results()
    left = [r for (cell, _), r in results.by_cell.items() if cell != Cell(BABY, "lat", 0.3)]
    partial = STUDY.results(PARAMS, left)
    assert choice.chosen(partial, BABY, "lat") is None
    assert choice.chosen(partial, VGG, "lat") is not None
    assert "LAT" not in set(tables.differences_table(partial, "top1").query("setting == @BABY").method)


def test_what_follows_is_setting_by_setting_no_noise_first_and_a_method_with_all_its_seeds():
    places = list(choice.follow_ups(head_to_head_results()))
    assert places[:6] == [(Cell(BABY, "none", 0.0, "final"), seed) for seed in range(6)]
    order = list(dict.fromkeys(cell for cell, _ in places))
    assert len(places) == 6 * len(order) == 2 * 6 * 19
    assert [c.setting for c in order] == [BABY] * 19 + [VGG] * 19
    assert order[18] == Cell(BABY, "anl", 1.0, "same_time")
    assert tables.trainings(PARAMS) == len(cells(PARAMS)) + len(places)


# --- tables


def test_differences_are_paired_and_corrected_over_the_whole_table():
    results = head_to_head_results()
    table = tables.differences_table(results, "top1")
    assert len(table) == 2 * 17
    plain = results.values(Cell(VGG, "none", 0.0, "final"), "top1_error")
    p_values = []
    for setting in (BABY, VGG):
        for name in (name for name in PARAMS.methods if name != "none"):
            cell = choice.finals(results, setting)[name]
            own = results.values(cell, "top1_error")
            p_values.append(stats.ttest_rel(list(own.values()), list(plain.values())).pvalue)
    assert np.allclose(table.p_holm, holm(p_values))
    rows = table[table.setting == VGG].set_index("method")
    assert rows.difference["dropout"] == pytest.approx(-0.03, abs=2e-3)
    assert (rows.verdict["dropout"], rows.verdict["LAT"], rows.verdict["ANL"]) == ("lower", "higher", "lower")
    assert set(rows.verdict.drop(["dropout", "LAT", "ANL"])) == {"not shown"}
    assert set(table.n) == {6}


def test_methods_are_compared_with_dropout_over_equal_seeds_too():
    results = head_to_head_results()
    table = tables.differences_table(results, "top1", rival="dropout")
    assert len(table) == 2 * 16
    rows = table[table.setting == VGG].set_index("method")
    own, other = (choice.finals(results, VGG)[name] for name in ("anl", "dropout"))
    errors = [results.values(cell, "top1_error") for cell in (own, other)]
    assert rows.difference["ANL"] == pytest.approx(np.mean([errors[0][s] - errors[1][s] for s in range(6)]))
    assert "dropout" not in rows.index
    assert rows.verdict["ANL"] == "higher"
    without = PARAMS.replace(methods=("none", "anl", "mixup"))
    assert tables.differences_table(head_to_head_results(without), "top1", rival="dropout").empty


def test_no_verdict_from_few_seeds_embedded_images_or_without_a_gap():
    few = head_to_head_results(PARAMS.replace(seeds=5))
    assert set(tables.differences_table(few, "top1").verdict) == {"too few seeds"}
    embedded = head_to_head_results(PARAMS.replace(data="shapes"))
    assert set(tables.differences_table(embedded, "top1").verdict) == {"embedded images: no verdict"}
    closed = head_to_head_results()
    for (cell, _), result in closed.by_cell.items():
        for record in result.metrics["conditions"]:
            if record["condition"] == "training" and cell.method == "none":
                record["top1_error"] += 0.2
    closed = STUDY.results(PARAMS, closed.stored)
    assert set(tables.differences_table(closed, "top1").verdict) == {NO_GAP}


def test_the_overview_has_a_row_a_method_and_a_column_a_setting_the_best_first():
    table, papers = STUDY.overview(head_to_head_results()).values()
    settings = ["babycnn, 100 images; cifar10, 20 epochs", "vgg16, all images; cifar10, 20 epochs"]
    heads = [f"{setting}, n = 6; no noise: 32.5 % error" for setting in settings]
    assert list(table.columns) == ["method", *heads]
    assert (table.method.iloc[0], table.method.iloc[1], table.method.iloc[-1]) == ("dropout", "ANL", "LAT")
    assert len(table) == 17
    said = table.set_index("method").iloc[:, 1]
    assert re.fullmatch(r"−3\.\d+ \[−3\.\d+, −2\.\d+\] lower; p 0\.5", said["dropout"])
    assert "higher; ε" in said["LAT"]
    assert "not shown; α" in said["mixup"]
    assert said["crop and flip"].endswith("not shown"), "no strength to choose"
    assert len(papers) == 10
    assert papers.method.iloc[0] == "ANL"
    assert "higher; ε" in papers.set_index("method").iloc[0, 0]
    assert STUDY.overview(head_to_head_results(PARAMS.replace(seeds=5))) == {}


def test_in_short_counts_the_noises_that_are_better_than_none_and_than_dropout():
    results = head_to_head_results()
    ((says, short),) = STUDY.in_short(results).items()
    assert "cannot tell robustness from masked gradients, AutoAttack can." in says
    heads = [f"{setting.name}; cifar10, 20 epochs, n = 6" for setting in PARAMS.settings]
    assert list(short.columns) == ["comparison", *heads]
    found = short.set_index("comparison").iloc[:, 0]
    papers, table = STUDY.overview(results).values()
    kinds = {method.label for method in METHODS.values() if method.kind not in ("", "common")}
    said = papers.loc[papers.method.isin(kinds)].set_index("method").iloc[:, 0]
    lower, higher = said[said.str.contains("lower")], said[said.str.contains("higher")]
    beaten = f"{len(lower)} of 10 better, {len(higher)} worse; best: {lower.index[0]} −"
    assert found["the papers' noises against no noise"].startswith(beaten)
    against = table.iloc[:, 1].str.contains("lower").sum(), table.iloc[:, 1].str.contains("higher").sum()
    beaten = f"{against[0]} of 10 better, {against[1]} worse"
    assert found["the papers' noises against dropout"].startswith(beaten)
    alone = papers.set_index("method").iloc[:, 0]["dropout"].split(" lower")[0]
    assert found["dropout against no noise"] == f"{alone} points: better"
    added = table.set_index("method").iloc[:, 0]["NoisyDropout, in dropped neurons"].split("]")[0]
    assert found["NoisyDropout, in dropped neurons, against dropout"].startswith(f"{added}] points: ")
    for words in ("images lost to FGSM 2/255", "images lost to noise of σ = 0.1"):
        said = found[f"{words}: the papers' noises against no noise"]
        assert re.match(r"\d+ of 10 better( \(\d of them NoisyDropout\))?, \d+ worse", said)
    assert STUDY.in_short(head_to_head_results(PARAMS.replace(seeds=5))) == {}


def test_in_short_tells_how_many_of_the_better_noises_are_dropout_with_noise_on_top():
    results = head_to_head_results()
    for (cell, _), result in results.by_cell.items():
        for record in result.metrics["conditions"]:
            record["top1_error"] -= 0.03 * (cell.method == "noisy_dropout_all" and cell.stage == "final")
    (short,) = STUDY.in_short(STUDY.results(PARAMS, results.stored)).values()
    found = short.set_index("comparison").iloc[:, 0]["the papers' noises against no noise"]
    assert re.match(
        r"2 of 10 better \(1 of them NoisyDropout\), 1 worse; best: NoisyDropout, on every", found
    )


def test_a_method_that_is_better_on_clean_images_and_loses_as_many_of_them_is_not_more_robust():
    results = head_to_head_results()
    for (cell, seed), result in results.by_cell.items():
        clean = next(r["top1_error"] for r in result.metrics["conditions"] if r["condition"] == "clean")
        for record in result.metrics["conditions"]:
            if record["condition"] == "fgsm":
                lost = 0.4 + seed / 1000 + 0.1 * (cell.method == "lat")
                record["top1_error"] = clean + lost * (1 - clean)
    results = STUDY.results(PARAMS, results.stored)
    over_all = tables.differences_table(results, "fgsm").set_index(["setting", "method"])
    lost = tables.differences_table(results, "fgsm_lost").set_index(["setting", "method"])
    assert over_all.verdict[BABY, "ANL"] == "lower"
    assert lost.difference[BABY, "ANL"] == pytest.approx(0)
    assert lost.verdict[BABY, "ANL"] == "not shown"
    assert lost.difference[BABY, "LAT"] == pytest.approx(0.1)
    assert lost.verdict[BABY, "LAT"] == "higher"


def test_a_method_that_lacks_a_seed_says_how_many_it_has():
    results = head_to_head_results(PARAMS.replace(seeds=7))
    lost = next(
        result
        for (cell, seed), result in results.by_cell.items()
        if (cell.setting, cell.method, cell.stage, seed) == (BABY, "mixup", "final", 3)
    )
    found = [diverged(result) if result is lost else result for result in results.stored]
    table, _ = STUDY.overview(STUDY.results(results.params, found)).values()
    said = table.set_index("method").iloc[:, 0]
    assert said["mixup"].endswith("; n = 6")
    assert "n = " not in said["cutout"]
    assert "n = 7" in table.columns[1]


def test_the_gap_and_each_condition_are_their_own_records():
    results = head_to_head_results()
    found = tables.errors_table(results).iloc[0]
    assert found.gap_error == pytest.approx(0.2)
    assert found["error_under_noise_0.1"] == pytest.approx(found.top_1_error + 0.1)
    assert found["error_under_FGSM_2/255"] == pytest.approx(found.top_1_error + 0.3)
    again = tables.differences_table(results, "recalibrated")
    assert np.allclose(again.difference, tables.differences_table(results, "top1").difference)


def test_every_trial_is_in_the_table_and_edges_are_marked():
    table = tables.trials_table(head_to_head_results())
    assert len(table) == len(cells(PARAMS)) == 128
    taken = table[table.chosen == "chosen"]
    assert len(taken) == 32
    assert set(taken.edge) == {"strongest tried"}
    budget = tables.budget_table(PARAMS).set_index("method").trainings
    assert set(budget.drop(["no noise", "crop and flip"])) == {4}


def test_equal_epochs_and_equal_time_stand_side_by_side():
    table = tables.same_time_table(head_to_head_results())
    assert table.compared.tolist() == ["equal epochs", "equal time"] * 2
    assert table.epochs.tolist() == [20, 12] * 2
    assert table.verdict.tolist() == ["lower", "higher"] * 2


def test_what_is_trained_in_equal_time_is_corrected_for_as_many_tests_as_at_equal_epochs():
    results = head_to_head_results()
    found = comparisons.comparisons(results, TOP1, "same_time")
    assert {(one.cell.method, one.cell.stage) for one in found} == {("anl", "same_time")}
    others = [c for c in comparisons.comparisons(results, TOP1) if c.cell.method != "anl"]
    raw = [one_sample(list(one.by_seed.values())).p for one in (*found, *others)]
    assert [one.p for one in found] == pytest.approx(holm(raw)[: len(found)])


def test_cost_is_a_ratio_of_the_runs_own_clocks():
    table = tables.costs_table(head_to_head_results()).set_index(["setting", "method"])
    assert table.step_time[VGG, "ANL"] == pytest.approx(5 / 3)
    assert table.step_time[VGG, "dropout"] == pytest.approx(1)


def test_a_seed_that_another_program_slowed_does_not_change_the_cost():
    results = head_to_head_results()
    for (cell, seed), result in results.by_cell.items():
        if cell.method == "none" and seed > 0:
            result.history["seconds"] *= 2
    table = tables.costs_table(STUDY.results(PARAMS, results.stored)).set_index(["setting", "method"])
    assert table.step_time[VGG, "ANL"] == pytest.approx(5 / 3)


def test_ranks_are_friedmans_and_settings_count_equally():
    results = head_to_head_results()
    found = comparisons.ranked(results, TOP1)
    assert [each.setting for each in found] == [BABY, VGG, "all settings"]
    known = choice.finals(results, VGG)
    values = np.array([list(results.values(known[m], "top1_error").values()) for m in PARAMS.methods])
    assert found[1].p == pytest.approx(stats.friedmanchisquare(*values).pvalue)
    assert np.allclose(found[1].mean, stats.rankdata(values, axis=0).mean(1))
    assert np.allclose(found[2].mean, (found[0].mean + found[1].mean) / 2)
    for each in found:
        assert (each.low <= each.mean + 1e-9).all()
        assert (each.mean <= each.high + 1e-9).all()
        assert PARAMS.methods[each.mean.argmin()] == "dropout"
        assert each.mean.sum() == pytest.approx(18 * 19 / 2)
    assert math.isnan(found[2].distance)
    assert tables.ranks_table(results).method[0] == "dropout"


def test_autoattack_compares_the_best_of_each_kind_with_no_noise_on_equal_images():
    results = head_to_head_results()
    best = choice.best_of_kinds(results, VGG)
    assert list(best) == ["", *KINDS]
    assert all(METHODS[cell.method].kind == kind for kind, cell in best.items())
    table = tables.autoattack_table(results)
    assert len(table) == 2 * 5
    plain, other = table.iloc[0], table.iloc[1]
    assert (plain.attacked_error, other.attacked_error) == (0.6, 0.7)
    assert (other.only_here, other.only_plain) == (0, 1)
    assert table.p_holm.notna().sum() == 8
    assert set(table.chosen_by) == {"validation error"}
    assert set(table.verdict.dropna()) == {"not shown"}
    (short,) = STUDY.in_short(results).values()
    said = short.set_index("comparison").iloc[:, 0][
        "right, clean → under AutoAttack 2/255, one network each, 10 images"
    ]
    assert said.startswith("no noise 70.0 → 40.0 %; ")
    assert said.count("70.0 → 30.0 %: not shown") == 4


def test_the_noise_that_fgsm_spares_most_by_other_seeds_than_the_attacked_is_attacked_as_well():
    results = head_to_head_results()
    for (cell, seed), result in results.by_cell.items():
        clean = next(r["top1_error"] for r in result.metrics["conditions"] if r["condition"] == "clean")
        spared = 0.2 * (cell.method == "canl") + 0.5 * (cell.method == "lat" and seed == 0)
        spared += 0.3 * (cell.method == "dropout")  # no paper's noise
        for record in result.metrics["conditions"]:
            if record["condition"] == "fgsm":
                record["top1_error"] = clean + (0.6 - spared) * (1 - clean)
    found = STUDY.results(PARAMS, results.stored)
    robust = choice.most_robust(found, VGG)
    assert robust == choice.finals(found, VGG)["canl"], "LAT is spared in the attacked seed alone"
    assert choice.most_robust(head_to_head_results(PARAMS.replace(seeds=1)), VGG) is None
    answers = {**results.answers, (robust, 0, AUTOATTACK): results.answers[robust.plain, 0, AUTOATTACK]}
    table = tables.autoattack_table(STUDY.results(PARAMS, results.stored, answers))
    (row,) = table.loc[table.chosen_by == "FGSM, other seeds"].to_dict("records")
    assert (row["method"], row["only_here"], row["only_plain"]) == ("CANL", 0, 0)


# --- figures


def test_every_figure_is_drawn_and_says_where_its_data_come_from():
    drawn = figures_of(head_to_head_results(PARAMS.replace(data="shapes")))
    assert [d.name for d in drawn] == [
        "forest", "profile_1", "profile_2", "cost", "ranks", "choosing", "same_time",
    ]  # fmt: skip
    for each in drawn:
        assert "shapes, embedded data" in each.figure.get_suptitle()
        assert each.alt
        assert each.results
        each.figure.draw_without_rendering()


def test_the_forest_has_a_dot_a_seed_and_fills_what_is_shown():
    drawn = next(figures.forest(head_to_head_results()))
    ax = drawn.figure.axes[1]
    dots = [line for line in ax.lines if len(line.get_xdata()) == 6]
    assert len(dots) == 17
    means = [line for line in ax.lines if len(line.get_xdata()) == 1 and line.get_markersize() == 6]
    filled = [line for line in means if line.get_markerfacecolor() != "white"]
    assert (len(means), len(filled)) == (17, 3)
    names = [label.get_text() for label in drawn.figure.axes[0].get_yticklabels()]
    assert set(names) == {m.label for name, m in METHODS.items() if name != "none"}


@pytest.mark.parametrize("methods", [PARAMS.methods, ("none", "anl", "mixup")], ids=["with", "without"])
def test_dropout_is_a_line_in_the_forest_and_its_legend_where_it_was_run(methods):
    results = head_to_head_results(PARAMS.replace(methods=methods))
    drawn = next(figures.forest(results))
    named = [text.get_text() for text in drawn.figure.legends[0].get_texts()]
    lines = [line.get_xdata()[0] for line in drawn.figure.axes[0].lines if line.get_linestyle() == ":"]
    if "dropout" not in methods:
        assert not lines
        assert "mean of dropout" not in named
        return
    top1 = comparisons.comparisons(results, comparisons.quantities(PARAMS)["top1"])
    own = next(c for c in top1 if (c.cell.method, c.cell.setting) == ("dropout", BABY))
    assert lines == [pytest.approx(100 * own.interval.mean)]
    assert "mean of dropout" in named


def test_what_is_missing_is_left_out():
    empty = STUDY.results(PARAMS, [])
    assert figures_of(empty) == []
    assert not pyplot.get_fignums(), "nothing is opened that is not shown"
    for make in (tables.trials_table, tables.errors_table, tables.ranks_table, tables.costs_table):
        assert make(empty).empty
    assert tables.same_time_table(empty).empty
    assert tables.differences_table(empty, "top1").empty
    assert choice.follow_ups(empty) == {}
    assert choice.best_of_kinds(empty, BABY) == {}


# --- trainings


def test_records_hold_validation_error_gap_and_time():
    params = tiny()
    cell = Cell(params.settings[0].name, "none", 0.0, "final")
    result = train(run_of(params, cell, 0))
    found = records(result)
    clean = next(r for r in found if r["condition"] == "clean")
    training = next(r for r in found if r["condition"] == "training")
    assert clean["validation_error"] == pytest.approx(1 - result.history.validation_accuracy.iloc[-1])
    assert clean["gap"] == pytest.approx(clean["top1_error"] - training["top1_error"])
    assert clean["epoch_seconds"] == pytest.approx(result.history.seconds.min())
    assert {r["condition"] for r in found} == {"clean", "training", "gaussian_noise", "gaussian_blur", "fgsm"}


@pytest.mark.slow
def test_a_sweep_trains_trials_then_what_follows_setting_by_setting_and_attacks(tmp_path, monkeypatch):
    monkeypatch.setenv("NOISEUTILS_OUTPUTS", str(tmp_path))
    params = tiny(settings=read_profile(Params, "head_to_head", "smoke").settings, attack_images=4)
    order = []
    sweep = sweep_study.__globals__["sweep"]

    def heard(runs, store, executor, **options):
        order.append([(run.model.name, run.seed >= TRIAL_SEEDS) for run in runs])
        return sweep(runs, store, executor, **options)

    monkeypatch.setitem(sweep_study.__globals__, "sweep", heard)
    done = sweep_study(params, "inline")
    assert not done.missing
    assert len(done.results) == tables.trainings(params) == 2 * (2 * 2 + 4 + 1)
    assert {*order[0]} == {("babycnn", True)}
    assert ("babycnn", False) in order[1]
    assert {*order[2]} == {("resnet20", True)}, "after all that follows from the first setting"
    counts, _ = status_of(params)
    assert counts == {"finished": 18}
    assert len(attacks.answers(params, open_store())) == 2 * 3
    results = STUDY.stored(params, open_store())
    assert len(tables.autoattack_table(results)) == 6
    assert len(tables.differences_table(results, "top1")) == 6


@pytest.mark.slow
def test_a_sweep_attacks_what_its_own_trainings_show_to_be_most_robust(tmp_path, monkeypatch):
    monkeypatch.setenv("NOISEUTILS_OUTPUTS", str(tmp_path))
    params = tiny(methods=("none", "anl", "lat"), seeds=2, attack_images=4)
    sweep_study(params, "inline")
    results = STUDY.stored(params, open_store())
    setting = params.settings[0].name
    wanted = {*choice.best_of_kinds(results, setting).values(), choice.most_robust(results, setting)}
    assert {(cell, seed) for cell, seed, _ in results.answers} == {(cell, 0) for cell in wanted}
