"""What the studies share: parameters read strictly, results gathered and placed, claims judged."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Self, TypeVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field, ValidationError, field_validator

from noiseutils.config import Data, Run
from noiseutils.errors import one_of
from noiseutils.models import MODELS
from noiseutils.provenance import CHECKOUT, outputs_root
from noiseutils.spec import PositiveInt, Spec, explain
from noiseutils.stats import Paired, claim_verdict, holm
from noiseutils.sweeps.store import Store
from noiseutils.sweeps.sweep import sweep
from noiseutils.training.loop import Result

C = TypeVar("C")  # a cell of a study's grid


class StudyParams(Spec):
    """A profile's values. `study` and `profile` name the folder under outputs/."""

    study: str
    profile: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")] = "smoke"

    @classmethod
    def read(cls, values: Mapping[str, Any], where: str) -> Self:
        """Checked parameters; a problem is a UserError that names the key, the value and what is allowed."""
        try:
            return cls(**values)
        except ValidationError as error:
            raise explain(error, where) from None

    @classmethod
    def from_notebook(cls, names: Mapping[str, Any]) -> Self:
        """The parameters among a notebook's `globals()`.

        papermill passes unknown keys on with a mere warning: the cell that it injects is read for them here.
        """
        values = {name: names[name] for name in cls.model_fields if name in names}
        for source in names.get("In", ()):
            if source.startswith("# Parameters\n"):
                assigned = [n.id for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Name)]
                values |= {
                    name: names.get(name) for name in assigned if name not in ("true", "false", "null")
                }
        return cls.read(values, "the notebook's parameters")


def known_data(text: str) -> str:
    """A validator: a known data set, or something that reads as a path."""
    Data.parse(text)
    return text


def known_model(name: str) -> str:
    """A validator: a key of MODELS."""
    if name not in MODELS:
        raise one_of("model", name, MODELS)
    return name


class OneSetParams(StudyParams):
    """Of a study on one set of images."""

    data: str = "cifar10"
    train_size: PositiveInt | None = None
    test_size: PositiveInt | None = None
    image_size: PositiveInt | None = None

    _known_data = field_validator("data")(known_data)


def data_of(params: OneSetParams) -> Data:
    """The images of a profile."""
    sizes = {name: getattr(params, name) for name in ("train_size", "test_size", "image_size")}
    return Data.parse(params.data, **sizes)


def select(frame: pd.DataFrame, **equal: Any) -> pd.DataFrame:
    """The rows whose columns have the given values; of a tuple, any of them."""
    kept = np.ones(len(frame), dtype=bool)  # arrays: a study's tables ask some thousand times
    for column, value in equal.items():
        kept &= frame[column].isin(value) if isinstance(value, tuple) else frame[column].to_numpy() == value
    return frame.loc[kept]


def store() -> Store:
    """The store of this checkout, with the committed reference results beside it."""
    reference = sorted((CHECKOUT / "outputs" / "reference").glob("*/*/runs"))
    return Store(outputs_root() / "runs", tuple(reference))


def gather(runs: list[Run], executor: str = "auto") -> list[Result]:
    """The results of runs, computing what is not stored; failures are printed and left out."""
    done = sweep(runs, store(), executor)
    for run in done.runs:
        if trace := done.failed.get(run.key):
            print(f"failed: {run}\n  {trace.strip().splitlines()[-1]}")
    return done.results


@contextmanager
def threads_of_a_run() -> Iterator[None]:
    """Give torch one thread inside the block, as each of several runs side by side on CPU has.

    With more of them the step of a narrow network is waiting above all: on two cores that others use, too,
    two threads take ten times as long over one as one thread does.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def results_by_cell(
    results: Iterable[Result], cells: Sequence[C], seeds: int, run_of: Callable[[C, int], Run]
) -> dict[tuple[C, int], Result]:
    """Results by cell of a grid and seed; places without one are absent."""
    found = {result.run.key: result for result in results}
    grid = {(cell, seed): run_of(cell, seed).key for cell in cells for seed in range(seeds)}
    return {place: found[key] for place, key in grid.items() if key in found}


def results_in(by_cell: Mapping[tuple[C, int], Result], table: pd.DataFrame) -> list[Result]:
    """The results that the rows of a table come from.   table: with a cell's fields and `seed` as columns."""
    if not by_cell or table.empty:
        return []
    columns = [*vars(next(iter(by_cell))[0]), "seed"]
    places = set(table[columns].itertuples(index=False, name=None))
    return [result for (cell, seed), result in by_cell.items() if (*vars(cell).values(), seed) in places]


def results_at(by_cell: Mapping[tuple[C, int], Result], places: Iterable[tuple[C, int]]) -> list[Result]:
    """The results at places of a grid, each once; places without one are passed over."""
    return [by_cell[place] for place in dict.fromkeys(places) if place in by_cell]


def claims_of(tests: Sequence[tuple[str, str, Paired]]) -> pd.DataFrame:
    """Claims with their verdicts: a row each, Holm's correction over all of them.

    tests: a claim in words, the direction that it claims ("up" or "down"), and the paired test of it.
    """
    corrected = holm([test.p for _, _, test in tests])
    return pd.DataFrame(
        {
            "claim": text,
            "claimed": claimed,
            "difference": test.difference.mean,
            "low": test.difference.low,
            "high": test.difference.high,
            "n": test.difference.n,
            "p_holm": p,
            "verdict": claim_verdict(test.difference, p, claimed=claimed),
        }
        for (text, claimed, test), p in zip(tests, corrected, strict=True)
    )
