"""Figures of robustness in the ANL study: Table 4 over the attack's size, and stronger attacks."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from matplotlib.axes import Axes

from noiseutils import plots
from noiseutils.studies.adversarial_noise_layer.attacks import ATTACKS, accuracy_table
from noiseutils.studies.adversarial_noise_layer.figures import COLOURS
from noiseutils.studies.adversarial_noise_layer.grid import METHODS, TABLE_4, Cell
from noiseutils.studies.adversarial_noise_layer.params import Params
from noiseutils.studies.adversarial_noise_layer.parts import title_of
from noiseutils.studies.adversarial_noise_layer.reported import paper_value
from noiseutils.studies.output import Drawn
from noiseutils.studies.results import Record, Results, select

MARKERS = {"baseline": "o", "anl": "s", "canl": "^", "at": "X"}
DASHES = ("-", "--", ":")


def robustness(results: Results[Params, Cell]) -> Iterator[Drawn]:
    """Draw Table 4: accuracy over FGSM's size, a row a schedule, a panel a kind of training."""
    rows = select(results.frame, part=tuple(TABLE_4.values()), statistics="trained")
    parts = [part for part in TABLE_4.values() if part in set(rows.part)]
    if not parts:
        return
    figure, axes = plots.canvas(len(parts), 3, size=(11.5, 3.4 * len(parts) + 0.6), sharex=True, sharey=True)
    for line, part in zip(axes, parts, strict=True):
        for ax, method in zip(line, ("at", "anl", "canl"), strict=True):
            for cell in results.of(part=part, method="baseline") + results.of(part=part, method=method):
                _over_delta(ax, results, cell)
            said = "noise to the end" if part == "table4" else "two phases"
            ax.set_title(f"{METHODS[method]}, {said}", fontsize=10)
            ax.legend(fontsize=7.5)
    for ax in axes[:, 0]:
        ax.set_ylabel("accuracy (%)")
    for ax in axes[-1]:
        ax.set_xlabel("FGSM size δ (255ths of the pixel range)")
    cells = [cell for part in parts for cell in results.of(part=part)]
    printed = any(paper_value(results, cell, 8.0) is not None for cell in cells)
    text = "Accuracy under FGSM (Table 4)" + "; hollow diamonds: the paper's" * printed
    figure.suptitle(title_of(results, text, cells), fontsize=11)
    alt = "Accuracy over the size of an FGSM attack, a line a network, with the paper's printed values."
    yield Drawn("table_4_fgsm", figure, alt, results.behind(rows))


def _over_delta(ax: Axes, results: Results[Params, Cell], cell: Cell) -> None:
    sizes = [0.0, *results.params.fgsm_255]
    conditions = [{"condition": "fgsm", "size": delta / 255} if delta else {} for delta in sizes]
    found = [list(results.values(cell, "top1_error", **condition).values()) for condition in conditions]
    if any(found):
        samples = [[100 * (1 - error) for error in errors] for errors in found]
        colour = COLOURS[cell.method]
        plots.series(ax, sizes, samples, colour=colour, label=network(cell), style=style(results, cell))
    paper = {delta: paper_value(results, cell, delta) for delta in (0.0, 2.0, 4.0, 6.0, 8.0)}
    printed = {delta: 100 * value for delta, value in paper.items() if value is not None}
    look = plots.PAPER_POINT | {"markeredgecolor": COLOURS[cell.method], "markersize": 6}
    look |= {"linestyle": style(results, cell)[1:], "linewidth": 0.6, "color": COLOURS[cell.method]}
    if printed and (results.params.fgsm_255 and max(results.params.fgsm_255) <= max(printed)):
        ax.plot(list(printed), list(printed.values()), **look)


def attacks(results: Results[Params, Cell], found: dict[tuple[Cell, int], Record]) -> Iterator[Drawn]:
    """Draw the attack reports: accuracy attack by attack, and over the attack's size down to 0 %."""
    if not found:
        return
    cells = list(dict.fromkeys(cell for cell, _ in found))
    seeds = len({seed for _, seed in found})
    images = max(report["settings"]["images"] for report in found.values())
    of = (f"{images} test images a network", f"{seeds} seed{'s' if seeds != 1 else ''}")
    table = select(accuracy_table(found), attack=tuple(ATTACKS.values()))
    for delta in sorted(set(table.delta)):
        rows = select(table, delta=delta)
        names = [name for name in ATTACKS.values() if name in set(rows.attack)]
        figure, axes = plots.canvas(size=(10, 4))
        ax = axes[0, 0]
        for cell in cells:
            mine = select(rows, method=METHODS[cell.method], epsilon=cell.epsilon)
            _over_attacks(ax, results, cell, mine, names)
        ax.set_xticks(range(len(names)), [name.replace(", ", ",\n") for name in names])
        ax.set(ylabel="accuracy (%)", ylim=(-2, 102), xlabel="attacks of growing strength")
        text = f"What is left under stronger attacks, δ = {delta:g}/255"
        ax.set_title(title_of(results, text, cells, of), fontsize=10)
        figure.legend(loc="outside right center", fontsize=9)
        alt = f"Accuracy of each network under attacks of growing strength, size {delta:g}/255."
        yield Drawn(f"attacks_{delta:g}_255", figure, alt, results.at(found))
    yield _down_to_zero(results, found, title_of(results, "PGD-20 down to 0 %", cells, of))


def _over_attacks(
    ax: Axes, results: Results[Params, Cell], cell: Cell, rows: pd.DataFrame, names: list[str]
) -> None:
    samples = [(100 * select(rows, attack=name).accuracy).tolist() for name in names]
    look = {"colour": COLOURS[cell.method], "label": network(cell), "style": style(results, cell)}
    plots.series(ax, range(len(names)), samples, **look)


def _down_to_zero(results: Results[Params, Cell], found: dict[tuple[Cell, int], Record], title: str) -> Drawn:
    figure, axes = plots.canvas(size=(8.5, 4))
    ax, named = axes[0, 0], set()
    for (cell, _), report in found.items():
        curve = report["curve"]
        ax.plot(
            [0.5, *(255 * d for d in curve["deltas"])],
            [100 * report["clean"]["accuracy"], *(100 * a for a in curve["accuracies"])],
            style(results, cell), color=COLOURS[cell.method], label="_" if cell in named else network(cell),
            markersize=4, linewidth=1.2,
        )  # fmt: skip
        named.add(cell)
    plots.log_scale(ax, "x", base=2)
    ticks = [0.5, *(2**i for i in range(8)), 255]
    ax.set_xticks(ticks, ["clean", *(f"{t:g}" for t in ticks[1:])])
    ax.set(xlabel="PGD-20 size δ (255ths of the pixel range)", ylabel="accuracy (%)", ylim=(-2, 102))
    ax.set_title(title, fontsize=10)
    figure.legend(loc="outside right center", fontsize=9)
    alt = "Accuracy under PGD-20 over its size, a line a network and seed, until 0 %."
    return Drawn("attacks_curve", figure, alt, results.at(found))


def network(cell: Cell) -> str:
    """Return a network of Table 4 in words; AT's epsilon in 255ths."""
    if cell.method == "at":
        return f"{METHODS['at']}, {255 * cell.epsilon:g}/255"
    return METHODS[cell.method] + (f", ε = {cell.epsilon:g}" if cell.epsilon else "")


def style(results: Results[Params, Cell], cell: Cell) -> str:
    """Return a marker for the method, and a dash for each of its epsilons, the largest without gaps."""
    alike = [c.epsilon for c in results.of(part=cell.part, method=cell.method)]
    return MARKERS[cell.method] + DASHES[sorted(alike, reverse=True).index(cell.epsilon) % len(DASHES)]
