"""Tidy data in, Axes out: the few forms of figure that the studies draw.

Colours come from Okabe & Ito's palette and from viridis, both safe for colour-blind readers; where more than
four lines cross, marker and dash tell them apart as well. Bars and lines are means over seeds; whiskers and
bands are 95 % t intervals, drawn from four seeds on; with fewer the seeds themselves are dots.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogFormatter

from noiseutils.stats import DRAWN_SEEDS, Interval, mean_interval

ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE, GREY = (
    "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#666666",
)  # fmt: skip
MARKERS = "os^Dv*X"
DASHES = ("-", "--", "-.", ":")
SEED_DOT: dict[str, Any] = {"markersize": 4, "alpha": 0.55, "markeredgewidth": 0}
PAPER_POINT: dict[str, Any] = {
    "linestyle": "", "color": "black", "marker": "D", "markersize": 7, "markerfacecolor": "none",
    "markeredgecolor": "black", "markeredgewidth": 1.3, "zorder": 5,
}  # fmt: skip
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "text.parse_math": False,  # a class may be called $a$; no text here is TeX
    "svg.hashsalt": "noiseutils",  # the same figure gives the same file
}


def canvas(
    rows: int = 1, columns: int = 1, size: tuple[float, float] = (8, 4), **options
) -> tuple[Figure, np.ndarray]:
    """Return a figure and its axes, as an array of shape (rows, columns); size in inches."""
    mpl.rcParams.update(STYLE)  # for good, not in a context: legends and titles come after this call
    figure, axes = pyplot.subplots(rows, columns, figsize=size, squeeze=False, **options)
    return figure, axes


def log_scale(ax: Axes, axis: str, base: float = 10) -> None:
    """Make an axis logarithmic, its ticks plain numbers: matplotlib's own are TeX.   axis: "x" or "y"."""
    getattr(ax, f"set_{axis}scale")("log", base=base)
    ticks = ax.xaxis if axis == "x" else ax.yaxis
    ticks.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ticks.set_minor_formatter(LogFormatter(base, labelOnlyBase=False))


def shades(count: int) -> list:
    """Return colours for ordered levels, dark to light; viridis without its yellow, which white swallows."""
    return [pyplot.get_cmap("viridis")(x) for x in np.linspace(0.0, 0.75, count)]


def styles(count: int) -> list[str]:
    """Return marker and dash of each of `count` lines: all alike up to four, which colours can tell apart."""
    if count <= 4:
        return ["o-"] * count
    return [MARKERS[i % len(MARKERS)] + DASHES[i // len(MARKERS) % len(DASHES)] for i in range(count)]


def summary(table: pd.DataFrame, by: Sequence[str], value: str) -> pd.DataFrame:
    """Compute mean, low, high and n of `value` over the rows of each group; no interval below four rows."""
    rows = []
    for place, group in table.groupby(list(by), sort=False):
        assert isinstance(place, tuple)  # a list of names gives tuples
        interval = drawn_interval(group[value].tolist())
        rows.append(dict(zip(by, place, strict=True)) | vars(interval))
    return pd.DataFrame(rows)


def drawn_interval(values: Sequence[float]) -> Interval:
    """Return mean and t interval as a figure draws them: without an interval below four seeds."""
    interval = mean_interval(values)
    return interval if interval.n >= DRAWN_SEEDS else replace(interval, low=math.nan, high=math.nan)


class Effect(NamedTuple):
    """A row of `effects`: differences over paired seeds, and what the paper reports of one training.

    values: one a seed.   note: written where the dots would be, such as "diverged" or "not run".
    """

    label: str
    values: Sequence[float]
    paper: float | None = None
    colour: Any = BLUE
    note: str = ""


def effects(ax: Axes, rows: Sequence[Effect], xlabel: str) -> None:
    """Draw differences, a row each from the top: a dot a seed, the mean with its t interval, zero as a line.

    The paper's number is a hollow diamond. Axes reach as far as every interval does.
    """
    ax.axvline(0, color="#333333", linewidth=1)
    for at, row in enumerate(rows):
        interval = drawn_interval(row.values)
        count = len(row.values)
        seeds = at + (np.linspace(0.04, 0.32, count) if count > 1 else 0.18)
        ax.plot(row.values, seeds if count else [], "o", color=row.colour, **SEED_DOT)
        if interval.n:
            ax.plot([interval.low, interval.high], [at - 0.1] * 2, color=row.colour, linewidth=2.2)
            ax.plot(interval.mean, at - 0.1, "|", color=row.colour, markersize=13, markeredgewidth=2.4)
        if row.paper is not None and not math.isnan(row.paper):
            ax.plot(row.paper, at - 0.1, **PAPER_POINT)
        if note := row.note or ("" if interval.n else "not run"):
            ax.annotate(
                note, (0, at), (5, 0), textcoords="offset points", va="center", fontsize=8, color=GREY
            )
    ax.set_yticks(range(len(rows)), [row.label for row in rows])
    ax.set_ylim(len(rows) - 0.45, -0.55)
    ax.set_xlabel(xlabel)
    ax.grid(axis="x")
    ax.grid(visible=False, axis="y")


def effects_legend(figure: Figure, *, paper: bool = True) -> None:
    """Explain the marks of `effects` below a figure's panels."""
    marks = [
        Line2D([], [], linestyle="", marker="o", color=GREY, **SEED_DOT),
        Line2D([], [], color=GREY, linewidth=2.2, marker="|", markersize=13, markeredgewidth=2.4),
        Line2D([], [], **PAPER_POINT),
    ]
    texts = ["one seed", "mean, 95 % t interval", "the paper's"]
    shown = slice(None) if paper else slice(2)
    figure.legend(marks[shown], texts[shown], loc="outside lower center", ncols=3, fontsize=9)  # pyright: ignore[reportArgumentType]


def series(
    ax: Axes,
    at: Sequence[float],
    samples: Sequence[Sequence[float]],
    *,
    colour: Any,
    label: str,
    style: str = "o-",
) -> None:
    """Draw a line of means over places on the x axis, a sample of seeds each.

    From four seeds on with t intervals, as a band, or as whiskers where there is one place; below that the
    seeds are dots.
    """
    intervals = [drawn_interval(sample) for sample in samples]
    ax.plot(at, [i.mean for i in intervals], style, color=colour, label=label, markersize=4, linewidth=1.5)
    low, high = [i.low for i in intervals], [i.high for i in intervals]
    if len(at) == 1:  # a band needs two points; whiskers do not
        ax.plot([at[0]] * 2, [low[0], high[0]], color=colour, linewidth=1.2)
    else:
        ax.fill_between(at, low, high, color=colour, alpha=0.18, linewidth=0)
    for place, sample in zip(at, samples, strict=True):
        if 1 < len(sample) < DRAWN_SEEDS:
            ax.plot([place] * len(sample), sample, "o", color=colour, **SEED_DOT)


def label_ends(ax: Axes, ends: Mapping[str, tuple[float, float, Any]]) -> None:
    """Write labels at the right ends of lines, moved apart where they would overlap.

    ends: label -> x and y of the line's last point, and its colour. Call it last: it reads the axes' limits.
    """
    low, high = ax.get_ylim()
    points = ax.bbox.height * 72 / ax.figure.dpi
    gap = 11 * (high - low) / points  # a line of text
    bottom = -math.inf
    for label, (x, y, colour) in sorted(ends.items(), key=lambda item: item[1][1]):
        bottom = max(y, bottom + gap)
        ax.annotate(
            label, (x, y), (6, (bottom - y) / (high - low) * points),
            textcoords="offset points", va="center", fontsize=8.5, color=colour, annotation_clip=False,
        )  # fmt: skip


def paper_points(ax: Axes, x: Sequence[float] | np.ndarray, y: Sequence[float]) -> None:
    """Draw the paper's printed values as hollow diamonds."""
    ax.plot(x, y, label="the paper's", **PAPER_POINT)


def band(ax: Axes, table: pd.DataFrame, *, x: str, value: str, colour, label: str, style: str = "o-") -> None:
    """Draw a line of means over x with its interval as a band, see `series`; table: a row a seed and x."""
    at = sorted(table[x].unique().tolist())
    samples = [table.loc[table[x] == place, value].tolist() for place in at]
    series(ax, at, samples, colour=colour, label=label, style=style)


def whiskers(
    ax: Axes, at: Sequence[float], intervals: Sequence[Interval], *, colour: Any, label: str
) -> None:
    """Draw a line of means with whiskers over places on the x axis."""
    means = [i.mean for i in intervals]
    spread = np.array([[i.mean - i.low, i.high - i.mean] for i in intervals]).T
    look = {"fmt": "o-", "markersize": 4, "linewidth": 1.5, "capsize": 3}
    ax.errorbar(at, means, spread, color=colour, label=label, **look)


def no_noise_line(ax: Axes, values: Sequence[float], label: str = "no noise") -> None:
    """Draw the paper's red dashed line: the mean without noise, with its interval as a band."""
    interval = drawn_interval(values)
    ax.axhline(
        interval.mean, color=VERMILION, linestyle="--", linewidth=1.5, label=f"{label} ({interval.mean:.1f})"
    )
    if interval.n >= DRAWN_SEEDS:
        ax.axhspan(interval.low, interval.high, color=VERMILION, alpha=0.12, linewidth=0)


def shared_legend(figure: Figure, ax: Axes, where: str = "lower center", **options: Any) -> None:
    """Put the legend of one panel, which holds for all of them, outside the panels."""
    handles, names = ax.get_legend_handles_labels()
    figure.legend(handles, names, loc=f"outside {where}", **options)  # pyright: ignore[reportArgumentType]
