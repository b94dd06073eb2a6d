"""The claims of the training-data study: every verdict from six seeds of made-up results, real in name."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from factory import VARIATION as PARAMS
from factory import variation_results

from noiseutils.stats import against_margin, claim_verdict
from noiseutils.studies.evidence import JUDGED
from noiseutils.studies.profiles import read_profile
from noiseutils.studies.training_data_variation import STUDY, contrasts
from noiseutils.studies.training_data_variation.contrasts import widest_pair
from noiseutils.studies.training_data_variation.grid import NAMES, PAPERS_LEVELS, Cell, neighbours, shown_as
from noiseutils.studies.training_data_variation.params import Params

SIX = PARAMS.replace(
    seeds=6, change_seeds=6, data="./photographs", sigmas=(0.01, 0.05, 0.1, 0.5, 1.0, 5.0), copy_sigmas=(0.1,)
)


def verdicts(results):
    return STUDY.verdicts(results).set_index("name").T


@pytest.fixture(scope="module")
def six():
    return verdicts(variation_results(SIX))


def test_every_claim_of_the_papers_grid_is_tested():
    found = verdicts(variation_results(SIX))
    assert set(found.loc["n"]) == {6}
    assert not {"not run", "too few seeds"} & set(found.loc["verdict"])


def test_matched_training_is_best_against_the_rival_that_other_seeds_choose(six):
    assert six["best-0.5"].verdict == "held"
    assert six["best-0.5"].difference == pytest.approx(0.08, abs=0.01)
    results = variation_results(SIX)
    for cell in (Cell(a, "noise", 0.5) for a in SIX.architectures):
        for result in results.of_cell(cell):
            for record in result.metrics["conditions"]:
                record["top1_error"] += 0.3
    assert verdicts(results)["best-0.5"].verdict == "the opposite"


def test_best_needs_the_neighbouring_strengths_of_the_papers_grid_and_names_its_rivals(six):
    assert six["best-0.1"].remark.endswith("points; against none, 0.01, 0.05, 0.5, 1, 5")
    few = verdicts(variation_results(SIX.replace(sigmas=(0.1, 0.5, 1.0, 5.0))))
    assert few["best-0.1"].verdict == "neighbouring strengths not run: no verdict"
    assert few["best-0.1"].remark.endswith("against none, 0.5, 1, 5")
    assert few["best-1"].verdict == six["best-1"].verdict == "held"
    assert few["best-5"].verdict == six["best-5"].verdict == "held", "nothing is stronger"


def test_a_peak_needs_the_neighbouring_test_noises_of_the_papers_grid(six):
    assert six["peak-0.1"].verdict in JUDGED
    assert six["peak-0.1"].remark.endswith("points; against none, 0.01, 0.05, 0.5, 1, 5")
    few = verdicts(variation_results(SIX.replace(sigmas=(0.1, 0.5, 1.0, 5.0))))
    assert few["peak-0.1"].verdict == "neighbouring strengths not run: no verdict"
    assert few["peak-1"].verdict in JUDGED


def test_best_is_not_judged_without_a_training_on_none():
    results = variation_results(SIX)
    noisy = {place: found for place, found in results.by_cell.items() if place[0].sigma}
    assert verdicts(replace(results, by_cell=noisy))["best-0.1"].verdict == "not run"


def test_neighbours_are_those_of_the_papers_grid():
    assert neighbours(0.1) == [0.05, 0.5]
    assert neighbours(5.0) == [1.0]
    assert Params().levels == list(PAPERS_LEVELS)


def test_a_network_at_chance_does_not_void_what_is_claimed_of_the_strongest_noise():
    results = variation_results(SIX)
    for (cell, _), result in results.by_cell.items():
        result.info["data"]["classes"] = list("abcdefghij")
        if cell.sigma == 5:
            clean = next(r for r in result.metrics["conditions"] if r["condition"] == "clean")
            clean["top1_error"] = 0.9
    found = verdicts(results)
    assert found["best-5"].verdict == "held"
    assert found["peak-5"].verdict in JUDGED


def test_a_rival_is_chosen_by_the_other_seeds():
    own = {0: 0.5, 1: 0.5, 2: 0.5}
    # on seed 0 the first rival is best by luck, on all others the second
    rivals = {"lucky": {0: 0.9, 1: 0.1, 2: 0.1}, "good": {0: 0.4, 1: 0.4, 2: 0.4}}
    found, chosen = contrasts.against_rivals(own, rivals)
    assert found[0] == pytest.approx(0.1)
    assert "good" in chosen
    assert contrasts.against_rivals({0: 0.5}, rivals) == ({}, []), "one seed has no others"


def test_no_difference_is_shown_by_equivalence_and_refuted_beyond_its_margin(six):
    assert six["as-none-trained"].verdict == "held"
    assert six["clean-0.1"].verdict == "the opposite"
    assert six["clean-0.1"].difference == pytest.approx(-0.0199, abs=0.001)
    assert six["raises-0.1"].verdict == "held"


def test_architectures_are_alike_only_if_every_two_are(six):
    assert six["modules"].verdict == "the opposite"
    assert abs(six["modules"].difference) == pytest.approx(0.05, abs=0.01)
    assert " minus " in six["modules"].remark
    assert six["inception"].verdict == "held"
    assert six["change-alike-noise"].verdict == "held"
    alone = verdicts(variation_results(SIX.replace(architectures=("resnet",))))
    assert alone["modules"].verdict == alone["inception"].verdict == "not run"


def test_architectures_that_differ_by_their_seeds_alone_are_not_told_apart():
    rng, rows = np.random.default_rng(0), dict.fromkeys(NAMES, ())
    found = {"held": 0, "the opposite": 0, "not shown": 0}
    for _ in range(300):
        values = {name: dict(enumerate(rng.normal(0.7, 0.02, 12))) for name in NAMES}
        pair = widest_pair(values, rows, 0.02, relative=False)
        numbers = list(pair.by_seed.values())
        p = pair.chosen_of * against_margin(numbers, 0.02)
        found[claim_verdict(float(np.mean(numbers)), p, claimed="within", margin=0.02)] += 1
    assert found["the opposite"] <= 0.05 * 300, found
    assert found["held"] > 0.1 * 300, "the range of three would never be held here"


def test_changes_are_compared_seed_by_seed_on_common_images(six):
    assert six["change-rises-0.1"].verdict == "held"
    assert six["change-rises-0.1"].difference == pytest.approx(0.85)
    assert six["change-slightly"].verdict == "the opposite", "twice as much is not slightly"
    assert six["blur-change-0.5"].verdict == "held"
    assert six["change-falls-1-from-0.1"].verdict == "not shown"
    assert six["change-rises-0.1-zero"].difference == pytest.approx(8.5 / 11)
    few = variation_results(SIX)
    few.answers[Cell("resnet", "noise", 0.1), 0, "best"]["size"][2] = 0.0
    assert verdicts(few)["change-rises-0.1"].n == 5, "nine common images are too few for a mean"


def scaled_changes(params, factors):
    """Return results whose smallest changes are multiplied by a factor of the training noise's strength."""
    results = variation_results(params)
    for (cell, seed, _), answer in results.answers.items():
        if cell.kind == "noise" and "size" in answer:
            factor = factors.get(cell.sigma, 1.0) * (1 + seed / 100)
            answer["size"] = [size and factor * size for size in answer["size"]]
    return results


def test_the_change_falls_against_the_largest_of_the_weaker_noises():
    rising = {0.01: 1.1, 0.05: 1.2, 0.1: 1.3, 0.5: 2.0, 1.0: 1.6, 5.0: 1.5}
    found = verdicts(scaled_changes(SIX, rising))
    assert found["change-falls-1"].verdict == "held", "below that of 0.5, though above that of 0.1"
    assert found["change-falls-1"].difference == pytest.approx(-0.4 * 1.7 * 1.025)
    assert found["change-falls-1"].remark.endswith("against 0.01, 0.05, 0.1, 0.5")
    assert found["change-falls-1-from-0.1"].verdict == "the opposite"
    assert found["change-falls-5"].difference == pytest.approx(-0.5 * 1.7 * 1.025), "not against 1 alone"
    few = verdicts(scaled_changes(SIX.replace(sigmas=(0.1, 1.0, 5.0)), rising))
    assert few["change-falls-1"].verdict == "neighbouring strengths not run: no verdict"
    assert few["change-falls-5"].verdict == "held", "0.5 is not beside 5"
    counted = found.loc["counted"]
    assert counted["change-falls-1"]
    assert not counted["change-falls-1-from-0.1"]


@pytest.mark.parametrize(
    ("factor", "verdict"), [(0.65, "held"), (0.9, "the opposite"), (0.3, "no gain: no verdict")]
)
def test_slightly_more_robust_is_less_than_half_as_much_again_and_no_loss(factor, verdict):
    """Noise doubles the change before the factor: gains of a third, of 0.8, and a loss of 0.4."""
    found = verdicts(scaled_changes(SIX, {0.1: factor}))["change-slightly"]
    assert found.verdict == verdict
    assert found.difference == pytest.approx(2 * factor * 1.025 - 1.5)


def test_one_attacked_network_is_too_few():
    one = verdicts(variation_results(SIX.replace(change_seeds=1)))
    assert one["change-rises-0.1"].verdict == "too few seeds"
    assert one["raises-0.1"].verdict == "held"


def test_about_one_percent_is_judged_once_by_the_most_robust_network(six):
    assert six["one-percent"].difference == pytest.approx(1.7 / 2.55 - 1.5)
    assert six["one-percent"].verdict == "held"
    tough = variation_results(SIX)
    for seed in range(6):
        answer = tough.answers[Cell("resnet", "noise", 0.5), seed, "best"]
        answer["size"] = [size and 5 * size + seed / 10 for size in answer["size"]]
    assert verdicts(tough)["one-percent"].verdict == "the opposite"


def test_each_claim_of_the_change_is_counted_once_and_its_other_readings_stand_beside(six):
    counted = six.loc["counted"]
    assert counted["change-rises-0.1"]
    assert not counted[[f"change-rises-0.1-{r}" for r in ("zero", "predicted", "copy")]].any()
    assert not counted[["clean-0.01", "clean-0.05", "overall-1", "drops-0.1"]].any()


@pytest.mark.parametrize(
    ("claim", "trained", "shown"),
    [("drops-0.1", 0.1, 0.1), ("lower-1", 1.0, 0.0)],
    ids=["on the noise that was trained on", "on clean images"],
)
def test_what_drops_is_the_accuracy_minus_that_without_any_noise(six, claim, trained, shown):
    results = variation_results(SIX)
    each = [
        results.values(Cell(name, "noise", trained), "accuracy", **shown_as("noise", shown))[seed]
        - results.values(Cell(name, "none", 0.0), "accuracy", **shown_as("noise", 0.0))[seed]
        for name in SIX.architectures
        for seed in range(6)
    ]
    assert six[claim].difference == pytest.approx(np.mean(each))


def mean_accuracy(results, trained, shown, params=SIX):
    """Return the accuracy averaged over architectures and seeds; trained, shown: kind and strength."""
    level = shown_as(*shown)
    each = [results.values(Cell(name, *trained), "accuracy", **level) for name in params.architectures]
    return np.mean([list(values.values()) for values in each])


def test_more_noise_than_in_use_is_set_against_less_by_the_same_factor(six):
    results, shown = variation_results(SIX), ("noise", 0.1)
    more, less = (mean_accuracy(results, ("noise", sigma), shown) for sigma in (1.0, 0.01))
    assert six["at-least"].difference == pytest.approx(more - less), "a factor of ten both ways"
    assert six["at-least"].counted
    assert not six["at-least-0.5"].counted
    assert six["at-least-0.5"].claim.endswith("twice as much against a fifth")


def test_each_architectures_own_effect_stands_beside_their_mean(six):
    assert six["raises-0.1"].remark == "ResNet +2.0, Inception +2.0 points"
    assert six["change-rises-0.1"].remark == "ResNet +0.85, Inception +0.85"
    alone = verdicts(variation_results(SIX.replace(architectures=("resnet",))))
    assert alone["raises-0.1"].remark == "ResNet modules alone"
    assert verdicts(STUDY.results(SIX, []))["raises-0.1"].remark == ""


def test_a_small_effect_is_told_with_its_sign_or_as_zero():
    assert [contrasts.signed(value, 1) for value in (-0.52, 3.0, -0.04)] == ["−0.5", "+3.0", "0.0"]


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0])
def test_training_on_a_noise_raises_the_accuracy_on_that_noise(six, sigma):
    results, shown = variation_results(SIX), ("noise", sigma)
    gain = mean_accuracy(results, ("noise", sigma), shown) - mean_accuracy(results, ("none", 0.0), shown)
    assert six[f"raises-{sigma:g}"].difference == pytest.approx(gain)
    assert six[f"raises-{sigma:g}"].counted
    (claim,) = (claim for claim in STUDY.claims if claim.name == f"raises-{sigma:g}")
    assert claim.helps


def test_the_overall_accuracy_is_judged_over_equal_test_noises(six):
    """Trained and tested on 0.1 against trained and tested on none has two causes: it is not counted."""
    results, shown = variation_results(SIX), [("noise", level) for level in SIX.levels]
    trained = [("noise", 0.1), ("none", 0.0)]
    own, plain = (np.mean([mean_accuracy(results, at, level) for level in shown]) for at in trained)
    assert six["overall-0.1"].difference == pytest.approx(own - plain)
    assert six["overall-0.1"].counted
    assert "overall-0.1" in STUDY.main
    assert six["drops-0.1"].claim.endswith("the test noise rising with it")


@pytest.mark.parametrize("sigma", [1.0, 5.0])
def test_more_blur_than_half_a_pixel_is_set_against_half_a_pixel(six, sigma):
    results = variation_results(SIX)
    drop = mean_accuracy(results, ("blur", sigma), ("blur", 0.0)) - mean_accuracy(
        results, ("blur", 0.5), ("blur", 0.0)
    )
    assert six[f"blur-drops-{sigma:g}"].difference == pytest.approx(drop)
    assert six[f"blur-drops-{sigma:g}"].verdict == "held"


TWINS = [
    *(f"{name}-{sigma:g}" for name in ("best", "peak") for sigma in (0.1, 0.5, 1.0, 5.0)),
    *("raises-0.1", "raises-0.5", "raises-1", "overall-0.1", "overall-1", "lower-1", "lower-5"),
    *("blur-clean-0.5", "blur-drops-1", "blur-drops-5"),
]


def test_claims_about_accuracy_have_a_twin_with_batchnorm_statistics_estimated_again(six):
    again = [claim for claim in STUDY.claims if claim.name.endswith("-recalibrated")]
    assert {claim.name for claim in again} == {f"{name}-recalibrated" for name in TWINS}
    assert not any(claim.counted for claim in again)
    assert all(claim.text.endswith(", with BatchNorm statistics estimated again") for claim in again)


def test_a_twin_that_turns_a_counted_claims_verdict_is_told_as_a_cause():
    told = {(cause.claim, cause.twin) for cause in STUDY.causes if "BatchNorm" in cause.text}
    counted = {claim.name for claim in STUDY.claims if claim.counted}
    assert told == {(name, f"{name}-recalibrated") for name in TWINS if name in counted}
    assert {"peak-1", "blur-clean-0.5", "raises-0.1"} <= {claim for claim, _ in told}


def test_the_twin_is_of_the_same_networks_by_their_other_records(six):
    for name, cost in {"raises-0.1": 0.01, "lower-1": 0.1, "blur-drops-1": 0.05}.items():
        twin = six[f"{name}-recalibrated"]
        assert twin.difference == pytest.approx(six[name].difference - cost)
    assert six["peak-1-recalibrated"].difference == pytest.approx(six["peak-1"].difference)
    without = variation_results(SIX)
    for result in without.stored:
        kept = [r for r in result.metrics["conditions"] if r["statistics"] == "trained"]
        result.metrics["conditions"] = kept
    found = verdicts(without)
    assert found["raises-0.1"].verdict == "held"
    assert found["raises-0.1-recalibrated"].verdict == "not run"


def test_inception_is_best_by_its_mean_over_trainings_and_images_with_blur(six):
    results = variation_results(SIX)
    levels = [level for level in SIX.levels if level <= 1]
    places = [
        (("blur" if trained else "none", trained), ("blur", shown)) for trained in levels for shown in levels
    ]

    def mean_of(name):
        one = SIX.replace(architectures=(name,))
        return np.mean([mean_accuracy(results, *place, params=one) for place in places])

    assert six["inception"].difference == pytest.approx(mean_of("inception") - mean_of("resnet"))
    assert six["inception"].counted
    assert six["inception-clean"].verdict == "held"
    assert not six["inception-clean"].counted
    noise_alone = verdicts(variation_results(SIX.replace(kinds=("noise",))))
    assert noise_alone["inception"].verdict == "not run"
    assert noise_alone["inception-clean"].verdict == "held"


def test_a_strength_of_noise_or_blur_is_told_with_its_unit():
    for claim in STUDY.claims:
        assert not re.search(r"(noise|blur)( up to)? \d", claim.text), claim.name
        assert claim.text.count("noise of σ") == claim.text.count("(pixels in [−1, 1])"), claim.name
        assert len(re.findall(r"blur of |more blur in", claim.text)) == claim.text.count(" pixels "), (
            claim.name
        )
        assert "least change" not in claim.text + claim.test, claim.name


def test_only_the_papers_images_and_setting_count_as_such():
    params = read_profile(Params, "training_data_variation", "paper")
    plain = Cell("resnet", "none", 0.0)
    settings = STUDY.settings
    assert settings(params, plain) == "paper"
    assert settings(params.replace(data="./cifar10-jpeg"), plain) == "copy"
    assert settings(params.replace(width=0.5), plain) == "other"
    assert settings(params.replace(change_attack="ddn"), plain) == "other"
    assert settings(params.replace(copy_sigmas=()), plain) == "paper"
