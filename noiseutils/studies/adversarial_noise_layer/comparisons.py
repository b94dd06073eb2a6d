"""Tables 2 and 3 and the ablation as pictures: kinds of training in pairs, seed by seed."""

from __future__ import annotations

from collections.abc import Iterator

from noiseutils import plots
from noiseutils.studies.adversarial_noise_layer.figures import COLOURS
from noiseutils.studies.adversarial_noise_layer.grid import METHODS, Cell, label_of
from noiseutils.studies.adversarial_noise_layer.params import Params
from noiseutils.studies.adversarial_noise_layer.parts import title_of
from noiseutils.studies.adversarial_noise_layer.reported import paper_value
from noiseutils.studies.output import Drawn, origin
from noiseutils.studies.results import Results

PAPERS_WAY, EQUAL = (
    "minus no noise,\nas the paper compares",
    "minus no noise\nwith the same switch of the rate",
)
# a part -> its columns of panels: the rival, the kinds of training set against it, and what the axis says
COLUMNS = {
    "table2": (
        ("baseline", ("gaussian", "lat", "anl", "canl"), "minus no noise"),
        ("baseline", ("anl_negative",), "minus no noise"),
    ),
    "table3": (
        ("baseline", ("baseline_switch", "dropout", "anl", "canl"), PAPERS_WAY),
        ("baseline_switch", ("dropout_switch", "anl", "canl"), EQUAL),
    ),
    "ablation": (
        ("baseline", ("baseline_switch", "anl_unscaled", "anl"), PAPERS_WAY),
        ("baseline_switch", ("anl_unscaled", "anl"), EQUAL),
    ),
}
NAMES = {"table2": "table_2_errors", "table3": "table_3_errors", "ablation": "ablation_errors"}
TITLES = {
    "table2": "Left of zero is better than no noise (Table 2)",
    "table3": "Left of zero is better than no noise (Table 3); the rate's switch has a share of its own",
    "ablation": "What scaling the noise by s(h) brings",
}


def errors(results: Results[Params, Cell], part: str) -> Iterator[Drawn]:
    """Draw a table as paired differences of the top-1 error, a panel a network; Table 3 by set of images."""
    sets = list(dict.fromkeys(cell.data for cell in results.of(part=part)))
    groups = [(data,) for data in sets] if part == "table3" else [tuple(sets)]
    for group in groups:
        cells = [c for c in results.of(part=part) if c.data in group and results.values(c, "top1_error")]
        networks = list(dict.fromkeys((c.data, c.model) for c in cells))
        if any(cell.method != "baseline" for cell in cells):
            end = "" if group == groups[0] else f"_{label_of(results.params, cells[0])}"
            yield _figure(results, part, networks, cells, NAMES[part] + end)


def _figure(
    results: Results[Params, Cell], part: str, networks: list[tuple[str, str]], cells: list[Cell], name: str
) -> Drawn:
    methods_here = {cell.method for cell in cells}
    columns = [column for column in COLUMNS[part] if methods_here & set(column[1])]
    most = max(len(methods) for _, methods, _ in columns)
    size = (10.5, (0.33 * most + 0.45) * len(networks) + 1.3)
    ratios = {"width_ratios": [2, 1 if part == "table2" else 2][: len(columns)]}
    figure, axes = plots.canvas(len(networks), len(columns), size=size, sharex="col", gridspec_kw=ratios)
    for row, (data, model) in enumerate(networks):
        here = [cell for cell in cells if (cell.data, cell.model) == (data, model)]
        for ax, (rival, methods, said) in zip(axes[row], columns, strict=True):
            effects = _effects(results, here, rival, methods)
            plots.effects(ax, effects, f"top-1 error (points), {said}" if row == len(networks) - 1 else "")
        axes[row, 0].set_title(
            f"{model}, {origin(label_of(results.params, here[0]))}", fontsize=10, loc="left"
        )
    figure.suptitle(title_of(results, TITLES[part], cells), fontsize=11)
    plots.effects_legend(figure)
    alt = "Differences in test error against the training without noise, paired over seeds."
    return Drawn(name, figure, alt, results.at((c, s) for c, s in results.by_cell if c in cells))


def _effects(
    results: Results[Params, Cell], cells: list[Cell], rival: str, methods: tuple[str, ...]
) -> list[plots.Effect]:
    """Return a row a method: differences over paired seeds, and the paper's where it compares so."""
    by_method = {cell.method: cell for cell in cells}
    plain, rows = results.values(by_method.get(rival), "top1_error"), []
    for method in methods:
        cell = by_method.get(method)
        values = results.values(cell, "top1_error")
        found = [100 * (values[seed] - plain[seed]) for seed in values if seed in plain]
        paper = None
        if rival == "baseline" and cell is not None and rival in by_method:
            own, other = (paper_value(results, c) for c in (cell, by_method[rival]))
            paper = None if own is None or other is None else 100 * (own - other)
        lost = results.diverged(cell) if cell else 0
        note = f"{lost} diverged" if lost else ""
        rows.append(plots.Effect(METHODS[method], found, paper, COLOURS[method], note))
    return rows
