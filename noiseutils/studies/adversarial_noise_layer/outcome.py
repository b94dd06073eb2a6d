"""The results of the ANL study, gathered by cell and seed."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from noiseutils.errors import UserError
from noiseutils.studies.adversarial_noise_layer.grid import Cell, Params, cells, data_of, run_of, runs
from noiseutils.studies.common import gather, results_by_cell, select
from noiseutils.studies.shelf import Shelf
from noiseutils.training.loop import Result

FRAME_COLUMNS = [
    "part", "data", "model", "method", "epsilon", "seed", "condition", "size", "statistics", "top1_error",
]  # fmt: skip
PAPER_DATA = {
    "cifar10": ("cifar10", "cifar10-jpeg"),
    "cifar100": ("cifar100",),
    "mnist": ("mnist",),
    "fashion_mnist": ("fashion_mnist",),
    "imagenet": ("imagenet",),
}


@dataclass(frozen=True)
class Outcome:
    """The results of the study and the tables made from them."""

    params: Params
    results: list[Result]

    @cached_property
    def by_cell(self) -> dict[tuple[Cell, int], Result]:
        """Results by cell and seed; cells without one are absent."""
        run = functools.partial(run_of, self.params)
        return results_by_cell(self.results, cells(self.params), self.params.seeds, run)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row a cell, seed, condition and kind of BatchNorm statistics; diverged runs have no row."""
        rows = [
            {**place(cell), "data": result.info["data"]["label"], "seed": seed, **record}
            for (cell, seed), result in self.by_cell.items()
            for record in result.metrics.get("conditions", [])
        ]
        return pd.DataFrame(rows, columns=None if rows else FRAME_COLUMNS)

    def values(
        self, cell: Cell, quantity: str = "top1_error", statistics: str = "trained", **condition: Any
    ) -> dict[int, float]:
        """A quantity of one cell by seed; condition and size of the images, clean unless said."""
        condition = {"condition": "clean", "size": 0.0, **condition}
        rows = select(self.frame, **place(cell), statistics=statistics, **condition)
        rows = rows[rows["data"] == label_of(self.params, cell)]
        return dict(zip(rows.seed, rows[quantity], strict=True))

    def shelf(self, *parts: str) -> Shelf:
        """Where figures and tables of some parts are kept, with where those parts' results come from."""
        own = [(c, r) for (c, _), r in self.by_cell.items() if c.part in parts]
        labels = [label_of(self.params, cell) for cell, _ in own] or ["none"]
        return Shelf(self.params, labels, [result for _, result in own])

    def of(self, part: str, **equal: Any) -> list[Cell]:
        """The cells of one table or figure, in its order."""
        wanted = {"part": part, **equal}
        return [c for c in cells(self.params) if all(getattr(c, k) == v for k, v in wanted.items())]


def results_with(outcome: Outcome, metric: str, part: str, **equal: Any) -> list[Result]:
    """The results of some cells of one table or figure that have a metric; diverged runs have none."""
    kept = set(outcome.of(part, **equal))
    return [r for (cell, _), r in outcome.by_cell.items() if cell in kept and r.metrics.get(metric)]


def place(cell: Cell) -> dict[str, Any]:
    """A cell as columns; its data is a label there."""
    return {"part": cell.part, "model": cell.model, "method": cell.method, "epsilon": cell.epsilon}


def label_of(params: Params, cell: Cell) -> str:
    """Where the pixels of a cell come from."""
    return data_of(params, cell).label


def comparable(params: Params, cell: Cell, data: str) -> bool:
    """Whether a number that the paper reports for `data` can be held against this cell's.

    data: cifar10, cifar100, mnist, fashion_mnist or imagenet. The images have to be those, whole, and all
    that shapes the result as we read the paper.
    """
    if label_of(params, cell) not in PAPER_DATA[data]:
        return False
    told = {
        "table1": ("similarity_epochs", "lenet_width", "lenet_learning_rate", "batch_size", "weight_decay"),
        "imagenet": ("imagenet_size", "imagenet_epochs", "imagenet_width", "batch_size", "weight_decay"),
    }
    general = ("train_size", "test_size", "image_size", "width", "batch_size", "learning_rate")
    general += ("weight_decay", "augment", "validation_size")
    general += ("table2_epochs",) if cell.part == "table2" else ("table3_epochs", "plateau_epochs")
    lenet = ("lenet_width", "lenet_learning_rate", "lenet_epochs", "batch_size", "weight_decay")
    names = told.get(cell.part, lenet if cell.model == "lenet5" else general)
    if cell.part == "table2" and cell.method != "baseline":
        names += ("lat_epsilon",) if cell.method == "lat" else ("epsilon",)
    return all(getattr(params, name) == getattr(Params(), name) for name in names)


def collect(params: Params, executor: str = "auto") -> Outcome:
    """The results of the whole grid; what is not stored is trained first."""
    outcome = Outcome(params, gather(runs(params), executor))
    if outcome.frame.empty:
        raise UserError(f"none of the study's {len(runs(params))} runs finished: see `noiseutils status`")
    return outcome
