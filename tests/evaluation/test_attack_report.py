"""The attack report: a sound network raises no alarm, masked gradients do, and no work is done twice."""

import json
from collections import Counter

import pytest
import torch
from networks import CLASSES, DELTA, QUICK, data, net, trained
from torch import nn

from noiseutils.errors import UserError
from noiseutils.evaluation import attack_report as reports
from noiseutils.evaluation.attack_report import (
    CROSS_ENTROPY,
    Effort,
    Target,
    attack_report,
    comparison,
    signs_of_masking,
)


class Scaled(nn.Module):
    """The same decisions as another network's, with logits so large that the softmax saturates."""

    def __init__(self, inner: nn.Module, factor: float = 1000) -> None:
        super().__init__()
        self.inner, self.factor = inner, factor

    def forward(self, x):
        return self.factor * self.inner(x)


def accuracies(record: dict) -> dict[str, float]:
    return {name: found["accuracy"] for name, found in record["attacks"].items()}


@pytest.mark.slow
def test_the_report_of_a_sound_network_raises_no_alarm(model):
    x, y = data(40)
    report = attack_report(
        model, x, y, deltas=[DELTA], surrogates=[("other", trained(1))], effort=Effort(square_queries=50)
    )
    (record,) = report["deltas"]
    found = accuracies(record)
    assert list(found) == ["fgsm", "pgd20", "pgd100", "pgd100_dlr", "autoattack"]
    assert report["clean"]["accuracy"] > 0.95
    assert record["order"] == {
        "holds": True,
        "chain": ["fgsm", "pgd20", "pgd100", "autoattack"],
        "broken": [],
    }
    assert found["autoattack"] <= found["pgd100"] <= found["fgsm"] < record["noise"]["accuracy"]
    assert record["best"]["accuracy"] <= min(found.values())
    assert not record["transfer"]["other"]["below_white_box"]
    assert report["curve"]["reaches_zero_at"] is not None
    assert report["gradient"]["zero_images"] == 0
    assert report["signs"] == []
    assert report["skipped"] == {}


@pytest.mark.slow
def test_scaled_logits_are_unmasked(model):
    x, y = data(40)
    effort = Effort(square_queries=50)
    plain, scaled = (
        attack_report(network, x, y, deltas=[DELTA], effort=effort, surrogates=[("unscaled", model)])
        for network in (model, Scaled(model))
    )
    honest, found = accuracies(plain["deltas"][0]), accuracies(scaled["deltas"][0])
    assert found["fgsm"] == found["pgd20"] == found["pgd100"] == scaled["clean"]["accuracy"] > 0.95
    assert found["pgd100_dlr"] < 0.7
    assert found["autoattack"] == pytest.approx(honest["autoattack"], abs=0.05)
    assert scaled["gradient"]["zero_images"] > 0.9
    assert scaled["curve"]["reaches_zero_at"] is None
    assert scaled["deltas"][0]["transfer"]["unscaled"]["below_white_box"]
    assert {sign["sign"] for sign in scaled["signs"]} == {
        "zero_gradients",
        "curve_above_zero",
        "transfer_beats_white_box",
        "cross_entropy_misleads",
    }


def test_outputs_that_are_probabilities_are_a_sign(model):
    x, y = data(20)
    given = {"deltas": [DELTA], "autoattack": False, "effort": QUICK}
    plain = attack_report(model, x, y, **given)
    found = attack_report(nn.Sequential(model, nn.Softmax(1)), x, y, **given)
    assert (plain["probabilities"], found["probabilities"]) == (False, True)
    assert "probabilities" not in {sign["sign"] for sign in plain["signs"]}
    assert found["signs"][0] == {
        "sign": "probabilities",
        "delta": None,
        "said": "the outputs are probabilities, which cross-entropy takes for logits",
    }


@pytest.mark.slow
def test_the_report_repeats_and_survives_json(model):
    x, y = data(12)
    position = torch.get_rng_state()
    first, again, other = (
        attack_report(model, x, y, deltas=[DELTA, 0.06], seed=seed, effort=QUICK) for seed in (0, 0, 1)
    )
    assert first == again
    assert [record["delta"] for record in first["deltas"]] == [DELTA, 0.06]
    assert first["settings"]["seed"] != other["settings"]["seed"]
    assert json.loads(json.dumps(first, allow_nan=False)) == first
    assert torch.equal(torch.get_rng_state(), position)
    for record in first["deltas"]:
        columns = [f["correct"] for f in record["attacks"].values()] + record["noise"]["draws"]
        columns.append(first["clean"]["correct"])
        assert {len(column) for column in columns} == {12}
        assert record["best"]["correct"] == "".join(min(bits) for bits in zip(*columns, strict=True))
        for entry in record["attacks"].values():
            assert entry["accuracy"] == pytest.approx(entry["correct"].count("1") / 12)


def test_the_report_attacks_in_eval_mode_and_restores_the_network():
    network = net().train()
    network[1].eval()
    network[0].weight.requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    x, y = data(12)
    found = attack_report(network, x, y, deltas=[DELTA], autoattack=False, effort=QUICK)
    modes = [True, True, False] + [True] * 5
    assert [module.training for module in network.modules()] == modes
    assert [p.requires_grad for p in network.parameters()] == [False] + [True] * 7
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert found == attack_report(network.eval(), x, y, deltas=[DELTA], autoattack=False, effort=QUICK)


def test_bytes_count_as_255ths_and_a_limit_spreads_over_all_images(model):
    x, y = data(60)
    stored = (x * 255).round().to(torch.uint8)
    of_bytes, of_floats = (
        attack_report(model, z, y, deltas=[DELTA], autoattack=False, effort=QUICK)
        for z in (stored, stored.float() / 255)
    )
    assert of_bytes == of_floats
    order = y.sort(stable=True).indices
    limited = attack_report(
        model, x[order], y[order], deltas=[DELTA], autoattack=False, effort=QUICK, images_limit=10
    )
    assert limited["settings"]["images"] == len(limited["clean"]["correct"]) == 10
    chosen = reports._chosen(x[order], y[order], 10)[1]
    assert set(chosen.tolist()) == set(range(CLASSES))


@pytest.mark.parametrize(("classes", "missing"), [(2, {"pgd6_dlr", "autoattack"}), (3, {"autoattack"})])
def test_too_few_classes_are_skipped_and_said(classes, missing):
    x, y = data(8, classes=classes)
    report = attack_report(net(classes), x, y, deltas=[DELTA], effort=QUICK)
    assert set(report["skipped"]) == missing
    assert all(f"the network has {classes}" in said for said in report["skipped"].values())
    assert not missing & set(report["deltas"][0]["attacks"])


def test_four_classes_are_enough_for_autoattack():
    x, y = data(8, classes=4)
    report = attack_report(net(4), x, y, deltas=[DELTA], effort=QUICK)
    assert "autoattack" in report["deltas"][0]["attacks"]
    assert report["deltas"][0]["warnings"] == []


def test_comparison_is_the_exact_mcnemar_test():
    weaker, stronger = torch.tensor([1, 0, 0, 0, 0, 1]).bool(), torch.tensor([1, 1, 1, 1, 1, 0]).bool()
    assert comparison(weaker, stronger) == {"more_right": 3, "p": pytest.approx(6 / 32)}
    assert comparison(weaker, weaker) == {"more_right": 0, "p": 1.0}


def test_a_broken_order_is_a_sign_only_beyond_chance(model):
    x, y = data(12)
    report = attack_report(model, x, y, deltas=[DELTA], autoattack=False, effort=QUICK)
    pair = {"weaker": "fgsm", "stronger": "pgd3", "more_right": 1, "p": 0.5}
    report["deltas"][0]["order"]["broken"] = [pair]
    report["curve"]["reaches_zero_at"] = 0.5
    assert signs_of_masking(report) == []
    report["deltas"][0]["order"]["broken"] = [pair | {"more_right": 8, "p": 0.004}]
    (sign,) = signs_of_masking(report)
    assert sign["sign"] == "order_broken"
    assert sign["said"] == "8 more images are right under pgd3 than under fgsm"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"deltas": []}, "deltas must be sizes"),
        ({"deltas": [8]}, r"in \(0, 1\]"),
        ({"deltas": [0]}, r"got \[0\]"),
        ({"labels": torch.zeros(3, dtype=torch.long)}, "4 images, 3 labels"),
        ({"labels": torch.full((4,), 9)}, "labels must lie in 0 … 4"),
        ({"images": torch.full((4, 3, 8, 8), 200.0)}, "must be uint8, or float"),
        ({"images_limit": 0}, "images_limit 0"),
        ({"surrogates": [("a", net()), ("a", net())]}, "name of its own"),
    ],
)
def test_the_report_refuses_bad_arguments(arguments, said):
    x, y = data(4)
    given = {"images": x, "labels": y, "deltas": [DELTA], "effort": QUICK} | arguments
    with pytest.raises(UserError, match=said):
        attack_report(net(), **given)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"steps": (20, 20)}, r"got \(20, 20\)"),
        ({"steps": (0, 5)}, r"got \(0, 5\)"),
        ({"noise_draws": 0}, "noise_draws=0"),
        ({"curve": (2.0,)}, "curve must be sizes"),
    ],
)
def test_effort_refuses_bad_arguments(arguments, said):
    with pytest.raises(UserError, match=said):
        Effort(**arguments)


def test_no_attack_is_made_twice(monkeypatch):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 5))
    images, labels = torch.rand(6, 3, 4, 4), torch.arange(6) % 5
    effort = Effort(steps=(2, 3), noise_draws=1, curve=(0.02, 0.1, 0.3))
    made, attack = Counter(), Target.under_pgd

    def noted(self, delta, steps, criterion=CROSS_ENTROPY, on=None):
        made[delta, steps, criterion] += 1
        return attack(self, delta, steps, criterion, on)

    monkeypatch.setattr(Target, "under_pgd", noted)
    report = attack_report(network, images, labels, deltas=(0.1,), autoattack=False, effort=effort)
    assert set(made.values()) == {1}
    curve = dict(zip(report["curve"]["deltas"], report["curve"]["accuracies"], strict=True))
    assert curve.get(0.1, 0.0) == report["deltas"][0]["attacks"]["pgd2"]["accuracy"]
