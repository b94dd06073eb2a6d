"""Figures are read by people who do not see red and green apart, and by people who see no figures.

Colours come from a small set. What they tell apart inside one panel stays apart for protanopes and
deuteranopes, or differs in marker, dash or hatching as well.
"""

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import colors, pyplot
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure

pytest.importorskip("IPython", reason="needs the notebooks extra")

import factory

from noiseutils import plots
from noiseutils.bench.figure import networks
from noiseutils.studies import STUDIES
from noiseutils.studies.adaptive_noise import figures as adaptive_figures
from noiseutils.studies.profiles import read_profile

ROOT = Path(__file__).resolve().parents[2]
PALETTE = (
    plots.ORANGE, plots.SKY, plots.GREEN, plots.BLUE, plots.VERMILION, plots.PURPLE, plots.GREY,
)  # fmt: skip
MAPS = ("viridis", "cividis", "gray", "OrRd", "PuBu")
# Machado, Oliveira & Fernandes 2009, Table 1, severity 1.0: on linear RGB
SEEN = {
    "all cones": np.eye(3),
    "protanopia": np.array([
        [0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998],
    ]),
    "deuteranopia": np.array([
        [0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881],
    ]),
}  # fmt: skip
# Distance in CIE Lab (1976). A difference of 2.3 is just noticed side by side (Mahy et al. 1994); a colour
# is found again in a legend, so four times that is asked for. Okabe & Ito's palette with our grey keeps 16.
LEAST = 10.0
TO_XYZ = np.array([
    [0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041],
])  # fmt: skip
WHITE = np.array([0.95047, 1.0, 1.08883])  # D65


def on_white(colour: Any) -> np.ndarray:
    *rgb, alpha = colors.to_rgba(colour)
    return alpha * np.array(rgb) + 1 - alpha


def lab(colour: Any, seen: np.ndarray) -> np.ndarray:
    """A colour in CIE Lab, as somebody sees it."""
    srgb = on_white(colour)
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    x, y, z = TO_XYZ @ np.clip(seen @ linear, 0, 1) / WHITE
    fx, fy, fz = (np.cbrt(v) if v > (6 / 29) ** 3 else v / (3 * (6 / 29) ** 2) + 4 / 29 for v in (x, y, z))
    return np.array([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)])


def distance(a: Any, b: Any) -> float:
    """The least over all ways of seeing."""
    return min(float(np.linalg.norm(lab(a, seen) - lab(b, seen))) for seen in SEEN.values())


def allowed(colour: Any) -> bool:
    rgb = np.array(colors.to_rgb(colour))
    samples = [pyplot.get_cmap(name)(np.linspace(0, 1, 256))[:, :3] for name in MAPS]
    known = np.concatenate([*samples, [colors.to_rgb(c) for c in PALETTE]])
    return bool(np.ptp(rgb) < 0.01 or np.abs(known - rgb).max(axis=1).min() < 0.02)


def told_apart(ax: Axes) -> Iterator[tuple[str, Any, tuple]]:
    """What a reader of one panel has to tell apart: label, colour, and what else differs."""
    for line in ax.get_lines():
        if not str(line.get_label()).startswith("_"):
            yield str(line.get_label()), line.get_color(), (line.get_linestyle(), line.get_marker())
    for bars in ax.containers:
        if isinstance(bars, BarContainer) and len(bars):
            yield str(bars.get_label()), bars[0].get_facecolor(), ("bar", bars[0].get_hatch())
        elif bars.lines and not str(bars.get_label()).startswith("_"):
            line = bars.lines[0]
            if line is not None:
                yield str(bars.get_label()), line.get_color(), (line.get_linestyle(), line.get_marker())
    for points in ax.collections:
        if not str(points.get_label()).startswith("_") and len(points.get_facecolor()):
            yield str(points.get_label()), points.get_facecolor()[0], ("points", points.get_label())


def names_its_rows(ax: Axes) -> bool:
    """Tell whether each row carries its name, so that no colour has to be found again."""
    return any(re.search("[a-z]{2}", label.get_text()) for label in ax.get_yticklabels())


def faults(figure: Figure) -> list[str]:
    """Colours out of the set, and pairs that somebody cannot tell apart."""
    found = []
    for ax in figure.axes:
        artists = list(told_apart(ax))
        found += [
            f"{name}: {colors.to_hex(c)} is not in the palette" for name, c, _ in artists if not allowed(c)
        ]
        for (one, a, ways), (other, b, other_ways) in itertools.combinations(artists, 2):
            if ways == other_ways and one != other and distance(a, b) < LEAST:
                found.append(f"{one} and {other}: {distance(a, b):.1f}")
    return found


def papers_grid(study: str) -> Any:
    """The paper's own grid, where a panel has the most to tell apart, with three seeds."""
    return read_profile(STUDIES[study].Params, study, "paper").replace(seeds=3)


MADE_UP = {
    "noisy_dropout": lambda: factory.dropout_results(papers_grid("noisy_dropout")),
    "adaptive_noise": lambda: factory.adaptive_results(
        factory.ADAPTIVE.replace(learning_rates=(0.1, 0.01, 0.001, 0.0001))
    ),
    "adversarial_noise_layer": lambda: factory.anl_results(
        papers_grid("adversarial_noise_layer"), reports=True
    ),
    "training_data_variation": lambda: factory.variation_results(papers_grid("training_data_variation")),
    "head_to_head": lambda: factory.head_to_head_results(papers_grid("head_to_head")),
}
IMAGES = ("matrix_", "figure_03_feature_maps")  # no lines or bars to be told apart


@pytest.mark.parametrize("study", STUDIES)
def test_colours_of_every_figure_are_safe_for_colour_blind_readers(study):
    results, drawn = MADE_UP[study](), {}
    schedule = adaptive_figures.schedule(results.params) if study == "adaptive_noise" else ()
    for figure in [*factory.figures_of(results), *schedule]:
        if not figure.name.startswith(IMAGES):
            drawn[figure.name] = sum(
                len(list(told_apart(ax))) or names_its_rows(ax) for ax in figure.figure.axes
            )
        assert not faults(figure.figure), figure.name
        assert len(figure.alt) > 30, "what is seen is said"
        pyplot.close(figure.figure)
    assert len(drawn) >= 3
    assert all(drawn.values()), "a figure in which nothing was found was not checked"


def test_the_benchmarks_figure_is_safe_too():
    measured = json.loads((ROOT / "outputs/reference/bench/two-cpu-cores.json").read_text())
    assert not faults(networks(measured["models"], measured["machine"]))


def test_the_check_finds_what_it_is_for():
    figure, axes = plots.canvas()
    axes[0, 0].plot([0, 1], color="#aa4400", label="red")
    axes[0, 0].plot([1, 0], color="#6b6b00", label="green")
    said = faults(figure)
    assert any("is not in the palette" in text for text in said)
    assert any(text.startswith("red and green") for text in said)
    pyplot.close(figure)
    assert min(distance(a, b) for a, b in itertools.combinations(PALETTE, 2)) > 15


def test_the_maps_of_signed_values_get_lighter_towards_zero_for_everybody():
    """PuOr, diverging: either half tells size by lightness, its ends are told apart by colour."""
    ends = pyplot.get_cmap("PuOr")
    for seen in SEEN.values():
        for half in (np.linspace(0, 0.5, 9), np.linspace(1, 0.5, 9)):
            assert (np.diff([lab(ends(x), seen)[0] for x in half]) > 0).all()
    assert all(distance(ends(0.5 - x), ends(0.5 + x)) > LEAST for x in (0.2, 0.3, 0.4, 0.5))


@pytest.mark.parametrize("count", [1, 4, 5, 12, 28])
def test_many_lines_differ_by_more_than_colour(count):
    assert len(plots.styles(count)) == count
    assert len(set(plots.styles(count))) == (1 if count <= 4 else count)
