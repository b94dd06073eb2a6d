import base64
import io
import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from noiseutils.live.charts import (
    COLOURS,
    HOVER_PLACES,
    LINE_POINTS,
    Chart,
    Line,
    _decades,
    _nearest,
    _ticks,
    arrange,
    bar_chart,
    line_chart,
)
from noiseutils.live.pictures import NEGATIVE, POSITIVE, STYLE, image_rows, png, signed

HOSTILE = "<img src=x onerror=alert(1)>"


def svg(picture: str) -> ET.Element:
    return ET.fromstring(re.search(r"<svg.*?</svg>", picture, re.S)[0])


def lines_of(picture: str) -> list[list[tuple[float, ...]]]:
    found = svg(picture).iter("{http://www.w3.org/2000/svg}polyline")
    return [[tuple(map(float, p.split(","))) for p in line.get("points").split()] for line in found]


def test_a_chart_goes_from_left_to_right_and_larger_is_higher():
    [up] = lines_of(line_chart("loss", [Line("a", [(0, 1.0), (1, 2.0), (2, 4.0)])], "step"))
    assert up[0][0] < up[1][0] < up[2][0]
    assert up[0][1] > up[1][1] > up[2][1]


def test_a_logarithmic_chart_makes_equal_ratios_equal_distances():
    picture = line_chart("loss", [Line("a", [(0, 0.01), (1, 0.1), (2, 1.0)])], "step", log=True)
    [[low, middle, high]] = lines_of(picture)
    assert low[1] - middle[1] == pytest.approx(middle[1] - high[1], abs=0.2)


def test_a_logarithmic_chart_says_so_and_leaves_out_what_has_no_logarithm():
    picture = line_chart("std", [Line("a", [(0, 0.0), (1, 1.0), (2, 2.0)])], "step", log=True)
    assert [len(line) for line in lines_of(picture)] == [2]
    assert "std (log)" in picture
    flat = line_chart("std", [Line("a", [(0, 0.0), (1, 0.0)])], "step", log=True)
    assert [len(line) for line in lines_of(flat)] == [2]
    assert "(log)" not in flat


@pytest.mark.parametrize("values", [(2.29, 2.31), (0.22, 0.45), (1e-3, 10.0), (5.0, 5.0)])
def test_every_axis_has_numbers(values):
    picture = line_chart("loss", [Line("a", list(enumerate(values)))], "step", log=True)
    texts = [
        t.text for t in svg(picture).iter("{http://www.w3.org/2000/svg}text") if t.get("text-anchor") == "end"
    ]
    assert len(texts) >= 2


def test_a_chart_says_its_last_values_to_who_cannot_see_it():
    picture = line_chart("loss", [Line("a", [(0, 1.0), (1, 0.25)]), Line("b <x>", [(0, 3.0)])], "step")
    assert svg(picture).get("aria-label") == "loss, last values: a 0.25; b <x> 3."
    assert svg(picture).get("role") == "img"


def test_lines_are_told_apart_without_their_colour():
    picture = line_chart("loss", [Line("a", [(0, 1), (1, 2)]), Line("b", [(0, 2), (1, 1)], 1)], "step")
    strokes = [
        (line.get("stroke"), line.get("stroke-dasharray"))
        for line in svg(picture).iter("{http://www.w3.org/2000/svg}polyline")
    ]
    assert len({dash for _, dash in strokes}) == 2


def test_what_is_not_finite_is_left_out_and_nothing_is_a_sentence():
    [line] = lines_of(line_chart("x", [Line("a", [(0, 1.0), (1, float("nan")), (2, 2.0)])], "step"))
    assert len(line) == 2
    assert "nothing yet" in line_chart("x", [Line("a", [(0, float("inf"))])], "step")
    assert "nothing yet" in line_chart("x", [], "step")


def test_a_long_line_is_thinned_to_what_can_be_told_apart():
    [line] = lines_of(line_chart("x", [Line("a", [(i, i) for i in range(10_000)])], "step"))
    assert len(line) == LINE_POINTS


def test_one_point_is_a_dot():
    assert "<circle" in line_chart("x", [Line("a", [(3, 1.0)])], "step")


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 0.003), (-7, 12), (95, 105), (1e-9, 2e-9)])
def test_ticks_are_round_numbers_in_the_range(low, high):
    ticks = _ticks(low, high)
    assert 2 <= len(ticks) <= 8
    assert all(low <= tick <= high + 1e-12 for tick in ticks)


def test_decades_are_one_two_and_five_times_powers_of_ten():
    assert _decades(-1, 0.7) == pytest.approx([0.1, 0.2, 0.5, 1, 2, 5])
    assert _decades(-3, 1) == pytest.approx([0.001, 0.01, 0.1, 1, 10])


def test_bars_are_as_long_as_their_values():
    picture = bar_chart("p", ["cat", "dog"], [("a", [0.2, 0.8]), ("b", [0.4, 0.1])])
    _, *bars = svg(picture).iter("{http://www.w3.org/2000/svg}rect")  # the first is the ground
    widths = [float(bar.get("width")) for bar in bars]
    assert widths[2] == pytest.approx(4 * widths[0], rel=0.01)
    broken = bar_chart("p", ["cat", "dog"], [("a", [float("nan")] * 2)])
    assert "–" in broken
    assert "a: dog 80 %; b: cat 40 %" in (svg(picture).get("aria-label") or "")


def decoded(picture: str) -> list[np.ndarray]:
    found = re.findall(r"base64,([^\"]+)", picture)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(one)))) for one in found]


def test_images_stand_side_by_side_each_pixel_as_a_square():
    images = np.stack([np.zeros((2, 3)), np.ones((2, 3))])
    row = np.asarray(Image.open(io.BytesIO(png(images, scale=4))))
    assert row.shape == (8, 2 * (12 + 2))
    assert (row[:, :12] == 0).all()
    assert (row[:, 14:26] == 255).all()


def test_signed_values_are_white_at_zero_brown_below_and_purple_above_on_the_scale_given():
    row = signed(np.array([[-0.5, 0.0, 0.25]]), 0.5)[0]
    assert tuple(row[0]) == NEGATIVE
    assert tuple(row[1]) == (255, 255, 255)
    assert 127 < row[2, 1] < 255
    assert tuple(signed(np.array([[2.0]]), 2.0)[0, 0]) == POSITIVE
    assert (signed(np.zeros((1, 2, 2)), 0.0) == 255).all()
    assert (signed(np.full((1, 2, 2), np.nan), np.nan) == 255).all()


def test_a_signed_colour_is_no_lines_colour():
    lines = {tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5)) for colour in COLOURS}
    assert lines.isdisjoint({NEGATIVE, POSITIVE})


def test_the_pointer_is_told_the_values_at_its_place_without_a_script():
    picture = line_chart("loss", [Line("a", [(i, 2.0 * i) for i in range(100)])], "step")
    tips = [g for g in svg(picture).iter("{http://www.w3.org/2000/svg}g") if g.get("class") == "nu-at"]
    assert len(tips) == HOVER_PLACES
    assert "".join(tips[0].itertext()) == "step 0a: 0"
    assert "".join(tips[-1].itertext()) == "step 99a: 198"
    assert ".nu-at:hover .nu-tip" in STYLE


def test_marks_stand_at_their_x_and_none_outside_the_lines():
    line = Line("a", [(0, 1.0), (10, 2.0)])
    picture = line_chart("loss", [line], "step", marks=[(5, "epoch 1"), (20, "epoch 4")])
    assert "epoch 1" in picture
    assert "epoch 4" not in picture
    [[start, end]] = lines_of(picture)
    assert f"M{(start[0] + end[0]) / 2:.1f} " in picture


def test_names_from_data_are_shown_and_not_run():
    chart = line_chart(HOSTILE, [Line(HOSTILE, [(0, 1.0)])], HOSTILE, marks=[(0, HOSTILE)])
    bars = bar_chart(HOSTILE, [HOSTILE], [(HOSTILE, [0.5])])
    rows = image_rows([(HOSTILE, np.zeros((1, 2, 2)))], HOSTILE)
    for picture in (chart, bars, rows):
        assert HOSTILE not in picture
        assert "&lt;img src=x" in picture


def test_colour_images_keep_their_colours_and_every_image_has_its_text():
    images = np.zeros((2, 2, 2, 3))
    images[..., 0] = 1
    picture = image_rows([("test <images>", images)], 'of "digits"', scale=1)
    [row] = decoded(picture)
    assert tuple(row[0, 0]) == (255, 0, 0)
    assert 'alt="test &lt;images&gt;. of &quot;digits&quot;"' in picture


def test_the_value_told_is_that_of_the_nearest_point():
    points = [(0.0, 1.0), (10.0, 2.0), (20.0, 3.0)]
    assert [_nearest(points, x) for x in (-5, 0, 4, 6, 10, 16, 99)] == [1, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("height", [120, 165, 200, 400])
def test_numbers_beside_an_axis_do_not_touch(height):
    line = Line("a", [(0, 0.05), (1, 12.0)])
    found = arrange(Chart("std", [line], "step", log=True, height=height))
    places = sorted(y for y, _ in found.y_ticks)
    assert min(b - a for a, b in pairwise(places)) >= 9
