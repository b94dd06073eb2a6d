"""The figures of the training-data study beyond the paper's: matrices, common corruptions, attacks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from noiseutils import plots
from noiseutils.studies.common import results_in, select
from noiseutils.studies.shelf import Drawn
from noiseutils.studies.training_data_variation.figures import (
    NAMES,
    line_panels,
    origin,
    panels,
    points,
    strengths,
    title,
    trained_on,
)
from noiseutils.studies.training_data_variation.grid import Cell, Params, row_of
from noiseutils.studies.training_data_variation.outcome import Outcome
from noiseutils.studies.training_data_variation.tables import autoattack_table, common_levels, matrix_table

DRAWN = (0.1, 0.5, 1.0)  # training strengths among common corruptions: more lines than these cannot be read


def pairs(params: Params) -> list[tuple[str, str]]:
    """Kinds trained on and shown: first the same, then across."""
    kinds = params.kinds
    return [(k, k) for k in kinds] + [(a, b) for a in kinds for b in kinds if a != b]


def matrices(outcome: Outcome) -> Iterator[Drawn]:
    """Every training strength on every shown one as heat maps, of either kind on both."""
    levels = [0.0, *sorted(outcome.params.sigmas)]
    for trained, shown in pairs(outcome.params):
        table = matrix_table(outcome, trained, shown)
        if table.empty:
            continue
        table = select(table, level=tuple(levels))
        figure, axes = panels(len(outcome.params.architectures), height=3.9)
        for ax, architecture in zip(axes, outcome.params.architectures, strict=True):
            own = select(table, architecture=architecture)
            grid = own.pivot(index="level", columns="sigma", values="accuracy")
            grid = grid.reindex(index=levels, columns=levels) * 100
            ax.imshow(grid, cmap="viridis", vmin=0, vmax=100, origin="lower", aspect="auto")
            for (i, j), value in np.ndenumerate(grid.to_numpy()):
                if not np.isnan(value):
                    colour = "black" if value > 60 else "white"
                    ax.text(j, i, f"{value:.0f}", ha="center", va="center", fontsize=7, color=colour)
            labels = [f"{level:g}" for level in levels]
            ax.set_xticks(range(len(levels)), labels, fontsize=8)
            ax.set_yticks(range(len(levels)), labels, fontsize=8)
            ax.grid(False)
            ax.set(title=NAMES[architecture], xlabel=f"trained on {trained} σ")
        axes[0].set_ylabel(f"shown {shown} σ")
        figure.colorbar(axes[0].images[0], ax=list(axes), label="accuracy (%)")
        figure.suptitle(title(outcome, f"Trained on {trained}, shown {shown}"))
        alt = f"Heat map of accuracy: columns the {trained} trained on, rows the {shown} shown."
        yield Drawn(f"matrix_{trained}_on_{shown}", figure, alt, trained_on(outcome, trained))


def common(outcome: Outcome) -> Iterator[Drawn]:
    """Accuracy over the five severities of common corruptions, a line a training."""
    sigmas = [sigma for sigma in DRAWN if sigma in outcome.params.sigmas]
    trained = [("none", 0.0), *((kind, sigma) for kind in outcome.params.kinds for sigma in sigmas)]
    colours = [plots.GREY, *plots.shades(len(trained) - 1)]
    for shown in outcome.params.kinds if outcome.params.common else ():
        levels = [0.0, *common_levels(shown)]
        lines = {
            architecture: [
                (
                    "no corruption" if kind == "none" else f"{kind} {sigma:g}",
                    colour,
                    "s--" if kind == "blur" else "o-",
                    points(outcome, [(Cell(architecture, kind, sigma), level) for level in levels], shown),
                )
                for (kind, sigma), colour in zip(trained, colours, strict=True)
            ]
            for architecture in outcome.params.architectures
        }
        for figure, axes in line_panels(lines, "trained on", "accuracy (%)"):
            for ax in axes:
                ax.set_xlabel("severity (0: clean)")
                ax.xaxis.get_major_locator().set_params(integer=True)
            figure.suptitle(title(outcome, f"Common corruption: {shown}"))
            alt = f"Accuracy over the severity of {shown}, a line a training."
            rows = select(outcome.frame, sigma=(0.0, *sigmas), statistics="trained")
            yield Drawn(f"common_{shown}", figure, alt, results_in(outcome.by_cell, rows))


def autoattacked(outcome: Outcome) -> Iterator[Drawn]:
    """Accuracy under AutoAttack over the training strength, a line an attack size; the first seed."""
    table = autoattack_table(outcome)
    if table.empty:
        return
    table = select(table, seed=table.seed.min())
    sizes = sorted(table.delta_255.unique())
    colours = [plots.GREY, *plots.shades(len(sizes) - 1)]
    for kind in outcome.params.kinds:
        figure, axes = panels(len(outcome.params.architectures))
        for ax, architecture in zip(axes, outcome.params.architectures, strict=True):
            row = row_of(outcome.params, architecture, kind)
            for size, colour in zip(sizes, colours, strict=True):
                found = [(i, select(table, **vars(cell), delta_255=size)) for i, cell in enumerate(row)]
                known = [(i, rows.iloc[0]) for i, rows in found if len(rows)]
                if not known:
                    continue
                values = np.array([[r.accuracy, r.accuracy - r.low, r.high - r.accuracy] for _, r in known])
                ax.errorbar(
                    [i for i, _ in known], 100 * values[:, 0], 100 * values[:, 1:].T, fmt="o-", color=colour,
                    label=f"{size:g}/255" if size else "no attack", markersize=4, linewidth=1.5, capsize=3,
                )  # fmt: skip
            strengths(ax, [0.0, *sorted(outcome.params.sigmas)], kind)
            ax.set(title=NAMES[architecture], ylim=(0, 100))
        axes[0].set_ylabel("accuracy (%)")
        axes[-1].legend(title="AutoAttack", loc="center left", bbox_to_anchor=(1, 0.5))
        figure.suptitle(f"Under AutoAttack  ·  {origin(outcome)}, {table.n.max()} images, one seed")
        alt = f"Accuracy under AutoAttack over the {kind} trained on, a line an attack size."
        shown = results_in(outcome.by_cell, select(table, kind=("none", kind)))
        yield Drawn(f"autoattack_{kind}", figure, alt, shown)


def calibration(outcome: Outcome) -> Iterator[Drawn]:
    """Calibration error over the shown strength, a line a training strength."""
    levels = [0.0, *sorted(outcome.params.sigmas)]
    for kind in outcome.params.kinds:
        lines = {}
        for architecture in outcome.params.architectures:
            row = row_of(outcome.params, architecture, kind)
            lines[architecture] = [
                (
                    f"{cell.sigma:g}",
                    colour,
                    style,
                    points(outcome, [(cell, level) for level in levels], kind, "calibration_error"),
                )
                for cell, colour, style in zip(
                    row, plots.shades(len(row)), plots.styles(len(row)), strict=True
                )
            ]
        for figure, axes in line_panels(
            lines, f"trained on\n{kind} σ", "expected calibration error (points)"
        ):
            for ax in axes:
                strengths(ax, levels, kind, "shown")
            figure.suptitle(title(outcome, f"Calibration under {kind}"))
            alt = f"Calibration error over the {kind} shown, a line a training."
            yield Drawn(f"calibration_{kind}", figure, alt, trained_on(outcome, kind))
