import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from factory import ANL as PARAMS
from factory import anl_results, figures_of

from noiseutils.config import AdversarialNoise, ClassAdversarialNoise, LayerwiseAdversarialNoise, Run
from noiseutils.errors import UserError
from noiseutils.studies.adversarial_noise_layer import STUDY, attacks, grid, reported, robustness, tables
from noiseutils.studies.adversarial_noise_layer.contrasts import is_papers_epsilon, settings
from noiseutils.studies.adversarial_noise_layer.fit import UNFITTED
from noiseutils.studies.adversarial_noise_layer.grid import LENET_SITES, Cell
from noiseutils.studies.adversarial_noise_layer.params import Params
from noiseutils.studies.adversarial_noise_layer.parts import writer
from noiseutils.studies.evidence import JUDGED
from noiseutils.studies.profiles import read_profile
from noiseutils.studies.registry import NO_GAP, made_of
from noiseutils.sweeps.store import Store
from noiseutils.training.loop import train


def test_the_papers_grid_is_all_there():
    params = read_profile(Params, "adversarial_noise_layer", "paper")
    parts = {
        part: [c for c in STUDY.cells(params) if c.part == part]
        for part in ("table2", "table3", "table4", "phases")
    }
    printed = tables.reported()
    assert len(parts["table2"]) == 7 * 6  # the six rows of Table 2, and VGG-16 on CIFAR-100
    assert len(parts["table3"]) == 8 * 2 * (4 + 2)  # two of each with the switch alone
    assert len(printed[printed.table == "table3"]) == 8 * 2 * 4
    assert len(parts["table4"]) == len(parts["phases"]) == 6 + 2  # two further sizes of AT
    assert {run.epochs for run in STUDY.runs(params)} == {3, 300, 200}
    assert {run.model.width for run in STUDY.runs(params)} == {1.0}


def test_reported_numbers_are_the_papers():
    """Spot checks against the printed tables, and their sums, which a slip in any number would move."""
    table = tables.reported()
    assert table.groupby("table").value.count().to_dict() == {
        "ablation": 3, "imagenet": 2, "table1": 10, "table2": 35, "table3": 64, "table4": 30, "timing": 3,
    }  # fmt: skip
    sums = (100 * table[table["table"] != "timing"]).groupby(table["table"]).value.sum()
    assert sums.table1 == pytest.approx(60)
    assert sums.table4 == pytest.approx(1956.0)
    two = table[(table["table"] == "table2") & (table.model == "resnet56") & (table.data == "cifar100")]
    assert (100 * two.value).tolist() == pytest.approx([31.9, 32.6, 28.6, 27.3, 97.52, 27.8])
    three = table[(table["table"] == "table3") & (table.model == "pyramidnet270")]
    assert (100 * three.value).tolist() == pytest.approx([4.68, 4.10, 3.03, 3.12, 19.55, 18.94, 17.51, 17.94])


def test_schedules_are_the_tables_own():
    grid = {cell: STUDY.run_of(PARAMS, cell, 0) for cell in STUDY.cells(PARAMS)}
    for cell, run in grid.items():
        if cell.part == "table2" and cell.model != "lenet5":
            assert (run.schedule.kind, run.schedule.factor, run.schedule.every) == ("step", 0.2, 50)
            assert run.optimizer.nesterov
        if cell.part == "table4":
            assert (run.schedule.kind, run.noise_epochs, run.epochs) == ("step", None, 300)
        if cell.part in ("table3", "phases", "figure4", "ablation"):
            noisy = cell.method in ("anl", "canl", "anl_unscaled", "dropout_switch")
            plain = cell.part != "phases" and cell.method in ("baseline", "dropout")
            assert run.schedule.kind == "plateau"
            assert run.noise_epochs == (100 if noisy else None)
            assert run.schedule.switch == (None if plain else 100)
            assert run.epochs == 200


def test_the_isolated_rivals_differ_from_anl_in_the_noise_alone():
    cells = {c.method: c for c in STUDY.cells(PARAMS) if c.part == "table3" and c.model == "vgg16"}
    runs = {name: STUDY.run_of(PARAMS, cell, 0) for name, cell in cells.items()}
    clean = {"noise": None, "after": (), "noise_epochs": None}
    assert runs["anl"].replace(**clean) == runs["baseline_switch"]
    assert runs["dropout_switch"].replace(**clean) == runs["baseline_switch"]
    assert runs["dropout_switch"].noise_epochs == runs["anl"].noise_epochs
    assert runs["dropout_switch"].noise == runs["dropout"].noise
    for part in ("table4", "phases"):
        at, anl = (STUDY.run_of(PARAMS, Cell(part, "cifar10", "vgg16", m, 0.05), 0) for m in ("at", "anl"))
        assert at.replace(adversarial_training=None) == anl.replace(**clean)


def test_each_method_is_the_noise_that_it_says():
    cells = {c.method: c for c in STUDY.cells(PARAMS) if c.part == "table2" and c.model == "vgg16"}
    noise = {name: STUDY.run_of(PARAMS, cell, 0).noise for name, cell in cells.items()}
    assert noise["baseline"] is None
    assert noise["gaussian"].std == 0.03 / 4
    assert noise["anl"] == AdversarialNoise(epsilon=0.03)
    assert noise["anl_negative"] == AdversarialNoise(epsilon=-0.03)
    assert noise["canl"] == ClassAdversarialNoise(epsilon=0.03)
    assert noise["lat"] == LayerwiseAdversarialNoise(epsilon=0.03)
    unscaled = STUDY.run_of(PARAMS, Cell("ablation", "cifar10", "vgg16", "anl_unscaled", 0.05), 0)
    assert unscaled.noise == AdversarialNoise(epsilon=0.05, scaled=False)
    attacked = STUDY.run_of(PARAMS, Cell("table4", "cifar10", "vgg16", "anl", 0.05), 0)
    assert attacked.after == ("input", "BatchNorm2d")
    hard = STUDY.run_of(PARAMS, Cell("table4", "cifar10", "vgg16", "at", 0.05), 0)
    assert (hard.noise, hard.adversarial_training.delta) == (None, 0.05)


def test_the_same_training_in_two_tables_is_trained_once():
    shared = [Cell(part, "cifar10", "vgg16", "anl", 0.05) for part in ("table3", "figure4", "ablation")]
    assert len({STUDY.run_of(PARAMS, cell, 0).key for cell in shared}) == 1
    assert len(STUDY.runs(PARAMS)) < 3 * len(STUDY.cells(PARAMS))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("data=[cifar11]", "cifar11"),
        ("methods=[anl, magic]", "magic"),
        ("table2_models=[nonet]", "'nonet' is not known"),
        ("table4_model=nonet", "'nonet' is not known"),
        ("epsilon=-1", "epsilon"),
        ("figure4_epsilons=[.nan]", "figure4_epsilons"),
        ("table3_epochs=1", "table3_epochs"),
        ("attack_images=-1", "attack_images"),
        ("similarity_data=mnits", "mnits"),
        ("imagenet_epochs=many", "imagenet_epochs"),
        ("lenet_width=0", "lenet_width"),
        ("colour=red", "colour: unknown key"),
        ("imagenet_data=cifar10", "imagenet_data: these images are streamed"),
        ("attack_255=[]", "attack_255: the attack report needs at least one size"),
        ("attack_255=[0]", "attack_255"),
        ("attack_255=[300]", "attack_255"),
        ("fgsm_255=[0, 2]", "fgsm_255"),
    ],
)
def test_a_bad_parameter_is_named(change, said):
    with pytest.raises(UserError, match=said):
        STUDY.runs(read_profile(Params, "adversarial_noise_layer", "smoke", [change]))


def test_a_profile_that_asks_for_nothing_is_an_error():
    nothing = {
        "data": (), "similarity_data": None, "lenet_data": None, "imagenet_data": None,
    }  # fmt: skip
    with pytest.raises(UserError, match="no table is asked for"):
        STUDY.runs(PARAMS.replace(**nothing))


def test_one_data_set_may_be_given_without_a_list():
    assert Params(data="cifar10").data == ("cifar10",)


@pytest.mark.parametrize(
    "change", [{"train_size": 500}, {"width": 0.5}, {"table3_epochs": 20}, {"learning_rate": 0.05}]
)
def test_other_settings_than_ours_of_the_paper_are_told_apart(change):
    assert settings(PARAMS, Cell("table3", "cifar10", "vgg16")) == "paper"
    assert settings(PARAMS, Cell("table3", "./cifar10-jpeg", "vgg16")) == "copy"
    assert settings(PARAMS, Cell("table3", "shapes", "vgg16")) == "embedded"
    assert settings(PARAMS.replace(**change), Cell("table3", "cifar10", "vgg16")) == "other"
    subset = Cell("table2", "fashion_mnist:./subset:fashion-mnist-subset", "lenet5", "anl", 0.03)
    assert settings(PARAMS, subset) == "other"


@pytest.mark.parametrize(
    ("part", "model", "method", "change"),
    [
        ("table1", "lenet5", "baseline", {"batch_size": 64}),
        ("table1", "lenet5", "baseline", {"lenet_learning_rate": 0.1}),
        ("table2", "vgg16", "anl", {"epsilon": 0.1}),
        ("table2", "vgg16", "lat", {"lat_epsilon": 0.1}),
    ],
)
def test_another_epsilon_or_rate_is_another_setting(part, model, method, change):
    here = PARAMS.replace(data=("cifar10",))
    (cell,) = [c for c in STUDY.cells(here) if (c.part, c.model, c.method) == (part, model, method)]
    assert settings(here, cell) == "paper"
    assert settings(here.replace(**change), cell) == "other"


def test_a_claim_that_noise_lowers_the_error_says_how_much_both_networks_have_learned():
    results = anl_results(SIX)
    for (cell, _), result in results.by_cell.items():
        right = 0.4 if cell.method == "anl" else 0.9
        result.history.loc[result.history.index[-1], "train_accuracy"] = right
    found = STUDY.verdicts(results).set_index("name").loc["anl-baseline"]
    assert found.remark == "right while training: 40 % against 90 %"
    assert made_of(found.to_dict()).endswith(f"; {found.remark}")
    assert made_of(found.to_dict() | {"remark": float("nan")}).endswith(f"width {found.width}")


def test_lenet_in_table_2_has_the_papers_setting_at_its_rate_alone():
    here = PARAMS.replace(data=("cifar10",))
    (cell,) = [c for c in STUDY.cells(here) if (c.part, c.model, c.method) == ("table2", "lenet5", "canl")]
    assert settings(here, cell) == "other", "0.05, where the paper has 0.1 for all networks"
    assert settings(here.replace(lenet_learning_rate=0.1), cell) == "paper"
    assert settings(here.replace(lenet_learning_rate=0.1, epsilon=0.1), cell) == "other"


def test_numbers_of_table_1_stand_beside_every_layers_and_have_no_verdict():
    params = PARAMS.replace(similarity_data="mnist", seeds=6)
    found = reported.numbers(anl_results(params))
    first = found.loc[reported.reported().index[reported.reported().table == "table1"]]
    assert len(first) == 2 * first.index.nunique(), "conv1 and conv2"
    assert set(first.verdict) == {"layer not said: no verdict"}
    assert set(found.index) == set(reported.reported().index)


def test_table_1_on_fewer_classes_says_not_run_for_the_others():
    results = anl_results()
    for result in results.stored:
        for site, rows in result.metrics.get("gradient_similarity", {}).items():
            result.metrics["gradient_similarity"][site] = [row[:4] for row in rows[:4]]
    table = reported.reported_table(results, "table1")
    assert table[table.site == "conv1"].n.tolist() == [3] * 4 + [0] * 6
    assert set(table[table["class"] >= 4].verdict) == {"not run"}


def test_verdicts_on_survival_are_corrected_for_their_number():
    def report(fgsm: str, best: str) -> dict:
        record = {"delta": 8 / 255, "attacks": {"fgsm": {"accuracy": 0.5, "correct": fgsm}}}
        return {"deltas": [record | {"best": {"accuracy": 0.5, "correct": best}}]}

    plain, noisy = (Cell("table4", "cifar10", "vgg16", m, e) for m, e in (("baseline", 0.0), ("anl", 0.05)))
    found = {(plain, 0): report("0" * 10, "0" * 10), (noisy, 0): report("1" * 6 + "0" * 4, "0" * 10)}
    table = attacks.survival_table(found).set_index("attack")
    assert table.loc["FGSM", "p_value"] == pytest.approx(2 / 64)
    assert table.loc["FGSM", "p_holm"] == pytest.approx(4 / 64)
    assert set(table.verdict) == {"no difference shown"}


def test_similarity_is_told_site_by_site_and_table_1_where_the_noise_goes():
    results = anl_results()
    table = tables.similarity_table(results).set_index("site")
    assert list(table.index) == list(LENET_SITES)
    assert table.loc["input", "same_class"] == pytest.approx(0.12)
    assert (table.separated == "3 of 3").all()
    printed = tables.class_0_table(results)
    assert printed["class 0"].iloc[-1] == 0.77
    assert len(printed) == len(LENET_SITES) + 1
    beside = reported.reported_table(results, "table1")
    assert beside.site.tolist() == ["conv1", "conv2"] * 10
    assert beside.ours.iloc[0] == pytest.approx(0.1 + 0.07 + 0.01 + 0.01)
    assert (beside.n == 3).all()


SIX = PARAMS.replace(seeds=6, figure4_models=("vgg16", "mobilenet_v2"), figure4_epsilons=(0.02, 0.05, 0.1))


def verdicts(error=None, params=SIX):
    results = anl_results(params, error) if error else anl_results(params)
    return STUDY.verdicts(results).set_index("name")


def test_claims_follow_the_differences():
    table = verdicts()
    assert table.loc["anl-baseline-vgg16", "difference"] == pytest.approx(-0.02 * 1.05)
    held = ["anl-baseline-vgg16", "canl-anl-vgg16", "canl-lat-vgg16", "negative-lenet5", "scaling"]
    held += ["negative-training", "negative-test", "sharper-anl", "blurred", "gaussian-maps"]
    held += ["anl-dropout", "networks-canl", "similarity-conv1", "at-clean-anl", "fgsm-canl"]
    assert set(table.verdict[held]) == {"held"}
    assert table.loc["canl-close", "claimed"] == "within ±0.005"
    assert table.loc["gaussian-baseline-vgg16", "p_holm"] == 1
    assert table.loc["imagenet", "verdict"] == "not run"


def test_a_regulariser_is_judged_only_where_no_noise_leaves_a_gap_to_close():
    results = anl_results(SIX)
    for (cell, _), result in results.by_cell.items():
        if cell.method in ("baseline", "baseline_switch"):
            result.history["test_loss"] = result.history["train_loss"] - 0.01
    table = STUDY.verdicts(STUDY.results(SIX, results.stored)).set_index("name")
    void = ["anl-baseline-vgg16", "lat-baseline-vgg16", "anl-gaussian-vgg16", "anl-dropout", "canl-baseline"]
    void += ["networks-canl", "mobilenet-anl", "anl-baseline-paper", "canl-close", "anl-best"]
    void += ["canl-anl-vgg16", "scaling"]
    assert set(table.verdict[void]) == {NO_GAP}
    assert table.p_holm[void].isna().all()
    assert set(table.verdict[["negative-lenet5", "fgsm-canl"]]) == {"held"}


def fitted_to(share, which, params=SIX, seeds=range(6), error=None):
    """Return verdicts where some trainings end with a share of their training images right."""
    results = anl_results(params, error) if error else anl_results(params)
    for (cell, seed), result in results.by_cell.items():
        if which(cell) and seed in seeds:
            result.history.loc[result.history.index[-1], "train_accuracy"] = share
    return STUDY.verdicts(results).set_index("name")


def worse(cell, seed):  # with noise
    return 0.10 + seed / 100 + 0.02 * (1 + seed / 50) * (cell.method in ("anl", "canl"))


@pytest.mark.parametrize("error", [None, worse])
def test_a_network_with_noise_that_has_not_fitted_its_training_images_is_not_judged(error):
    """Whichever way the difference goes; it is shown all the same, with what was learned."""
    table = fitted_to(0.5, lambda cell: cell.method == "anl", error=error)
    judged = fitted_to(0.99, lambda cell: cell.method == "anl", error=error)
    void = ["anl-baseline", "anl-dropout", "anl-baseline-paper", "mobilenet-anl", "networks-anl"]
    void += ["anl-baseline-vgg16", "anl-lat-vgg16", "canl-anl-vgg16", "canl-close", "anl-best", "scaling"]
    assert set(table.verdict[void]) == {UNFITTED}
    assert table.p_holm[void].isna().all()
    assert table.difference[void].tolist() == judged.difference[void].tolist()
    assert table.remark["canl-close"] == "right while training: 100 % against 50 %"
    assert table.remark["networks-anl"] == "right while training: 50 % against 100 %"
    assert not judged.verdict[void].isin([UNFITTED]).any()
    assert table.verdict["canl-baseline"] == judged.verdict["canl-baseline"] != UNFITTED


def test_one_seed_that_has_fitted_is_enough_for_a_verdict():
    table = fitted_to(0.5, lambda cell: cell.method == "anl", seeds=range(1, 6))
    assert UNFITTED not in set(table.verdict)


def test_a_rival_with_dropout_has_to_fit_its_images_too_and_one_without_noise_does_not():
    table = fitted_to(0.5, lambda cell: cell.method in ("dropout_switch", "baseline_switch"))
    assert table.verdict["anl-dropout"] == UNFITTED
    assert table.verdict["anl-baseline"] == "held"


def test_of_several_networks_one_that_has_not_fitted_leaves_no_verdict():
    table = fitted_to(0.5, lambda cell: (cell.method, cell.model) == ("canl", "vgg11"))
    assert table.verdict["networks-canl"] == UNFITTED
    assert table.verdict["networks-anl"] == table.verdict["canl-baseline"] == "held"


def test_without_a_training_without_noise_a_regulariser_is_not_judged():
    alone = SIX.replace(methods=[name for name in SIX.methods if name != "baseline"])
    table = verdicts(params=alone)
    assert table.verdict["anl-gaussian-vgg16"] == "not run"


def test_in_table_3_the_comparison_with_an_equal_schedule_is_counted():
    def error(cell, seed):  # all that the noise seems to bring is brought by the switch
        return 0.2 + seed / 100 - 0.02 * (1 + seed / 50) * (cell.method not in ("baseline", "dropout"))

    table = verdicts(error)
    assert table.loc["anl-baseline-paper", "verdict"] == "held"
    assert table.loc["anl-baseline", "difference"] == pytest.approx(0)
    assert table.counted[["anl-baseline", "anl-dropout", "canl-baseline"]].all()
    assert not table.counted[["anl-baseline-paper", "anl-dropout-paper", "canl-baseline-paper"]].any()


def test_comparable_robustness_is_an_equivalence_and_more_robust_a_difference():
    def error(cell, seed):
        return 0.2 + seed / 1000 + (0.01 + seed / 5000) * (cell.method == "at")

    table = verdicts(error)
    assert table.loc["at-alike-anl", "claimed"] == "within ±0.05"
    assert table.loc["at-alike-anl", "verdict"] == table.loc["at-fgsm-anl", "verdict"] == "held"
    assert table.counted["at-fgsm-anl"]
    assert not table.counted[["at-fgsm-anl-2", "at-clean-canl-4", "at-fgsm-anl-phases"]].any()


FINE = SIX.replace(figure4_epsilons=(0.01, 0.02, 0.03, 0.05, 0.08, 0.1))


def test_the_papers_best_epsilon_is_held_against_the_best_other_of_the_other_seeds():
    lucky = {0: 0.02, 1: 0.1, 2: 0.02, 3: 0.1, 4: 0.02, 5: 0.1}  # better on a seed itself

    def error(cell, seed):
        return 0.3 - 0.01 * (cell.epsilon == lucky[seed]) - 0.005 * (cell.epsilon == 0.05)

    table = verdicts(error, FINE)
    assert table.loc["epsilon-vgg16", "difference"] == pytest.approx(-0.005)
    assert table.loc["epsilon-mobilenet_v2", "verdict"] != "held"


def test_about_0_05_is_the_best_epsilon_where_the_one_next_to_it_is_better():
    def error(cell, seed):
        return 0.3 + seed / 1000 + abs(cell.epsilon - 0.07) * (cell.part == "figure4")

    table = verdicts(error, FINE)
    assert table.loc["epsilon-vgg16", "verdict"] == "held", "against 0.1, 0.08 being next to it"
    assert table.loc["epsilon-vgg16", "difference"] == pytest.approx(0.02 - 0.03)
    assert table.loc["epsilon-mobilenet_v2", "verdict"] == "the opposite", "the paper has 0.02 without about"


def test_with_neighbours_alone_about_a_best_epsilon_has_no_verdict_but_is_shown():
    table = verdicts()
    assert table.loc["epsilon-vgg16", "verdict"] == "only neighbouring ε: no verdict"
    assert table.loc["epsilon-vgg16", "n"] == 6
    assert table.loc["epsilon-mobilenet_v2", "verdict"] in JUDGED


def test_what_figure_4_does_not_show_stands_in_the_text_on_epsilon():
    section = {claim.name: claim.section for claim in STUDY.claims}
    assert section["epsilon-mobilenet_v2"] == section["epsilon-vgg16"] == "Figure 4"
    assert section["epsilon-resnet18"] == section["larger-network"] == "The choice of the hyper-parameter"


def test_a_larger_network_takes_a_larger_epsilon_where_its_error_falls_further():
    def error(cell, seed):
        slope = {"mobilenet_v2": 0.5 + seed / 100, "vgg16": -0.5}.get(cell.model, 0)
        return 0.3 + slope * cell.epsilon * (cell.part == "figure4")

    assert verdicts(error).loc["larger-network", "verdict"] == "held"
    assert verdicts(error).loc["larger-network", "difference"] == pytest.approx(1.025)


def narrow(width):
    return STUDY.verdicts(anl_results(SIX.replace(width=width))).set_index("name").remark


def test_a_narrow_network_with_the_papers_epsilon_is_said_to_have_that_of_the_full_width():
    said = "ε of the network at full width"
    with_epsilon = ["anl-baseline", "canl-close", "networks-anl", "scaling", "fgsm-anl", "epsilon-vgg16"]
    with_epsilon += ["anl-lat-vgg16", "negative-training", "at-clean-canl"]
    remarks = narrow(0.25)
    assert remarks[with_epsilon].str.endswith(said).all()
    assert remarks["anl-baseline"] == f"right while training: 100 % against 100 %; {said}"
    without = ["mobilenet-dropout", "gaussian-baseline-vgg16", "lat-baseline-vgg16", "anl-baseline-lenet5"]
    assert not remarks[[*without, "similarity"]].str.contains(said).any()
    assert not narrow(1.0).str.contains(said).any()


def test_the_papers_epsilon_is_the_one_that_it_prints_for_the_network():
    cells = {
        Cell("table3", "cifar10", "vgg16", "anl", 0.05): True,
        Cell("table3", "cifar10", "resnet20", "anl", 0.02): False,  # not in the paper's table
        Cell("table2", "cifar10", "vgg16", "anl", 0.1): False,
        Cell("figure4", "cifar10", "vgg16", "anl", 0.02): False,
        Cell("figure4", "cifar10", "vgg16", "anl", 0.05): True,
        Cell("phases", "cifar10", "vgg16", "canl", 0.01): True,
        Cell("phases", "cifar10", "vgg16", "at", 0.05): False,
    }
    assert {cell: is_papers_epsilon(cell) for cell in cells} == cells


def test_gradients_of_one_class_can_be_held_more_alike_and_never_replicated():
    table = STUDY.verdicts(anl_results(PARAMS.replace(seeds=6))).set_index("name")
    row = table.loc["similarity"]
    assert (row.verdict, row.settings, row.remark) == ("held", "other", "the paper names no layer")
    assert row.claim.endswith(" (printed: 0.77 and −0.02)")
    assert set(table.settings[["similarity-conv1", "similarity-conv2"]]) == {"other"}


def training_peaks(early, late, diverge=()):
    """Return the contrast of the best epoch with a negative epsilon; the rate first drops after five."""
    params = SIX.replace(table2_epochs=30)
    results = anl_results(params)
    for (cell, seed), result in results.by_cell.items():
        if (cell.part, cell.model, cell.method) == ("table2", "vgg16", "anl_negative"):
            shares = [early] * 5 + [late] * 25
            history = pd.DataFrame({"epoch": range(1, 31), "train_accuracy": shares, "test_accuracy": 0.3})
            ended = {"status": "diverged", "metrics": {}} if seed in diverge else {}
            results.by_cell[cell, seed] = replace(result, history=history, **ended)
    return STUDY.verdicts(results).set_index("name").loc["negative-training"]


def test_a_negative_epsilon_has_to_fit_the_training_images_before_the_rate_first_drops():
    assert training_peaks(0.9, 0.9999).verdict == "the opposite"
    assert training_peaks(0.997, 0.3).verdict == "held"


def test_the_best_epoch_is_of_trainings_that_finished():
    found = training_peaks(0.997, 0.3, diverge=(1, 4))
    assert (found.n, found.diverged) == (4, 2)


def text_of(name):
    return next(claim.text for claim in STUDY.claims if claim.name == name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mobilenet-dropout", "9.25 % without, 9.88 % with"),
        ("anl-baseline-lenet5", "9.44 % without, 8.87 % with"),
        ("anl-lat-resnet20-cifar100", "33.1 % with LAT, 30.5 % with ANL"),
        ("negative-resnet", "+64.35 points for resnet20, +46.50 for vgg16"),
        ("anl-baseline", "7.47 % without, 5.81 % with"),
        ("anl-dropout", "7.16 % with dropout 0.5, 5.81 % with ANL"),
        ("networks-anl", "6.83 % without, 5.30 % with, means over 8 networks"),
        ("canl-close", "5.81 % with ANL, 5.88 % with CANL"),
        ("scaling", "6.53 % with ANL without s(h), 5.91 % with ANL"),
        ("at-clean-anl", "accuracy 91.9 % with AT, 93.9 % with ANL"),
        ("at-fgsm-anl", "accuracy 64.2 % with AT, 68.9 % with ANL, means over δ"),
        ("at-fgsm-canl", "accuracy 64.2 % with AT, 63.7 % with CANL, means over δ, against the claim"),
        ("fgsm-canl", "accuracy 41.8 % without, 63.7 % with, means over δ"),
        ("imagenet", "accuracy 56.35 % without, 60.52 % with"),
    ],
)
def test_the_papers_own_numbers_stand_behind_its_claims(name, said):
    assert text_of(name).endswith(f" (printed: {said})")


def test_every_claim_of_tables_2_to_4_with_both_numbers_has_them_last():
    """So that `findings.main_claims`, whose pattern ends with the text, can leave them out."""
    without = {"negative-training", "negative-test"}  # the number is the claim
    for claim in STUDY.claims:
        of_table = claim.section in ("Table 2", "Table 3", "Table 4", "abstract", "conclusion")
        printed_at = claim.name.endswith(("-2", "-4")) and claim.name.startswith("at-")  # not the paper's AT
        twin = claim.name.endswith("-all-images")
        if of_table and not twin and claim.name not in without and not printed_at:
            assert re.search(r" \(printed: .*\)$", claim.text), claim.name


def test_a_claim_on_mobilenet_says_what_its_test_compares():
    assert "dropout" not in text_of("mobilenet-anl") + text_of("mobilenet-canl")
    assert "dropout" in text_of("mobilenet-dropout")


def test_robustness_is_tested_on_the_images_right_without_an_attack_and_beside_it_on_all():
    """10 points better on clean images, and the same share lost under FGSM: not more robust."""

    def result(cell, seed):
        return 0.2 - 0.1 * (cell.method == "anl")

    results = anl_results(SIX, result)
    for (cell, seed), found in results.by_cell.items():
        for record in found.metrics["conditions"]:
            if record["condition"] == "fgsm":
                lost = 0.5 + seed / 1000
                record["top1_error"] = result(cell, seed) + lost * (1 - result(cell, seed))
    table = STUDY.verdicts(STUDY.results(SIX, results.stored)).set_index("name")
    assert table.loc["fgsm-anl", "test"].startswith("error under FGSM on images that are right without it, ")
    assert table.loc["fgsm-anl", "verdict"] == "not shown"
    assert table.loc["fgsm-anl", "difference"] == pytest.approx(0)
    assert table.loc["fgsm-anl-all-images", "verdict"] == "held"
    assert table.loc["fgsm-anl-all-images", "difference"] == pytest.approx(-0.1 + 0.1 * 0.5, abs=1e-3)
    assert table.loc["at-alike-anl", "verdict"] == "held"
    for name in ("fgsm-anl", "at-fgsm-anl", "at-alike-canl", "larger-canl"):
        assert table.loc[name, "counted"]
        assert not table.loc[f"{name}-all-images", "counted"]


def test_anl_is_best_over_networks_against_dropout_and_canl():
    table = verdicts()
    names = ["networks-anl-dropout", "networks-canl-anl"]
    assert table.counted[names].all()
    assert set(table.verdict[names]) == {"held"}
    assert table.difference[names].tolist() == pytest.approx([-0.02 * 1.05, 0.005 * 1.05])

    def canl_best(cell, seed):
        return 0.10 + seed / 100 - 0.02 * (1 + seed / 50) * (cell.method in ("canl", "dropout_switch"))

    assert set(verdicts(canl_best).verdict[names]) == {"the opposite"}


def test_seeds_added_after_a_look_are_said_by_a_parameter():
    assert STUDY.looks(SIX.replace(looks=2)) == 2


def test_sharpness_of_figure_3_is_told_by_seed_and_over_no_noise():
    table = tables.sharpness_table(anl_results(SIX.replace(feature_map_seeds=2))).set_index("method")
    assert (table.n == 2).all()
    assert table.loc["ANL", "share"] == pytest.approx(2)
    assert table.loc["ANL, negative ε", "share"] == pytest.approx(0.2)


def test_reported_numbers_stand_beside_ours_only_where_they_can_be_compared():
    results = anl_results()
    four = reported.reported_table(results, "table4")
    assert len(four) == 2 * 30  # in both schedules
    row = four[(four.method == "ANL") & (four.epsilon == 0.05) & (four.delta == 8)].iloc[0]
    assert row.ours == pytest.approx(1 - (0.11 - 0.02 * 1.02 + 40 / 255), abs=1e-3)
    three = reported.reported_table(results, "table3")
    assert set(three["data"]) == {"cifar10"}, "CIFAR-100's numbers need its images"
    assert len(three) == 32
    embedded = reported.reported_table(anl_results(PARAMS.replace(data=("shapes",))), "table3")
    assert set(embedded.verdict) == {"embedded images: no verdict"}
    six = reported.reported_table(anl_results(SIX), "table3")
    assert set(six.verdict) <= {"agrees", "ours is higher", "ours is lower"}
    assert set(six.settings) == {"paper"}


def test_errors_come_with_intervals_and_reestimated_statistics():
    table = tables.errors_table(anl_results(), "table3")
    assert {"top1_error_low", "top1_error_high", "recalibrated", "n", "diverged"} <= set(table)
    assert (table.n == 3).all()
    significance = tables.significance_table(anl_results(), "table3")
    assert len(significance) == (5 + 3) * 8
    assert (significance.p_holm >= significance.p_value).all()


def test_every_figure_of_the_paper_is_drawn_and_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("NOISEUTILS_OUTPUTS", str(tmp_path))
    results = anl_results(PARAMS.replace(table3_models=("vgg16",), table2_models=("resnet20",)))
    output = writer(results, "table2")
    output.show(figures_of(results))
    names = {path.stem for path in (tmp_path / "adversarial_noise_layer" / "smoke" / "figures").glob("*.png")}
    assert names >= {
        "figure_02_activation_std", "figure_03_feature_maps", "figure_04_error_over_epsilon",
        "ablation_errors", "table_1_similarity", "table_2_errors", "table_3_errors", "table_4_fgsm",
    }  # fmt: skip


def test_a_part_that_a_profile_leaves_out_is_said_and_breaks_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NOISEUTILS_OUTPUTS", str(tmp_path))
    only = PARAMS.replace(
        data=(), similarity_data="mnist", lenet_data=None, table4_model=None, ablation_model=None
    )
    results = anl_results(only)
    output = writer(results, "table3")
    assert {drawn.name for drawn in figures_of(results)} == {"table_1_similarity"}
    for part in ("table2", "table3"):
        output.table(tables.errors_table(results, part), part)
        output.table(reported.reported_table(results, part), part)
    assert "table3: no run of this table is in the profile" in capsys.readouterr().out
    assert "not run" in set(STUDY.verdicts(results).verdict)


def tiny() -> Params:
    return Params(
        data=("shapes",), train_size=60, test_size=30, width=0.05, batch_size=20, learning_rate=0.01,
        similarity_data=None, lenet_data=None, table2_models=(), table3_models=(), table3_epochs=2,
        table2_epochs=2, table4_model="vgg11", table4_schedules=("to_the_end",), at_255=(12.75,),
        figure4_models=(), ablation_model=None, fgsm_255=(8.0,),
        attack_images=6, attack_255=(8.0,), attack_queries=0, seeds=1,
    )  # fmt: skip


@pytest.mark.slow
def test_attack_reports_are_made_once_kept_and_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("NOISEUTILS_OUTPUTS", str(tmp_path))
    monkeypatch.setattr(grid, "TABLE_4_NOISE", (("anl", 0.05),))
    params, store = tiny(), Store(tmp_path / "runs")
    attacks.analyse(params, store)
    assert attacks.answers(params, store) == {}, "without weights there is nothing to attack"
    for run in STUDY.runs(params):
        store.save(train(run))
    attacks.analyse(params, store)
    results = STUDY.results(
        params, [store.load(run) for run in STUDY.runs(params)], attacks.answers(params, store)
    )
    found = attacks.reports(results)
    assert [cell.method for cell, _ in found] == ["baseline", "at", "anl"]
    monkeypatch.setattr(attacks, "_report", lambda *_: pytest.fail("made again"))
    attacks.analyse(params, store)
    accuracies = attacks.accuracy_table(found)
    assert {"FGSM", "PGD-20", "PGD-100", "PGD-100, DLR loss", "all together"} <= set(accuracies.attack)
    assert (accuracies.images == 6).all()
    assert len(attacks.masking_table(found)) == 3
    survival = attacks.survival_table(found)
    assert set(survival.attack) == {"FGSM", "all together"}
    assert set(survival.verdict) <= {"more robust", "less robust", "no difference shown"}
    names = [drawn.name for drawn in robustness.attacks(results, found)]
    assert names == ["attacks_8_255", "attacks_curve"]


def test_a_budget_that_is_over_begins_no_report(tmp_path, monkeypatch):
    monkeypatch.setattr(attacks, "_keep_report", lambda job: pytest.fail("begun"))
    attacks.analyse(tiny(), Store(tmp_path), budget=-1.0)


def test_imagenets_profile_trains_alexnet_on_a_small_streamed_folder(tmp_path, monkeypatch):
    """The whole path from profile to table, on 64-pixel images: two classes, a few files."""
    from PIL import Image

    monkeypatch.setenv("NOISEUTILS_OUTPUTS", str(tmp_path / "outputs"))
    random = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4)):
        for index, name in enumerate(("n01", "n02")):
            (tmp_path / "tree" / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = random.integers(0, 120, (70, 80, 3)) + 120 * index
                Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "tree" / split / name / f"{i}.jpg")
    changes = [
        f"imagenet_data=imagenet:{tmp_path / 'tree'}", "imagenet_size=64", "imagenet_epochs=3",
        "imagenet_width=0.05", "batch_size=8",
    ]  # fmt: skip
    params = read_profile(Params, "adversarial_noise_layer", "imagenet", changes)
    runs = STUDY.runs(params)
    assert [run.model.name for run in runs] == ["alexnet", "alexnet"]
    assert all(isinstance(run, Run) and run.data.streamed for run in runs)
    assert runs[1].noise == ClassAdversarialNoise(epsilon=0.05)
    results = STUDY.collect(params, "inline")
    table = tables.errors_table(results, "imagenet")
    assert table.n.tolist() == [1, 1]
    assert set(reported.reported_table(results, "imagenet").verdict) == {"too few seeds"}


def test_a_sweep_cut_short_has_all_seeds_of_lenet_and_of_table_3_on_vgg_first():
    params = read_profile(Params, "adversarial_noise_layer", "overnight")
    runs = STUDY.runs(params)
    assert len(runs) == len(set(runs)) == 210
    assert {run.model.name for run in runs[: 7 * 6]} == {"lenet5"}
    first = runs[7 * 6 : 7 * 6 + 4 * 6]
    assert {run.seed for run in first} == set(range(6))
    assert {(run.model.name, run.schedule.switch) for run in first} == {("vgg16", 15)}
