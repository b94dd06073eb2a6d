"""Figures of the training-data study: Figures 1 to 7 of the paper."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from torch import Tensor

from noiseutils import plots
from noiseutils.corruptions import gaussian_blur, gaussian_noise
from noiseutils.data import Dataset, to_float
from noiseutils.rng import generator
from noiseutils.studies.output import Drawn, origin
from noiseutils.studies.params import data_of
from noiseutils.studies.registry import at_chance
from noiseutils.studies.results import Results, select
from noiseutils.studies.training_data_variation.changes import ONE_PERCENT, READINGS, mean
from noiseutils.studies.training_data_variation.grid import NAMES, Cell, row_of, shown_as, size_of
from noiseutils.studies.training_data_variation.params import Params
from noiseutils.studies.training_data_variation.tables import answers_of, row_sizes
from noiseutils.training.loop import Result

Line = tuple[str, Any, str, pd.DataFrame]  # label, colour, style, and what `points` gives
COLOURS = {"resnet": plots.BLUE, "inception": plots.ORANGE, "resnext": plots.GREEN}
EXAMPLES = ("airplane", "automobile", "frog", "horse", "airplane")  # Figure 1; Figure 3: frog and truck
ATTACK_NAMES = {"best": "the best of DDN, DeepFool and FMN", "ddn": "DDN", "deepfool": "DeepFool"}
ATTACK_NAMES |= {"carlini_wagner": "Carlini & Wagner", "fmn_l1": "FMN in L1"}
EDGE = 0.2  # of a strength, beside the first and the last one
UNITS = {"noise": "noise, images in [-1, 1]", "blur": "blur, pixels"}
# Figure 2: a box a convolution block, from left to right and top to bottom; kernel and maps
BOXES = {
    "resnet": [["1×1, 64", "3×3, 64", "1×1, 256"]],
    "inception": [
        ["1×1, 64"],
        ["1×1, 128", "3×3, 64"],
        ["1×1, 64", "3×3, 32", "3×3, 64"],
        ["max-pool, 3×3", "1×1, 64"],
    ],
    "resnext": [["1×1, 4", "3×3, 4", "1×1, 256"], ["… 32 paths …"], ["1×1, 4", "3×3, 4", "1×1, 256"]],
}
JOINED = {"resnet": "+ input, 256", "inception": "concatenated, + input, 256", "resnext": "sum, + input, 256"}


def examples(data: Dataset) -> Iterator[Drawn]:
    """Draw Figure 1: five training images, of the paper's classes where the set has them."""
    images, names = _examples(data, EXAMPLES)
    figure, axes = plots.canvas(1, len(images), size=(8, 2))
    for ax, image, name in zip(axes[0], images, names, strict=True):
        _show(ax, image, name)
    figure.suptitle(f"Images of {origin(data.label)}")
    yield Drawn("figure_01_examples", figure, f"Five images: {', '.join(names)}.", ())


def modules() -> Iterator[Drawn]:
    """Draw Figure 2: the three modules, a box a convolution block with its kernel and maps."""
    figure, axes = plots.canvas(1, len(BOXES), size=(11, 4.2))
    for ax, (name, paths) in zip(axes[0], BOXES.items(), strict=True):
        ax.set(xlim=(0, 4), ylim=(0, 5), xticks=[], yticks=[], title=f"{NAMES[name]} module")
        ax.grid(False)
        for side in ax.spines.values():
            side.set_visible(False)
        wide = 3.8 / len(paths)
        middles = [0.1 + wide * (i + 0.5) for i in range(len(paths))]
        _box(ax, 2, 4.6, 3.6, "input, 256 maps", "white")
        _box(ax, 2, 0.4, 3.6, JOINED[name], "white")
        for middle, path in zip(middles, paths, strict=True):
            heights = [2.5] if len(path) == 1 else np.linspace(3.6, 1.4, len(path)).tolist()
            for above, below in itertools.pairwise([4.6, *heights, 0.4]):
                arrow = {"arrowstyle": "-|>", "color": plots.GREY, "shrinkA": 0, "shrinkB": 0}
                ax.annotate("", (middle, below + 0.28), (middle, above - 0.28), arrowprops=arrow)
            for height, text in zip(heights, path, strict=True):
                _box(ax, middle, height, min(1.6, wide - 0.08), text.replace(", ", "\n"), "#dcebf5")
    alt = "The three modules: a bottleneck; four paths of 64 maps each; 32 narrow bottlenecks side by side."
    yield Drawn("figure_02_modules", figure, alt, ())


def _box(ax: Axes, x: float, y: float, width: float, text: str, colour: str) -> None:
    look = {"facecolor": colour, "edgecolor": plots.GREY, "linewidth": 0.8, "zorder": 2}
    ax.add_patch(FancyBboxPatch((x - width / 2, y - 0.25), width, 0.5, "round,pad=0.02", **look))
    ax.text(x, y, text, ha="center", va="center", fontsize=7, zorder=3)


def corrupted_examples(params: Params, data: Dataset) -> Iterator[Drawn]:
    """Draw Figure 3: two images with noise of sigma 1; here also blurred, and at every strength."""
    images, _ = _examples(data, ("frog", "truck"))
    levels = params.levels
    rows = [(kind, image) for kind in params.kinds for image in images]
    figure, axes = plots.canvas(len(rows), len(levels), size=(1.35 * len(levels) + 0.6, 1.45 * len(rows)))
    source = generator(0, "figure 3")
    for line, (kind, image) in zip(axes, rows, strict=True):
        for ax, sigma in zip(line, levels, strict=True):
            size = size_of(kind, sigma)
            pixels = image[None]
            shown = gaussian_noise(pixels, size, source) if kind == "noise" else gaussian_blur(pixels, size)
            _show(ax, shown[0].clamp(0, 1), f"σ = {sigma:g}" if ax.get_subplotspec().is_first_row() else "")
        line[0].set_ylabel(kind)
    figure.suptitle(f"Noise (images in [-1, 1], shown cut to that) and blur (pixels): {origin(data.label)}")
    alt = "Two images under noise and blur of growing strength, left to right."
    yield Drawn("figure_03_corruptions", figure, alt, ())


def accuracy(results: Results[Params, Cell]) -> Iterator[Drawn]:
    """Draw Figures 4 and 6: accuracy over the training strength, a line a shown strength."""
    for kind, name in (("noise", "figure_04_noise"), ("blur", "figure_06_blur")):
        text = f"Accuracy on {kind} of each strength, by the strength trained on"
        yield from shown_lines(results, kind, name, text, "accuracy (%)", "accuracy")


def shown_lines(
    results: Results[Params, Cell], kind: str, name: str, text: str, ylabel: str, quantity: str
) -> Iterator[Drawn]:
    """Draw a quantity over the training strength, a panel an architecture, a line a shown strength."""
    levels = results.params.levels
    lines = {
        architecture: shaded(
            {
                f"{level:g}": points(results, [(cell, level) for cell in row], kind, quantity)
                for level in levels
            }
        )
        for architecture, row in rows_of(results.params, kind).items()
    }
    for figure, axes in line_panels(lines, f"shown σ\n({kind})", ylabel):
        for ax in axes:
            strengths(ax, levels, kind)
        figure.suptitle(captioned(results, text))
        alt = f"{ylabel} over the {kind} trained on, a line a strength shown, a panel a network."
        yield Drawn(name, figure, alt, trained_on(results, kind))


def changes(results: Results[Params, Cell]) -> Iterator[Drawn]:
    """Draw Figures 5 and 7: the smallest change over the training strength, a panel a reading."""
    for kind, name in (("noise", "figure_05_change_noise"), ("blur", "figure_07_change_blur")):
        rows, found = rows_of(results.params, kind), {}
        for reading in READINGS:
            drawn = {a: row_sizes(results, row, reading) for a, row in rows.items()}
            if any(seeds for by_cell in drawn.values() for seeds in by_cell.values()):
                found[reading] = drawn
        if not found:
            continue
        figure, axes = plots.canvas(1, len(found), size=(4.0 * len(found) + 1, 4.2), sharey=True)
        labels = []
        for ax, (reading, drawn) in zip(axes[0], found.items(), strict=True):
            ends = {}
            for architecture, by_cell in drawn.items():
                ends |= _change_line(ax, architecture, rows[architecture], by_cell)
            strengths(ax, results.params.levels, kind)
            ax.set_xlim(-EDGE, len(results.params.levels) - 1 + EDGE)
            ax.set_title(READINGS[reading], fontsize=10)
            ends |= _mark_one_percent(ax)
            _mark_missing(ax, results, rows, drawn)
            labels.append((ax, ends))
        for ax, ends in labels:  # the panels share one scale, known only now
            plots.label_ends(ax, ends)
        axes[0, 0].set_ylabel("mean change of a pixel (8-bit values)")
        attack = results.params.change_attack
        misled = [
            (cell, seed) for cell, seed, q in results.answers if q == attack and cell.kind in ("none", kind)
        ]
        networks = len({seed for _, seed in misled})
        figure.suptitle(
            f"Smallest adversarial change, by what is averaged  ·  {made_of(results)},\n"
            f"{results.params.change_images} images attacked by {ATTACK_NAMES[attack]}, "
            f"{counted(networks, 'seed')}"
        )
        alt = f"Smallest adversarial change over the {kind} trained on, a panel a reading, a line a network."
        yield Drawn(name, figure, alt, results.at(misled))


def _change_line(
    ax: Axes,
    architecture: str,
    row: Sequence[Cell],
    by_cell: Mapping[Cell, Mapping[int, Mapping[int, float]]],
) -> dict[str, tuple[float, float, Any]]:
    """Draw one network's smallest changes, and return the label at the line's end: its name and n images."""
    colour, at, samples, images = COLOURS[architecture], [], [], []
    for place, cell in enumerate(row):
        if seeds := by_cell.get(cell):
            at.append(place)
            samples.append([mean(sizes.values()) for sizes in seeds.values()])
            images += [len(sizes) for sizes in seeds.values()]
    if not at:
        return {}
    plots.series(ax, at, samples, colour=colour, label=NAMES[architecture])
    few, many = min(images), max(images)
    span = f"{few}" if few == many else f"{few}-{many}"
    return {f"{NAMES[architecture]}, n = {span}": (len(row) - 1 + EDGE, mean(samples[-1]), colour)}


def _mark_one_percent(ax: Axes) -> dict[str, tuple[float, float, Any]]:
    """Draw the paper's 1 % where the values come near it, and return its label at the line's end.

    Far above the values it would flatten all other lines.
    """
    top = max([ax.get_ylim()[1], *(float(np.nanmax(np.asarray(line.get_ydata()))) for line in ax.lines)])
    ax.set_ylim(0, 1.05 * top)
    if top <= ONE_PERCENT / 2:
        return {}
    ax.axhline(ONE_PERCENT, color=plots.GREY, linestyle=":", linewidth=1.2)
    ax.set_ylim(0, max(1.05 * top, 1.08 * ONE_PERCENT))
    return {"1 % of the range": (ax.get_xlim()[1], ONE_PERCENT, plots.GREY)}


def _mark_missing(
    ax: Axes, results: Results[Params, Cell], rows: Mapping[str, Sequence[Cell]], drawn: Mapping[str, Mapping]
) -> None:
    """Write why attacked networks have no point, where the point would stand."""
    whys: dict[int, str] = {}
    for architecture, row in rows.items():
        for place, cell in enumerate(row):
            if answers_of(results, cell) and not drawn[architecture].get(cell):
                whys[place] = "at chance" if at_chance(results, cell) else "no common image"
    for place, why in whys.items():
        ax.annotate(why, (place, 0), (-7, 4), textcoords="offset points", rotation=90, ha="center",
                    color=plots.GREY, fontsize=8)  # fmt: skip


def captioned(results: Results[Params, Cell], text: str) -> str:
    """Return a figure's title: what is to be seen, and of which images, seeds, epochs and width."""
    return f"{text}  ·  {made_of(results)}, {counted(results.frame.seed.nunique(), 'seed')}"


def made_of(results: Results[Params, Cell]) -> str:
    """Return of which images, epochs and width the networks of a profile are."""
    params = results.params
    return f"{origin(data_of(params).label)}, {counted(params.epochs, 'epoch')}, width {params.width:g}"


def counted(n: int, what: str) -> str:
    """Return a number of things in words."""
    return f"{n} {what}{'' if n == 1 else 's'}"


def trained_on(results: Results[Params, Cell], kind: str) -> list[Result]:
    """Return the results of networks trained on a kind of corruption, and on the images as they are."""
    rows = select(results.frame, kind=("none", kind), statistics="trained")
    return results.behind(rows)


def rows_of(params: Params, kind: str) -> dict[str, list[Cell]]:
    """Return the cells of each architecture for a kind, from none to the strongest; {} if it is not there."""
    architectures = params.architectures if kind in params.kinds else ()
    return {architecture: row_of(params, architecture, kind) for architecture in architectures}


def shaded(tables: Mapping[str, pd.DataFrame]) -> list[Line]:
    """Return lines whose labels are ordered, with what `points` gives for each."""
    colours, styles = plots.shades(len(tables)), plots.styles(len(tables))
    return list(zip(tables, colours, styles, tables.values(), strict=True))


def points(
    results: Results[Params, Cell], pairs: Sequence[tuple[Cell, float]], kind: str, quantity: str = "accuracy"
) -> pd.DataFrame:
    """Return a row a seed: the place of each pair of a cell and a shown strength, the quantity in percent."""
    rows = [
        {"place": place, "percent": 100 * value}
        for place, (cell, level) in enumerate(pairs)
        for value in results.values(cell, quantity, **shown_as(kind, level)).values()
    ]
    return pd.DataFrame(rows, columns=["place", "percent"])


def line_panels(
    lines: Mapping[str, Sequence[Line]], legend: str, ylabel: str
) -> Iterator[tuple[Figure, np.ndarray]]:
    """Draw a panel an architecture, with its lines labelled at their ends; nothing at all if there is none.

    legend: what the labels are.
    """
    if not any(len(table) for own in lines.values() for *_, table in own):
        return
    figure, axes = panels(len(lines))
    for ax, (architecture, own) in zip(axes, lines.items(), strict=True):
        for label, colour, style, table in own:
            if len(table):
                plots.band(ax, table, x="place", value="percent", colour=colour, label=label, style=style)
        ax.set(title=NAMES[architecture])
    for ax, own in zip(axes, lines.values(), strict=True):  # the panels share one scale, known only now
        ends = {}
        for label, colour, _, table in own:
            if len(table):
                last = table.place.max()
                ends[label] = (last, table.percent[table.place == last].mean(), colour)
        plots.label_ends(ax, ends)
    axes[-1].annotate(legend, (1, 1), (2, 14), xycoords="axes fraction", textcoords="offset points",
                      fontsize=8.5, color=plots.GREY)  # fmt: skip
    axes[0].set_ylabel(ylabel)
    yield figure, axes


def panels(count: int, height: float = 3.6) -> tuple[Figure, np.ndarray]:
    """Return panels side by side with one scale; height in inches."""
    figure, axes = plots.canvas(1, count, size=(3.5 * count + 1.5, height), sharey=True)
    return figure, axes[0]


def strengths(ax: Axes, levels: Sequence[float], kind: str, what: str = "trained on") -> None:
    """Mark strengths at even distances, as in the paper: they span almost three powers of ten."""
    ax.set_xticks(range(len(levels)), [f"{level:g}" for level in levels])
    ax.set_xlabel(f"{what} σ ({UNITS[kind]})")


def _examples(data: Dataset, wanted: Sequence[str]) -> tuple[list[Tensor], list[str]]:
    """Return training images of the wanted classes, or of the first ones in a set that lacks any of them."""
    there = [data.classes[label] for label in sorted(set(data.train.labels.tolist()))]
    names = [*wanted] if set(wanted) <= set(there) else (there * len(wanted))[: len(wanted)]
    images, seen = [], Counter()
    for name in names:
        places = (data.train.labels == data.classes.index(name)).nonzero().squeeze(1)
        index = places[seen[name] % len(places)]  # a class that comes again: another image, if there is one
        seen[name] += 1
        images.append(to_float(data.train.subset(index[None]).pixels)[0])  # pyright: ignore[reportAttributeAccessIssue]
    return images, names


def _show(ax: Axes, image: Tensor, title: str) -> None:
    pixels = image.permute(1, 2, 0).cpu().numpy()
    ax.imshow(pixels[..., 0] if pixels.shape[2] == 1 else pixels, cmap="gray", vmin=0, vmax=1)
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, fontsize=9)
    ax.grid(False)
