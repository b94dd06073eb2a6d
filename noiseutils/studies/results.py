"""Results of a study by cell of its grid and seed: as numbers, as frames for tables, and in pairs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import pandas as pd

from noiseutils.config import Run
from noiseutils.stats import Interval, Paired, mean_interval, paired
from noiseutils.studies.params import StudyParams
from noiseutils.training.loop import Result

P = TypeVar("P", bound=StudyParams)
K = TypeVar("K")
C = TypeVar("C")  # a cell of a study's grid: a frozen dataclass
Record = dict[str, Any]
CLEAN = {"condition": "clean", "size": 0.0, "statistics": "trained"}


@dataclass(frozen=True)
class Results(Generic[P, C]):
    """Results by cell and seed, cell after cell; places without one are absent.

    records: gives the rows of numbers that one result has, with the keys of `CLEAN` and quantities.
    answers: what was found out about the trained networks afterwards, by cell, seed and question.
    """

    params: P
    cells: Sequence[C]
    by_cell: Mapping[tuple[C, int], Result]
    records: Callable[[Result], Sequence[Record]]
    answers: Mapping[tuple[C, int, str], Record] = field(default_factory=dict)

    @property
    def stored(self) -> list[Result]:
        """The results, each once, even where several cells share one."""
        return _each_once(self.by_cell.values())

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row a cell, seed and record; diverged runs have none."""
        rows = [
            {**vars(cell), "seed": seed, **record}
            for cell, seeds in self._records.items()
            for seed, records in seeds.items()
            for record in records
        ]
        columns = [*vars(self.cells[0]), "seed", *CLEAN] if self.cells else ["seed", *CLEAN]
        return pd.DataFrame(rows, columns=None if rows else columns)

    @cached_property
    def _records(self) -> dict[C | None, dict[int, Sequence[Record]]]:
        found: dict[C | None, dict[int, Sequence[Record]]] = {}
        for (cell, seed), result in self.by_cell.items():
            found.setdefault(cell, {})[seed] = self.records(result)
        return found

    def values(self, cell: C | None, quantity: str, **where: Any) -> dict[int, float]:
        """Return a quantity of one cell by seed: on clean images, as trained, but for what `where` says."""
        return {seed: record[quantity] for seed, record in self.record_of(cell, **where).items()}

    def record_of(self, cell: C | None, **where: Any) -> dict[int, Record]:
        """Return one record a seed of a cell: on clean images, as trained, but for what `where` says."""
        wanted = (CLEAN | where).items()
        return {
            seed: record
            for seed, records in self._records.get(cell, {}).items()
            for record in records
            if wanted <= record.items()
        }

    def interval(self, cell: C | None, quantity: str, **where: Any) -> Interval:
        """Return the mean of a quantity over the seeds of a cell, with its interval; see `values`."""
        return mean_interval(list(self.values(cell, quantity, **where).values()))

    def means(self, cells: Iterable[C], quantity: str, **where: Any) -> dict[int, float]:
        """Return a quantity averaged over some cells, for every seed that has them all."""
        return mean_by_seed([self.values(cell, quantity, **where) for cell in cells])

    def paired(self, cell: C | None, other: C | None, quantity: str, **where: Any) -> Paired:
        """Test the difference of a quantity, cell minus other, over the seeds that both have."""
        return paired_by_seed(self.values(cell, quantity, **where), self.values(other, quantity, **where))

    def of(self, **equal: Any) -> list[C]:
        """Return the cells of the grid whose fields have the given values, in its order."""
        return [c for c in self.cells if all(getattr(c, name) == value for name, value in equal.items())]

    def of_cell(self, cell: C | None) -> list[Result]:
        """Return the results of one cell, seed after seed."""
        return list(self._results_by_cell.get(cell, ()))

    @cached_property
    def _results_by_cell(self) -> dict[C | None, list[Result]]:
        found: dict[C | None, list[Result]] = {}
        for (cell, _), result in self.by_cell.items():
            found.setdefault(cell, []).append(result)
        return found

    def diverged(self, cell: C | None) -> int:
        """Count the runs of a cell that diverged."""
        return sum(result.status == "diverged" for result in self.of_cell(cell))

    def at(self, places: Iterable[tuple[C, int]]) -> list[Result]:
        """Return the results at places of the grid, each once; places without one are passed over."""
        return _each_once(self.by_cell[place] for place in places if place in self.by_cell)

    def behind(self, table: pd.DataFrame) -> list[Result]:
        """Return the results behind the rows of a table with the fields of cells and `seed` as columns."""
        columns = [*vars(self.cells[0]), "seed"]
        places = set() if table.empty else set(table[columns].itertuples(index=False, name=None))
        return self.at(place for place in self.by_cell if (*vars(place[0]).values(), place[1]) in places)

    def histories(self, **equal: Any) -> pd.DataFrame:
        """Return every epoch of the runs of some cells, a cell's fields and the seed behind the columns."""
        frames = [
            result.history.assign(**vars(cell), seed=seed)
            for (cell, seed), result in self.by_cell.items()
            if all(getattr(cell, name) == value for name, value in equal.items())
        ]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def conditions(result: Result) -> Sequence[Record]:
    """Return the records of a result's evaluation: one a condition of the test images."""
    return result.metrics.get("conditions", [])


def at_places(places: Mapping[tuple[C, int], Run], found: Iterable[Result]) -> dict[tuple[C, int], Result]:
    """Put results where their runs belong; places without one are absent."""
    by_key = {result.run.key: result for result in found}
    keys = {place: run.key for place, run in places.items()}
    return {place: by_key[key] for place, key in keys.items() if key in by_key}


def _each_once(results: Iterable[Result]) -> list[Result]:
    return list({result.run.key: result for result in results}.values())


def share_lost(clean: float, corrupted: float) -> float:
    """Return the share of the images that are right which a corruption turns wrong, from two errors.

    (corrupted - clean) / (1 - clean): an image that is right with the corruption alone counts against it. nan
    where no image is right.
    """
    return (corrupted - clean) / (1 - clean) if clean < 1 else math.nan


def shares_lost(clean: Mapping[int, float], corrupted: Mapping[int, float]) -> dict[int, float]:
    """Return `share_lost` by seed, of the seeds that have both errors and an image that is right."""
    return {
        seed: share_lost(error, corrupted[seed])
        for seed, error in clean.items()
        if seed in corrupted and error < 1
    }


def common_seeds(each: Iterable[Mapping[int, Any]]) -> list[int]:
    """Return the seeds that all of some values by seed have."""
    return sorted(set.intersection(*(set(values) for values in each)))


def mean_by_seed(each: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """Return the mean of several values by seed, for the seeds that all of them have."""
    return {seed: sum(v[seed] for v in each) / len(each) for seed in common_seeds(each)} if each else {}


def best_by_other_seeds(
    candidates: Mapping[K, Mapping[int, float]], *, largest: bool
) -> tuple[dict[int, float], list[K]]:
    """Return by seed the value of the candidate that is best for the other seeds, and those candidates.

    The best of several on the very seed that it is compared on flatters. Seeds that all candidates have;
    empty for fewer than two.
    """
    seeds, pick = common_seeds(candidates.values()) if candidates else [], max if largest else min
    found, chosen = {}, []
    for seed in seeds if len(seeds) > 1 else ():
        others = {name: sum(v[s] for s in seeds if s != seed) for name, v in candidates.items()}
        best = pick(others, key=others.__getitem__)
        found[seed] = candidates[best][seed]
        chosen.append(best)
    return found, list(dict.fromkeys(chosen))


def paired_by_seed(treated: Mapping[int, float], control: Mapping[int, float]) -> Paired:
    """Test the difference of values by seed, treated minus control, over the seeds that both have."""
    seeds = [seed for seed in treated if seed in control]
    return paired([treated[seed] for seed in seeds], [control[seed] for seed in seeds])


def select(frame: pd.DataFrame, **equal: Any) -> pd.DataFrame:
    """Return the rows whose columns have the given values; of a tuple, any of them."""
    kept = np.ones(len(frame), dtype=bool)
    for column, value in equal.items():
        kept &= frame[column].isin(value) if isinstance(value, tuple) else frame[column].to_numpy() == value
    return frame.loc[kept]


def reported_numbers(module: str) -> pd.DataFrame:
    """Read the numbers that a paper reports: `reported.csv` beside a module of its study (its `__file__`)."""
    return pd.read_csv(Path(module).with_name("reported.csv"))
