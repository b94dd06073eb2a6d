"""Figures of head to head: differences from no noise, cost, ranks, and how strengths were chosen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from noiseutils import plots
from noiseutils.stats import DRAWN_SEEDS
from noiseutils.studies.head_to_head.choice import chosen, finals
from noiseutils.studies.head_to_head.comparisons import (
    PROFILE,
    Comparison,
    comparisons,
    quantities,
    ranked,
    step_cost,
)
from noiseutils.studies.head_to_head.forest_plot import COLOURS, forest_plot
from noiseutils.studies.head_to_head.grid import Cell, final, trials
from noiseutils.studies.head_to_head.methods import KINDS, METHODS
from noiseutils.studies.head_to_head.params import Params
from noiseutils.studies.output import Drawn, figure_title
from noiseutils.studies.params import data_of
from noiseutils.studies.results import Results

MARKERS = {"": "X", "activations": "o", "parameters": "s", "images": "^", "common": "D"}


def forest(results: Results[Params, Cell]) -> Iterator[Drawn]:
    """Draw the top-1 error of every method minus that of no noise: a row a method, a panel a setting."""
    found = comparisons(results, quantities(results.params)["top1"])
    panels = _by_setting(results, found)
    if not panels:
        return
    epochs = {setting.name: setting.epochs for setting in results.params.settings}
    titles = [f"{name}, {epochs[name]} epochs".replace(", ", "\n") for name in panels]
    figure = forest_plot(results, list(panels.values()), titles, "points of top-1 error", strengths=True)
    figure.suptitle(_title(results, "Every method against no noise: top-1 error, left is better"))
    alt = "Top-1 error minus no noise's, a row a method, a panel a setting, a dot a seed; dotted: dropout."
    yield Drawn("forest", figure, alt, _behind(results, [c for own in panels.values() for c in own]))


def profile(results: Results[Params, Cell]) -> Iterator[Drawn]:
    """Draw, a figure a setting, every method minus no noise in all quantities, a panel each."""
    named = {name: quantities(results.params)[name] for name in PROFILE}
    found = {name: comparisons(results, quantity) for name, quantity in named.items()}
    for number, setting in enumerate(results.params.settings, 1):
        columns = [[c for c in found[name] if c.cell.setting == setting.name and c.by_seed] for name in named]
        if not all(columns):
            continue
        titles = [quantity.label.replace(", ", ",\n") for quantity in named.values()]
        figure = forest_plot(results, columns, titles, "points", strengths=False)
        text = f"{setting.name}: what each method does to what, left is better"
        figure.suptitle(_title(results, text))
        alt = (
            f"{setting.name}: six quantities minus no noise's, a row a method, a dot a seed; dotted: dropout."
        )
        yield Drawn(f"profile_{number}", figure, alt, _behind(results, [c for own in columns for c in own]))


def cost(results: Results[Params, Cell]) -> Iterator[Drawn]:
    """Draw the difference in top-1 error over the cost of a step, a panel a setting, every method named."""
    found = comparisons(results, quantities(results.params)["top1"])
    again = comparisons(results, quantities(results.params)["top1"], "same_time")
    panels = _by_setting(results, found)
    if not panels:
        return
    rows = -(-len(panels) // 2)
    size = (10.5, 4.3 * rows + 0.4)
    figure, axes = plots.canvas(rows, min(2, len(panels)), size=size)
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    drawn: list[Comparison] = []
    for ax, (name, own) in zip(axes.flat, panels.items(), strict=False):
        other = [c for c in again if c.cell.setting == name and c.by_seed]
        _cost(ax, results, own, other)
        ax.set_title(name, fontsize=10)
        drawn += [*own, *other]
    plots.shared_legend(figure, axes[0, 0], ncols=4, fontsize=9)
    figure.suptitle(_title(results, "What a point of error costs: difference from no noise over step time"))
    alt = "Difference in top-1 error from no noise over the relative time of a step, a mark a method."
    yield Drawn("cost", figure, alt, _behind(results, drawn))


def _cost(
    ax: Axes, results: Results[Params, Cell], own: Sequence[Comparison], again: Sequence[Comparison]
) -> None:
    ax.axhline(0, color="#333333", linewidth=1)
    ends: dict[str, tuple[float, float, str]] = {}
    named: set[str] = set()
    for found in own:
        kind, x = METHODS[found.cell.method].kind, step_cost(results, found.cell)
        mean, low, high = (100 * v for v in (found.interval.mean, found.interval.low, found.interval.high))
        look: dict[str, Any] = {"marker": MARKERS[kind], "color": COLOURS[kind], "linestyle": ""}
        ax.plot([x], [mean], markersize=6, label="_" if kind in named else KINDS[kind], **look)
        named.add(kind)
        if len(found.by_seed) >= DRAWN_SEEDS:
            ax.plot([x, x], [low, high], color=COLOURS[kind], linewidth=1, alpha=0.4)
        ends[METHODS[found.cell.method].label] = (x, mean, COLOURS[kind])
    for found in again:  # of fewer epochs: in no noise's time
        kind, y = METHODS[found.cell.method].kind, 100 * found.interval.mean
        ax.plot(1, y, marker=MARKERS[kind], markersize=8, markerfacecolor="none", color=COLOURS[kind])
        ends[f"{METHODS[found.cell.method].label}, in the same time"] = (1.0, y, COLOURS[kind])
    ax.set(xlabel="time of a step, no noise = 1", ylabel="points of top-1 error")
    low, high = ax.get_xlim()
    ax.set_xlim(low, high + 0.75 * (high - low))
    _labels(ax, ends, high)


def _labels(ax: Axes, ends: Mapping[str, tuple[float, float, str]], at: float) -> None:
    """Write the labels in a column right of all points, in their order, each with a line to its point."""
    low, high = ax.get_ylim()
    gap = (high - low) / (len(ends) + 1)
    for number, (label, (x, y, colour)) in enumerate(sorted(ends.items(), key=lambda item: item[1][1]), 1):
        place = low + number * gap
        ax.annotate(
            label, (x, y), (at, place), fontsize=7.5, color=colour, va="center", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5, "alpha": 0.45, "shrinkB": 4},
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},  # over the line at 0
        )  # fmt: skip
    ax.set_ylim(low, high)


def ranking(results: Results[Params, Cell]) -> Iterator[Drawn]:
    """Draw mean ranks by top-1 error, the best on top, a panel a setting and one over all of them."""
    found = ranked(results, quantities(results.params)["top1"])
    if not found:
        return
    columns = min(4, len(found))
    rows = -(-len(found) // columns)
    count = len(found[0].methods)
    size = (1.2 + 3.1 * columns, rows * (1.2 + 0.24 * count) + 0.4)
    figure, axes = plots.canvas(rows, columns, size=size)
    for ax in axes.flat[len(found) :]:
        ax.set_visible(False)
    for ax, each in zip(axes.flat, found, strict=False):
        order = list(map(int, each.mean.argsort(kind="stable")))
        for at, i in enumerate(order):
            colour = COLOURS[METHODS[each.methods[i]].kind]
            if each.n >= DRAWN_SEEDS:
                ax.plot([each.low[i], each.high[i]], [at, at], color=colour, linewidth=2.2, alpha=0.6)
            ax.plot(each.mean[i], at, "o", color=colour, markersize=5)
        best = each.mean[order[0]]
        if each.distance == each.distance:
            ax.axvspan(best, best + each.distance, color="#eeeeee", zorder=0)
        ax.set_yticks(range(count), [METHODS[each.methods[i]].label for i in order], fontsize=7.5)
        for tick, i in zip(ax.get_yticklabels(), order, strict=True):
            tick.set_color(COLOURS[METHODS[each.methods[i]].kind])
        ax.set(ylim=(count - 0.4, -0.6), xlabel="mean rank, 1 is best")
        ax.set_title(each.setting.replace(", ", "\n"), fontsize=9.5)
        ax.grid(axis="x")
        ax.grid(visible=False, axis="y")
    text = "Ranks by top-1 error; grey: not told apart from the best (Nemenyi)"
    figure.suptitle(_title(results, text))
    alt = "Mean ranks of the methods by top-1 error with bootstrap intervals, a panel a setting."
    cells = [cell for s in results.params.settings for cell in finals(results, s.name).values()]
    places = [(cell, seed) for cell in cells for seed in range(results.params.seeds)]
    yield Drawn("ranks", figure, alt, results.at(places))


def choosing(results: Results[Params, Cell]) -> Iterator[Drawn]:
    """Draw the validation error over the strength, a panel a method, a line a setting; rings: chosen."""
    methods = [name for name in results.params.methods if METHODS[name].strengths]
    cells = [cell for cell in results.cells if results.interval(cell, "validation_error").n]
    methods = [name for name in methods if any(cell.method == name for cell in cells)]
    if not methods or results.params.trials < 2:
        return
    columns = min(5, len(methods))
    rows = -(-len(methods) // columns)
    figure, axes = plots.canvas(rows, columns, size=(2.35 * columns, 2.0 * rows + 0.9))
    for ax in axes.flat[len(methods) :]:
        ax.set_visible(False)
    begun = {cell.setting for cell in cells}
    settings = [setting.name for setting in results.params.settings if setting.name in begun]
    looks = list(zip(plots.shades(len(settings)), plots.styles(max(5, len(settings))), strict=False))
    for ax, name in zip(axes.flat, methods, strict=False):
        method, taken = METHODS[name], {}
        tried = method.tried(results.params.trials)
        for setting, (colour, style) in zip(settings, looks, strict=True):
            own = [c for c in trials(results.params, setting, name) if c in cells]
            errors = [100 * results.interval(cell, "validation_error").mean for cell in own]
            at = [tried.index(cell.strength) for cell in own]
            ax.plot(at, errors, style, color=colour, label=setting, markersize=4, linewidth=1.3)
            taken[setting] = chosen(results, setting, name)
            for cell, place, error in zip(own, at, errors, strict=True):
                if cell == taken[setting]:
                    ax.plot(place, error, "o", color=colour, markersize=9, markerfacecolor="none")
        ax.set_xticks(range(len(tried)), [f"{strength:g}" for strength in tried], fontsize=7.5)
        ax.tick_params(axis="y", labelsize=7.5)
        ax.set_title(method.label, fontsize=8.5, color=COLOURS[method.kind])
        ax.set_xlabel(method.symbol, fontsize=8.5)
        ax.margins(x=0.15)
    for ax in axes[:, 0]:
        ax.set_ylabel("validation error (%)", fontsize=8.5)
    plots.shared_legend(figure, axes[0, 0], ncols=min(3, len(settings)), fontsize=9)
    seeds = results.params.trial_seeds
    label = data_of(results.params).label
    figure.suptitle(figure_title("How each strength was chosen; rings: taken", label, seeds))
    alt = "Validation error over the strength of each method, a line a setting; the chosen one is ringed."
    places = [(cell, seed) for cell in cells for seed in range(seeds)]
    yield Drawn("choosing", figure, alt, results.at(places))


def same_time(results: Results[Params, Cell]) -> Iterator[Drawn]:
    """Draw costly methods minus no noise at equal epochs, and in equal time with fewer epochs."""
    quantity = quantities(results.params)["top1"]
    again = [c for c in comparisons(results, quantity, "same_time") if c.by_seed]
    first = {c.cell: c for c in comparisons(results, quantity)}
    pairs = [(first[final(c.cell)], c) for c in again if final(c.cell) in first]
    if not pairs:
        return
    rows = []
    for equal_epochs, equal_time in pairs:
        cell = equal_epochs.cell
        label = f"{METHODS[cell.method].label}, {cell.setting}"
        colour = COLOURS[METHODS[cell.method].kind]
        for found, what, shade in ((equal_epochs, "epochs", colour), (equal_time, "time", plots.GREY)):
            values = [100 * value for value in found.by_seed.values()]
            rows.append(plots.Effect(f"{label}: equal {what}", values, colour=shade))
    figure, axes = plots.canvas(size=(8.5, 1.6 + 0.42 * len(rows)))
    plots.effects(axes[0, 0], rows, "points of top-1 error, minus no noise")
    plots.effects_legend(figure, paper=False)
    figure.suptitle(_title(results, "Equal epochs and equal time"))
    alt = "Costly methods minus no noise in top-1 error, at equal epochs and in equal time."
    yield Drawn("same_time", figure, alt, _behind(results, [c for pair in pairs for c in pair]))


def _by_setting(results: Results[Params, Cell], found: Sequence[Comparison]) -> dict[str, list[Comparison]]:
    """Return comparisons that were run by setting, those without any left out."""
    run = [c for c in found if c.by_seed]
    panels = {s.name: [c for c in run if c.cell.setting == s.name] for s in results.params.settings}
    return {name: own for name, own in panels.items() if own}


def _behind(results: Results[Params, Cell], found: Sequence[Comparison]) -> list:
    return results.at((cell, seed) for c in found for seed in c.by_seed for cell in (c.cell, c.cell.plain))


def _title(results: Results[Params, Cell], text: str) -> str:
    return figure_title(text, data_of(results.params).label, results.params.seeds)
