import pytest

from noiseutils.bench.ratios import Ratio, Side, interleaved


def test_ways_take_turns_and_the_first_round_is_only_a_warm_up():
    calls = []

    def timed(name, values):
        series = iter(values)

        def once() -> float:
            calls.append(name)
            return next(series)

        return once

    sides = interleaved({"a": timed("a", [99, 2, 30, 4]), "b": timed("b", [99, 1, 2, 30])}, rounds=3)
    assert calls == ["a", "b"] * 4
    assert sides["a"].values == (2, 30, 4)
    assert sides["b"].values == (1, 2, 30)
    assert sides["a"].warm_up is not None, "recorded, apart"


def test_a_ratio_is_of_medians_and_keeps_what_they_are_of():
    ratio = Ratio("x", "a / b", Side("a", (2, 30, 4), 7.0), Side("b", (1, 2, 30)))
    assert ratio.ratio == 2
    assert (ratio.slow_seconds, ratio.fast_seconds) == (4, 2)
    told = ratio.to_json()
    assert told["ratio"] == 2
    assert told["above"] == {"name": "a", "median": 4, "values": [2, 30, 4], "warm_up_seconds": 7.0}
    assert told["below"]["warm_up_seconds"] is None


def test_a_median_of_an_even_number_lies_between():
    assert Side("a", (1, 2, 10, 20)).median == pytest.approx(6)
