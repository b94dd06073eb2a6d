"""The figures of the adaptive-noise study: Figure 1, the schedule, and Tables I to III as bars."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from noiseutils import plots
from noiseutils.config import EMBEDDED, Data
from noiseutils.schedules import cosine_decaying_restarts
from noiseutils.studies.adaptive_noise.grid import Cell, Outcome, Params
from noiseutils.studies.common import results_at, results_in, select
from noiseutils.studies.shelf import Drawn
from noiseutils.training.loop import Result

KIND_NAMES = {"none": "no noise", "gaussian": "Gaussian", "uniform": "uniform"}
KIND_COLOURS = {"none": plots.GREY, "gaussian": plots.BLUE, "uniform": plots.ORANGE}
CONTROL_NAMES = {
    "adaptive": "adaptive, Gaussian",
    "shuffled": "same amounts, epochs at random",
    "replayed_uniform": "same epochs, uniform",
    "swapped": "gradients and weights exchanged",
}
CONTROL_COLOURS = [plots.BLUE, plots.GREY, plots.ORANGE, plots.GREEN]
OPTIMIZER_NAMES = {"sgd": "SGD", "momentum": "SGD with momentum", "adam": "Adam"}


def schedule(params: Params) -> Iterator[Drawn]:
    """The learning rate over epochs, a line a highest rate."""
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
    """Gradient norm and validation loss over epochs, those with noise shaded; below, sigma and the flags.

    history: what `tables.play` returns, or a run's own.   shown: that run, in the latter case.
    """
    figure, axes = plots.canvas(3, 1, size=(9, 6.2), sharex=True, height_ratios=[3, 3, 2])
    _figure_1(axes[:, 0], history)
    figure.suptitle(title or "Made-up losses, and what the noise scheduler makes of them")
    alt = "Gradient norm and validation loss over epochs; epochs with noise are shaded."
    yield Drawn(name, figure, alt, shown)


def training(outcome: Outcome) -> Iterator[Drawn]:
    """Figure 1: the paper's is ResNet-18, Gaussian noise, SGD; here the profile's last network.

    The chosen learning rate, its first seed. With no noise in it, that is what it shows.
    """
    params = outcome.params
    optimizer = "sgd" if "sgd" in params.optimizers else params.optimizers[0]
    model = "resnet18" if "resnet18" in params.models else params.models[-1]
    cell = outcome.chosen(model, optimizer, params.distributions[0])
    results = [r for (c, _), r in outcome.by_cell.items() if c == cell]
    if cell is None or not results:
        return
    rows = results[0].history
    loss = "validation_loss" if "validation_loss" in rows else "test_loss"
    what = (
        f"{model}, {OPTIMIZER_NAMES[optimizer]}, {KIND_NAMES[cell.kind]} noise, rate {cell.learning_rate:g}"
    )
    title = f"{what}  ·  {_origin(outcome)}, one seed"
    yield from machine(rows.assign(validation_loss=rows[loss]), "figure_01_training", title, results[:1])


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


def results(outcome: Outcome) -> Iterator[Drawn]:
    """Tables I to III as bars: validation accuracy and the gap, one figure an optimiser."""
    for number, optimizer in enumerate(OPTIMIZER_NAMES, 1):
        if optimizer not in outcome.params.optimizers:
            continue
        table = _chosen_rows(outcome, optimizer)
        if table.empty:
            continue
        kinds = ("none", *outcome.params.distributions)
        figure, axes = plots.canvas(1, 2, size=(11, 3.8))
        _accuracy_and_gap(
            axes[0],
            table,
            "kind",
            {kind: KIND_NAMES[kind] for kind in kinds},
            [KIND_COLOURS[k] for k in kinds],
        )
        _legend(figure, axes[0, 0], 3)
        figure.suptitle(_title(outcome, f"Table {'I' * number}: {OPTIMIZER_NAMES[optimizer]}"))
        yield Drawn(
            f"table_{number}_{optimizer}",
            figure,
            f"Validation accuracy and generalisation gap of each network, {OPTIMIZER_NAMES[optimizer]}.",
            results_in(outcome.by_cell, table),
        )


def rates(outcome: Outcome) -> Iterator[Drawn]:
    """Validation accuracy over the learning rate, a panel a network, a line a kind of noise."""
    finished = select(outcome.frame, status="finished")
    for optimizer in outcome.params.optimizers:
        table = select(finished, optimizer=optimizer)
        models = [model for model in outcome.params.models if model in set(table.model)]
        if not models or len(outcome.params.learning_rates) < 2:
            continue
        figure, axes = plots.canvas(1, len(models), size=(max(5, 2.9 * len(models) + 1), 3.4), sharey=True)
        for ax, model in zip(axes[0], models, strict=True):
            for kind in ("none", *outcome.params.distributions):
                rows = select(table, model=model, kind=kind)
                if len(rows):
                    rows = rows.assign(accuracy=rows.validation_accuracy * 100)
                    plots.band(
                        ax, rows, x="learning_rate", value="accuracy", colour=KIND_COLOURS[kind],
                        label=KIND_NAMES[kind],
                    )  # fmt: skip
            ax.set(title=model, xscale="log", xlabel="learning rate (log)", ylim=(0, 100))
        axes[0, 0].set_ylabel("validation accuracy (%)")
        _legend(figure, axes[0, 0], 3)
        figure.suptitle(_title(outcome, f"Choosing the rate, {OPTIMIZER_NAMES[optimizer]}"))
        alt = "Validation accuracy over the learning rate, a panel a network."
        yield Drawn(f"rates_{optimizer}", figure, alt, results_in(outcome.by_cell, table))


def controls(outcome: Outcome) -> Iterator[Drawn]:
    """Beyond the paper: adaptive noise beside the same noise at other times, of another kind or place."""
    for optimizer in outcome.params.optimizers:
        rows, shown = [], []
        for model in outcome.params.models:
            cell = outcome.chosen(model, optimizer, "gaussian")
            if cell is None or (model, optimizer, "shuffled") not in outcome.controls:
                continue
            for name in CONTROL_NAMES:
                accuracies, gaps = (
                    outcome.values(cell, quantity)
                    if name == "adaptive"
                    else outcome.control_values(model, optimizer, name, quantity)
                    for quantity in ("validation_accuracy", "gap")
                )
                rows += [
                    {"model": model, "control": name, "accuracy": 100 * accuracy, "gap": gaps[seed]}
                    for seed, accuracy in accuracies.items()
                ]
                shown += (
                    results_at(outcome.by_cell, ((cell, seed) for seed in accuracies))
                    if name == "adaptive"
                    else outcome.control_results(model, optimizer, name).values()
                )
        if not rows:
            continue
        figure, axes = plots.canvas(1, 2, size=(11, 3.8))
        _accuracy_and_gap(axes[0], pd.DataFrame(rows), "control", CONTROL_NAMES, CONTROL_COLOURS)
        _legend(figure, axes[0, 0], 2)
        figure.suptitle(_title(outcome, f"Adaptive or not: {OPTIMIZER_NAMES[optimizer]}"))
        alt = "Adaptive Gaussian noise beside three controls of equal amount."
        yield Drawn(f"controls_{optimizer}", figure, alt, shown)


def _accuracy_and_gap(
    axes: Any, table: pd.DataFrame, group: str, labels: dict[str, str], colours: list[str]
) -> None:
    """Two panels of bars, a cluster a network; whiskers that leave the panel are cut off."""
    for ax, value, label, digits in (
        (axes[0], "accuracy", "validation accuracy (%)", 1),
        (axes[1], "gap", "gap: validation − training loss", 2),
    ):
        plots.grouped_bars(
            ax, table, x="model", group=group, value=value, labels=labels, colours=colours, digits=digits,
            inside=value == "accuracy",
        )  # fmt: skip
        ax.set_ylabel(label)
    axes[0].set_ylim(0, 100)
    means = table.groupby(["model", group]).gap.mean()
    room = 0.35 * max(means.max() - min(means.min(), 0), 0.05)
    axes[1].set_ylim(min(means.min(), 0) - room, max(means.max(), 0) + room)


def _chosen_rows(outcome: Outcome, optimizer: str) -> pd.DataFrame:
    """A row a network, kind and seed, at the chosen rates, in the tables' order; a cell's fields with it."""
    rows = []
    for model in outcome.params.models:
        for kind in ("none", *outcome.params.distributions):
            cell: Cell | None = outcome.chosen(model, optimizer, kind)
            if cell is None:
                continue
            gaps = outcome.values(cell, "gap")
            for seed, accuracy in outcome.values(cell, "validation_accuracy").items():
                rows.append({**vars(cell), "seed": seed, "accuracy": 100 * accuracy, "gap": gaps[seed]})
    return pd.DataFrame(rows)


def _legend(figure: Figure, ax: Axes, columns: int) -> None:
    handles, names = ax.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=columns)


def _title(outcome: Outcome, what: str) -> str:
    seeds = outcome.frame.seed.nunique()
    return f"{what}  ·  {_origin(outcome)}, {seeds} seed{'s' if seeds != 1 else ''}"


def _origin(outcome: Outcome) -> str:
    label = Data.parse(outcome.params.data).label
    return f"{label}, embedded data" if label in EMBEDDED else label
