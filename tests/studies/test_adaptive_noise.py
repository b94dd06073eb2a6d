"""The adaptive-noise study: its grid, the choice of a rate, the controls, tables, figures and claims."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from factory import ADAPTIVE as PARAMS
from factory import adaptive_result, adaptive_results, diverged, figures_of

from noiseutils.book import pipeline
from noiseutils.config import AdaptiveNoise, ScriptedNoise
from noiseutils.errors import UserError
from noiseutils.models import build_model
from noiseutils.studies.adaptive_noise import STUDY, claims, figures, reported, tables
from noiseutils.studies.adaptive_noise.choice import chosen, control_cells, controls, edge
from noiseutils.studies.adaptive_noise.grid import OPTIMIZERS, Cell
from noiseutils.studies.adaptive_noise.params import Params
from noiseutils.studies.profiles import read_profile
from noiseutils.studies.registry import AT_CHANCE, NO_GAP

# --- the grid


def test_the_papers_grid_is_all_there():
    params = read_profile(Params, "adaptive_noise", "paper")
    assert len(STUDY.cells(params)) == len(set(STUDY.cells(params))) == 4 * 3 * 4 * 3
    assert len({run.key for run in STUDY.runs(params)}) == 144 * 6
    (epochs,) = {run.epochs for run in STUDY.runs(params)}
    assert epochs == 300
    run = STUDY.run_of(params, Cell("resnet18", "adam", 1e-4, "uniform"), 2)
    assert run.parameter_noise == AdaptiveNoise(distribution="uniform", weight_every="epoch")
    assert (run.optimizer.name, run.optimizer.weight_decay, run.augment, run.seed) == ("adam", 1e-4, True, 2)
    schedule = run.schedule
    assert (schedule.every, schedule.last, schedule.minimum, schedule.t_mult) == (50, 1e-5, 1e-6, 1)
    assert run.validation_size == 5000
    assert STUDY.run_of(params, Cell("babycnn", "sgd", 0.1, "none"), 0).parameter_noise is None


def test_the_papers_way_holds_nothing_out():
    run = STUDY.runs(PARAMS.replace(validate_on="test"))[0]
    assert run.validation_size == 0


def test_optimisers_are_the_papers_three():
    runs = {
        name: STUDY.run_of(PARAMS, Cell("babycnn", name, 0.1, "none"), 0).optimizer for name in OPTIMIZERS
    }
    assert (runs["sgd"].momentum, runs["momentum"].momentum, runs["adam"].name) == (0, 0.9, "adam")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"models": ("resnet81",)}, "resnet81"),
        ({"optimizers": ("rmsprop",)}, "optimizers"),
        ({"final_max": 0.5}, "final_max 0.5 <= every learning rate"),
        ({"minimum": 1e-3}, "minimum 0.001 <= final_max"),
        ({"sigma_min": 0.5}, "sigma_min 0.5 is above sigma_max"),
        ({"learning_rates": ()}, "learning_rates"),
        ({"epoch": 3}, "epoch: unknown key"),
    ],
)
def test_what_cannot_be_is_refused(changes, words):
    with pytest.raises(UserError, match=words):
        Params.read({**PARAMS.model_dump(), **changes}, "here")


# --- the choice of a rate


def test_the_rate_is_chosen_for_each_kind_by_the_validation_accuracy():
    results = adaptive_results()
    found = {kind: chosen(results, "tinycnn", "momentum", kind).learning_rate for kind in PARAMS.kinds}
    assert found == {"none": 0.01, "gaussian": 0.1, "uniform": 0.1}


def test_of_equal_rates_the_larger_and_none_while_one_is_missing():
    cells = [Cell("babycnn", "momentum", rate, "none") for rate in PARAMS.learning_rates]
    both = [adaptive_result(STUDY.run_of(PARAMS, cell, 0), 0.5, 0.1) for cell in cells]
    assert chosen(STUDY.results(PARAMS, both), "babycnn", "momentum", "none").learning_rate == 0.1
    assert chosen(STUDY.results(PARAMS, both[:1]), "babycnn", "momentum", "none") is None


def test_a_rate_that_diverged_is_not_chosen():
    cells = [Cell("babycnn", "momentum", rate, "none") for rate in PARAMS.learning_rates]
    good = adaptive_result(STUDY.run_of(PARAMS, cells[1], 0), 0.1, 0.1)
    wild = diverged(adaptive_result(STUDY.run_of(PARAMS, cells[0], 0), 0.9, 0.1))
    results = STUDY.results(PARAMS, [wild, good])
    assert chosen(results, "babycnn", "momentum", "none").learning_rate == 0.01
    assert [results.diverged(cell) for cell in cells] == [1, 0]
    assert results.frame.learning_rate.tolist() == [0.01], "what diverged has no numbers"


def test_a_rate_that_one_seed_survives_by_luck_is_not_chosen():
    cells = [Cell("babycnn", "momentum", rate, "none") for rate in PARAMS.learning_rates]
    lucky = adaptive_result(STUDY.run_of(PARAMS, cells[0], 0), 0.9, 0.1)
    dead = diverged(adaptive_result(STUDY.run_of(PARAMS, cells[0], 1), 0.9, 0.1))
    steady = [adaptive_result(STUDY.run_of(PARAMS, cells[1], seed), 0.5, 0.1) for seed in range(2)]
    results = STUDY.results(PARAMS, [lucky, dead, *steady])
    assert chosen(results, "babycnn", "momentum", "none").learning_rate == 0.01


# --- the controls


def test_controls_carry_the_same_noise_but_for_one_thing():
    results = adaptive_results()
    for (control, seed), run in controls(results).items():
        adaptive = results.by_cell[chosen(results, control.model, control.optimizer, "gaussian"), seed]
        script, followed = run.parameter_noise, adaptive.run
        assert isinstance(script, ScriptedNoise)
        assert run.replace(parameter_noise=followed.parameter_noise) == followed
        amounts = list(adaptive.history.gradient_noise), list(adaptive.history.weight_noise)
        found = list(script.gradient), list(script.weight)
        assert script.distribution == ("uniform" if control.kind == "replayed_uniform" else "gaussian")
        if control.kind == "shuffled":
            pairs, shuffled = list(zip(*amounts, strict=True)), list(zip(*found, strict=True))
            assert sorted(pairs) == sorted(shuffled)
            assert pairs[: PARAMS.min_epochs] == shuffled[: PARAMS.min_epochs]
        else:
            assert found == (amounts[::-1] if control.kind == "swapped" else amounts)


def test_seeds_are_shuffled_differently_and_each_always_alike():
    shuffled = Cell("tinycnn", "momentum", 0.1, "shuffled")
    scripts = [
        [
            run.parameter_noise.gradient
            for (c, _), run in controls(adaptive_results()).items()
            if c == shuffled
        ]
        for _ in range(2)
    ]
    assert len(scripts[0]) == PARAMS.seeds
    assert scripts[0] == scripts[1]
    assert len(set(scripts[0])) > 1


def test_controls_wait_until_the_rate_cannot_change_any_more():
    whole = adaptive_results(controls=False)
    assert len(controls(whole)) == 2 * 3 * 3
    late = [r for r in whole.stored if (r.run.seed, r.run.model.name) != (2, "tinycnn")]
    assert {cell.model for cell in control_cells(STUDY.results(PARAMS, late))} == {"babycnn"}
    without = PARAMS.replace(controls=False)
    assert controls(STUDY.results(without, whole.stored)) == {}


def test_a_sweep_trains_the_grid_then_the_controls_and_status_counts_both(tmp_path, monkeypatch):
    monkeypatch.setenv("NOISEUTILS_OUTPUTS", str(tmp_path))
    params = read_profile(
        Params, "adaptive_noise", "smoke", ["models=[babycnn]", "optimizers=[sgd]", "seeds=1", "epochs=3"]
    )
    assert len(STUDY.runs(params)) == 10
    done = pipeline.sweep_study(params, "inline")
    assert len(done.runs) == len(done.results) == 10 + 3
    assert pipeline.status_of(params)[0] == {"finished": 13}
    again = pipeline.sweep_study(params, "inline")
    assert [r.run.key for r in again.results] == [r.run.key for r in done.results]


# --- tables and claims


def test_the_papers_three_tables_are_all_there():
    table = reported.reported()
    assert len(table) == 144
    assert table.groupby("table").size().to_dict() == {"I": 48, "II": 48, "III": 48}
    wide = table.set_index(["optimizer", "model", "noise", "quantity"]).value
    assert wide["momentum", "babycnn", "none", "validation_accuracy"] == 0.6296
    assert wide["sgd", "tinycnn", "none", "validation_loss"] - wide[
        "sgd", "tinycnn", "none", "train_loss"
    ] == (
        pytest.approx(0.2528)  # as the paper's text says
    )
    accuracy = table[table.quantity.str.endswith("accuracy")].value
    assert accuracy.between(0.5, 1).all()


def test_reported_table_judges_only_the_papers_data_and_epochs():
    table = reported.reported_table(adaptive_results())
    assert len(table) == 2 * 3 * 4
    assert set(table.verdict) == {"embedded images: no verdict"}
    row = table[(table.model == "tinycnn") & (table.noise == "none")].set_index("quantity")
    assert row.loc["validation_accuracy", "ours"] == pytest.approx(0.621)
    assert row.loc["validation_accuracy", "n"] == 3
    real = Params(data="some/cifar10-jpeg", models=("tinycnn",), optimizers=("sgd",), seeds=2)
    assert set(reported.reported_table(STUDY.results(real, [])).verdict) == {"not run"}
    found = reported.reported_table(adaptive_results(SIX))
    assert set(found.verdict) == {"other settings: no verdict"}


def test_a_reported_number_is_held_against_one_further_training():
    whole = Params(
        data="some/cifar10-jpeg", models=("tinycnn",), optimizers=("momentum",), learning_rates=(0.1,)
    )
    runs = [run for run in STUDY.runs(whole) if run.parameter_noise is None]
    found = [adaptive_result(run, 0.8326 + (-1) ** run.seed * 0.002, 0.2) for run in runs]
    table = reported.reported_table(STUDY.results(whole, found)).set_index(["noise", "quantity"])
    assert table.loc[("none", "validation_accuracy"), "verdict"] == "agrees"
    assert table.loc[("none", "validation_accuracy"), "settings"] == "copy"
    assert table.loc[("none", "train_loss"), "verdict"] == "ours is higher"
    assert table.loc[("gaussian", "train_loss"), "verdict"] == "not run"


@pytest.mark.parametrize(
    ("change", "made"),
    [
        ({}, "copy"), ({"data": "cifar10"}, "paper"), ({"weight_every": "step"}, "copy"),
        ({"rate_of_change": "window"}, "copy"), ({"epochs": 30, "restart_epochs": 5}, "other"),
        ({"width": 0.5}, "other"), ({"data": "shapes"}, "embedded"),
    ],
)  # fmt: skip
def test_readings_are_the_papers_setting_and_shorter_trainings_are_not(change, made):
    cell = Cell("babycnn", "momentum", 0.01, "gaussian")
    assert STUDY.settings(Params(data="some/cifar10-jpeg").replace(**change), cell) == made


SIX = PARAMS.replace(data="some/photographs", seeds=6)


def test_claims_count_at_the_rate_chosen_without_noise():
    table = STUDY.verdicts(adaptive_results(SIX)).set_index("name")
    plain, own = (table.loc[f"accuracy-tinycnn-momentum{end}"] for end in ("", "-own-rate"))
    assert plain.difference == pytest.approx(-0.03 - 0.02 + 0.0025), "0.01 is best without noise alone"
    assert own.difference == pytest.approx(-0.03 + 0.0025)
    assert (plain.verdict, own.verdict) == ("held", "held")
    counted = table.counted[table.index.str.startswith("accuracy-babycnn-momentum")]
    assert counted.to_dict() == {name: name == "accuracy-babycnn-momentum" for name in counted.index}
    assert not plain.counted, "what is said of all trainings counts once an optimiser"
    noise = table.loc["accuracy-tinycnn-momentum-noise-rate"]
    assert noise.difference == pytest.approx(-0.03 + 0.02 + 0.0025)
    gap = table.loc["regularises-tinycnn-momentum"]
    assert (gap.difference, gap.verdict) == (pytest.approx(-0.1 + 0.0025), "held")
    assert not any(name.startswith("regularises-babycnn") for name in table.index)  # the paper claims none
    assert table.loc["regularises-resnet18-momentum", "verdict"] == "not run"
    assert table.loc["alike-tinycnn-momentum", "verdict"] == "held"
    assert table.loc["above-tinycnn-momentum", "verdict"] == "the opposite"


def test_the_papers_own_numbers_against_its_words_are_marked():
    text = {claim.name: claim.text for claim in claims.CLAIMS}
    against = {name for name, words in text.items() if "against the claim" in words}
    assert {
        "regularises-simplecnn-sgd", "alike-resnet18-sgd", "loss-resnet18-adam", "no-effect-resnet18-adam",
        "no-effect-simplecnn-adam", "above-tinycnn-momentum-none", "above-tinycnn-adam",
    } <= against  # fmt: skip
    assert "printed: 0.8172 and 0.7754" in text["alike-resnet18-sgd"]
    assert not any(name.startswith("accuracy") for name in against)


def changed(results, change):
    """The results with other histories: `change` gets a run's kind and history."""
    found = []
    for (cell, seed), result in results.by_cell.items():
        history = change(cell.kind, seed, result.history)
        found.append(dataclasses.replace(result, history=history))
    return STUDY.results(results.params, found)


def test_a_regulariser_is_judged_only_where_there_is_a_gap():
    results = changed(
        adaptive_results(SIX), lambda kind, seed, h: h.assign(validation_loss=0.9 - 0.01 * (kind != "none"))
    )
    table = STUDY.verdicts(results).set_index("name")
    assert table.loc["regularises-tinycnn-momentum", "verdict"] == NO_GAP
    assert np.isnan(table.loc["regularises-tinycnn-momentum", "p_holm"])
    assert table.loc["accuracy-tinycnn-momentum", "verdict"] == "held"


def test_noise_is_mainly_where_most_noisy_epochs_have_it():
    row = STUDY.verdicts(adaptive_results(SIX)).set_index("name").loc["mainly-gradients"]
    assert row.difference == pytest.approx(2 / 2 - 1 / 2), (
        "two noisy epochs, both on gradients, one on weights"
    )
    assert row.verdict == "held"


def test_noise_is_compared_with_the_regularisers_at_the_same_rate():
    params = SIX.replace(regularisers=("dropout", "weight_decay"))
    results = adaptive_results(params)  # regularisers do as well as noise, but at another rate
    table = STUDY.verdicts(results).set_index("name")
    row = table.loc["suboptimal-tinycnn-momentum"]
    assert row.difference == pytest.approx(0)
    assert row.verdict == "not shown"
    assert STUDY.verdicts(adaptive_results(SIX)).set_index("name").loc[row.name, "verdict"] == "not run"
    dropout = STUDY.run_of(params, Cell("tinycnn", "momentum", 0.1, "dropout"), 0)
    assert (dropout.noise.p, dropout.noise.std, dropout.after) == (0.5, 0.0, ("relu3",))
    decay = STUDY.run_of(params, Cell("tinycnn", "momentum", 0.1, "weight_decay"), 0)
    assert (decay.optimizer.weight_decay, decay.parameter_noise, decay.noise) == (5e-4, None, None)


@pytest.mark.parametrize("model", ["babycnn", "tinycnn", "simplecnn", "resnet18"])
def test_dropout_is_before_the_last_dense_layer_of_every_network(model):
    params = PARAMS.replace(width=0.125, regularisers=("dropout",))
    run = STUDY.run_of(params, Cell(model, "sgd", 0.1, "dropout"), 0)
    net = build_model(model, num_classes=10, in_channels=3, image_size=32, width=0.125, seed=0)
    (place,), last = run.after, [m for m in net.modules() if isinstance(m, torch.nn.Linear)][-1]
    seen = {}
    net.get_submodule(place).register_forward_hook(lambda m, i, out: seen.update(out=out))
    last.register_forward_hook(lambda m, inputs, out: seen.update(into=inputs[0]))
    net(torch.randn(2, 3, 32, 32))
    assert torch.equal(seen["out"], seen["into"])


def test_a_network_at_chance_supports_no_claim():
    results = adaptive_results(SIX)
    for result in results.stored:
        result.info["data"]["classes"] = list("abcdefghij")
        result.metrics["conditions"] = [{"condition": "clean", "statistics": "trained", "top1_error": 0.9}]
    table = STUDY.verdicts(results)
    harms = table.name.str.contains("|".join(rf"^{name}-" for name, *_ in claims.EFFECTS))
    assert set(table.verdict[(table.n > 0) & ~harms]) == {AT_CHANCE}
    assert AT_CHANCE not in set(table.verdict[harms]), "noise that ruins a network lowers its accuracy"


def test_the_rates_of_adam_may_be_its_own():
    params = PARAMS.replace(optimizers=("sgd", "adam"), adam_rates=(0.001,))
    assert {c.learning_rate for c in STUDY.cells(params) if c.optimizer == "adam"} == {0.001}
    assert {c.learning_rate for c in STUDY.cells(params) if c.optimizer == "sgd"} == {0.1, 0.01}


def test_a_rate_at_the_edge_of_its_grid_is_marked():
    params = PARAMS.replace(learning_rates=(0.1, 0.01, 0.001))
    marks = [edge(params, Cell("babycnn", "sgd", rate, "none")) for rate in params.learning_rates]
    assert marks == ["highest of the grid", "", "lowest of the grid"]
    assert edge(PARAMS.replace(learning_rates=(0.1,)), Cell("babycnn", "sgd", 0.1, "none")) == "the only rate"
    assert set(tables.rates_table(adaptive_results()).edge) == {
        "", "highest of the grid", "lowest of the grid"
    }  # fmt: skip
    (table,) = tables.results_tables(adaptive_results()).values()
    assert (table.edge != "").all()


def test_the_flags_of_every_run_by_hand():
    params = PARAMS.replace(epochs=12, min_epochs=3, window=2, restart_epochs=4, seeds=1, controls=False)
    epochs = np.arange(1, 13)
    noise = np.array([0, 0, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1])
    pause = np.array([0, 0, 0, 0, 1, 0, 2, 1, 0, 0, 1, 0])
    history = {
        "epoch": epochs, "gradient_noise": 0.01 * noise, "weight_noise": 0.01 * (epochs == 6),
        "gradient_flag": epochs > 5, "weight_flag": epochs == 6, "cooldown": pause,
    }  # fmt: skip

    def change(kind, seed, h):
        return pd.DataFrame({"validation_accuracy": 0.5, "train_accuracy": 0.5, "train_loss": 1.0,
                             "validation_loss": 1.1, **history})  # fmt: skip

    row = tables.flags_table(changed(adaptive_results(params, controls=False), change)).iloc[0]
    # flags are looked at after epochs 3 to 11, for the next; a cycle begins at 5 and at 9
    assert row.checks == 9
    assert row.gradient_flag == pytest.approx(7 / 9)
    assert row.weight_flag == pytest.approx(1 / 9)
    # windows (3, 5], (4, 6], (7, 9] and (8, 10] hold a restart: acting on epochs 6, 7, 10 and 11
    assert row.restart == pytest.approx(4 / 9)
    assert row.gradient_flag_restart == 1
    assert (row.gradient_epochs, row.weight_epochs) == (5, 1)
    assert row.cooldowns == "2 x 1, 1 x 2"
    assert row.noisy == "4 to 12 by 2"
    assert row.alike == 1


def test_results_tables_have_intervals_and_epochs_with_noise():
    (table,) = tables.results_tables(adaptive_results()).values()
    row = table[(table.model == "babycnn") & (table.noise == "gaussian")].iloc[0]
    assert (row.gradient_epochs, row.weight_epochs, row.n, row.diverged) == (2, 1, 3, 0)
    assert row.validation_accuracy_low < row.validation_accuracy < row.validation_accuracy_high
    none = table[(table.model == "babycnn") & (table.noise == "none")].iloc[0]
    assert none.gradient_epochs == 0


def test_rates_table_names_the_chosen_rate():
    table = tables.rates_table(adaptive_results())
    assert (table.groupby(["model", "noise"]).chosen.apply(lambda c: (c == "chosen").sum()) == 1).all()
    assert len(table) == 2 * 3 * 2


def test_controls_are_compared_with_the_run_that_they_follow():
    results = adaptive_results()
    table = claims.controls_table(results)
    assert len(table) == 2 * 3 * 2
    row = table[(table.model == "babycnn") & (table.control == "shuffled")].set_index("quantity")
    mine = results.values(Cell("babycnn", "momentum", 0.1, "shuffled"), "validation_accuracy")
    assert row.loc["validation_accuracy", "difference"] == pytest.approx(
        np.mean(list(mine.values())) - np.mean([0.59 + 2 * seed / 1000 for seed in range(3)])
    )
    assert claims.controls_table(adaptive_results(controls=False)).n.eq(0).all()


def test_play_tells_of_each_epoch_what_acts_on_it():
    history = pd.DataFrame(
        {"epoch": range(1, 9), "gradient_norm": 1.0, "update_norm": 1.0, "validation_loss": 1.0}
    )
    spec = AdaptiveNoise(min_epochs=3, window=2, consecutive_trigger=2, cooldown_min=1, cooldown_max=1)
    table = tables.play(spec, 8, history)
    assert (table.gradient_noise > 0).tolist() == [False] * 3 + [True, True, False, True, True]
    assert table.cooldown.tolist() == [0, 0, 0, 0, 0, 1, 0, 0]


# --- figures


def test_every_figure_is_drawn_and_says_where_its_data_come_from():
    results = adaptive_results()
    drawn = figures_of(results)
    assert [d.name for d in drawn] == [
        "figure_01_training", "table_2_momentum", "rates_momentum", "controls_momentum",
    ]  # fmt: skip
    for figure in drawn:
        assert "shapes, embedded data" in figure.figure.get_suptitle()
        assert figure.alt
        figure.figure.draw_without_rendering()
    drawn += [*figures.schedule(PARAMS)]


def test_what_is_missing_is_left_out_of_the_figures():
    empty = STUDY.results(PARAMS, [])
    assert figures_of(empty) == []
