"""Figures that compare: Figures 3-11 of the NoisyDropout paper, and what the paper only announces.

What noise changes is drawn as differences to ordinary dropout on equal seeds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from noiseutils import plots
from noiseutils.plots import Effect
from noiseutils.studies.noisy_dropout.contrasts import class_changes, noise_cost, noisy_cells
from noiseutils.studies.noisy_dropout.grid import READINGS, Cell, level_name
from noiseutils.studies.noisy_dropout.params import Params
from noiseutils.studies.noisy_dropout.reported import Place, ours_at, paper_at, places
from noiseutils.studies.output import Drawn, origin
from noiseutils.studies.params import data_of
from noiseutils.studies.registry import difference, minus
from noiseutils.studies.results import Results, select
from noiseutils.training.loop import Result

READING_NAMES = {
    "dropped": "noise in dropped neurons (text)",
    "all": "noise on every neuron (Eq. 2)",
    "unscaled": "in dropped neurons, no 1/(1−p)",
    "printed": "on every neuron, no 1/(1−p)",
}
PAPER_PROBABILITIES = (0.2, 0.25, 0.3)  # in the order of its figures
READING_COLOURS = {
    "dropped": plots.BLUE,
    "all": plots.GREEN,
    "unscaled": plots.ORANGE,
    "printed": plots.VERMILION,
}
MOST_CLASSES = 20  # in one figure


def per_class(results: Results[Params, Cell]) -> Iterator[Drawn]:
    """Draw Figures 3-5: what noise changes in the accuracy of each class, a figure a dropout probability."""
    kinds = results.params.readings
    for number, p in _numbered(results, 3):
        changes = {kind: class_changes(results, p, kind) for kind in kinds}
        if not any(changes.values()):
            continue
        names, which = _few_classes([by for seeds in changes.values() for by in seeds.values()])
        figure, axes = _panels(1, len(kinds), len(names) + 1, sharex=True)
        for ax, kind in zip(axes[0], kinds, strict=True):
            seeds = changes[kind].values()
            means = [100 * sum(by.values()) / len(by) for by in seeds]
            rows = [Effect("all classes", means, colour=plots.GREY)]
            colour = READING_COLOURS[kind]
            rows += [Effect(name, [100 * by[name] for by in seeds], colour=colour) for name in names]
            plots.effects(ax, rows, "change of the accuracy (points)")
            ax.set_title(f"{READING_NAMES[kind]}, {_levels(results, p, kind)}", fontsize=10)
        plots.effects_legend(figure, paper=False)
        text = f"Classes, p = {p:g}: noise minus ordinary dropout{which}"
        figure.suptitle(titled(results, text))
        yield Drawn(
            f"{number}per_class_p{p * 100:g}",
            figure,
            f"Change of each class's accuracy by noise at dropout probability {p:g}, a dot a seed.",
            _behind(results, _of_readings(results, p)),
        )


def _few_classes(changes: Sequence[Mapping[str, float]]) -> tuple[list[str], str]:
    """Return the classes to draw, of many those that lose and gain most, and a note on that for the title."""
    names = list(changes[0])
    if len(names) <= MOST_CLASSES:
        return names, ""
    order = sorted(names, key=lambda name: sum(by[name] for by in changes))
    half = MOST_CLASSES // 2
    return order[:half] + order[
        -half:
    ], f", the {half} that lose and the {half} that gain most of {len(names)}"


def errors(results: Results[Params, Cell]) -> Iterator[Drawn]:
    """Draw Figures 6-8: the rise of top-1 and top-5 error at each noise level, a figure a probability."""
    kinds = results.params.readings
    names = {"top1_error": "top-1 error", "top5_error": "top-5 error"}
    for number, p in _numbered(results, 6):
        shown = _behind(results, _of_readings(results, p))
        if not shown:
            continue
        rows = {quantity: places(results, p, quantity) for quantity in names}
        heights = [len(listed) + 1.5 for listed in rows.values()]
        figure, axes = _panels(
            2, len(kinds), sum(map(len, rows.values())), height_ratios=heights, sharex="row"
        )
        for (at, quantity), (column, kind) in itertools.product(enumerate(names), enumerate(kinds)):
            ax = axes[at, column]
            plots.effects(
                ax,
                [_rise(results, p, kind, quantity, place) for place in rows[quantity]],
                f"{names[quantity]}, noise minus ordinary dropout (points)",
            )
            if at == 0:
                ax.set_title(READING_NAMES[kind], fontsize=10)
            if column:
                ax.tick_params(labelleft=False)
        plots.effects_legend(figure)
        figure.suptitle(titled(results, f"What noise costs at each level, p = {p:g}"))
        yield Drawn(
            f"{number}errors_p{p * 100:g}",
            figure,
            f"Rise of the top-1 and top-5 error by noise at each level, dropout probability {p:g}.",
            shown,
        )


def _rise(results: Results[Params, Cell], p: float, reading: str, quantity: str, place: Place) -> Effect:
    """Return a quantity's rise over ordinary dropout, ours and the paper's, in points."""
    plain = Place("", 0.0)
    ours = minus(
        ours_at(results, p, reading, quantity, place), ours_at(results, p, reading, quantity, plain), ()
    )
    paper = 100 * (paper_at(p, quantity, place) - paper_at(p, quantity, plain))
    note = "" if ours.by_seed or not place.over else "all five levels: not run"
    return Effect(
        place.label, [100 * v for v in ours.by_seed.values()], paper, READING_COLOURS[reading], note
    )


def weighted_accuracy(results: Results[Params, Cell]) -> Iterator[Drawn]:
    """Draw Figures 9-11: weighted average accuracy over noise levels, with the no-noise lines."""
    for number, p in _numbered(results, 9):
        shown = _behind(results, _of_readings(results, p))
        if not shown:
            continue
        columns = [Place("no noise", 0.0), *places(results, p, "weighted_accuracy")]
        figure, axes = plots.canvas(size=(max(6.5, 1.1 * len(columns) + 1), 4))
        ax = axes[0, 0]
        _accuracies(ax, results, p, columns)
        ax.set(
            ylabel="weighted average accuracy (%)",
            xlabel=f"noise level (% of {results.params.base_std:g})",
            title=titled(results, f"Weighted average accuracy, which is 1 − top-1 error, p = {p:g}"),
        )
        ax.title.set_fontsize(11)
        figure.legend(loc="outside lower center", ncols=2, fontsize=9)
        yield Drawn(
            f"{number}weighted_accuracy_p{p * 100:g}",
            figure,
            f"Weighted average accuracy at each noise level, dropout probability {p:g}; dashed: no noise.",
            shown,
        )


def _accuracies(ax: Axes, results: Results[Params, Cell], p: float, columns: Sequence[Place]) -> None:
    """Draw a sample a reading in every column, the lines without noise, and the paper's values."""
    kinds = results.params.readings
    shifts = np.linspace(-0.16, 0.16, len(kinds)) if len(kinds) > 1 else [0.0]
    for shift, kind in zip(shifts, kinds, strict=True):
        label = READING_NAMES[kind]
        for x, place in enumerate(columns):
            values = [100 * v for v in ours_at(results, p, kind, "weighted_accuracy", place).values()]
            at, colour = (x - 0.16, plots.GREY) if place.level == 0 else (x + shift, READING_COLOURS[kind])
            _upright(ax, at, values, colour, "" if place.level == 0 else label)
            label = label if place.level == 0 or not values else ""  # once in the legend
    plain = ours_at(results, p, "dropped", "weighted_accuracy", columns[0])
    if plain:
        plots.no_noise_line(ax, [100 * v for v in plain.values()], "no noise, ours")
    papers = [100 * paper_at(p, "weighted_accuracy", place) for place in columns]
    if not math.isnan(papers[0]):
        ax.axhline(
            papers[0],
            color="black",
            linestyle=":",
            linewidth=1.2,
            label=f"no noise, the paper's ({papers[0]:.0f})",
        )
    if p in PAPER_PROBABILITIES:
        plots.paper_points(ax, range(len(columns)), papers)
    names = [place.label.replace(" of the", "\nof the") for place in columns]
    ax.set_xticks(range(len(columns)), names)
    ax.set_xlim(-0.6, len(columns) - 0.4)


def _upright(ax: Axes, x: float, values: Sequence[float], colour: str, label: str) -> None:
    """Draw a sample at a place of the x axis: a dot a seed, the mean, its t interval from four seeds on."""
    if not values:
        return
    interval = plots.drawn_interval(values)
    ax.plot([x - 0.06] * len(values), values, "o", color=colour, **plots.SEED_DOT)
    ax.plot([x + 0.06] * 2, [interval.low, interval.high], color=colour, linewidth=2.2)
    ax.plot(
        x + 0.06, interval.mean, "_", color=colour, markersize=11, markeredgewidth=2.4, label=label or None
    )


def readings(results: Results[Params, Cell]) -> Iterator[Drawn]:
    """Draw what each reading of the layer costs at each level, beyond the paper, beside its greatest rise."""
    probabilities = sorted(results.params.probabilities)
    kept = [cell for cell in results.cells if cell != cell.plain]
    kept = sorted(kept, key=lambda c: (READINGS.index(c.reading), c.level))
    kinds = list(dict.fromkeys((cell.reading, cell.level) for cell in kept))
    figure, axes = _panels(1, len(probabilities), len(kinds) + 1, width=3.3, sharex=True)
    for ax, p in zip(axes[0], probabilities, strict=True):
        greatest = 100 * (
            paper_at(p, "top1_error", Place("", None, "max")) - paper_at(p, "top1_error", Place("", 0.0))
        )
        rows = [Effect("the paper's greatest rise", [], greatest, note=" ")]
        for reading, level in kinds:
            found = difference(results, Cell(p, level, reading), Cell(p, 0.0, "dropped"), "top1_error")
            values = [100 * v for v in found.by_seed.values()] if found else []
            label = f"{READING_NAMES[reading]}, {level_name(level)}"
            rows.append(Effect(label, values, colour=READING_COLOURS[reading]))
        plots.effects(ax, rows, "rise of the top-1 error (points)")
        if not math.isnan(greatest):
            ax.axvline(greatest, color="black", linestyle=":", linewidth=1)
        ax.set_title(f"p = {p:g}")
    plots.effects_legend(figure)
    figure.suptitle(titled(results, "What NoisyDropout costs, reading by reading: minus ordinary dropout"))
    alt = "Rise of the top-1 error over ordinary dropout, a row a reading and level, a panel a probability."
    yield Drawn("readings", figure, alt, _behind(results, results.cells))


def robustness(results: Results[Params, Cell]) -> Iterator[Drawn]:
    """Draw what noise in training changes under FGSM and on noisy images, as the paper announces."""
    probabilities, kinds = sorted(results.params.probabilities), results.params.readings
    for condition, name, title, text in (
        ("fgsm", "robustness_fgsm", "Under attack", "FGSM {:g}/255"),
        ("gaussian_noise", "robustness_input_noise", "On noisy images", "image noise, std {:g}"),
    ):
        kept = select(results.frame, condition=condition, statistics="trained")
        sizes = sorted(kept["size"].unique())
        if not sizes:
            continue
        scale = 255 if condition == "fgsm" else 1
        figure, axes = _panels(
            len(kinds), len(probabilities), len(kinds) * (len(sizes) + 1), width=3.3, sharex=True
        )
        for (row, kind), (column, p) in itertools.product(enumerate(kinds), enumerate(probabilities)):
            rows = [_cost(results, p, kind, "clean images")]
            rows += [
                _cost(results, p, kind, text.format(size * scale), condition=condition, size=size)
                for size in sizes
            ]
            ax = axes[row, column]
            plots.effects(ax, rows, "change of the top-1 error (points)")
            ax.set_title(f"p = {p:g}, {READING_NAMES[kind]}\n{_levels(results, p, kind)}", fontsize=9)
            ax.label_outer()
        plots.effects_legend(figure, paper=False)
        figure.suptitle(titled(results, f"{title}: training with noise minus ordinary dropout"))
        alt = f"Change of the top-1 error by noise in training, {title.lower()}, a row a size."
        cells = [cell for p in probabilities for cell in _of_readings(results, p)]
        yield Drawn(name, figure, alt, _behind(results, cells))


def _cost(results: Results[Params, Cell], p: float, kind: str, label: str, **where) -> Effect:
    found = noise_cost("top1_error", p, kind, **where)(results)
    values = [100 * v for v in found.by_seed.values()] if found else []
    return Effect(label, values, colour=READING_COLOURS[kind])


def _panels(rows: int, columns: int, effects: int, *, width: float = 4.2, sharex, height_ratios=None):
    """Return panels for forests with their row labels at the left; effects: rows of one column of panels."""
    size = (max(7.0, width * columns + 2.2), 0.32 * effects + 0.85 * rows + 1.2)
    return plots.canvas(rows, columns, size=size, sharex=sharex, sharey="row", height_ratios=height_ratios)


def _of_readings(results: Results[Params, Cell], p: float) -> list[Cell]:
    kinds = results.params.readings
    return [c for c in results.of(p=p) if c == c.plain or c.reading in kinds]


def _behind(results: Results[Params, Cell], cells: Iterable[Cell]) -> list[Result]:
    """Return the results of some cells that have numbers."""
    return results.at((cell, seed) for cell in cells for seed in results.record_of(cell))


def _levels(results: Results[Params, Cell], p: float, reading: str) -> str:
    levels = [cell.level for cell in noisy_cells(results, p, reading)]
    if len(levels) < 2:
        return "".join(f"level {level_name(level)}" for level in levels)
    return f"mean of {len(levels)} levels, {level_name(levels[0])} to {level_name(levels[-1])}"


def titled(results: Results[Params, Cell], text: str) -> str:
    """Return a title of two lines: what is seen; then images, seeds, epochs and width."""
    params = results.params
    made = f"{origin(data_of(params).label)}, n = {results.frame.seed.nunique()}"
    epochs = f"{params.epochs} epoch{'s' if params.epochs > 1 else ''}"
    return f"{text}\n{made}, {epochs}, width {params.width:g}"


def _numbered(results: Results[Params, Cell], first: int) -> Iterator[tuple[str, float]]:
    """Yield the probabilities and how their files begin: with the paper's figure number where it has one."""
    for p in sorted(results.params.probabilities):
        number = f"figure_{first + PAPER_PROBABILITIES.index(p):02d}_" if p in PAPER_PROBABILITIES else ""
        yield number, p
