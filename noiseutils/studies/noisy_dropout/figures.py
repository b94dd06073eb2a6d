"""Figures of the NoisyDropout study: Figures 3-11 of the paper, and what the paper only announces."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial

import pandas as pd
from matplotlib.axes import Axes
from torch import Tensor

from noiseutils import plots
from noiseutils.studies.noisy_dropout.grid import Cell
from noiseutils.studies.noisy_dropout.params import Params
from noiseutils.studies.noisy_dropout.tables import per_class_table
from noiseutils.studies.output import Drawn, title_of
from noiseutils.studies.results import Results, select

READING_NAMES = {
    "dropped": "noise in dropped neurons (text)",
    "all": "noise everywhere (Eq. 2)",
    "unscaled": "dropped, no 1/(1−p)",
    "printed": "everywhere, no 1/(1−p)",
}


PAPER_PROBABILITIES = (0.2, 0.25, 0.3)  # in the order of its figures
READING_COLOURS = {
    "dropped": plots.BLUE,
    "all": plots.GREEN,
    "unscaled": plots.ORANGE,
    "printed": plots.VERMILION,
}
READING_STYLES = {"dropped": "o-", "all": "s-", "unscaled": "o--", "printed": "s--"}


def layer(values: dict[str, Tensor]) -> Iterator[Drawn]:
    """Draw Figure 2 in numbers: one batch of activations, and the batch after each reading of the layer.

    values: name -> (rows, columns) activations; the first is the input.
    """
    figure, axes = plots.canvas(1, len(values), size=(10, 2.2), sharey=True)
    top = max(float(v.abs().max()) for v in values.values())
    for ax, (name, value) in zip(axes[0], values.items(), strict=True):
        image = ax.imshow(value.numpy(), cmap="PuOr", vmin=-top, vmax=top)
        ax.set(title=name, xticks=[], yticks=[])
        ax.grid(False)
    figure.colorbar(image, ax=axes[0].tolist(), shrink=0.8, label="activation")
    alt = "A batch of activations before and after each reading of the layer."
    yield Drawn("figure_02_layer", figure, alt, ())


def per_class(results: Results[Params, Cell]) -> Iterator[Drawn]:
    """Draw Figures 3-5: accuracy per class and noise level, one figure a dropout probability."""
    for number, p in _numbered(results, 3):
        table = per_class_table(results, p)
        if table.empty:
            continue
        shown = results.behind(table.assign(reading="dropped"))
        table["accuracy"] *= 100
        table, which = _few_classes(table)
        levels = sorted(table.level.unique())
        figure, axes = plots.canvas(size=(10, 3.8))
        ax = axes[0, 0]
        labels = {level: _level_name(level) for level in levels}
        plots.grouped_bars(
            ax, table, x="class", group="level", value="accuracy", labels=labels,
            colours=[plots.GREY, *plots.shades(len(levels) - 1)],
        )  # fmt: skip
        ax.set(
            ylabel="accuracy per class (%)",
            ylim=(0, 100),
            title=title_of(results, f"Per class, p = {p:g}{which}"),
        )
        ax.tick_params(axis="x", rotation=20)
        ax.legend(ncols=len(levels), loc="upper center", bbox_to_anchor=(0.5, -0.18), fontsize=9)
        yield Drawn(
            f"{number}per_class_p{p * 100:g}",
            figure,
            f"Bars of accuracy for each class at dropout probability {p:g}, one bar a noise level.",
            shown,
        )


def _few_classes(table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Cut a table of many classes down to its ten worst and ten best; return a note for the title, too."""
    order = table.groupby("class").accuracy.mean().sort_values(kind="stable").index.tolist()
    if len(order) <= 20:
        return table, ""
    shown = order[:10] + order[-10:]
    ranked = table.set_index("class").loc[shown].reset_index()
    return ranked, f", ten worst and ten best of {len(order)}"


def errors(results: Results[Params, Cell]) -> Iterator[Drawn]:
    """Draw Figures 6-8: top-1 and top-5 error over noise levels, one figure a dropout probability."""
    for number, p in _numbered(results, 6):
        table = _clean(results, p)
        if table.empty:
            continue
        figure, axes = plots.canvas(1, 2, size=(11, 3.6))
        for ax, quantity, name in ((axes[0, 0], "top1_error", "top-1"), (axes[0, 1], "top5_error", "top-5")):
            _by_reading(ax, results, table, quantity, "noise")
            ax.set(ylabel=f"{name} error (%)", xlabel="noise, share of the base std", ylim=(0, None))
        plots.shared_legend(figure, axes[0, 0], ncols=2)
        figure.suptitle(title_of(results, f"Errors, p = {p:g}"))
        yield Drawn(
            f"{number}errors_p{p * 100:g}",
            figure,
            f"Top-1 and top-5 error without noise and at each noise level, dropout probability {p:g}.",
            results.behind(table),
        )


def weighted_accuracy(results: Results[Params, Cell]) -> Iterator[Drawn]:
    """Draw Figures 9-11: weighted average accuracy over noise levels, with the no-noise line."""
    for number, p in _numbered(results, 9):
        table = _clean(results, p)
        if table.empty:
            continue
        figure, axes = plots.canvas(size=(9, 3.8))
        ax = axes[0, 0]
        _by_reading(ax, results, table.loc[table.level > 0], "weighted_accuracy", "std", inside=True)
        plain = select(table, level=0, reading="dropped")
        plots.no_noise_line(ax, plain.weighted_accuracy.tolist())
        ax.set(
            ylabel="weighted average accuracy (%)",
            xlabel="noise std",
            ylim=(0, 100),
            title=title_of(results, f"Weighted average accuracy, p = {p:g}"),
        )
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=3)
        yield Drawn(
            f"{number}weighted_accuracy_p{p * 100:g}",
            figure,
            f"Weighted average accuracy at each noise std, dropout probability {p:g}; dashed: no noise.",
            results.behind(table),
        )


def _by_reading(
    ax: Axes,
    results: Results[Params, Cell],
    table: pd.DataFrame,
    quantity: str,
    x: str,
    *,
    inside: bool = False,
) -> None:
    kinds = results.params.readings
    labels = {kind: READING_NAMES[kind] for kind in kinds}
    colours = [READING_COLOURS[kind] for kind in kinds]
    plots.grouped_bars(
        ax, table, x=x, group="reading", value=quantity, labels=labels, colours=colours, digits=1,
        inside=inside,
    )  # fmt: skip


def readings(results: Results[Params, Cell]) -> Iterator[Drawn]:
    """Draw the top-1 error over the noise level in the readings of the layer, beyond the paper."""
    probabilities = sorted(results.params.probabilities)
    figure, axes = plots.canvas(
        1, len(probabilities), size=(max(7, 3.4 * len(probabilities) + 1), 3.8), sharey=True
    )
    clean = select(results.frame, condition="clean", statistics="trained")
    for ax, p in zip(axes[0], probabilities, strict=True):
        for reading, name in READING_NAMES.items():
            rows = select(clean, p=p, reading=reading)
            if reading == "printed":  # without noise it is the unscaled one
                start = select(clean, p=p, level=0, reading="unscaled")
                rows = pd.concat([start, rows]) if len(rows) else rows
            if reading == "all":  # ordinary dropout is both readings' starting point
                rows = pd.concat([select(clean, p=p, level=0, reading="dropped"), rows])
            if len(rows):
                rows = rows.assign(error=rows.top1_error * 100, percent=rows.level * 100)
                plots.band(
                    ax, rows, x="percent", value="error", colour=READING_COLOURS[reading], label=name,
                    style=READING_STYLES[reading],
                )  # fmt: skip
        ax.set(xlabel="noise (% of the base std)", title=f"p = {p:g}")
    low, high = axes[0, 0].get_ylim()
    axes[0, 0].set(ylabel="top-1 error (%)", ylim=(max(low, 0), min(high, 100)))
    plots.shared_legend(figure, axes[0, 0], ncols=2)
    figure.suptitle(title_of(results, "Readings of NoisyDropout"))
    alt = "Top-1 error over the noise level, a line a reading, a panel a probability."
    yield Drawn("readings", figure, alt, results.behind(clean))


def robustness(results: Results[Params, Cell]) -> Iterator[Drawn]:
    """Draw the top-1 error over FGSM size and input noise: as the paper announces."""
    probabilities, kinds = sorted(results.params.probabilities), results.params.readings
    for condition, unit, scale, title in (
        ("fgsm", "FGSM size (255ths of the pixel range)", 255, "Under attack"),
        ("gaussian_noise", "std of Gaussian noise on the image, pixels in [0, 1]", 1, "On noisy images"),
    ):
        kept = select(results.frame, condition=("clean", condition), statistics="trained")
        if condition not in set(kept.condition):
            continue
        kept = kept.assign(error=kept.top1_error * 100, size=kept["size"] * scale)
        size = (max(7, 3.2 * len(probabilities) + 1.5), 2.9 * len(kinds) + 0.8)
        figure, axes = plots.canvas(len(kinds), len(probabilities), size=size, sharex=True, sharey=True)
        levels = sorted(kept[kept.reading != "unscaled"].level.unique())
        colours = [plots.GREY, *plots.shades(len(levels) - 1)]
        for (row, kind), (column, p) in itertools.product(enumerate(kinds), enumerate(probabilities)):
            ax = axes[row, column]
            for level, colour, style in zip(levels, colours, plots.styles(len(levels)), strict=True):
                reading = kind if level else "dropped"
                rows = select(kept, p=p, level=level, reading=reading)
                if len(rows):
                    name = _level_name(level)
                    plots.band(ax, rows, x="size", value="error", colour=colour, label=name, style=style)
            ax.set(title=f"p = {p:g}, {READING_NAMES[kind]}", ylim=(0, 100))
            ax.title.set_fontsize(9)
        figure.supylabel("top-1 error (%)", fontsize=10)
        figure.supxlabel(unit, fontsize=10)
        plots.shared_legend(figure, axes[0, 0], "right center", title="training noise")
        figure.suptitle(title_of(results, title))
        name = "robustness_fgsm" if condition == "fgsm" else "robustness_input_noise"
        alt = f"Top-1 error over the {unit}, a line a training noise level."
        drawn = select(kept, reading=("dropped", *kinds))
        yield Drawn(name, figure, alt, results.behind(drawn))


def curves(results: Results[Params, Cell]) -> Iterator[Drawn]:
    """Draw training and test loss, gradient norm, and the std after the last noisy layer over epochs."""
    middle = sorted(results.params.probabilities)[len(results.params.probabilities) // 2]
    table = results.histories(p=middle, reading="dropped")
    if table.empty:
        return
    levels = sorted(table.level.unique())
    shown = [levels[0], *levels[-1:]] if len(levels) > 1 else levels
    figure, axes = plots.canvas(1, 3, size=(11, 3.3))
    colours = [plots.GREY, plots.BLUE]
    stds = [c for c in table.columns if c.startswith("activation_std.conv")] or [
        c for c in table.columns if c.startswith("activation_std.")
    ]
    for level, colour in zip(shown, colours, strict=False):
        draw = partial(plots.band, table=select(table, level=level), x="epoch", colour=colour)
        name = _level_name(level)
        draw(axes[0, 0], value="train_loss", label=f"{name}, train", style=".--")
        draw(axes[0, 0], value="test_loss", label=f"{name}, test", style=".-")
        draw(axes[0, 1], value="gradient_norm", label=name, style=".-")
        draw(axes[0, 2], value=stds[-1], label=name, style=".-")
    axes[0, 0].set(title="loss", xlabel="epoch")
    axes[0, 1].set(title="gradient norm", xlabel="epoch")
    axes[0, 2].set(title=f"activation std, {stds[-1].removeprefix('activation_std.')}", xlabel="epoch")
    axes[0, 0].legend(fontsize=8)
    axes[0, 1].legend(fontsize=8)
    figure.suptitle(title_of(results, f"Training, p = {middle:g}"))
    yield Drawn(
        "training_curves",
        figure,
        "Loss, gradient norm and activation std over epochs, with and without noise.",
        results.behind(select(table, level=tuple(shown))),
    )


def _clean(results: Results[Params, Cell], p: float) -> pd.DataFrame:
    """Return clean results at one probability, in percent; ordinary dropout stands under every reading."""
    readings_kept = ("dropped", *results.params.readings)
    kept = select(results.frame, p=p, condition="clean", statistics="trained", reading=readings_kept)
    plain = select(kept, level=0)
    kept = pd.concat(
        [kept, *(plain.assign(reading=kind) for kind in results.params.readings if kind != "dropped")]
    )
    shares = {name: kept[name] * 100 for name in ("top1_error", "top5_error", "weighted_accuracy")}
    kept = kept.assign(**shares, std=(kept.level * results.params.base_std).map("{:.6g}".format))
    return kept.assign(noise=kept.level.map(_level_name)).sort_values("level", kind="stable")


def _numbered(results: Results[Params, Cell], first: int) -> Iterator[tuple[str, float]]:
    """Yield the probabilities and how their files begin: with the paper's figure number where it has one."""
    for p in sorted(results.params.probabilities):
        number = f"figure_{first + PAPER_PROBABILITIES.index(p):02d}_" if p in PAPER_PROBABILITIES else ""
        yield number, p


def _level_name(level: float) -> str:
    return "no noise" if level == 0 else f"{level * 100:g} %"
