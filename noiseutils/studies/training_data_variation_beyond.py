"""The figures of the training-data study beyond the paper's: matrices, common corruptions, attacks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from noiseutils import plots
from noiseutils.studies.common import select
from noiseutils.studies.shelf import Drawn
from noiseutils.studies.training_data_variation import Cell, Outcome, row_of
from noiseutils.studies.training_data_variation_figures import NAMES, origin, panels, strengths, title
from noiseutils.studies.training_data_variation_tables import autoattack_table, common_levels, matrix_table

ATTACKED = (plots.GREY, plots.BLUE, plots.VERMILION, plots.GREEN)  # not at all, then by growing size


def matrices(outcome: Outcome) -> Iterator[Drawn]:
    """Beyond the paper: every training strength on every shown one as heat maps, of either kind on both."""
    for shown in outcome.params.kinds:
        for trained in outcome.params.kinds:
            table = matrix_table(outcome, trained, shown)
            levels = [0.0, *sorted(outcome.params.sigmas)]
            if table.empty:
                continue
            table = select(table, level=tuple(levels))
            figure, axes = panels(outcome, height=3.9)
            image = None
            for ax, architecture in zip(axes, outcome.params.architectures, strict=True):
                grid = select(table, architecture=architecture).pivot(
                    index="level", columns="sigma", values="accuracy"
                )
                grid = grid.reindex(index=levels, columns=levels) * 100
                image = ax.imshow(grid, cmap="viridis", vmin=0, vmax=100, origin="lower", aspect="auto")
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
            figure.colorbar(image, ax=list(axes), label="accuracy (%)")
            figure.suptitle(title(outcome, f"Trained on {trained}, shown {shown}"))
            yield Drawn(
                f"matrix_{trained}_on_{shown}",
                figure,
                f"Heat map of accuracy: columns the {trained} trained on, rows the {shown} shown.",
            )


def common(outcome: Outcome) -> Iterator[Drawn]:
    """Beyond the paper: accuracy over the five severities of common corruptions, a line a training."""
    if not outcome.params.common:
        return
    for shown in outcome.params.kinds:
        figure, axes = panels(outcome)
        levels, drawn = [0.0, *common_levels(shown)], False
        sigmas = [sigma for sigma in (0.1, 0.5, 1.0) if sigma in outcome.params.sigmas]
        trained = [("none", 0.0), *((kind, sigma) for kind in outcome.params.kinds for sigma in sigmas)]
        for ax, architecture in zip(axes, outcome.params.architectures, strict=True):
            for (kind, sigma), colour in zip(
                trained, [plots.GREY, *plots.shades(len(trained) - 1)], strict=True
            ):
                cell = Cell(architecture, kind, sigma)
                rows = pd.DataFrame(
                    [
                        {"severity": severity, "percent": 100 * value}
                        for severity, level in enumerate(levels)
                        for value in outcome.values(cell, shown, level).values()
                    ]
                )
                if len(rows):
                    label = "no corruption" if kind == "none" else f"{kind} {sigma:g}"
                    style = "s--" if kind == "blur" else "o-"
                    plots.band(
                        ax, rows, x="severity", value="percent", colour=colour, label=label, style=style
                    )
                    drawn = True
            ax.set(title=NAMES[architecture], xlabel="severity (0: clean)", ylim=(0, 100))
            ax.xaxis.get_major_locator().set_params(integer=True)
        if not drawn:
            continue
        axes[0].set_ylabel("accuracy (%)")
        axes[-1].legend(title="trained on", loc="center left", bbox_to_anchor=(1, 0.5))
        figure.suptitle(title(outcome, f"Common corruption: {shown}"))
        yield Drawn(f"common_{shown}", figure, f"Accuracy over the severity of {shown}, a line a training.")


def autoattacked(outcome: Outcome) -> Iterator[Drawn]:
    """Beyond the paper: accuracy under AutoAttack over the training strength, a line an attack size."""
    table = autoattack_table(outcome)
    if table.empty:
        return
    for kind in outcome.params.kinds:
        figure, axes = panels(outcome)
        levels = [0.0, *sorted(outcome.params.sigmas)]
        sizes = sorted(table.delta_255.unique())
        for ax, architecture in zip(axes, outcome.params.architectures, strict=True):
            row = row_of(outcome.params, architecture, kind)
            for size, colour in zip(
                sizes, (plots.GREY, plots.BLUE, plots.VERMILION, plots.GREEN), strict=False
            ):
                found = [(i, select(table, **vars(cell), delta_255=size)) for i, cell in enumerate(row)]
                known = [(i, rows.iloc[0]) for i, rows in found if len(rows)]
                if not known:
                    continue
                values = np.array([[r.accuracy, r.accuracy - r.low, r.high - r.accuracy] for _, r in known])
                label = "no attack" if size == 0 else f"{size:g}/255"
                ax.errorbar(
                    [i for i, _ in known], 100 * values[:, 0], 100 * values[:, 1:].T, fmt="o-", color=colour,
                    label=label, markersize=4, linewidth=1.5, capsize=3,
                )  # fmt: skip
            strengths(ax, levels, kind)
            ax.set(title=NAMES[architecture], ylim=(0, 100))
        axes[0].set_ylabel("accuracy (%)")
        axes[-1].legend(title="AutoAttack", loc="center left", bbox_to_anchor=(1, 0.5))
        figure.suptitle(f"Under AutoAttack  ·  {origin(outcome)}, {outcome.params.attack_images} images")
        yield Drawn(
            f"autoattack_{kind}",
            figure,
            f"Accuracy under AutoAttack over the {kind} trained on, a line a size.",
        )


def calibration(outcome: Outcome) -> Iterator[Drawn]:
    """Beyond the paper: calibration error over the shown strength, a line a training strength."""
    for kind in outcome.params.kinds:
        figure, axes = panels(outcome)
        levels, drawn = [0.0, *sorted(outcome.params.sigmas)], False
        for ax, architecture in zip(axes, outcome.params.architectures, strict=True):
            row = row_of(outcome.params, architecture, kind)
            for cell, colour in zip(row, plots.shades(len(row)), strict=True):
                rows = pd.DataFrame(
                    [
                        {"place": place, "percent": 100 * value}
                        for place, level in enumerate(levels)
                        for value in outcome.values(cell, kind, level, "calibration_error").values()
                    ]
                )
                if len(rows):
                    plots.band(ax, rows, x="place", value="percent", colour=colour, label=f"{cell.sigma:g}")
                    drawn = True
            strengths(ax, levels, kind, "shown")
            ax.set(title=NAMES[architecture], ylim=(0, 100))
        if not drawn:
            continue
        axes[0].set_ylabel("expected calibration error (points)")
        axes[-1].legend(title=f"trained on\n{kind} σ", loc="center left", bbox_to_anchor=(1, 0.5))
        figure.suptitle(title(outcome, f"Calibration under {kind}"))
        yield Drawn(
            f"calibration_{kind}", figure, f"Calibration error over the {kind} shown, a line a training."
        )
