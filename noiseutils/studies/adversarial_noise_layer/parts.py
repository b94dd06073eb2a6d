"""Parts of the ANL study, one a table or figure of the paper: a writer, and titles of figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from noiseutils.studies.adversarial_noise_layer.grid import Cell, label_of
from noiseutils.studies.adversarial_noise_layer.params import Params
from noiseutils.studies.output import OutputWriter, origin
from noiseutils.studies.registry import made_with
from noiseutils.studies.results import Results


def writer(results: Results[Params, Cell], *parts: str) -> OutputWriter:
    """Return a writer of the figures and tables of some parts, which says where their results come from."""
    own = [cell for cell, _ in results.by_cell if cell.part in parts]
    labels = [label_of(results.params, cell) for cell in own] or ["none"]
    return OutputWriter(
        results.params, labels, [r for (c, _), r in results.by_cell.items() if c.part in parts]
    )


def title_of(results: Results[Params, Cell], text: str, cells: Iterable[Cell], of: Sequence[str] = ()) -> str:
    """Return a figure's title: what is to be seen, and below it images, seeds, epochs and width.

    of: what the figure is of, where that is not all seeds.
    """
    cells = list(cells)
    made = made_with(results, cells)
    labels = dict.fromkeys(origin(label_of(results.params, cell)) for cell in cells)
    seeds = len({seed for cell, seed in results.by_cell if cell in cells})
    facts = [", ".join(labels), *(of or [f"{seeds} seed{'s' if seeds != 1 else ''}"])]
    facts += [f"{made['epochs']} epochs", f"width {made['width']}"]
    return f"{text}\n{'  ·  '.join(facts)}"
