"""Figures of the adaptive-noise study: Figure 1, the schedule, and Tables I to III as bars."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from noiseutils import plots
from noiseutils.schedules import cosine_decaying_restarts
from noiseutils.studies.adaptive_noise.choice import chosen, control_cells
from noiseutils.studies.adaptive_noise.grid import Cell
from noiseutils.studies.adaptive_noise.params import Params
from noiseutils.studies.output import Drawn, origin, title_of
from noiseutils.studies.params import data_of
from noiseutils.studies.results import Results, select
from noiseutils.training.loop import Result

KIND_NAMES = {
    "none": "no noise", "gaussian": "Gaussian", "uniform": "uniform", "dropout": "dropout 0.5",
    "weight_decay": "weight decay 5e-4",
}  # fmt: skip
KIND_COLOURS = {
    "none": plots.GREY, "gaussian": plots.BLUE, "uniform": plots.ORANGE, "dropout": plots.GREEN,
    "weight_decay": plots.PURPLE,
}  # fmt: skip
CONTROL_NAMES = {
    "gaussian": "adaptive, Gaussian",
    "shuffled": "same amounts, epochs at random",
    "replayed_uniform": "same epochs, uniform",
    "swapped": "gradients and weights exchanged",
}
CONTROL_COLOURS = [plots.BLUE, plots.GREY, plots.ORANGE, plots.GREEN]
OPTIMIZER_NAMES = {"sgd": "SGD", "momentum": "SGD with momentum", "adam": "Adam"}


def schedule(params: Params) -> Iterator[Drawn]:
    """Draw the learning rate over epochs, a line a highest rate."""
    figure, axes = plots.canvas(size=(9, 3.4))
    steps = 50  # an epoch, enough for a smooth line
    epochs = np.arange(params.epochs * steps) / steps
    for rate, colour in zip(
        sorted(params.learning_rates, reverse=True), plots.shades(len(params.learning_rates)), strict=True
    ):
        rates = [
            cosine_decaying_restarts(
                step,
                eta_max=rate,
                eta_final_max=params.final_max,
                eta_min=params.minimum,
                epochs=params.epochs,
                restart_epochs=params.restart_epochs,
                steps_per_epoch=steps,
            )
            for step in range(params.epochs * steps)
        ]
        axes[0, 0].plot(epochs, rates, color=colour, label=f"{rate:g}", linewidth=1.5)
    axes[0, 0].set(xlabel="epoch", ylabel="learning rate (log)", yscale="log")
    axes[0, 0].set_title("Cosine annealing with decaying restarts")
    axes[0, 0].legend(title="first rate", loc="upper left", bbox_to_anchor=(1, 1))
    yield Drawn("schedule", figure, "Learning rate over epochs: cosines that restart ever lower.", ())


def machine(
    history: pd.DataFrame, name: str = "state_machine", title: str = "", shown: Iterable[Result] = ()
) -> Iterator[Drawn]:
    """Draw gradient norm and validation loss over epochs, those with noise shaded; below, sigma and flags.

    history: what `tables.play` returns, or a run's own.   shown: that run, in the latter case.
    """
    figure, axes = plots.canvas(3, 1, size=(9, 6.2), sharex=True, height_ratios=[3, 3, 2])
    _figure_1(axes[:, 0], history)
    figure.suptitle(title or "Made-up losses, and what the noise scheduler makes of them")
    alt = "Gradient norm and validation loss over epochs; epochs with noise are shaded."
    yield Drawn(name, figure, alt, shown)


def training(results: Results[Params, Cell]) -> Iterator[Drawn]:
    """Draw Figure 1: the paper's is ResNet-18, Gaussian noise, SGD; here the profile's last network.

    At the chosen learning rate, the first seed, whether noise was ever injected or not.
    """
    params = results.params
    optimizer = "sgd" if "sgd" in params.optimizers else params.optimizers[0]
    model = "resnet18" if "resnet18" in params.models else params.models[-1]
    cell = chosen(results, model, optimizer, params.distributions[0])
    shown = results.of_cell(cell)[:1]
    if cell is None or not shown:
        return
    rows = shown[0].history
    loss = "validation_loss" if "validation_loss" in rows else "test_loss"
    what = (
        f"{model}, {OPTIMIZER_NAMES[optimizer]}, {KIND_NAMES[cell.kind]} noise, rate {cell.learning_rate:g}"
    )
    title = f"{what}  ·  {origin(data_of(params).label)}, one seed"
    yield from machine(rows.assign(validation_loss=rows[loss]), "figure_01_training", title, shown)


def _figure_1(axes: Any, rows: pd.DataFrame) -> None:
    noisy = {target: rows[f"{target}_noise"] > 0 for target in ("gradient", "weight")}
    for ax, column, label in (
        (axes[0], "gradient_norm", "gradient norm"),
        (axes[1], "validation_loss", "validation loss"),
    ):
        ax.plot(rows.epoch, rows[column], ".-", color="black", linewidth=1.2, markersize=3)
        ax.set_ylabel(label)
        for target, colour, bottom in (("gradient", plots.BLUE, 0.5), ("weight", plots.ORANGE, 0.0)):
            for epoch in rows.epoch[noisy[target]]:
                ax.axvspan(
                    epoch - 0.5, epoch + 0.5, bottom, bottom + 0.5, color=colour, alpha=0.25, linewidth=0
                )
    ax: Axes = axes[2]
    for target, colour in (("gradient", plots.BLUE), ("weight", plots.ORANGE)):
        ax.step(
            rows.epoch,
            rows[f"{target}_noise"],
            where="mid",
            color=colour,
            label=f"σ on {target}s",
            linewidth=1.5,
        )
    top = max(float(rows.gradient_noise.max()), float(rows.weight_noise.max()), 1e-3)
    for i, (column, colour, label) in enumerate(
        (
            ("gradient_flag", plots.BLUE, "gradient flag"),
            ("weight_flag", plots.ORANGE, "weight flag"),
            ("cooldown", plots.GREY, "cooldown"),
        )
    ):
        up = rows[rows[column] > 0]
        at = np.full(len(up), -(i + 1) * top / 5)
        ax.scatter(up.epoch, at, marker="s", s=14, color=colour, label=label)
    ax.set(ylabel="noise", xlabel="epoch", ylim=(-0.8 * top, 1.15 * top), xlim=(0, rows.epoch.max() + 1))
    ax.set_yticks([tick for tick in ax.get_yticks() if 0 <= tick <= 1.1 * top])
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.35), ncols=5, fontsize=8)


def accuracy_and_gap(results: Results[Params, Cell]) -> Iterator[Drawn]:
    """Draw Tables I to III as bars: validation accuracy and the gap, one figure an optimiser."""
    for number, optimizer in enumerate(OPTIMIZER_NAMES, 1):
        if optimizer not in results.params.optimizers:
            continue
        kinds = results.params.kinds
        cells = [chosen(results, model, optimizer, k) for model in results.params.models for k in kinds]
        table = _rows_of(results, cells)
        if table.empty:
            continue
        figure, axes = plots.canvas(1, 2, size=(11, 3.8))
        _bars(axes[0], table, {kind: KIND_NAMES[kind] for kind in kinds}, [KIND_COLOURS[k] for k in kinds])
        plots.shared_legend(figure, axes[0, 0], ncols=3)
        figure.suptitle(title_of(results, f"Table {'I' * number}: {OPTIMIZER_NAMES[optimizer]}"))
        yield Drawn(
            f"table_{number}_{optimizer}",
            figure,
            f"Validation accuracy and generalisation gap of each network, {OPTIMIZER_NAMES[optimizer]}.",
            results.behind(table),
        )


def rates(results: Results[Params, Cell]) -> Iterator[Drawn]:
    """Draw the validation accuracy over the learning rate, a panel a network, a line a kind of noise."""
    for optimizer in results.params.optimizers:
        table = select(results.frame, optimizer=optimizer, kind=results.params.kinds)
        models = [model for model in results.params.models if model in set(table.model)]
        if not models or len(results.params.learning_rates) < 2:
            continue
        figure, axes = plots.canvas(1, len(models), size=(max(5, 2.9 * len(models) + 1), 3.4), sharey=True)
        for ax, model in zip(axes[0], models, strict=True):
            for kind in results.params.kinds:
                rows = select(table, model=model, kind=kind)
                if len(rows):
                    rows = rows.assign(accuracy=rows.validation_accuracy * 100)
                    plots.band(
                        ax, rows, x="learning_rate", value="accuracy", colour=KIND_COLOURS[kind],
                        label=KIND_NAMES[kind],
                    )  # fmt: skip
            ax.set(title=model, xscale="log", xlabel="learning rate (log)", ylim=(0, 100))
        axes[0, 0].set_ylabel("validation accuracy (%)")
        plots.shared_legend(figure, axes[0, 0], ncols=3)
        figure.suptitle(title_of(results, f"Choosing the rate, {OPTIMIZER_NAMES[optimizer]}"))
        alt = "Validation accuracy over the learning rate, a panel a network."
        yield Drawn(f"rates_{optimizer}", figure, alt, results.behind(table))


def controls(results: Results[Params, Cell]) -> Iterator[Drawn]:
    """Draw adaptive noise beside the same noise at other times, of another kind or place."""
    for optimizer in results.params.optimizers:
        own = [cell for cell in control_cells(results) if cell.optimizer == optimizer]
        table = _rows_of(results, [c for cell in own for c in (replace(cell, kind="gaussian"), cell)])
        if table.empty:
            continue
        figure, axes = plots.canvas(1, 2, size=(11, 3.8))
        _bars(axes[0], table, CONTROL_NAMES, CONTROL_COLOURS)
        plots.shared_legend(figure, axes[0, 0], ncols=2)
        figure.suptitle(title_of(results, f"Adaptive or not: {OPTIMIZER_NAMES[optimizer]}"))
        alt = "Adaptive Gaussian noise beside three controls of equal amount."
        yield Drawn(f"controls_{optimizer}", figure, alt, results.behind(table))


def _bars(axes: Any, table: pd.DataFrame, labels: dict[str, str], colours: list[str]) -> None:
    """Draw two panels of bars, a cluster a network; whiskers that leave the panel are cut off."""
    for ax, value, label, digits in (
        (axes[0], "accuracy", "validation accuracy (%)", 1),
        (axes[1], "gap", "gap: validation − training loss", 2),
    ):
        plots.grouped_bars(
            ax, table, x="model", group="kind", value=value, labels=labels, colours=colours, digits=digits,
            inside=value == "accuracy",
        )  # fmt: skip
        ax.set_ylabel(label)
    axes[0].set_ylim(0, 100)
    means = table.groupby(["model", "kind"]).gap.mean()
    room = 0.35 * max(means.max() - min(means.min(), 0), 0.05)
    axes[1].set_ylim(min(means.min(), 0) - room, max(means.max(), 0) + room)


def _rows_of(results: Results[Params, Cell], cells: Iterable[Cell | None]) -> pd.DataFrame:
    """Return a row a cell and seed, cell after cell, with the validation accuracy in percent."""
    tables = [select(results.frame, **vars(cell)) for cell in dict.fromkeys(cells) if cell]
    table = pd.concat(tables) if tables else pd.DataFrame({"validation_accuracy": []})
    return table.assign(accuracy=100 * table.validation_accuracy)
