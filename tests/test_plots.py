"""What figures draw: seeds where they are few, intervals where they are not, nothing cut off."""

import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot

from noiseutils import plots

SIX = [0.1, 0.3, 0.2, 0.25, 0.15, 0.2]


@pytest.fixture
def ax():
    figure, axes = plots.canvas()
    yield axes[0, 0]
    pyplot.close(figure)


def dots(ax, n):
    return [line for line in ax.lines if line.get_marker() == "o" and len(line.get_xdata()) == n]


def test_an_effect_is_a_dot_a_seed_its_interval_and_the_papers_diamond(ax):
    plots.effects(
        ax, [plots.Effect("noise", SIX, paper=0.9), plots.Effect("gone", [], note="diverged")], "points"
    )
    assert len(dots(ax, 6)) == 1
    diamonds = [line for line in ax.lines if line.get_marker() == "D"]
    assert [line.get_xdata()[0] for line in diamonds] == [0.9]
    assert "diverged" in [text.get_text() for text in ax.texts]
    low, high = ax.get_xlim()
    for line in ax.lines:
        x = np.asarray(line.get_xdata(), dtype=float)
        assert ((x[~np.isnan(x)] >= low) & (x[~np.isnan(x)] <= high)).all(), "nothing leaves the axes"


def test_fewer_than_four_seeds_are_drawn_and_not_an_interval(ax):
    plots.series(ax, [1, 2], [[0.1, 0.2, 0.3], [0.2, 0.3, 0.4]], colour="k", label="three")
    vertices = ax.collections[0].get_paths()
    assert not vertices or np.isnan(vertices[0].vertices[:, 1]).all() or len(vertices[0].vertices) <= 1
    assert len(dots(ax, 3)) == 2


def test_four_seeds_get_a_band_and_no_dots(ax):
    plots.series(ax, [1, 2], [SIX, SIX], colour="k", label="six")
    assert ax.collections[0].get_paths()[0].vertices[:, 1].max() > max(np.mean(SIX), 0.25)
    assert not dots(ax, 6)


def test_band_takes_a_table_in_any_order(ax):
    table = pd.DataFrame({"x": [2, 1, 2, 1], "y": [4.0, 1.0, 6.0, 3.0]})
    plots.band(ax, table, x="x", value="y", colour="k", label="mean")
    assert ax.lines[0].get_xydata().tolist() == [[1, 2], [2, 5]]


def test_labels_at_line_ends_do_not_overlap(ax):
    ax.plot([0, 1], [0, 1])
    ends = {name: (1.0, 0.5 + i / 1000, "k") for i, name in enumerate("abcd")}
    plots.label_ends(ax, ends)
    ax.figure.draw_without_rendering()
    boxes = sorted((t.get_window_extent() for t in ax.texts), key=lambda box: box.y0)
    assert len(boxes) == 4
    assert all(above.y0 >= below.y0 + 8 for below, above in itertools.pairwise(boxes))


def test_colours_of_ordered_levels_stay_readable_on_white():
    for colour in plots.shades(7):
        luminance = np.dot(np.asarray(colour[:3]) ** 2.2, [0.2126, 0.7152, 0.0722])
        assert 1.05 / (luminance + 0.05) > 1.9
