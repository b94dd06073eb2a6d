"""Figures of the ANL study: Figures 2 to 4 of the paper, its Tables 1 and 4 as pictures, and attacks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd
from torch import Tensor

from noiseutils import plots
from noiseutils.evaluation.inspection import unpacked
from noiseutils.studies.adversarial_noise_layer.attacks import ATTACKS, accuracy_table
from noiseutils.studies.adversarial_noise_layer.grid import METHODS, Cell, label_of
from noiseutils.studies.adversarial_noise_layer.params import Params
from noiseutils.studies.adversarial_noise_layer.parts import seeds_of
from noiseutils.studies.adversarial_noise_layer.tables import similarities
from noiseutils.studies.output import Drawn, figure_title, origin
from noiseutils.studies.results import CLEAN, Record, Results, select

COLOURS = {
    "baseline": plots.GREY, "gaussian": plots.ORANGE, "lat": plots.SKY, "anl": plots.BLUE,
    "canl": plots.GREEN, "anl_negative": plots.VERMILION, "anl_unscaled": plots.PURPLE,
    "dropout": plots.ORANGE, "at": plots.VERMILION,
}  # fmt: skip
MARKERS = {
    "baseline": "o", "gaussian": "D", "lat": "v", "anl": "s", "canl": "^", "anl_negative": "X",
    "anl_unscaled": "*", "dropout": "D", "at": "X",
}  # fmt: skip
FIGURE_3 = ("baseline", "gaussian", "anl", "canl", "anl_negative")  # the paper's (a) to (e)
SHOWN_IMAGES = 3


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
    """Draw Table 1 at every site: how alike gradients are within a class and between classes."""
    found = similarities(results)
    if found.empty:
        return
    pairs = {
        "same_class": "same class",
        "other_class": "other classes, mean",
        "greatest_other": "other classes, greatest",
    }
    table = found.melt(["site", "seed"], list(pairs), "pair", "phi")
    figure, axes = plots.canvas(size=(9.5, 3.8))
    ax = axes[0, 0]
    colours = [plots.BLUE, plots.GREY, plots.ORANGE]
    plots.grouped_bars(ax, table, x="site", group="pair", value="phi", labels=pairs, colours=colours)
    ax.axhline(
        0.77,
        color=plots.VERMILION,
        linestyle="--",
        linewidth=1.3,
        label="the paper's 0.77: class 0 of MNIST, at a layer it does not name",
    )
    title = _title(results, "Cosine of loss gradients (Table 1)", "table1")
    ax.set(ylabel="φ, mean over pairs of images", ylim=(min(0.0, table.phi.min() - 0.05), 1), title=title)
    ax.set_xlabel("where the gradient is taken: outputs of LeNet-5's modules, from the image to the logits")
    figure.legend(loc="outside lower center", ncols=4)
    alt = "Mean cosine of loss gradients of two images, of one class and of different classes, site by site."
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
    kind = "BatchNorm" if model != "lenet5" else "conv"
    marks = {"BatchNorm": ("bn", "downsample.1", "norm"), "conv": ("conv", "fc")}[kind]
    columns = [c for c in table.columns if c.startswith("activation_std.")]
    columns = [c for c in columns if bool(table[c].notna().to_numpy().any())]
    layers = [c for c in columns if any(m in c.rpartition("std.")[2].rsplit(".", 1)[-1] for m in marks)]
    layers = layers or columns
    methods = list(dict.fromkeys(table.method))
    across = min(3, len(methods))
    down = -(-len(methods) // across)
    figure, axes = plots.canvas(
        down, across, size=(3.6 * across + 1.4, 2.7 * down + 0.5), sharey=True, sharex=True
    )
    for ax in axes.flat[len(methods) :]:
        ax.axis("off")
    for ax, method in zip(axes.flat, methods, strict=False):
        rows = select(table, method=method)
        ways = zip(layers, plots.shades(len(layers)), plots.styles(len(layers)), strict=True)
        for column, colour, style in ways:
            means = plots.summary(rows, ("epoch",), column)  # bands of so many layers would hide one another
            name = column.removeprefix("activation_std.")
            ax.plot(
                means["epoch"], means["mean"], style, color=colour, label=name, markersize=4, markevery=0.1
            )
        ax.set_title(METHODS[str(method)], fontsize=10)
        ax.set(yscale="log", xlabel="epoch")
        ax.xaxis.get_major_locator().set_params(integer=True)
        if ax in axes[:, 0]:
            ax.set_ylabel("std of the outputs")
    columns_shown = 1 if len(layers) <= 20 else 2
    plots.shared_legend(figure, axes[0, 0], "right center", fontsize=8, title="layer", ncols=columns_shown)
    figure.suptitle(_title(results, f"Activation std over epochs, {model}, means", part, model=model))
    stem = "figure_02_activation_std" + ("" if model == "lenet5" else f"_{part}_{model}")
    alt = f"Standard deviation of the outputs of {model}'s layers over epochs, a panel a kind of training."
    return Drawn(stem, figure, alt, results.behind(table))


def feature_maps(results: Results[Params, Cell]) -> Iterator[Drawn]:
    """Draw Figure 3: the first feature maps of the five trainings, same initial weights, same test images."""
    found, behind = {}, {}  # by method
    for (cell, _), result in results.by_cell.items():
        if cell.part == "table2" and cell.model == "lenet5" and "feature_maps" in result.metrics:
            stored = result.metrics["feature_maps"]
            found.setdefault(cell.method, (unpacked(stored["images"]), unpacked(stored["maps"])))
            behind.setdefault(cell.method, result)
    shown = [method for method in (*FIGURE_3, "lat") if method in found]
    if not shown:
        return
    images, maps = found[shown[0]]
    count, channels = min(SHOWN_IMAGES, len(images)), maps.shape[1]
    rows, columns = len(shown), count * (channels + 1)
    figure, axes = plots.canvas(size=(0.58 * columns + 1.2, 0.62 * rows + 0.6))
    ax = axes[0, 0]  # one for all: some hundred axes would take seconds to lay out
    for row, method in enumerate(shown):
        images, maps = found[method]
        for image in range(count):
            left = image * (channels + 1)
            tile = images[image].transpose(1, 2, 0).squeeze()
            ax.imshow(tile, cmap="gray", extent=_tile(row, left))
            for channel in range(channels):
                place = _tile(row, left + 1 + channel)
                ax.imshow(maps[image, channel], cmap="viridis", vmin=0, vmax=255, extent=place)
    ax.set(xlim=(0, columns), ylim=(rows, 0), xticks=[])
    ax.set_yticks([row + 0.5 for row in range(rows)], [METHODS[method] for method in shown], fontsize=9)
    ax.tick_params(length=0)
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set_visible(False)
    images_of = origin(label_of(results.params, results.of(part="table2", model="lenet5")[0]))
    figure.suptitle(f"Feature maps of the first convolution  ·  {images_of}, seed 0", fontsize=10)
    alt = "A row a training: test images, each followed by the sigmoid of the first convolution's outputs."
    yield Drawn("figure_03_feature_maps", figure, alt, [behind[method] for method in shown])


def _tile(row: int, column: int, gap: float = 0.04) -> tuple[float, float, float, float]:
    """Return the extent of an image in a grid of cells 1 a side: left, right, bottom, top; y points down."""
    return column + gap, column + 1 - gap, row + 1 - gap, row + gap


def error_over_epsilon(results: Results[Params, Cell]) -> Iterator[Drawn]:
    """Draw Figure 4: test error over epsilon, with the baseline's as a dashed line."""
    table = select(results.frame, part="figure4", **CLEAN)
    table = table.assign(error=100 * table.top1_error)
    models = list(dict.fromkeys(select(table, method="anl").model))
    if not models:
        return
    figure, axes = plots.canvas(1, len(models), size=(4.6 * len(models) + 0.6, 3.4))
    for ax, model in zip(axes[0], models, strict=True):
        noisy, plain = (select(table, model=model, method=method) for method in ("anl", "baseline"))
        plots.band(ax, noisy, x="epsilon", value="error", colour=plots.BLUE, label="ANL, by ε")
        if len(plain):
            plots.no_noise_line(ax, plain.error.tolist())
        low, high = ax.get_ylim()  # an interval may leave what an error can be
        ax.set(xlabel="ε", ylabel="top-1 error (%)", ylim=(max(low, 0), min(high, 100)))
        ax.set_title(model, fontsize=10)
        ax.legend(fontsize=8)
    figure.suptitle(_title(results, "Error over ε", "figure4"))
    alt = "Test error of ANL over epsilon; dashed: no noise."
    shown = results.behind(select(table, model=tuple(models)))
    yield Drawn("figure_04_error_over_epsilon", figure, alt, shown)


def errors(results: Results[Params, Cell], part: str) -> Iterator[Drawn]:
    """Draw Tables 2 and 3: each kind of training minus the baseline, seed by seed."""
    clean = select(results.frame, part=part, **CLEAN)
    plain = select(clean, method="baseline")
    pairs = clean.merge(plain, on=["data", "model", "seed"], suffixes=("", "_plain"))
    table = pairs[pairs.method != "baseline"]
    if table.empty:
        return
    names = {c: f"{c.model}\n{origin(label_of(results.params, c))}" for c in results.of(part=part)}
    places = {(cell.data, cell.model): name for cell, name in names.items()}
    table = table.assign(
        place=[places[place] for place in zip(table["data"], table.model, strict=True)],
        difference=100 * (table.top1_error - table.top1_error_plain),
    )
    methods = [m for m in METHODS if m in set(table.method)]
    figure, axes = plots.canvas(size=(max(7, 1.6 * len(set(table.place)) + 3), 3.6))
    ax = axes[0, 0]
    plots.grouped_bars(
        ax, table, x="place", group="method", value="difference",
        labels={m: METHODS[m] for m in methods}, colours=[COLOURS[m] for m in methods],
    )  # fmt: skip
    ax.axhline(0, color="#333333", linewidth=0.8)
    ax.set_yscale("symlog", linthresh=2)  # a negative epsilon costs tens of points, the others one or two
    ax.yaxis.set_major_formatter("{x:g}")
    number, seeds = part.removeprefix("table"), seeds_of(results, part)
    ax.set_ylabel("top-1 error minus no noise (points)")
    ax.set_title(f"Table {number}: below zero is better  ·  {seeds} seed{'s' if seeds != 1 else ''}")
    figure.legend(loc="outside lower center", ncols=min(5, len(methods)))
    alt = "Bars of the difference in test error against the training without noise, paired over seeds."
    shown = results.behind(pd.concat([table, table.assign(method="baseline", epsilon=0.0)]))
    yield Drawn(f"table_{number}_errors", figure, alt, shown)


def robustness(results: Results[Params, Cell]) -> Iterator[Drawn]:
    """Draw Table 4: accuracy over FGSM's size, a line a network."""
    rows = select(results.frame, part="table4", statistics="trained")
    if rows.empty:
        return
    figure, axes = plots.canvas(size=(7.5, 3.8))
    ax = axes[0, 0]
    for cell in results.of(part="table4"):
        mine = select(rows, method=cell.method, epsilon=cell.epsilon)
        if len(mine):
            mine = mine.assign(accuracy=100 * (1 - mine.top1_error), delta=mine["size"] * 255)
            plots.band(
                ax, mine, x="delta", value="accuracy", colour=COLOURS[cell.method], label=_network(cell),
                style=_style(results, cell),
            )  # fmt: skip
    ax.set(xlabel="FGSM size δ (255ths of the pixel range)", ylabel="accuracy (%)", ylim=(0, 100))
    ax.set_title(_title(results, "Under FGSM (Table 4)", "table4"))
    figure.legend(loc="outside right center", fontsize=9)
    alt = "Accuracy over the size of an FGSM attack, a line a network."
    yield Drawn("table_4_fgsm", figure, alt, results.behind(rows))


def attacks(results: Results[Params, Cell], found: dict[tuple[Cell, int], Record]) -> Iterator[Drawn]:
    """Draw the attack reports: accuracy attack by attack, and over the attack's size down to 0 %."""
    if not found:
        return
    table = accuracy_table(found)
    table = select(table, attack=tuple(ATTACKS.values()))
    seeds = len({seed for _, seed in found})
    methods = {_network(c): COLOURS[c.method] for c, _ in found}
    table = table.assign(
        network=[f"{m}, ε = {e:g}" if e else m for m, e in zip(table.method, table.epsilon, strict=True)],
        percent=100 * table.accuracy,
    )
    for delta in sorted(set(table.delta)):
        figure, axes = plots.canvas(size=(11, 3.8))
        ax = axes[0, 0]
        rows = select(table, delta=delta)
        plots.grouped_bars(
            ax, rows, x="attack", group="network", value="percent",
            labels={name: name for name in methods}, colours=_distinct(list(methods.values())),
        )  # fmt: skip
        title = _title(results, f"Under stronger attacks, δ = {delta:g}/255", "table4", seeds)
        ax.set(ylabel="accuracy (%)", ylim=(0, 100), title=title)
        figure.legend(loc="outside lower center", ncols=3)
        alt = f"Accuracy of each network under attacks of growing strength, size {delta:g}/255."
        yield Drawn(f"attacks_{delta:g}_255", figure, alt, results.at(found))
    figure, axes = plots.canvas(size=(7.5, 3.8))
    ax = axes[0, 0]
    for (network, _), report in found.items():
        curve = report["curve"]
        ax.plot(
            [0.5, *(255 * d for d in curve["deltas"])],
            [100 * report["clean"]["accuracy"], *(100 * a for a in curve["accuracies"])],
            _style(results, network), color=COLOURS[network.method], label=_network(network), markersize=4,
        )  # fmt: skip
    ax.set_xscale("log", base=2)
    ticks = [0.5, *(2**i for i in range(8)), 255]
    ax.set_xticks(ticks, ["clean", *(f"{t:g}" for t in ticks[1:])])
    ax.set(xlabel="PGD-20 size δ (255ths of the pixel range)", ylabel="accuracy (%)", ylim=(0, 100))
    ax.set_title(_title(results, "Down to 0 %", "table4", seeds))
    figure.legend(loc="outside right center", fontsize=9)
    alt = "Accuracy under PGD-20 over its size, a line a network, until 0 %."
    yield Drawn("attacks_curve", figure, alt, results.at(found))


def _network(cell: Cell) -> str:
    return METHODS[cell.method] + (f", ε = {cell.epsilon:g}" if cell.epsilon else "")


def _style(results: Results[Params, Cell], cell: Cell) -> str:
    """Return a marker for the method; dashed for the smaller epsilon of a method that is there twice."""
    twins = [c.epsilon for c in results.of(part=cell.part, method=cell.method)]
    return MARKERS[cell.method] + ("--" if len(twins) > 1 and cell.epsilon == min(twins) else "-")


def _distinct(colours: list[str]) -> list:
    """Return colours, the first of two equal ones lighter."""
    return [(c, 0.5) if c in colours[i + 1 :] else c for i, c in enumerate(colours)]


def _title(results: Results[Params, Cell], text: str, part: str, seeds: int = 0, **equal: str) -> str:
    """Return the title of a figure of some cells of one part; seeds: those shown, by default all of them."""
    cell = results.of(part=part, **equal)[0]
    return figure_title(text, label_of(results.params, cell), seeds or seeds_of(results, part))
