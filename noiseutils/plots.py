"""Tidy data in, Axes out: the few forms of figure that the studies draw.

Colours come from Okabe & Ito's palette and from viridis, both safe for colour-blind readers; where more than
four lines cross, marker and dash tell them apart as well. Bars and lines are means over seeds; whiskers and
bands are 95 % t intervals, absent for a single seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from noiseutils.stats import Interval, mean_interval

ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE, GREY = (
    "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#666666",
)  # fmt: skip
MARKERS = "os^Dv*X"
DASHES = ("-", "--", "-.", ":")
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
    "svg.hashsalt": "noiseutils",  # the same figure gives the same file
}


def canvas(
    rows: int = 1, columns: int = 1, size: tuple[float, float] = (8, 4), **options
) -> tuple[Figure, np.ndarray]:
    """Return a figure and its axes, as an array of shape (rows, columns); size in inches."""
    mpl.rcParams.update(STYLE)  # for good, not in a context: legends and titles come after this call
    figure, axes = pyplot.subplots(rows, columns, figsize=size, squeeze=False, **options)
    return figure, axes


def shades(count: int) -> list:
    """Return colours for ordered levels, dark to light."""
    return [pyplot.get_cmap("viridis")(x) for x in np.linspace(0.1, 0.9, count)]


def styles(count: int) -> list[str]:
    """Return marker and dash of each of `count` lines: all alike up to four, which colours can tell apart."""
    if count <= 4:
        return ["o-"] * count
    return [MARKERS[i % len(MARKERS)] + DASHES[i // len(MARKERS) % len(DASHES)] for i in range(count)]


def summary(table: pd.DataFrame, by: Sequence[str], value: str) -> pd.DataFrame:
    """Compute mean, low, high and n of `value` over the rows of each group."""
    rows = []
    for place, group in table.groupby(list(by), sort=False):
        assert isinstance(place, tuple)  # a list of names gives tuples
        interval = mean_interval(group[value].tolist())
        rows.append(dict(zip(by, place, strict=True)) | vars(interval))
    return pd.DataFrame(rows)


def grouped_bars(
    ax: Axes,
    table: pd.DataFrame,
    *,
    x: str,
    group: str,
    value: str,
    labels: Mapping,
    colours: Sequence,
    digits: int | None = None,
    inside: bool = False,
) -> None:
    """Draw bars of means with whiskers: one cluster per value of x, one bar per group, in the table's order.

    table: a row a seed.   labels: group -> text of the legend.   digits: of the mean written above each bar,
    or `inside` it, where whiskers reach the top of the axes.
    """
    stats = summary(table, (x, group), value)
    places = list(dict.fromkeys(table[x]))
    width = 0.82 / len(labels)
    for i, (key, label) in enumerate(labels.items()):
        rows = stats[stats[group] == key].set_index(x).reindex(places)
        at = np.arange(len(places)) + (i - (len(labels) - 1) / 2) * width
        ax.bar(at, rows["mean"], width, label=label, color=colours[i])
        spread = np.stack([rows["mean"] - rows["low"], rows["high"] - rows["mean"]])  # nan: none is drawn
        ax.errorbar(at, rows["mean"], spread, fmt="none", ecolor="#333333", elinewidth=0.8, capsize=1.5)
        if digits is not None:
            for place, top, mean in zip(at, np.fmax(rows["mean"], rows["high"]), rows["mean"], strict=True):
                text = "" if np.isnan(mean) else f"{mean:.{digits}f}"
                if inside:
                    ax.text(place, mean / 2, text, ha="center", color="white", fontsize=8)
                    continue
                ax.annotate(text, (place, top), (0, 2), textcoords="offset points", ha="center", fontsize=8)
    ax.set_xticks(range(len(places)), [str(place) for place in places])
    spare = max(0.0, (3 - len(places)) / 2)  # a lone cluster is not stretched over the whole width
    ax.set_xlim(-0.6 - spare, len(places) - 0.4 + spare)


def band(ax: Axes, table: pd.DataFrame, *, x: str, value: str, colour, label: str, style: str = "o-") -> None:
    """Draw a line of means over x with its interval as a band."""
    stats = summary(table, (x,), value).sort_values(x)
    ax.plot(stats[x], stats["mean"], style, color=colour, label=label, markersize=4, linewidth=1.5)
    if len(stats) == 1:  # a band needs two points; whiskers do not
        spread = np.stack([stats["mean"] - stats["low"], stats["high"] - stats["mean"]])
        ax.errorbar(stats[x], stats["mean"], spread, fmt="none", ecolor=colour, elinewidth=1.2, capsize=4)
    ax.fill_between(stats[x], stats["low"], stats["high"], color=colour, alpha=0.18, linewidth=0)


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
    interval = mean_interval(values)
    ax.axhline(
        interval.mean, color=VERMILION, linestyle="--", linewidth=1.5, label=f"{label} ({interval.mean:.1f})"
    )
    if interval.n > 1:
        ax.axhspan(interval.low, interval.high, color=VERMILION, alpha=0.12, linewidth=0)


def shared_legend(figure: Figure, ax: Axes, where: str = "lower center", **options: Any) -> None:
    """Put the legend of one panel, which holds for all of them, outside the panels."""
    handles, names = ax.get_legend_handles_labels()
    figure.legend(handles, names, loc=f"outside {where}", **options)  # pyright: ignore[reportArgumentType]
