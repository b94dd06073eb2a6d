from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from noiseutils.config import AdversarialNoise, ClassAdversarialNoise, LayerwiseAdversarialNoise, Run
from noiseutils.errors import UserError
from noiseutils.evaluation.inspection import packed
from noiseutils.studies.adversarial_noise_layer import attacks, claims, figures, tables
from noiseutils.studies.adversarial_noise_layer import grid as anl
from noiseutils.studies.adversarial_noise_layer.outcome import Outcome, collect, comparable
from noiseutils.studies.profiles import read_profile
from noiseutils.sweeps.store import Store
from noiseutils.training.loop import Result, train

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "notebooks" / "03_adversarial_noise_layer.ipynb"
PARAMS = anl.Params(data=("cifar10",), seeds=3, figure4_models=("vgg16",), figure4_epsilons=(0.02, 0.1))


def conditions(error: float, deltas: tuple[float, ...]) -> list[dict]:
    sizes = [("clean", 0.0), *(("fgsm", delta / 255) for delta in deltas)]
    return [
        {"condition": c, "size": s, "statistics": statistics, "top1_error": min(1.0, error + 5 * s)}
        for statistics in ("trained", "recalibrated")
        for c, s in sizes
    ]


def made_up(params: anl.Params, error) -> Outcome:
    """An outcome whose top-1 errors are `error(cell, seed)`, whose gradients are alike by site's place."""
    results = []
    for seed in range(params.seeds):
        for cell in anl.cells(params):
            metrics: dict = {"conditions": conditions(error(cell, seed), params.fgsm_255)}
            if cell.part == "table1":
                metrics["gradient_similarity"] = {
                    site: ((0.1 + 0.07 * i + seed / 100) * np.eye(10) + 0.01).tolist()
                    for i, site in enumerate(anl.LENET_SITES)
                }
            if cell.model == "lenet5" and seed == 0:
                pixels = torch.zeros(3, 1, 4, 4, dtype=torch.uint8)
                metrics["feature_maps"] = {
                    "images": packed(pixels),
                    "maps": packed(pixels.repeat(1, 6, 1, 1)),
                }
            history = pd.DataFrame(
                {
                    "epoch": [1, 2],
                    "activation_std.conv1": [0.5, 0.6],
                    "activation_std.bn1": [1.0, 1.1 + seed / 10],
                    "activation_std.layer1.0.bn1": [1.0, 1.2],
                }
            )
            info = {
                "device": "made up",
                "versions": {"commit": "abc"},
                "data": {"label": anl.data_of(params, cell).label, "fingerprint": "f"},
            }
            results.append(Result(anl.run_of(params, cell, seed), "finished", metrics, history, None, info))
    return Outcome(params, results)


def helpful(cell: anl.Cell, seed: int) -> float:
    """Noise along the gradient helps by two points, against it costs thirty, everything else does nothing."""
    base = 0.10 + seed / 100
    gain = {"anl": -0.02, "canl": -0.015, "anl_negative": 0.3}.get(cell.method, 0.0)
    return base + gain * (1 + seed / 50)


def test_the_papers_grid_is_all_there():
    params = read_profile(anl.Params, "adversarial_noise_layer", "paper")
    parts = {
        part: [c for c in anl.cells(params) if c.part == part] for part in ("table2", "table3", "table4")
    }
    reported = claims.reported()
    assert len(parts["table2"]) == 7 * 6  # the six rows of Table 2, and VGG-16 on CIFAR-100
    assert len(parts["table3"]) == 8 * 2 * 4 == len(reported[reported.table == "table3"])
    assert len(parts["table4"]) == 6
    assert {run.epochs for run in anl.runs(params)} == {3, 300, 200}
    assert {run.model.width for run in anl.runs(params)} == {1.0}


def test_reported_numbers_are_the_papers():
    """Spot checks against the printed tables, and their sums, which a slip in any number would move."""
    table = claims.reported()
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
    grid = {cell: anl.run_of(PARAMS, cell, 0) for cell in anl.cells(PARAMS)}
    for cell, run in grid.items():
        if cell.part == "table2" and cell.model != "lenet5":
            assert (run.schedule.kind, run.schedule.factor, run.schedule.every) == ("step", 0.2, 50)
            assert run.optimizer.nesterov
        if cell.part in ("table3", "table4", "figure4", "ablation"):
            noisy = cell.method in ("anl", "canl", "anl_unscaled")
            assert run.schedule.kind == "plateau"
            assert (run.noise_epochs, run.schedule.switch) == ((100, 100) if noisy else (None, None))
            assert run.epochs == 200


def test_each_method_is_the_noise_that_it_says():
    cells = {c.method: c for c in anl.cells(PARAMS) if c.part == "table2" and c.model == "vgg16"}
    noise = {name: anl.run_of(PARAMS, cell, 0).noise for name, cell in cells.items()}
    assert noise["baseline"] is None
    assert noise["gaussian"].std == 0.03 / 4
    assert noise["anl"] == AdversarialNoise(epsilon=0.03)
    assert noise["anl_negative"] == AdversarialNoise(epsilon=-0.03)
    assert noise["canl"] == ClassAdversarialNoise(epsilon=0.03)
    assert noise["lat"] == LayerwiseAdversarialNoise(epsilon=0.03)
    unscaled = anl.run_of(PARAMS, anl.Cell("ablation", "cifar10", "vgg16", "anl_unscaled", 0.05), 0)
    assert unscaled.noise == AdversarialNoise(epsilon=0.05, scaled=False)
    attacked = anl.run_of(PARAMS, anl.Cell("table4", "cifar10", "vgg16", "anl", 0.05), 0)
    assert attacked.after == ("input", "BatchNorm2d")
    hard = anl.run_of(PARAMS, anl.Cell("table4", "cifar10", "vgg16", "at", 0.05), 0)
    assert (hard.noise, hard.adversarial_training.delta) == (None, 0.05)


def test_the_same_training_in_two_tables_is_trained_once():
    shared = [anl.Cell(part, "cifar10", "vgg16", "anl", 0.05) for part in ("table3", "figure4", "ablation")]
    assert len({anl.run_of(PARAMS, cell, 0).key for cell in shared}) == 1
    assert len(anl.runs(PARAMS)) < 3 * len(anl.cells(PARAMS))


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
        anl.runs(read_profile(anl.Params, "adversarial_noise_layer", "smoke", [change]))


def test_a_profile_that_asks_for_nothing_is_an_error():
    nothing = {
        "data": (), "similarity_data": None, "lenet_data": None, "imagenet_data": None,
    }  # fmt: skip
    with pytest.raises(UserError, match="no table is asked for"):
        anl.runs(PARAMS.replace(**nothing))


def test_one_data_set_may_be_given_without_a_list():
    assert anl.Params(data="cifar10").data == ("cifar10",)


@pytest.mark.parametrize(
    "change", [{"train_size": 500}, {"width": 0.5}, {"table3_epochs": 20}, {"data": ("shapes",)}]
)
def test_other_settings_than_ours_of_the_paper_get_no_verdict(change):
    cell = anl.Cell("table3", "cifar10", "vgg16")
    assert comparable(PARAMS, cell, "cifar10")
    other = PARAMS.replace(**change)
    assert not comparable(other, anl.Cell("table3", other.data[0], "vgg16"), "cifar10")


@pytest.mark.parametrize(
    ("part", "model", "method", "change"),
    [
        ("table1", "lenet5", "baseline", {"batch_size": 64}),
        ("table2", "lenet5", "anl", {"lenet_learning_rate": 0.01}),
        ("table2", "vgg16", "anl", {"epsilon": 0.1}),
        ("table2", "lenet5", "canl", {"epsilon": 0.1}),
        ("table2", "vgg16", "lat", {"lat_epsilon": 0.1}),
    ],
)
def test_another_epsilon_or_rate_gets_no_verdict(part, model, method, change):
    here = PARAMS.replace(data=("cifar10",))
    (cell,) = [c for c in anl.cells(here) if (c.part, c.model, c.method) == (part, model, method)]
    told = {"mnist": "mnist", "fashion_mnist": "fashion_mnist"}.get(cell.data, "cifar10")
    assert comparable(here, cell, told)
    assert not comparable(here.replace(**change), cell, told)


def test_table_1_on_fewer_classes_says_not_run_for_the_others():
    outcome = made_up(PARAMS, helpful)
    for result in outcome.results:
        for site, rows in result.metrics.get("gradient_similarity", {}).items():
            result.metrics["gradient_similarity"][site] = [row[:4] for row in rows[:4]]
    table = claims.reported_table(outcome, "table1")
    assert table.n.tolist() == [3] * 4 + [0] * 6
    assert set(table.verdict[4:]) == {"not run"}


def test_verdicts_on_survival_are_corrected_for_their_number():
    def report(fgsm: str, best: str) -> dict:
        record = {"delta": 8 / 255, "attacks": {"fgsm": {"accuracy": 0.5, "correct": fgsm}}}
        return {"deltas": [record | {"best": {"accuracy": 0.5, "correct": best}}]}

    plain, noisy = (
        anl.Cell("table4", "cifar10", "vgg16", m, e) for m, e in (("baseline", 0.0), ("anl", 0.05))
    )
    found = {(plain, 0): report("0" * 10, "0" * 10), (noisy, 0): report("1" * 6 + "0" * 4, "0" * 10)}
    table = attacks.survival_table(found).set_index("attack")
    assert table.loc["FGSM", "p_value"] == pytest.approx(2 / 64)
    assert table.loc["FGSM", "p_holm"] == pytest.approx(4 / 64)
    assert set(table.verdict) == {"no difference shown"}


def test_similarity_is_told_site_by_site_and_table_1_at_the_nearest():
    outcome = made_up(PARAMS, helpful)
    table = tables.similarity_table(outcome).set_index("site")
    assert list(table.index) == list(anl.LENET_SITES)
    assert table.loc["input", "same_class"] == pytest.approx(0.12)
    assert (table.separated == "3 of 3").all()
    assert claims.nearest_site(outcome) == "fc2"  # 0.11 + 0.07 * 9 + 0.01 = 0.75
    reported = claims.reported_table(outcome, "table1")
    assert reported.ours.iloc[0] == pytest.approx(0.75)
    assert reported.n.tolist() == [3] * 10
    claim = claims.similarity_claim(outcome)
    assert set(claim.verdict) == {"held"}


def test_claims_follow_the_differences():
    table = claims.claims_table(made_up(PARAMS, helpful)).set_index("claim")
    anl_row = table.loc["Table 2: vgg16 on cifar10, ANL (ε = 0.03) against no noise"]
    assert anl_row.difference == pytest.approx(-0.02 * 1.02)
    assert anl_row.verdict == "held"
    assert (
        table.loc["Table 2: lenet5 on fashion_mnist, ANL, negative ε (ε = -0.03) against no noise"].verdict
        == "held"
    )
    assert table.loc["Table 2: vgg16 on cifar10, LAT (ε = 0.03) against no noise"].verdict == "not shown"
    assert table.loc["s(h): vgg16 on cifar10, ANL (ε = 0.05) against ANL without s(h)"].verdict == "held"
    four = "Table 4: vgg16 on cifar10, ANL (ε = 0.05) against ε = 0.01, FGSM 8/255"
    assert table.loc[four].verdict == "not shown"


def test_reported_numbers_stand_beside_ours_only_where_they_can_be_compared():
    outcome = made_up(PARAMS, helpful)
    four = claims.reported_table(outcome, "table4")
    assert len(four) == 30
    row = four[(four.method == "ANL") & (four.epsilon == 0.05) & (four.delta == 8)].iloc[0]
    assert row.ours == pytest.approx(1 - (0.11 - 0.02 * 1.02 + 40 / 255), abs=1e-3)
    three = claims.reported_table(outcome, "table3")
    assert set(three["data"]) == {"cifar10"}, "CIFAR-100's numbers need its images"
    assert len(three) == 32
    embedded = claims.reported_table(made_up(PARAMS.replace(data=("shapes",)), helpful), "table3")
    assert set(embedded.verdict) == {"other data: no verdict"}


def test_errors_come_with_intervals_and_reestimated_statistics():
    table = tables.errors_table(made_up(PARAMS, helpful), "table3")
    assert {"top1_error_low", "top1_error_high", "recalibrated", "n", "diverged"} <= set(table)
    assert (table.n == 3).all()
    significance = tables.significance_table(made_up(PARAMS, helpful), "table3")
    assert len(significance) == 3 * 8
    assert (significance.p_holm >= significance.p_value).all()


def test_every_figure_of_the_paper_is_drawn_and_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("NOISEUTILS_OUTPUTS", str(tmp_path))
    outcome = made_up(PARAMS.replace(table3_models=("vgg16",), table2_models=("resnet20",)), helpful)
    shelf = outcome.shelf("table2")
    for draw in (
        figures.similarity, figures.activation_std, figures.feature_maps, figures.error_over_epsilon,
        figures.robustness,
    ):  # fmt: skip
        shelf.show(draw(outcome))
    for part in ("table2", "table3"):
        shelf.show(figures.errors(outcome, part))
    names = {path.stem for path in (tmp_path / "adversarial_noise_layer" / "smoke" / "figures").glob("*.png")}
    assert names >= {
        "figure_02_activation_std", "figure_03_feature_maps", "figure_04_error_over_epsilon",
        "table_1_similarity", "table_2_errors", "table_3_errors", "table_4_fgsm",
    }  # fmt: skip


def test_a_part_that_a_profile_leaves_out_is_said_and_breaks_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NOISEUTILS_OUTPUTS", str(tmp_path))
    only = PARAMS.replace(
        data=(), similarity_data="mnist", lenet_data=None, table4_model=None, ablation_model=None
    )
    outcome = made_up(only, helpful)
    shelf = outcome.shelf("table3")
    for draw in (
        figures.activation_std,
        figures.feature_maps,
        figures.error_over_epsilon,
        figures.robustness,
    ):
        assert list(draw(outcome)) == []
    for part in ("table2", "table3"):
        assert list(figures.errors(outcome, part)) == []
        shelf.table(tables.errors_table(outcome, part), part)
        shelf.table(claims.reported_table(outcome, part), part)
    shelf.table(claims.claims_table(outcome), "claims")
    assert "claims: nothing of it is in this profile" in capsys.readouterr().out


def tiny() -> anl.Params:
    return anl.Params(
        data=("shapes",), train_size=60, test_size=30, width=0.05, batch_size=20, learning_rate=0.01,
        similarity_data=None, lenet_data=None, table2_models=(), table3_models=(), table3_epochs=2,
        table4_model="vgg11", figure4_models=(), ablation_model=None, fgsm_255=(8.0,),
        attack_images=6, attack_255=(8.0,), attack_queries=0, seeds=1,
    )  # fmt: skip


@pytest.mark.slow
def test_attack_reports_are_made_once_kept_and_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("NOISEUTILS_OUTPUTS", str(tmp_path))
    monkeypatch.setattr(anl, "TABLE_4", (("baseline", 0.0), ("anl", 0.05)))
    params, store = tiny(), Store(tmp_path / "runs")
    attacks.analyse(params, store)
    assert attacks.reports(params, store) == {}, "without weights there is nothing to attack"
    for run in anl.runs(params):
        store.save(train(run))
    attacks.analyse(params, store)
    found = attacks.reports(params, store)
    assert [cell.method for cell, _ in found] == ["baseline", "anl"]
    monkeypatch.setattr(attacks, "_report", lambda *_: pytest.fail("made again"))
    attacks.analyse(params, store)
    accuracies = attacks.accuracy_table(found)
    assert {"FGSM", "PGD-20", "PGD-100", "PGD-100, DLR loss", "all together"} <= set(accuracies.attack)
    assert (accuracies.images == 6).all()
    assert len(attacks.masking_table(found)) == 2
    survival = attacks.survival_table(found)
    assert set(survival.attack) == {"FGSM", "all together"}
    assert set(survival.verdict) <= {"sturdier", "weaker", "no difference shown"}
    outcome = Outcome(params, [store.load(run) for run in anl.runs(params)])
    names = [drawn.name for drawn in figures.attacks(outcome, found)]
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
    params = read_profile(anl.Params, "adversarial_noise_layer", "imagenet", changes)
    runs = anl.runs(params)
    assert [run.model.name for run in runs] == ["alexnet", "alexnet"]
    assert all(isinstance(run, Run) and run.data.streamed for run in runs)
    assert runs[1].noise == ClassAdversarialNoise(epsilon=0.05)
    outcome = collect(params, "inline")
    table = tables.errors_table(outcome, "imagenet")
    assert table.n.tolist() == [1, 1]
    assert set(claims.reported_table(outcome, "imagenet").verdict) == {"other data: no verdict"}, "3 epochs"
