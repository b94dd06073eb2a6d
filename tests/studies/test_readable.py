"""Tables for readers: per cent, points, intervals; the unit in the head, or in each cell if rows differ."""

import pandas as pd
import pytest

from noiseutils.studies.readable import claimed_in_points, effect, is_share_difference, readable


def test_shares_are_in_per_cent_with_their_intervals_in_one_cell():
    table = pd.DataFrame(
        {
            "model": ["a"],
            "top1_error": [0.60351],
            "top1_error_low": [0.59],
            "top1_error_high": [0.6172],
            "n": [6],
        }
    )
    shown, words = readable(table)
    assert shown.to_dict("records") == [{"model": "a", "top1_error (%)": "60.35 [59.00, 61.72]", "n": "6"}]
    assert words == ["model"]


def test_losses_and_ratios_keep_their_own_unit():
    shown, _ = readable(pd.DataFrame({"validation_loss": [1.188512], "ratio": [1.90596], "paper": [1.93338]}))
    assert shown.to_dict("records") == [{"validation_loss": "1.189", "ratio": "1.906", "paper": "1.933"}]


def test_rows_of_several_units_say_theirs_in_the_cell():
    table = pd.DataFrame(
        {
            "quantity": ["train_accuracy", "train_loss", "test_accuracy"],
            "ours": [0.5495, 1.2872, float("nan")],
            "low": [0.4863, float("nan"), float("nan")],
            "high": [0.6127, float("nan"), float("nan")],
        }
    )
    shown, _ = readable(table)
    assert list(shown["ours"]) == ["54.95 [48.63, 61.27] %", "1.287", "–"]


def test_differences_of_shares_are_in_points_where_nothing_else_is_said():
    shown, _ = readable(pd.DataFrame({"against": ["no noise"], "difference": [-0.0123], "n": [6]}))
    assert list(shown["difference (points)"]) == ["-1.23"]
    shown, _ = readable(
        pd.DataFrame({"test": ["top-1 error, a minus b", "sharpness, a minus b"], "difference": [0.01, 2.0]})
    )
    assert list(shown["difference"]) == ["1.00 points", "2"]


def test_a_table_of_classes_is_of_shares_whatever_the_classes_are_called():
    table = pd.DataFrame({"reading": ["all"], "p": [0.25], "loss": [0.5], "0": [1.0], "n": [3]})
    shown, _ = readable(table, "per_class")
    assert shown.to_dict("records") == [
        {"reading": "all", "p": "0.25", "loss (%)": "50.00", "0 (%)": "100.00", "n": "3"}
    ]


def test_an_empty_table_is_readable():
    shown, _ = readable(pd.DataFrame({"accuracy": pd.Series([], dtype=float)}))
    assert list(shown.columns) == ["accuracy"]
    assert shown.empty


def test_a_margin_is_claimed_in_points():
    assert claimed_in_points("within ±0.005") == "within ±0.5 points"
    assert claimed_in_points("up") == "up"


@pytest.mark.parametrize(
    ("test", "points"),
    [
        ("top-1 error, ANL minus no noise", True),
        ("validation accuracy, noise minus none, both at the rate chosen for none", True),
        ("slope of the top-1 error over the level, 5 % to 100 %", False),
        ("gap (validation minus training loss, nats), noise minus none", False),
        ("cosine of loss gradients, same class minus other classes", False),
    ],
)
def test_differences_of_shares_are_in_points_and_nothing_else_is(test, points):
    assert is_share_difference(test) == points


def test_an_effect_has_the_digits_that_its_interval_leaves():
    assert effect(0.01284, -0.0014, 0.02704, "top-1 error, a minus b") == "+1.3 [−0.1, +2.7] points"
    assert effect(0.2327, 0.2168, 0.2486, "cosine") == "+0.233 [+0.217, +0.249]"
    assert effect(0.5, float("nan"), float("nan"), "gap, nats") == "+0.50"


def test_an_effect_of_zero_has_no_sign_and_a_bound_close_to_zero_a_digit_more():
    assert effect(-0.0001, -0.003, 0.0025, "top-1 error") == "0.0 [−0.3, +0.2] points"
    assert effect(0.0112, -0.0003, 0.0228, "accuracy") == "+1.12 [−0.03, +2.28] points"
    assert effect(0.0115, -0.00001, 0.023, "accuracy") == "+1.150 [−0.001, +2.300] points"
    assert effect(0.0, 0.0, 0.0, "accuracy") == "0.00 [0.00, 0.00] points"
    assert effect(float("nan"), float("nan"), float("nan"), "accuracy") == "– points"
