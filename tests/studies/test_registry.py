"""The claim registry: every claim has a test, and every verdict says what it rests on."""

import math
from dataclasses import replace

import pandas as pd
import pytest
from factory import DROPOUT, costly, dropout_results

from noiseutils.stats import SETTINGS, mean_interval
from noiseutils.studies import STUDIES, evidence
from noiseutils.studies.noisy_dropout.grid import Cell
from noiseutils.studies.registry import (
    AS_COUNTED,
    AT_CHANCE,
    GAP_UNKNOWN,
    NO_GAP,
    Claim,
    Contrast,
    difference,
    for_readers,
    judge,
    settings_of,
    trained_on,
    where_a_gap,
)

NOISY = Cell(0.25, 0.5, "dropped")
SIX = DROPOUT.replace(seeds=6, data="./photographs")


def claim(claimed="up", margin=math.inf, **more) -> Claim:
    return Claim(
        "c", "4", "noise raises the error", "top-1 error, noise minus none", claimed,
        lambda results: difference(results, NOISY, NOISY.plain, "top1_error"), margin, **more,
    )  # fmt: skip


def verdict(claims, results, settings="other", looks=1) -> str:
    return judge([claims], results, lambda params, cell: settings, looks).verdict.item()


@pytest.mark.parametrize("name", [name for name, study in STUDIES.items() if study.paper[0]])
def test_every_claim_has_a_name_a_place_a_test_and_a_direction_or_margin(name):
    claims = STUDIES[name].claims
    assert len({c.name for c in claims}) == len(claims) > 0
    for c in claims:
        assert c.section
        assert c.text
        assert c.test
        assert c.claimed in ("up", "down", "within")
        assert (c.claimed == "within") == math.isfinite(c.margin), c.name


def test_every_verdict_on_committed_results_names_images_epochs_width_and_six_seeds():
    found = evidence.evidence()
    assert set(found.study) == {name for name, study in STUDIES.items() if study.claims}
    judged = found[found.verdict.isin(evidence.JUDGED)]
    assert (judged.n >= 6).all()
    assert (judged[["images", "epochs", "width"]] != "").all(axis=None)
    assert judged.settings.isin(set(SETTINGS) - {"embedded"}).all()
    assert len(found) == sum(len(study.claims) for study in STUDIES.values())


def test_verdicts_follow_the_difference():
    results = dropout_results(SIX, costly)
    assert verdict(claim("up"), results) == "held"
    assert verdict(claim("down"), results) == "the opposite"
    assert verdict(claim("within", 0.2), results) == "held"
    assert verdict(claim("within", 0.01), results) == "the opposite"
    wild = dropout_results(SIX, lambda cell, seed, _: 0.3 + (cell.level > 0) * (0.1 if seed % 2 else -0.1))
    assert verdict(claim("up"), wild) == "not shown"
    assert verdict(claim("within", 0.05), wild) == "not shown"


def test_no_verdict_without_six_seeds_real_images_or_results():
    results = dropout_results(SIX, costly)
    assert verdict(claim(), dropout_results(SIX.replace(seeds=5), costly)) == "too few seeds"
    assert verdict(claim(), results, settings="embedded") == "embedded images: no verdict"
    assert verdict(claim(), dropout_results(SIX.replace(probabilities=(0.2,)), costly)) == "not run"
    assert judge([claim()], results, lambda params, cell: "other").width.item() == "1"


def test_a_network_at_chance_supports_nothing_but_a_claim_about_collapse():
    lost = dropout_results(SIX, lambda cell, seed, _: 0.5 if cell.level else 0.2)
    for result in lost.stored:
        result.info["data"]["classes"] = ["a", "b"]
    assert verdict(claim(), lost) == AT_CHANCE
    assert verdict(claim(of_collapse=True), lost) == "held"


def test_seeds_added_after_a_look_need_a_smaller_p():
    def error(cell, seed, _):
        return 0.3 + 0.01 * seed + (0.02 + 0.01 * [1, -1.5, 2, -2.2, 1.2, -0.5][seed] if cell.level else 0)

    results = dropout_results(SIX, error)
    p = judge([claim()], results, lambda params, cell: "other").p_holm.item()
    assert 0.0294 < p < 0.05
    assert verdict(claim(), results) == "held"
    assert verdict(claim(), results, looks=2) == "not shown"


def test_holm_corrects_over_the_counted_claims_of_a_table_and_over_what_stands_beside():
    results = dropout_results(SIX, costly)
    other = Claim(
        "d", "4", "t", "t", "up", lambda r: Contrast({s: (-1) ** s * 1.0 for s in range(6)}, (NOISY,))
    )
    beside = claim("down", counted=False)
    elsewhere = replace(claim(), name="e", section="5")
    table = judge([claim(), other, beside, elsewhere], results, lambda params, cell: "other")
    alone = judge([claim()], results, lambda params, cell: "other")
    assert table.p_holm[0] == pytest.approx(2 * alone.p_holm[0])
    assert table.p_holm[2] == alone.p_holm[0]
    assert table.p_holm[3] == alone.p_holm[0], "of another section"


def test_what_stands_beside_a_claim_with_its_own_runs_and_numbers_is_not_judged_again():
    results = dropout_results(SIX, costly)
    (_, twin) = judge([claim(), claim(counted=False)], results, lambda params, cell: "other").verdict
    assert twin == AS_COUNTED
    (_, other) = judge([claim(), claim("down", counted=False)], results, lambda *_: "other").verdict
    assert other == "the opposite"


def test_readers_see_counted_claims_first_and_what_is_behind_each():
    results = dropout_results(SIX, costly)
    table = judge([claim(counted=False), claim()], results, lambda params, cell: "paper")
    shown = for_readers(table)
    assert shown.counted.tolist() == ["yes", "no"]
    assert shown.networks[1] == "photographs, 50,000 images, 10 epochs, width 1: the paper's own setting"
    assert list(for_readers(table.drop(columns="remark")).columns) == list(shown.columns), (
        "as rendered earlier"
    )


def test_images_that_are_held_out_are_not_counted_as_trained_on():
    results = dropout_results(SIX, costly)
    held = [replace(r, run=r.run.replace(validation_size=5_000)) for r in results.stored]
    assert {trained_on(result) for result in results.stored} == {50_000}
    assert {trained_on(result) for result in held} == {45_000}


def test_without_seeds_of_no_noise_the_gap_is_unknown_and_not_closed():
    found = Contrast(dict.fromkeys(range(6), 0.1), ())
    assert where_a_gap(found, mean_interval([0.2, 0.21, 0.19, 0.2, 0.22, 0.2])) == found
    assert where_a_gap(found, mean_interval([-0.1, 0.1, 0.0, 0.2, -0.2, 0.0])).void == NO_GAP
    for few in ([], [0.2], [0.2, 0.21, 0.2]):
        assert where_a_gap(found, mean_interval(few)).void == GAP_UNKNOWN
    assert where_a_gap(None, mean_interval([])) is None


@pytest.mark.parametrize(
    ("label", "as_read", "expected"),
    [
        ("cifar10", True, "paper"),
        ("cifar10", False, "other"),
        ("cifar10-jpeg", True, "copy"),
        ("cifar10-jpeg", False, "other"),
        ("photographs", True, "other"),
        ("shapes", True, "embedded"),
        ("digits", False, "embedded"),
    ],
)
def test_settings_tell_the_papers_own_images_from_copies_others_and_embedded_ones(label, as_read, expected):
    assert settings_of(label, ("cifar10",), as_read) == expected


@pytest.mark.parametrize(
    ("made", "said", "expected"),
    [
        ("paper", True, "replicated"),
        ("paper", False, "held"),
        ("copy", False, "held"),
        ("embedded", False, "embedded images: no verdict"),
    ],
)
def test_a_claim_whose_setting_the_paper_does_not_say_is_held_and_never_replicated(made, said, expected):
    table = judge([claim(setting_said=said)], dropout_results(SIX, costly), lambda params, cell: made)
    row = table.to_dict("records")[0]
    assert evidence.word(row) == expected
    assert row["settings"] == ("other" if not said and made in ("paper", "copy") else made)


def test_the_best_evidence_has_a_verdict_then_is_nearest_to_the_paper_then_has_most_seeds():
    known = pd.DataFrame(
        [
            {"name": "a", "verdict": "too few seeds", "settings": "paper", "n": 3},
            {"name": "a", "verdict": "held", "settings": "other", "n": 6},
            {"name": "a", "verdict": "not shown", "settings": "copy", "n": 6},
            {"name": "b", "verdict": "not run", "settings": "paper", "n": 0},
            {"name": "b", "verdict": "too few seeds", "settings": "other", "n": 2},
        ]
    )
    best = evidence._best(known)
    assert best.verdict.tolist() == ["not shown", "too few seeds"]


def test_of_equally_good_evidence_that_of_more_kinds_of_training_is_best():
    few = {"name": "a", "verdict": "not shown", "settings": "copy", "n": 6, "cells": 2}
    best = evidence._best(pd.DataFrame([few, few | {"verdict": "held", "cells": 3}]))
    assert best.verdict.tolist() == ["held"]


def test_the_summary_counts_each_claim_once_and_says_why_others_are_open():
    table = pd.DataFrame(
        {
            "study": ["x"] * 5,
            "verdict": ["held", "held", "the opposite", "too few seeds", "not run"],
            "settings": ["paper", "other", "copy", "paper", ""],
            "n": [6, 6, 8, 3, 0],
            "counted": True,
        }
    )
    beside = table.iloc[:1].assign(counted=False)
    table = pd.concat([table, beside], ignore_index=True)
    counts = evidence.summary(table).iloc[0]
    assert (counts.claims, counts.judged, counts.replicated, counts.held) == (5, 3, 1, 1)
    assert (counts["the opposite"], counts["open: too few seeds"], counts["open: not run"]) == (1, 1, 1)
