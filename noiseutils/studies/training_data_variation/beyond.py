"""Figures of the training-data study beyond the paper's: matrices, common corruptions, attacks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib import pyplot

from noiseutils import plots
from noiseutils.stats import Interval
from noiseutils.studies.output import Drawn
from noiseutils.studies.results import Results, select
from noiseutils.studies.training_data_variation.figures import (
    captioned,
    line_panels,
    made_of,
    panels,
    points,
    rows_of,
    shown_lines,
    strengths,
    trained_on,
)
from noiseutils.studies.training_data_variation.grid import NAMES, Cell, common_levels, untouched
from noiseutils.studies.training_data_variation.params import Params
from noiseutils.studies.training_data_variation.tables import autoattack_table, matrix_table

DRAWN = (0.1, 0.5, 1.0)  # training strengths among common corruptions: more lines than these cannot be read


def pairs(params: Params) -> list[tuple[str, str]]:
    """Return kinds trained on and shown: first the same, then across."""
    kinds = params.kinds
    return [(k, k) for k in kinds] + [(a, b) for a in kinds for b in kinds if a != b]


def matrices(results: Results[Params, Cell]) -> Iterator[Drawn]:
    """Draw heat maps of networks trained on one kind and shown the other; Figures 4 and 6 have the same."""
    levels = results.params.levels
    for trained, shown in pairs(results.params):
        table = matrix_table(results, trained, shown)
        if trained == shown or table.empty:
            continue
        table = select(table, level=tuple(levels))
        figure, axes = panels(len(results.params.architectures), height=3.9)
        for ax, architecture in zip(axes, results.params.architectures, strict=True):
            own = select(table, architecture=architecture)
            grid = own.pivot(index="level", columns="sigma", values="accuracy")
            grid = grid.reindex(index=levels, columns=levels) * 100
            ax.imshow(grid, cmap="viridis", vmin=0, vmax=100, origin="lower", aspect="auto")
            for (i, j), value in np.ndenumerate(grid.to_numpy()):
                if not np.isnan(value):
                    colour = "black" if value > 60 else "white"
                    ax.text(j, i, f"{value:.0f}", ha="center", va="center", fontsize=8, color=colour)
            labels = [f"{level:g}" for level in levels]
            ax.set_xticks(range(len(levels)), labels, fontsize=8)
            ax.set_yticks(range(len(levels)), labels, fontsize=8)
            ax.grid(False)
            ax.set(title=NAMES[architecture], xlabel=f"trained on {trained} σ")
        axes[0].set_ylabel(f"shown {shown} σ")
        figure.colorbar(axes[0].images[0], ax=list(axes), label="accuracy (%)")
        figure.suptitle(captioned(results, f"Trained on {trained}, shown {shown}"))
        alt = f"Heat map of accuracy: columns the {trained} trained on, rows the {shown} shown."
        yield Drawn(f"matrix_{trained}_on_{shown}", figure, alt, trained_on(results, trained))


def common(results: Results[Params, Cell]) -> Iterator[Drawn]:
    """Draw the accuracy over the five severities of common corruptions, a line a training."""
    sigmas = [sigma for sigma in DRAWN if sigma in results.params.sigmas]
    trained = [("none", 0.0), *((kind, sigma) for kind in results.params.kinds for sigma in sigmas)]
    trained = [at for at in trained if at[0] == "none" or not untouched(Cell("", *at))]
    colours = [plots.GREY, *trained_shades([kind for kind, _ in trained[1:]])]
    for shown in results.params.kinds if results.params.common else ():
        levels = [0.0, *common_levels(shown)]
        lines = {
            architecture: [
                (
                    "none" if kind == "none" else f"{kind} {sigma:g}",
                    colour,
                    "s--" if kind == "blur" else "o-",
                    points(results, [(Cell(architecture, kind, sigma), level) for level in levels], shown),
                )
                for (kind, sigma), colour in zip(trained, colours, strict=True)
            ]
            for architecture in results.params.architectures
        }
        for figure, axes in line_panels(lines, "trained on", "accuracy (%)"):
            for ax in axes:
                ax.set_xlabel("severity (0: clean)")
                ax.set_xticks(range(len(levels)))
            figure.suptitle(captioned(results, f"What training withstands more {shown}"))
            alt = f"Accuracy over the severity of {shown}, a line a training."
            rows = select(results.frame, sigma=(0.0, *sigmas), statistics="trained")
            yield Drawn(f"common_{shown}", figure, alt, results.behind(rows))


def trained_shades(kinds: Sequence[str]) -> list:
    """Return a colour a training, darker with its strength: reds for noise, blues for blur.

    Shown strengths have other colours, those of Figures 4 and 6.   kinds: of the trainings, in order.
    """
    found = []
    for i, kind in enumerate(kinds):
        rank, of = kinds[:i].count(kind), kinds.count(kind)
        name = "PuBu" if kind == "blur" else "OrRd"
        found.append(pyplot.get_cmap(name)(0.45 + 0.5 * (rank + 1) / of))
    return found


def autoattacked(results: Results[Params, Cell]) -> Iterator[Drawn]:
    """Draw the accuracy under AutoAttack over the training strength, a line a size; the first seed."""
    table = autoattack_table(results)
    if table.empty:
        return
    table = select(table, seed=table.seed.min())
    sizes = sorted(table.delta_255.unique())
    colours = [plots.GREY, *plots.shades(len(sizes) - 1)]
    images = f"{int(table.n.max())} images"
    for kind in results.params.kinds:
        figure, axes = panels(len(results.params.architectures))
        for ax, (architecture, row) in zip(axes, rows_of(results.params, kind).items(), strict=True):
            for size, colour in zip(sizes, colours, strict=True):
                found = [select(table, **vars(cell), delta_255=size) for cell in row]
                at = [i for i, rows in enumerate(found) if len(rows)]
                percent = [100 * found[i][["accuracy", "low", "high"]].iloc[0] for i in at]
                if at:
                    intervals = [Interval(*values, n=table.n.max()) for values in percent]
                    label = f"{size:g}/255" if size else "no attack"
                    plots.whiskers(ax, at, intervals, colour=colour, label=label)
            strengths(ax, results.params.levels, kind)
            ax.set(title=NAMES[architecture], ylim=(0, None))
        axes[0].set_ylabel("accuracy (%)")
        axes[-1].legend(title="AutoAttack", loc="center left", bbox_to_anchor=(1, 0.5))
        figure.suptitle(f"What AutoAttack leaves  ·  {made_of(results)}, {images}, one seed")
        alt = f"Accuracy under AutoAttack over the {kind} trained on, a line an attack size."
        shown = results.behind(select(table, kind=("none", kind)))
        yield Drawn(f"autoattack_{kind}", figure, alt, shown)


def calibration(results: Results[Params, Cell]) -> Iterator[Drawn]:
    """Draw the calibration error over the training strength, a line a shown strength, as in Figure 4."""
    for kind in results.params.kinds:
        yield from shown_lines(
            results, kind, f"calibration_{kind}", f"How far confidence is from accuracy under {kind}",
            "expected calibration error (points)", "calibration_error",
        )  # fmt: skip
