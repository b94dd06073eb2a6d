"""The results of the training-data study, gathered by cell and seed."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from noiseutils.errors import UserError
from noiseutils.studies.common import gather, results_by_cell, select, store
from noiseutils.studies.training_data_variation.attacks import analyse, findings
from noiseutils.studies.training_data_variation.grid import KINDS, Cell, Params, cells, run_of, runs
from noiseutils.training.loop import Result

FRAME_COLUMNS = [
    "architecture", "kind", "sigma", "seed", "shown", "level", "statistics", "accuracy", "calibration_error",
]  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """The results of the study and the tables made from them.

    found: what was asked of the trained networks afterwards, by cell, seed and name of the question.
    """

    params: Params
    results: list[Result]
    found: dict[tuple[Cell, int, str], dict[str, Any]]

    @cached_property
    def by_cell(self) -> dict[tuple[Cell, int], Result]:
        """Results by cell and seed; cells without one are absent."""
        run = functools.partial(run_of, self.params)
        return results_by_cell(self.results, cells(self.params), self.params.seeds, run)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row a cell, seed, condition and kind of BatchNorm statistics; diverged runs have no row.

        architecture, kind, sigma: what the network is and was trained on.   shown, level: kind and sigma of
        what it is shown, "none" and 0 for the test images as they are.   accuracy: share in [0, 1].
        """
        names = {condition: kind for kind, condition in KINDS.items()} | {"clean": "none"}
        rows = []
        for (cell, seed), result in self.by_cell.items():
            for record in result.metrics.get("conditions", []):
                kind = names[record["condition"]]
                rows.append(
                    {
                        **vars(cell),
                        "seed": seed,
                        "shown": kind,
                        "level": record["size"] * (2 if kind == "noise" else 1),
                        "statistics": record["statistics"],
                        "accuracy": 1 - record["top1_error"],
                        "calibration_error": record["calibration_error"],
                    }
                )
        return pd.DataFrame(rows, columns=FRAME_COLUMNS)

    def values(
        self, cell: Cell, shown: str, level: float, quantity: str = "accuracy", statistics: str = "trained"
    ) -> dict[int, float]:
        """A quantity of one cell by seed, on images of a kind at a level; 0: on the images as they are."""
        what = {"shown": shown, "level": level} if level else {"shown": "none", "level": 0.0}
        rows = select(self.frame, **vars(cell), **what, statistics=statistics)
        return dict(zip(rows.seed, rows[quantity], strict=True))


def collect(params: Params, executor: str = "auto") -> Outcome:
    """The results of the whole grid; what is not stored is trained first, then attacked."""
    results = gather(runs(params), executor)
    analyse(params, store())
    outcome = Outcome(params, results, findings(params, store()))
    if outcome.frame.empty:
        raise UserError(f"none of the study's {len(runs(params))} runs finished: see `noiseutils status`")
    return outcome
