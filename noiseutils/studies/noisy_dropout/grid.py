"""NoisyDropout: the parameters, the grid of runs, and their results gathered.

Oboa Franck & Mao, *Examining Input Noise Injection During Dropout for Robust CIFAR Dataset Image
Recognition*.
The grid: dropout probability x noise level, ordinary dropout beside each, in four readings of the layer:

    dropped   noise in the dropped neurons (the text, Figure 2)
    all       noise on every neuron (Equation 2)
    unscaled  as dropped, without the factor 1 / (1 - p)
    printed   as all, without it: Equation 2 to the letter
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal, Self

import pandas as pd
from pydantic import Field, field_validator, model_validator

from noiseutils.config import Data, Evaluation, Model, NoisyDropout, Optimizer, Run, Schedule
from noiseutils.errors import UserError
from noiseutils.spec import Levels, Names, NonNegative, Positive, PositiveInt
from noiseutils.studies.common import OneSetParams, data_of, gather, known_model, results_by_cell, select
from noiseutils.training.loop import Result

NOTEBOOK = "01_noisy_dropout"
READINGS = ("dropped", "all", "unscaled", "printed")
FRAME_COLUMNS = ["p", "level", "reading", "seed", "condition", "size", "statistics", "top1_error"]
PAPER_DATA = ("cifar10", "cifar10-jpeg")  # what the paper's numbers can be held against


class Params(OneSetParams):
    """What a profile says, key by key; flat, so that papermill can pass it."""

    study: Literal["noisy_dropout"] = "noisy_dropout"
    data: str = "shapes"
    model: str = "cifar10net"
    width: Annotated[float, Field(gt=0, le=16)] = 1.0
    after: Annotated[Names, Field(min_length=1)] = ("relu3", "relu4")
    probabilities: Annotated[
        tuple[Annotated[float, Field(gt=0, lt=1)], ...], Field(strict=False, min_length=1)
    ] = (0.2, 0.25, 0.3)
    noise_levels: Annotated[tuple[Positive, ...], Field(strict=False, min_length=1)] = (
        0.05,
        0.1,
        0.3,
        0.5,
        1.0,
    )
    base_std: Positive = 0.1595
    readings: Annotated[tuple[Literal["dropped", "all"], ...], Field(strict=False, min_length=1)] = (
        "dropped",
        "all",
    )
    unscaled_levels: Levels = (0.0, 0.5)
    epochs: Annotated[int, Field(ge=1, le=100_000)] = 10
    batch_size: PositiveInt = 128
    optimizer: Literal["sgd", "adam"] = "adam"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    learning_rate: Positive = 0.001
    loss: Literal["cross_entropy", "sigmoid_bce"] = "sigmoid_bce"
    augment: bool = False
    input_noise: Levels = (0.05, 0.1)
    fgsm_255: Annotated[tuple[NonNegative, ...], Field(strict=False)] = (1.0, 2.0, 4.0)
    seeds: Annotated[int, Field(ge=1, le=1000)] = 6

    _known_model = field_validator("model")(known_model)

    @model_validator(mode="after")
    def _momentum_belongs_to_sgd(self) -> Self:
        if self.optimizer == "adam" and self.momentum:
            raise ValueError(f"adam takes no momentum, got {self.momentum}; use sgd or leave it out")
        return self


@dataclass(frozen=True)
class Cell:
    """One point of the grid. level: share of `base_std`; 0 is dropout without noise."""

    p: float
    level: float
    reading: str


def cells(params: Params) -> list[Cell]:
    """The grid, the most telling cells first, so that a sweep cut short has shown most."""
    grid = [Cell(p, 0.0, "dropped") for p in params.probabilities]
    for reading in params.readings:
        grid += [Cell(p, level, reading) for p in params.probabilities for level in params.noise_levels]
    for p in params.probabilities:
        grid += [Cell(p, level, "unscaled") for level in params.unscaled_levels]
        # without noise the two unscaled readings are one
        grid += [Cell(p, level, "printed") for level in params.unscaled_levels if level > 0]
    middle = sorted(params.probabilities)[len(params.probabilities) // 2]
    first = [0.0, 0.5, 1.0]
    return sorted(
        dict.fromkeys(grid),
        key=lambda c: (
            c.p != middle,
            first.index(c.level) if c.level in first else 9,
            READINGS.index(c.reading),
        ),
    )


def run_of(params: Params, cell: Cell, seed: int) -> Run:
    """The training behind one cell and seed."""
    return Run(
        data=data_of(params),
        model=Model(name=params.model, width=params.width),
        noise=NoisyDropout(
            p=cell.p,
            std=cell.level * params.base_std,
            where="all" if cell.reading in ("all", "printed") else "dropped",
            rescale=cell.reading not in ("unscaled", "printed"),
        ),
        after=params.after,
        loss=params.loss,
        optimizer=Optimizer(name=params.optimizer, momentum=params.momentum),
        schedule=Schedule(learning_rate=params.learning_rate),
        epochs=params.epochs,
        batch_size=params.batch_size,
        augment=params.augment,
        evaluation=Evaluation(
            noise=params.input_noise,
            fgsm=tuple(delta / 255 for delta in params.fgsm_255),
            recalibrate=True,
        ),
        seed=seed,
    )


def runs(params: Params) -> list[Run]:
    """Every training of the study; a whole grid of one seed before the next seed."""
    return [run_of(params, cell, seed) for seed in range(params.seeds) for cell in cells(params)]


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
            {"p": cell.p, "level": cell.level, "reading": cell.reading, "seed": seed, **record}
            for (cell, seed), result in self.by_cell.items()
            for record in result.metrics.get("conditions", [])
        ]
        return pd.DataFrame(rows, columns=None if rows else FRAME_COLUMNS)

    def values(
        self, cell: Cell, quantity: str, condition: str = "clean", size: float = 0.0
    ) -> dict[int, float]:
        """A quantity of one cell by seed, as trained."""
        place = {"p": cell.p, "level": cell.level, "reading": cell.reading}
        rows = select(self.frame, **place, condition=condition, size=size, statistics="trained")
        return dict(zip(rows.seed, rows[quantity], strict=True))

    def plain(self, p: float) -> Cell:
        """Ordinary dropout at a probability: what noise is compared with."""
        return Cell(p, 0.0, "dropped")

    @property
    def comparable(self) -> bool:
        """Whether the paper's numbers can be held against ours: its data, and all else as we read it."""
        chosen = {"study", "profile", "data", "seeds", "probabilities", "noise_levels", "readings"}
        chosen |= {"unscaled_levels", "input_noise", "fgsm_255"}  # which cells, and what they are put through
        fixed = type(self.params).model_fields.keys() - chosen
        as_read = all(getattr(self.params, name) == getattr(Params(), name) for name in fixed)
        return as_read and Data.parse(self.params.data).label in PAPER_DATA


def collect(params: Params, executor: str = "auto") -> Outcome:
    """The results of the whole grid; what is not stored is trained first."""
    outcome = Outcome(params, gather(runs(params), executor))
    if outcome.frame.empty:
        raise UserError(f"none of the study's {len(runs(params))} runs finished: see `noiseutils status`")
    return outcome
