"""Figures of the adaptive-noise study: Figure 1, the schedule, and Tables I to III as paired differences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from noiseutils import plots
from noiseutils.schedules import cosine_decaying_restarts
from noiseutils.studies.adaptive_noise.choice import chosen, control_cells, pair
from noiseutils.studies.adaptive_noise.claims import NAMES, OPTIMIZER_NAMES
from noiseutils.studies.adaptive_noise.grid import Cell
from noiseutils.studies.adaptive_noise.params import Params
from noiseutils.studies.adaptive_noise.reported import printed_difference
from noiseutils.studies.output import Drawn, origin, title_of
from noiseutils.studies.params import data_of
from noiseutils.studies.registry import difference
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
    "shuffled": "same amounts, epochs at random",
    "replayed_uniform": "same epochs, uniform",
    "swapped": "gradients and weights exchanged",
}
CONTROL_COLOURS = {"shuffled": plots.GREY, "replayed_uniform": plots.ORANGE, "swapped": plots.GREEN}
SHADES = {  # noise on gradients, on weights -> colour of the epoch, and its name
    (True, False): (plots.SKY, "noise on gradients"),
    (False, True): (plots.ORANGE, "noise on weights"),
    (True, True): (plots.PURPLE, "noise on both"),
}
RATE_NAMES = {  # of `choice.pair`; "own" is the paper's comparison, as we read II-C
    "plain": "both at {0:g} (best without)",
    "noise": "both at {0:g} (best with)",
    "own": "{0:g} against {1:g} (each at its best)",
}
QUANTITIES = {
    "validation_accuracy": ("validation accuracy (points)", 100.0),
    "gap": ("gap: validation − training loss (nats)", 1.0),
}


def schedule(params: Params) -> Iterator[Drawn]:
    """Draw the learning rate over epochs, a line a highest rate."""
    figure, axes = plots.canvas(size=(9, 3.4))
    steps = 50  # an epoch, enough for a smooth line
    epochs = np.arange(params.epochs * steps) / steps
    first = sorted({*params.learning_rates, *params.adam_rates}, reverse=True)
    for rate, colour in zip(first, plots.shades(len(first)), strict=True):
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
        axes[0, 0].plot(epochs, rates, color=colour, linewidth=1.5, label=f"{rate:g}")
        last = steps * params.restart_epochs * ((params.epochs - 1) // params.restart_epochs)
        at = (1.01 * last / steps, rates[max(0, last - steps * params.restart_epochs)])
        axes[0, 0].annotate(f"from {rate:g}", at, va="top", fontsize=8.5, color=colour)
    axes[0, 0].set(xlabel="epoch", ylabel="learning rate (log)")
    plots.log_scale(axes[0, 0], "y")
    axes[0, 0].set_title("Every restart is lower: cosine annealing with decaying restarts")
    yield Drawn("schedule", figure, "Learning rate over epochs: cosines that restart ever lower.", ())


def machine(
    history: pd.DataFrame, name: str = "state_machine", title: str = "", shown: Iterable[Result] = ()
) -> Iterator[Drawn]:
    """Draw gradient norm and validation loss over epochs, those with noise shaded; below, flags and sigma.

    history: what `tables.play` returns, or a run's own.   shown: that run, in the latter case.
    """
    figure, axes = plots.canvas(4, 1, size=(9, 7.4), sharex=True, height_ratios=[3, 3, 1.3, 1.8])
    _shaded(axes[:2, 0], history)
    _strips(axes[2, 0], history)
    ax: Axes = axes[3, 0]
    for target, colour in (("gradient", plots.BLUE), ("weight", plots.VERMILION)):
        ax.step(
            history.epoch, history[f"{target}_noise"], where="mid", color=colour, linewidth=1.5,
            label=f"on {target}s",
        )  # fmt: skip
    ax.set(ylabel="σ of the noise", xlabel="epoch", ylim=(0, None), xlim=(0.4, history.epoch.max() + 0.6))
    ax.legend(loc="upper right", ncols=2, fontsize=8)
    patches = [Patch(color=colour, alpha=0.35, label=label) for colour, label in SHADES.values()]
    figure.legend(handles=patches, loc="outside lower center", ncols=3, fontsize=9)  # pyright: ignore[reportArgumentType]
    figure.suptitle(title or "Made-up losses, and what the noise scheduler makes of them")
    alt = "Gradient norm and validation loss over epochs; epochs with noise are shaded; flags below."
    yield Drawn(name, figure, alt, shown)


def _shaded(axes: Iterable[Axes], rows: pd.DataFrame) -> None:
    for ax, column in zip(axes, ("gradient_norm", "validation_loss"), strict=True):
        ax.plot(rows.epoch, rows[column], ".-", color="black", linewidth=1.2, markersize=3)
        ax.set_ylabel(column.replace("_", " "))
        for epoch, gradient, weight in zip(rows.epoch, rows.gradient_noise, rows.weight_noise, strict=True):
            if shade := SHADES.get((gradient > 0, weight > 0)):
                ax.axvspan(epoch - 0.5, epoch + 0.5, color=shade[0], alpha=0.35, linewidth=0)


def _strips(ax: Axes, rows: pd.DataFrame) -> None:
    """Draw a strip each for the two flags and the cooldown, filled in the epochs in which it is up."""
    strips = {"gradient_flag": plots.BLUE, "weight_flag": plots.VERMILION, "cooldown": plots.GREY}
    for at, (column, colour) in enumerate(strips.items()):
        spans = [(epoch - 0.5, 1.0) for epoch in rows.epoch[rows[column] > 0]]
        ax.broken_barh(spans, (at - 0.36, 0.72), color=colour, linewidth=0)
    ax.set_yticks(range(len(strips)), [column.replace("_", " ") for column in strips], fontsize=8.5)
    ax.set_ylim(len(strips) - 0.5, -0.5)
    ax.grid(visible=False)


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
        f"{NAMES.get(model, model)}, {OPTIMIZER_NAMES[optimizer]}, {KIND_NAMES[cell.kind]} noise, "
        f"rate {cell.learning_rate:g}, width {params.width:g}"
    )
    title = f"{what}  ·  {origin(data_of(params).label)}, one seed"
    yield from machine(rows.assign(validation_loss=rows[loss]), "figure_01_training", title, shown)


def accuracy_and_gap(results: Results[Params, Cell]) -> Iterator[Drawn]:
    """Draw Tables I to III as paired differences from no noise: validation accuracy and the gap."""
    for number, optimizer in enumerate(OPTIMIZER_NAMES, 1):
        if optimizer not in results.params.optimizers:
            continue
        rows = [row for model in results.params.models for row in _comparisons(results, model, optimizer)]
        title = f"Table {'I' * number}, {OPTIMIZER_NAMES[optimizer]}: noise minus none"
        alt = f"Validation accuracy and gap of each network minus those without noise, {title}."
        yield from _differences(results, rows, f"table_{number}_{optimizer}", title, alt, paper=True)


class Comparison(NamedTuple):
    """A row of a figure of differences: one cell minus another, and what the paper prints for it."""

    label: str
    cell: Cell
    other: Cell
    colour: str
    printed: bool = False


def _comparisons(results: Results[Params, Cell], model: str, optimizer: str) -> Iterator[Comparison]:
    """Yield the comparisons of a network with no noise: equal pairs of rates once, "own" marked."""
    for kind in results.params.kinds[1:]:
        found: dict[tuple[Cell, Cell], list[str]] = {}
        for rates in RATE_NAMES if kind in results.params.distributions else ("plain",):
            cell, plain = pair(results, model, optimizer, (kind, "none"), rates)
            if cell and plain:
                found.setdefault((cell, plain), []).append(rates)
        for (cell, plain), names in found.items():
            how = "both at {0:g} (best for each)" if len(names) > 1 else RATE_NAMES[names[0]]
            if len(results.params.rates(optimizer)) == 1:
                how = "both at {0:g} (the only rate)"
            how = how.format(cell.learning_rate, plain.learning_rate)
            label = f"{NAMES.get(model, model)}, {KIND_NAMES[kind]}, {how}"
            yield Comparison(label, cell, plain, KIND_COLOURS[kind], printed="own" in names)


def _differences(
    results: Results[Params, Cell],
    rows: Sequence[Comparison],
    name: str,
    title: str,
    alt: str,
    *,
    paper: bool,
) -> Iterator[Drawn]:
    if not rows:
        return
    figure, axes = plots.canvas(1, 2, size=(11, 1.7 + 0.36 * len(rows)), sharey=True)
    for ax, (quantity, (label, scale)) in zip(axes[0], QUANTITIES.items(), strict=True):
        plots.effects(ax, [_effect(results, row, quantity, scale) for row in rows], label)
        ax.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    plots.effects_legend(figure, paper=paper)
    figure.suptitle(title_of(results, title) + _made(results.params))
    places = [
        (cell, seed)
        for row in rows
        if (found := difference(results, row.cell, row.other, "gap"))
        for seed in found.by_seed
        for cell in (row.cell, row.other)
    ]
    yield Drawn(name, figure, alt, results.at(places))


def _made(params: Params) -> str:
    return f", {params.epochs} epochs, width {params.width:g}"


def _effect(results: Results[Params, Cell], row: Comparison, quantity: str, scale: float) -> plots.Effect:
    found = difference(results, row.cell, row.other, quantity)
    values = [scale * value for value in found.by_seed.values()] if found else []
    own = None
    if row.printed:
        own = printed_difference(row.cell.model, row.cell.optimizer, row.cell.kind, quantity)
    note = "diverged" if not values and results.diverged(row.cell) + results.diverged(row.other) else ""
    return plots.Effect(row.label, values, None if own is None else scale * own, row.colour, note)


def rates(results: Results[Params, Cell]) -> Iterator[Drawn]:
    """Draw the validation accuracy over the learning rate, a panel a network, a line a kind of noise."""
    params = results.params
    for optimizer in params.optimizers:
        table = select(results.frame, optimizer=optimizer, kind=params.kinds)
        models = [model for model in params.models if model in set(table.model)]
        if not models or len(params.rates(optimizer)) < 2:
            continue
        figure, axes = plots.canvas(1, len(models), size=(max(6, 2.9 * len(models) + 1), 3.6), sharey=True)
        for ax, model in zip(axes[0], models, strict=True):
            for kind in params.kinds:
                rows = select(table, model=model, kind=kind)
                if len(rows):
                    rows = rows.assign(accuracy=rows.validation_accuracy * 100)
                    plots.band(
                        ax, rows, x="learning_rate", value="accuracy", colour=KIND_COLOURS[kind],
                        label=KIND_NAMES[kind],
                    )  # fmt: skip
            _rate_axis(ax, results, model, optimizer)
        axes[0, 0].set_ylabel("validation accuracy (%)")
        plots.shared_legend(figure, axes[0, 0], ncols=5)
        figure.suptitle(title_of(results, f"Choosing the rate, {OPTIMIZER_NAMES[optimizer]}") + _made(params))
        alt = "Validation accuracy over the learning rate, a panel a network."
        yield Drawn(f"rates_{optimizer}", figure, alt, results.behind(table))


def _rate_axis(ax: Axes, results: Results[Params, Cell], model: str, optimizer: str) -> None:
    """Set ticks at the rates alone; a rate at which runs diverged says how many of how many."""
    rates = sorted(results.params.rates(optimizer))
    ax.set(title=NAMES.get(model, model), xlabel="learning rate (log)")
    plots.log_scale(ax, "x")
    ax.set_xlim(rates[0] / 1.8, rates[-1] * 1.8)
    labels = []
    for rate in rates:
        cells = results.of(model=model, optimizer=optimizer, learning_rate=rate)
        lost, count = (
            sum(f(c) for c in cells) for f in (results.diverged, lambda c: len(results.of_cell(c)))
        )
        labels.append(f"{rate:g}" + (f"\n{lost} of {count}\ndiverged" if lost else ""))
    ax.set_xticks(rates, labels)
    ax.set_xticks([], minor=True)


def controls(results: Results[Params, Cell]) -> Iterator[Drawn]:
    """Draw the same noise at other times, of another kind or place, minus adaptive noise."""
    for optimizer in results.params.optimizers:
        rows = [
            Comparison(
                f"{NAMES.get(cell.model, cell.model)}, {CONTROL_NAMES[cell.kind]}",
                cell, replace(cell, kind="gaussian"), CONTROL_COLOURS[cell.kind],
            )
            for cell in control_cells(results)
            if cell.optimizer == optimizer
        ]  # fmt: skip
        title = f"Does timing matter? {OPTIMIZER_NAMES[optimizer]}: control minus adaptive Gaussian noise"
        alt = "Three controls of equal amount minus adaptive Gaussian noise."
        yield from _differences(results, rows, f"controls_{optimizer}", title, alt, paper=False)
