import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from noiseutils.stats import (
    against_margin,
    claim_verdict,
    equivalence,
    friedman,
    holm,
    mean_interval,
    nemenyi_distance,
    one_sample,
    paired,
    pocock_level,
    prediction_interval,
    ranks,
    reported_verdict,
    slope,
)

A = [70.1, 71.4, 69.8, 70.9, 71.0, 70.2]
B = [70.9, 71.9, 70.1, 71.8, 71.2, 71.1]


def test_interval_equals_scipys_t_interval():
    found = mean_interval(A)
    low, high = scipy_stats.t.interval(0.95, len(A) - 1, loc=np.mean(A), scale=scipy_stats.sem(A))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert (found.mean, found.n) == (pytest.approx(np.mean(A)), 6)


def test_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = [
        (i := mean_interval(rng.normal(3, 2, size=6).tolist())).low <= 3 <= i.high for _ in range(2000)
    ]
    assert 0.93 < np.mean(covered) < 0.97


def test_one_value_has_no_interval_and_none_has_no_mean():
    assert math.isnan(mean_interval([1.0]).low)
    assert math.isnan(mean_interval([]).mean)
    assert mean_interval([1.0]).format() == "1.00 n=1"
    assert mean_interval([1.0, 1.0]).format(1) == "1.0 [1.0, 1.0] n=2"


def test_paired_test_equals_scipys():
    found = paired(B, A)
    assert found.p == pytest.approx(scipy_stats.ttest_rel(B, A).pvalue)
    assert found.difference.mean == pytest.approx(np.mean(np.subtract(B, A)))
    excludes_zero = found.difference.low > 0 or found.difference.high < 0
    assert excludes_zero == (found.p < 0.05)


def test_paired_needs_equal_seeds():
    with pytest.raises(ValueError, match="same seeds, got 2 and 3"):
        paired([1, 2], [1, 2, 3])


def test_equal_differences_have_a_defined_p():
    assert paired([1.0, 2.0], [1.0, 2.0]).p == 1.0
    assert paired([1.5, 2.5], [1.0, 2.0]).p == 0.0


def test_holm_matches_a_worked_example_and_ignores_nan():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    found = holm([0.01, math.nan, 0.04])
    assert found[0] == pytest.approx(0.02)
    assert math.isnan(found[1])
    assert found[2] == pytest.approx(0.04)


@pytest.mark.parametrize(
    ("mean", "p", "claimed", "verdict"),
    [
        (0.02, 0.01, "up", "held"),
        (0.02, 0.01, "down", "the opposite"),
        (-0.02, 0.01, "down", "held"),
        (0.02, 0.2, "up", "not shown"),
        (0.02, 0.01, "within", "held"),
        (-0.04, 0.01, "within", "the opposite"),
        (0.04, 0.06, "within", "not shown"),
        (0.04, math.nan, "within", "not shown"),
    ],
)
def test_claim_verdicts(mean, p, claimed, verdict):
    assert claim_verdict(mean, p, claimed=claimed, margin=0.03) == verdict


def test_equivalence_equals_scipys_two_one_sided_tests():
    differences = np.subtract(B, A)
    for margin in (0.5, 1.0, 3.0):
        sides = [
            scipy_stats.ttest_1samp(differences, bound, alternative=side).pvalue
            for bound, side in ((-margin, "greater"), (margin, "less"))
        ]
        assert equivalence(differences.tolist(), margin) == pytest.approx(max(sides))
    assert math.isnan(equivalence([0.1], 1.0))
    assert (equivalence([0.1, 0.1], 1.0), equivalence([2.0, 2.0], 1.0)) == (0.0, 1.0)
    with pytest.raises(ValueError, match="margin above 0, got 0"):
        equivalence([0.1, 0.2], 0)


def test_beyond_a_margin_is_scipys_two_sided_test_of_the_nearer_bound_and_within_it_is_equivalence():
    differences = np.subtract(B, A)
    mean = differences.mean()
    for sign in (1, -1):
        for margin in (0.1 * abs(mean), 0.9 * abs(mean)):
            nearer = math.copysign(margin, mean)
            expected = scipy_stats.ttest_1samp(differences, nearer).pvalue
            assert against_margin((sign * differences).tolist(), margin) == pytest.approx(expected)
        inside = (sign * differences).tolist()
        assert against_margin(inside, 3 * abs(mean)) == equivalence(inside, 3 * abs(mean))
    assert [against_margin([2.0, 2.0], margin) for margin in (1.0, 2.0, 3.0)] == [0.0, 1.0, 0.0]
    for rounded, margin in ((0.015, 0.015), (0.51 - 0.50, 0.01), (0.35, 0.35)):
        assert against_margin([rounded] * 9, margin) == against_margin([-rounded] * 6, margin) == 1.0
    assert math.isnan(against_margin([], 1.0))
    assert math.isnan(against_margin([2.0], 1.0))


def test_a_decision_against_a_margin_is_wrong_at_most_as_often_as_alpha():
    """The true mean is on the margin: a hair outside, within is wrong; a hair inside, beyond is."""
    draws = np.random.default_rng(0).normal(1.0, 1.0, size=(4000, 6))
    decided = [draw.mean() for draw in draws if against_margin(draw.tolist(), 1.0) < 0.05]
    within = sum(abs(mean) < 1 for mean in decided) / len(draws)
    beyond = len(decided) / len(draws) - within
    assert 0.03 < within < 0.06
    assert 0.015 < beyond < 0.035


def test_one_sample_is_the_paired_test_of_differences():
    assert one_sample(np.subtract(B, A).tolist()).p == pytest.approx(paired(B, A).p)


def test_prediction_interval_covers_one_further_value_as_often_as_it_says():
    rng = np.random.default_rng(1)
    draws = rng.normal(3, 2, size=(2000, 7))
    found = [(i := prediction_interval(row[:6].tolist())).low <= row[6] <= i.high for row in draws]
    assert 0.93 < np.mean(found) < 0.97
    assert math.isnan(prediction_interval([1.0]).low)


def test_pocock_levels_are_the_published_ones():
    """Pocock 1977, Table 1: nominal levels at an overall 0.05."""
    assert [pocock_level(k) for k in (1, 2, 3, 4, 5)] == pytest.approx(
        [0.05, 0.0294, 0.0221, 0.0182, 0.0158], abs=1e-4
    )
    with pytest.raises(ValueError, match="got 0 looks"):
        pocock_level(0)


def test_slope_is_that_of_the_least_squares_line():
    assert slope([1, 2, 3], [2.0, 4.0, 6.5]) == pytest.approx(2.25)
    assert math.isnan(slope([1, 1], [2.0, 3.0]))


AROUND = (np.array([-1.2, -0.7, -0.1, 0.2, 0.6, 1.2]) / 100).tolist()  # std 0.87 points


@pytest.mark.parametrize(
    ("reported", "settings", "verdict"),
    [
        (0.74, "paper", "agrees"),
        (0.755, "copy", "agrees"),  # outside the interval of the mean, inside that of one training
        (0.77, "paper", "ours is lower"),
        (0.71, "copy", "ours is higher"),
        (0.74, "other", "other settings: no verdict"),
        (0.74, "embedded", "embedded images: no verdict"),
    ],
)
def test_a_reported_number_is_judged_by_the_interval_of_one_training(reported, settings, verdict):
    ours = [0.74 + value for value in AROUND]
    assert reported_verdict(reported, ours, 0.0, settings=settings) == verdict
    assert reported_verdict(reported, ours[:5], 0.0, settings="paper") == "too few seeds"
    assert reported_verdict(reported, [], 0.0, settings=settings) == "not run"


def test_a_wide_interval_neither_keeps_nor_breaks_a_bound():
    ours = [0.74 + value for value in AROUND]
    judged = {b: reported_verdict(b, ours, 0, settings="paper", bound="below") for b in (0.72, 0.74, 0.76)}
    assert judged == {0.72: "ours is not below", 0.74: "not shown", 0.76: "agrees"}
    judged = {b: reported_verdict(b, ours, 0, settings="paper", bound="above") for b in (0.72, 0.74, 0.76)}
    assert judged == {0.72: "agrees", 0.74: "not shown", 0.76: "ours is not above"}


def test_nemenyi_distances_are_those_of_demsars_table():
    """Demšar 2006, Table 5 (a): q at 0.05 for 2, 5 and 10 methods; CD for N where k (k + 1) = 6 N is q."""
    for methods, quantile in ((2, 1.960), (5, 2.728), (10, 3.164)):
        blocks = methods * (methods + 1) / 6
        assert nemenyi_distance(methods, blocks) == pytest.approx(quantile, abs=6e-4)


def test_ranks_share_ties_and_friedman_is_scipys():
    values = [[0.3, 0.1, 0.2, 0.2], [0.4, 0.1, 0.3, 0.2], [0.5, 0.2, 0.3, 0.4]]
    assert ranks(values).tolist() == [[4, 1, 2.5, 2.5], [4, 1, 3, 2], [4, 1, 2, 3]]
    assert friedman(values) == pytest.approx(scipy_stats.friedmanchisquare(*np.transpose(values)).pvalue)
    assert math.isnan(friedman(values[:1]))
    assert math.isnan(friedman([row[:2] for row in values]))
