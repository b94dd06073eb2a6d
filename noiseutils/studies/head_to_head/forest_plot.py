"""Draw a forest plot of head to head: a row a method, a panel of paired differences a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from noiseutils import plots
from noiseutils.stats import DRAWN_SEEDS
from noiseutils.studies.head_to_head.comparisons import Comparison
from noiseutils.studies.head_to_head.grid import Cell
from noiseutils.studies.head_to_head.methods import KINDS, METHODS
from noiseutils.studies.head_to_head.params import Params
from noiseutils.studies.results import Results

COLOURS = {
    "": plots.GREY, "activations": plots.BLUE, "parameters": plots.ORANGE, "images": plots.GREEN,
    "common": plots.PURPLE,
}  # fmt: skip
PALE_ALPHA = 0.3  # of a difference that is not shown


def forest_plot(
    results: Results[Params, Cell],
    panels: Sequence[Sequence[Comparison]],
    titles: Sequence[str],
    unit: str,
    *,
    strengths: bool,
) -> Figure:
    """Draw panels of paired differences side by side, methods in rows under the names of their kinds."""
    methods = [name for name in results.params.methods if name != "none"]
    methods.sort(key=lambda name: list(KINDS).index(METHODS[name].kind))
    width = 2.6 + (1.75 if len(panels) > 3 else 2.3) * len(panels)
    figure, axes = plots.canvas(1, len(panels), size=(width, 1.9 + 0.34 * (len(methods) + 4)), sharey=True)
    places = _rows(methods)
    for ax, panel, title in zip(axes[0], panels, titles, strict=True):
        by_method = {c.cell.method: c for c in panel}
        ax.axvline(0, color="#333333", linewidth=1)
        for at in list(places.values())[::2]:  # the eye follows a row across panels
            ax.axhspan(at - 0.42, at + 0.46, color="#f5f5f5", linewidth=0, zorder=0)
        for method, at in places.items():
            if found := by_method.get(method):
                _row(ax, at, found, COLOURS[METHODS[method].kind])
            else:
                ax.annotate("not run", (0, at), (5, 0), textcoords="offset points", va="center", fontsize=7.5)
        ax.set_title(title, fontsize=10)
        ax.set_xlabel(unit, fontsize=9)
        ax.grid(axis="x")
        ax.grid(visible=False, axis="y")
        ax.tick_params(axis="y", length=0)
        ax.locator_params(axis="x", nbins=5, steps=[1, 2, 5, 10])
        if strengths:
            _strengths(ax, places, by_method)
        if dropout := by_method.get("dropout"):
            ax.axvline(
                100 * dropout.interval.mean, color=COLOURS["common"], linewidth=1.1, linestyle=":", zorder=1
            )
    _names(axes[0, 0], places)
    for ax in axes[0, 1:]:
        ax.spines["left"].set_visible(False)
    _legend(figure, dropout=any(c.cell.method == "dropout" for panel in panels for c in panel))
    return figure


def _rows(methods: Sequence[str]) -> dict[str, float]:
    """Return where each method's row is, top down, with room for the name of each kind above its rows."""
    places, at = {}, 0.0
    for _, group in groupby(methods, key=lambda name: METHODS[name].kind):
        at += 1
        for name in group:
            places[name] = at
            at += 1
    return places


def _row(ax: Axes, at: float, found: Comparison, colour: str) -> None:
    """Draw one method's differences: dots of seeds below, mean and interval above, pale if not shown."""
    values = [100 * value for value in found.by_seed.values()]
    interval = found.interval
    low, mean, high = (100 * value for value in (interval.low, interval.mean, interval.high))
    offsets = np.linspace(0.1, 0.34, len(values)) if len(values) > 1 else [0.2]
    ax.plot(values, at + np.asarray(offsets), "o", color=colour, markersize=3.2, alpha=0.5, markeredgewidth=0)
    alpha = 1.0 if found.shown else PALE_ALPHA + 0.25
    if len(values) >= DRAWN_SEEDS:
        ax.plot([low, high], [at - 0.1] * 2, color=colour, linewidth=2.6, alpha=alpha, solid_capstyle="butt")
    face = colour if found.shown else "white"
    ax.plot(
        mean, at - 0.1, "o", color=colour, markersize=6, markerfacecolor=face, markeredgewidth=1.4, zorder=4
    )


def _strengths(ax: Axes, places: Mapping[str, float], by_method: Mapping[str, Comparison]) -> None:
    """Write the chosen strengths at a panel's right edge."""
    for method, at in places.items():
        if method in by_method and (text := METHODS[method].at(by_method[method].cell.strength)):
            ax.annotate(
                text, (1, at), (-1, 0), xycoords=("axes fraction", "data"), fontsize=6.5,
                textcoords="offset points", ha="right", va="center", color=plots.GREY,
            )  # fmt: skip
    low, high = ax.get_xlim()
    ax.set_xlim(low, high + 0.2 * (high - low))  # room for them


def _names(ax: Axes, places: Mapping[str, float]) -> None:
    """Name the rows, and above each group its kind, in the colour of its marks."""
    ax.set_yticks(list(places.values()), [METHODS[name].label for name in places], fontsize=9)
    ax.set_ylim(max(places.values()) + 0.6, -0.6)
    for kind, group in groupby(places, key=lambda name: METHODS[name].kind):
        first = places[next(iter(group))]
        ax.annotate(
            KINDS[kind], (0, first - 0.85), (-6, 0), xycoords=("axes fraction", "data"), fontsize=9,
            textcoords="offset points", ha="right", va="center", color=COLOURS[kind], fontweight="bold",
        )  # fmt: skip


def _legend(figure: Figure, *, dropout: bool) -> None:
    """Explain the marks of a forest, and the line of dropout where there is one."""
    look = {"color": plots.GREY, "linewidth": 2.6, "marker": "o", "markersize": 6, "markeredgewidth": 1.4}
    dotted = Line2D([], [], color=COLOURS["common"], linewidth=1.1, linestyle=":")
    marks = {
        "one seed": Line2D([], [], linestyle="", marker="o", color=plots.GREY, markersize=3.2, alpha=0.5),
        "mean, 95 % interval: a difference is shown": Line2D([], [], **look),
        "no difference is shown, or no verdict": Line2D(
            [], [], **look, markerfacecolor="white", alpha=PALE_ALPHA + 0.25
        ),
        **({"mean of dropout": dotted} if dropout else {}),
    }
    figure.legend(list(marks.values()), list(marks), loc="outside lower center", ncols=2, fontsize=8.5)  # pyright: ignore[reportArgumentType]
