"""Figures of the ANL study: its noise, Table 1 as a picture, Figures 2 to 4 of the paper."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from noiseutils import plots
from noiseutils.evaluation.inspection import unpacked
from noiseutils.studies.adversarial_noise_layer.contrasts import BEST_EPSILON
from noiseutils.studies.adversarial_noise_layer.grid import METHODS, Cell
from noiseutils.studies.adversarial_noise_layer.params import Params
from noiseutils.studies.adversarial_noise_layer.parts import title_of
from noiseutils.studies.adversarial_noise_layer.tables import reported, sharpness_by_seed, similarities
from noiseutils.studies.output import Drawn
from noiseutils.studies.results import CLEAN, Results, select

COLOURS = {
    "baseline": plots.GREY, "baseline_switch": plots.GREY, "gaussian": plots.ORANGE, "lat": plots.SKY,
    "anl": plots.BLUE, "canl": plots.GREEN, "anl_negative": plots.VERMILION, "anl_unscaled": plots.PURPLE,
    "dropout": plots.ORANGE, "dropout_switch": plots.ORANGE, "at": plots.VERMILION,
}  # fmt: skip
FIGURE_3 = ("baseline", "gaussian", "anl", "canl", "anl_negative")  # the paper's (a) to (e)
SHOWN_IMAGES = 2
NAMED_LAYERS = 4  # of Figure 2's lines, from the first layer to the last
TICKS = [m * 10.0**k for k in range(-4, 5) for m in (1, 2, 5)]


def construction(values: Mapping[str, Tensor]) -> Iterator[Drawn]:
    """Draw activations, their gradient, and the noise made of the gradient. values: name -> (H, W)."""
    figure, axes = plots.canvas(1, len(values), size=(2.6 * len(values), 2.6))
    for ax, (name, value) in zip(axes[0], values.items(), strict=True):
        top = float(value.abs().max()) or 1.0
        image = ax.imshow(value.numpy(), cmap="PuOr", vmin=-top, vmax=top)
        ax.set(xticks=[], yticks=[])
        ax.set_title(name, fontsize=9)
        ax.grid(False)
        figure.colorbar(image, ax=ax, shrink=0.75).ax.tick_params(labelsize=7)
    yield Drawn("construction", figure, "One activation map, its loss gradient and the noise along it.", ())


def similarity(results: Results[Params, Cell]) -> Iterator[Drawn]:
    """Draw Table 1 at every site: the cosine of class 0's gradients with its own and with other classes'."""
    found = similarities(results)
    if found.empty:
        return
    sites = list(dict.fromkeys(found.site))
    figure, axes = plots.canvas(size=(10.5, 4.2))
    ax = axes[0, 0]
    ax.axhline(0, color="#333333", linewidth=1)
    for at, site in enumerate(sites):
        each = np.stack(select(found, site=site).with_class.tolist())  # (seeds, classes)
        others, first = each.mean(0)[1:], at == 0
        look = {"color": plots.GREY, "label": "with another class, mean over seeds" if first else "_"}
        ax.plot(np.linspace(at + 0.05, at + 0.3, len(others)), others, ".", markersize=5, **look)
        own = {"color": plots.BLUE, "label": "with itself, one seed" if first else "_"}
        ax.plot(np.linspace(at - 0.25, at - 0.05, len(each)), each[:, 0], "o", markersize=5, **own)
    paper = select(reported(), table="table1").value.tolist()
    places = np.linspace(len(sites) - 0.2, len(sites) + 0.2, len(paper))
    plots.paper_points(ax, places, paper)
    ax.axvline(len(sites) - 0.5, color=plots.GREY, linewidth=0.8, linestyle=":")
    ax.set_xticks(range(len(sites) + 1), [*sites, "the paper,\nsite not said"])
    ax.set(ylabel="φ of class 0, mean over pairs of images", ylim=(None, 1))
    ax.set_xlabel("where the gradient is taken: outputs of LeNet-5's modules, from the image to the logits")
    text = "How alike class 0's loss gradients are: within it, and with other classes (Table 1)"
    ax.set_title(title_of(results, text, results.of(part="table1")), fontsize=10)
    figure.legend(loc="outside lower center", ncols=3)
    alt = "Mean cosine of class 0's loss gradients with its own and with other classes', site by site."
    yield Drawn("table_1_similarity", figure, alt, results.behind(found))


def activation_std(results: Results[Params, Cell]) -> Iterator[Drawn]:
    """Draw Figure 2: the activations' std over epochs, layer by layer."""
    for part, model in (("table2", "lenet5"), ("ablation", None), ("table2", None)):
        table = results.histories(part=part)
        if table.empty:
            continue
        for name in dict.fromkeys(table.model):
            if name == model or (model is None and name != "lenet5"):
                yield _activation_std(results, select(table, model=name), part, str(name))


def _activation_std(results: Results[Params, Cell], table: pd.DataFrame, part: str, model: str) -> Drawn:
    """Draw a panel a kind of training, a line a layer."""
    layers, methods = _layers(table, model), list(dict.fromkeys(table.method))
    across = min(3, len(methods))
    down = -(-len(methods) // across)
    size = (4.2 * across, 2.9 * down + 0.6)
    figure, axes = plots.canvas(down, across, size=size, sharey=True, sharex=True)
    for ax in axes.flat[len(methods) :]:
        ax.axis("off")
    for ax, method in zip(axes.flat, methods, strict=False):
        _std_lines(ax, select(table, method=method), layers)
        ax.set_title(METHODS[str(method)], fontsize=10)
        ax.set_xlabel("epoch")
        ax.tick_params(labelbottom=True)
        if ax in axes[:, 0]:
            ax.set_ylabel("std of the outputs")
    drawn = [np.asarray(line.get_ydata(), dtype=float) for ax in axes.flat for line in ax.get_lines()]
    low, high = np.nanmin(np.concatenate(drawn)), np.nanmax(np.concatenate(drawn))
    shown = [tick for tick in TICKS if low - 0.06 < np.log10(tick) < high + 0.06]
    axes[0, 0].set_yticks(np.log10(shown), [f"{tick:g}" for tick in shown])
    axes[0, 0].set_ylim(low - 0.06, high + 0.06)
    for ax in axes.flat[: len(methods)]:
        lines = {str(line.get_label()): line for line in ax.get_lines() if line.get_label()[0] != "_"}
        ends = {n: (x.get_xdata()[-1], x.get_ydata()[-1], x.get_color()) for n, x in lines.items()}
        plots.label_ends(ax, ends)
    cells = results.of(part=part, model=model)
    text = f"Std of the outputs, layer by layer (Figure 2): {model}, means over seeds"
    figure.suptitle(title_of(results, text, cells), fontsize=11)
    stem = "figure_02_activation_std" + ("" if model == "lenet5" else f"_{part}_{model}")
    alt = f"Standard deviation of the outputs of {model}'s layers over epochs, a panel a kind of training."
    return Drawn(stem, figure, alt, results.behind(table))


def _layers(table: pd.DataFrame, model: str) -> list[str]:
    """Return the columns of the layers that are drawn, from the image on: where noise goes, and beyond."""
    marks = ("conv", "fc") if model == "lenet5" else ("bn", "downsample.1", "norm")
    columns = [c for c in table.columns if c.startswith("activation_std.")]
    columns = [c for c in columns if bool(table[c].notna().to_numpy().any())]
    layers = [c for c in columns if any(m in c.rpartition("std.")[2].rsplit(".", 1)[-1] for m in marks)]
    return layers or columns


def _std_lines(ax: Axes, rows: pd.DataFrame, layers: Sequence[str]) -> None:
    """Draw means over seeds, dark to light with depth; bands of so many layers would hide one another."""
    named = {layers[i] for i in np.linspace(0, len(layers) - 1, min(NAMED_LAYERS, len(layers))).astype(int)}
    for column, colour in zip(layers, plots.shades(len(layers)), strict=True):
        means = plots.summary(rows, ("epoch",), column)
        style = "o-" if len(means) <= 10 else "-"
        label = column.removeprefix("activation_std.") if column in named else "_"
        width = 1.8 if column in named else 0.9
        y = np.log10(means["mean"].where(means["mean"] > 0))
        ax.plot(means["epoch"], y, style, color=colour, label=label, markersize=3.5, linewidth=width)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def feature_maps(results: Results[Params, Cell]) -> Iterator[Drawn]:
    """Draw Figure 3: the first feature maps of the five trainings, same initial weights, same test images."""
    found, behind = {}, {}  # by method
    for (cell, seed), result in results.by_cell.items():
        stored = result.metrics.get("feature_maps") if cell.part == "table2" and seed == 0 else None
        if cell.model == "lenet5" and stored:
            sharp = f"\nsharpness {sharpness_by_seed(results, cell)[0]:.4f}"
            found[cell.method] = (METHODS[cell.method] + sharp, *map(unpacked, stored.values()))
            behind[cell.method] = result
    shown = [method for method in (*FIGURE_3, "lat") if method in found]
    if not shown:
        return
    _, images, maps = found[shown[0]]
    count, channels = min(SHOWN_IMAGES, len(images)), maps.shape[1]
    rows, columns = len(shown), count * (channels + 1)
    figure, axes = plots.canvas(size=(0.8 * columns + 1.4, 0.82 * rows + 0.7))
    ax = axes[0, 0]  # one for all: some hundred axes would take seconds to lay out
    for row, method in enumerate(shown):
        _, images, maps = found[method]
        for image in range(count):
            left = image * (channels + 1)
            tile = images[image].transpose(1, 2, 0).squeeze()
            ax.imshow(tile, cmap="gray", extent=_tile(row, left))
            for channel in range(channels):
                place = _tile(row, left + 1 + channel)
                ax.imshow(maps[image, channel], cmap="viridis", vmin=0, vmax=255, extent=place)
    ax.set(xlim=(0, columns), ylim=(rows, 0), xticks=[])
    ax.set_yticks([row + 0.5 for row in range(rows)], [found[method][0] for method in shown], fontsize=9)
    ax.tick_params(length=0)
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set_visible(False)
    text = "First convolution's outputs, dark 0 to light 1 (Figure 3): sharpness is the mean gradient"
    cells = results.of(part="table2", model="lenet5")
    title = title_of(results, text, cells, ("seed 0", f"sharpness over {len(images)} images"))
    figure.suptitle(title, fontsize=10)
    alt = "A row a training: test images, each followed by the sigmoid of the first convolution's outputs."
    yield Drawn("figure_03_feature_maps", figure, alt, [behind[method] for method in shown])


def _tile(row: int, column: int, gap: float = 0.04) -> tuple[float, float, float, float]:
    """Return the extent of an image in a grid of cells 1 a side: left, right, bottom, top; y points down."""
    return column + gap, column + 1 - gap, row + 1 - gap, row + gap


def error_over_epsilon(results: Results[Params, Cell]) -> Iterator[Drawn]:
    """Draw Figure 4: test error over epsilon, with the errors without noise as dashed and dotted lines."""
    table = select(results.frame, part="figure4", **CLEAN)
    table = table.assign(error=100 * table.top1_error)
    models = list(dict.fromkeys(select(table, method="anl").model))
    if not models:
        return
    figure, axes = plots.canvas(1, len(models), size=(5.2 * len(models) + 0.6, 3.8))
    for ax, model in zip(axes[0], models, strict=True):
        _epsilon_panel(ax, select(table, model=model), model)
    text = "Where over ε the error is lowest (Figure 4)"
    figure.suptitle(title_of(results, text, results.of(part="figure4")), fontsize=11)
    alt = "Test error of ANL over epsilon; lines: without noise, and the epsilon that the paper names."
    shown = results.behind(select(table, model=tuple(models)))
    yield Drawn("figure_04_error_over_epsilon", figure, alt, shown)


def _epsilon_panel(ax: Axes, table: pd.DataFrame, model: str) -> None:
    noisy = select(table, method="anl")
    plots.band(ax, noisy, x="epsilon", value="error", colour=plots.BLUE, label="ANL")
    for method, colour, dash in (("baseline", plots.VERMILION, "--"), ("baseline_switch", plots.GREY, "-.")):
        if len(plain := select(table, method=method)):
            mean = plain.error.mean()
            ax.axhline(mean, color=colour, linestyle=dash, linewidth=1.4, label=METHODS[method])
    if model in BEST_EPSILON:
        label = f"the paper's best ε, {BEST_EPSILON[model]:g}"
        ax.axvline(BEST_EPSILON[model], color="black", linestyle=":", linewidth=1.4, label=label)
    places = sorted(set(noisy.epsilon))
    plots.log_scale(ax, "x")
    ax.set_xticks(places, [f"{place:g}" for place in places])
    ax.set_xticks([], minor=True)
    low, high = ax.get_ylim()  # an interval may leave what an error can be
    ax.set(xlabel="ε", ylabel="top-1 error (%)", ylim=(max(low, 0), min(high, 100)))
    ax.set_title(model, fontsize=10)
    ax.legend(fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.16))
