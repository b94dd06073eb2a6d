"""What readers are told: the papers' main claims, what explains differences, head to head."""

import re

import pandas as pd
import pytest

from noiseutils.studies import STUDIES, evidence, findings

PAPERS = [study for study in STUDIES.values() if study.claims]


@pytest.mark.parametrize("study", PAPERS, ids=lambda study: study.name)
def test_a_paper_is_read_for_three_to_six_of_its_claims(study):
    claims = {claim.name: claim for claim in study.claims}
    assert 3 <= len(study.main) == len(set(study.main)) <= 6
    assert all(claims[name].counted for name in study.main)


@pytest.mark.parametrize("study", PAPERS, ids=lambda study: study.name)
def test_a_cause_sets_a_counted_claim_beside_a_twin_that_is_not(study):
    claims = {claim.name: claim for claim in study.claims}
    assert study.causes
    for cause in study.causes:
        claim, twin = claims[cause.claim], claims[cause.twin]
        assert claim.counted
        assert not twin.counted
        assert claim.claimed == twin.claimed, "both say the same"


def row(name: str, **values) -> dict:
    return {
        "study": "noisy_dropout", "name": name, "section": "4.2", "claim": "noise costs",
        "test": "top-1 error, change", "claimed": "up",
        "difference": 0.06, "low": 0.04, "high": 0.08, "n": 6, "verdict": "held",
        "settings": "copy", "counted": True, "images": "photographs", "train": "5,000", "epochs": "10",
        "width": "1", **values,
    }  # fmt: skip


def test_a_cause_is_told_where_both_sides_have_a_verdict_from_real_images():
    twin = row("error-0.25-all", counted=False)
    claim = row("error-0.25", verdict="not shown", difference=0.01)
    noise = [0.001, -0.002, 0.003, -0.001, 0.002, 0.0]

    def measured(row):
        effect = 0.06 if row["name"] == "error-0.25-all" else 0.01
        return {seed: effect + noise[seed] * (row["name"] == "error-0.25") for seed in range(6)}

    def told(*rows, measured=measured):
        return findings.explained(pd.DataFrame(rows), measured)

    (one,) = told(claim, twin)
    assert (one.claim["verdict"], one.twin["verdict"]) == ("not shown", "held")
    assert one.change.mean == pytest.approx(0.05 - 0.0005)
    for lacking in ({"n": 5}, {"verdict": "embedded images: no verdict"}):
        assert not told(claim | lacking, twin)
        assert not told(claim, twin | lacking)
    assert not told(claim)
    assert not told(claim | {"verdict": "held"}, twin), "nothing differs"
    assert not told(claim, twin, measured=lambda row: dict(enumerate(noise))), "verdicts alone differ"
    assert not told(claim, twin, measured=lambda row: {}), "nothing is known seed by seed"


@pytest.mark.parametrize("study", PAPERS, ids=lambda study: study.name)
def test_claims_that_noise_helps_are_told_from_those_that_it_costs(study):
    helps = [claim for claim in study.claims if claim.helps]
    assert any(claim.counted for claim in helps)
    for claim in helps:
        without = "minus (no noise|ordinary dropout|training on none)|noise minus none|none among them"
        assert re.search(without, claim.test), f"{claim.name} is not compared with training without its noise"
        better = "up" if claim.test.startswith(("accuracy", "smallest adversarial change")) else "down"
        assert claim.claimed == better, claim.name


def test_the_sentence_counts_the_claims_that_noise_helps_apart():
    claims = evidence.evidence()
    helps = {(study.name, c.name) for study in PAPERS for c in study.claims if c.helps and c.counted}
    judged = [
        row
        for row in evidence.rows_of(claims.loc[findings.is_real(claims)])
        if (row["study"], row["name"]) in helps
    ]
    said, all_claims = findings.in_sentences(claims)
    assert f"**{len(helps)}** claims say that a paper's noise makes a network better" in said
    assert f"**{len(judged)}** of them are judged" in said
    rows = findings.score_rows(claims)
    assert f"Of all {rows[-1][1]} claims" in all_claims
    for name, *numbers in rows:
        total, *parts = map(int, numbers)
        assert sum(parts) == total, name


def test_verdicts_of_claims_that_noise_helps_are_told_apart_and_other_claims_are_not_among_them():
    made = [
        row("fgsm-0.25", settings="paper"),
        row("noisy-images-0.25"),
        row("best-level", verdict="the opposite"),
        row("error-0.25", verdict="not shown"),
    ]
    said, all_claims = findings.in_sentences(pd.DataFrame(made))
    assert said.startswith("**3** claims say")
    assert said.endswith("**1** replicated, **1** held, **1** the opposite, **0** not shown.")
    assert "Of all 4 claims" in all_claims
    assert "1 replicated, 1 held, 1 the opposite, 1 not shown" in all_claims


def test_a_row_says_what_was_measured_its_margin_and_why_there_is_no_verdict():
    margin = row("top5-0.25", claimed="within ±0.015", test="top-5 error, change")
    assert evidence.said(margin) == "noise costs (within ±1.5 points)"
    assert evidence.said(margin | {"test": "slope", "claimed": "within ±0.1"}) == "noise costs (within ±0.1)"
    assert evidence.said(row("error-0.25")) == "noise costs"
    assert findings.shown(row("a", settings="paper")) == "replicated"
    assert findings.shown(row("a", verdict="too few seeds", n=3)) == "too few seeds (3 of 6)"
    assert findings.shown(row("a", verdict="at chance: no verdict")) == "at chance"


def test_without_committed_results_no_claim_is_said_to_be_judged(tmp_path):
    assert "**0** of them are judged" in findings.first_words(tmp_path)
    said = findings.in_readme(tmp_path)
    assert said.count("*not run*") == sum(len(study.main) for study in PAPERS)
    assert "| --- |" not in said, "no table of nothing"
    assert "explains" not in said


def test_main_claims_stand_in_the_order_of_the_papers():
    found = findings.main_claims(evidence.evidence())
    assert list(found.name) == [name for study in PAPERS for name in study.main]


def test_every_printed_number_is_counted_once_and_stands_beside_ours_where_a_run_measured_it(tmp_path):
    nothing = evidence.printed(reference=tmp_path).set_index("study")
    assert nothing.printed.to_dict() == {
        "noisy_dropout": 23, "adaptive_noise": 144, "adversarial_noise_layer": 147
    }  # fmt: skip
    assert not nothing.compared.any()
    found = evidence.printed().set_index("study")
    assert (found.compared <= found.printed).all()
    assert (found.six_seeds <= found.compared).all()
    assert (found.judged <= found.six_seeds).all()
    assert (found.agree <= found.judged).all()
    # MNIST's Table 1 and six readings of Fashion-MNIST's Table 2 have six seeds
    assert found.six_seeds["adversarial_noise_layer"] >= 15
    assert "paper 10" in found.settings["adversarial_noise_layer"]
