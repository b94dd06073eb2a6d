"""Adaptive noise: the parameters, the grid of runs, its controls, and their results gathered.

Logean & Feillard, *Effect of Adaptive Noise Injection in CNN Training*.
The grid: network x optimiser x learning rate, each without noise, with Gaussian and with uniform noise. Of
the learning rates one is chosen for each network, optimiser and kind of noise, by the validation accuracy.
The controls follow a script made from what a run with Gaussian noise did:

    shuffled          the same amounts in epochs drawn at random: what would be left of *adaptive*
    replayed_uniform  the same amounts in the same epochs, uniform noise
    swapped           the same amounts in the same epochs, on weights for gradients and the reverse
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal, Self

import numpy as np
import pandas as pd
from pydantic import Field, field_validator, model_validator

from noiseutils.config import AdaptiveNoise, Data, Evaluation, Model, Optimizer, Run, Schedule, ScriptedNoise
from noiseutils.errors import UserError
from noiseutils.rng import derived_seed
from noiseutils.spec import NonNegative, Positive, PositiveInt
from noiseutils.stats import mean_interval
from noiseutils.studies.common import OneSetParams, data_of, gather, known_model, results_by_cell
from noiseutils.training.loop import Result

NOTEBOOK = "02_adaptive_noise"
OPTIMIZERS = {
    "sgd": Optimizer(name="sgd"),
    "momentum": Optimizer(name="sgd", momentum=0.9),
    "adam": Optimizer(name="adam"),
}
CONTROLS = ("shuffled", "replayed_uniform", "swapped")
QUANTITIES = ("train_accuracy", "validation_accuracy", "train_loss", "validation_loss")
PAPER_DATA = ("cifar10", "cifar10-jpeg")  # what the paper's numbers can be held against
Kinds = Annotated[tuple[Literal["gaussian", "uniform"], ...], Field(strict=False, min_length=1)]
Optimizers = Annotated[tuple[Literal["sgd", "momentum", "adam"], ...], Field(strict=False, min_length=1)]


class Params(OneSetParams):
    """What a profile says, key by key; flat, so that papermill can pass it. Defaults: Tables IV and V."""

    study: Literal["adaptive_noise"] = "adaptive_noise"
    validation_size: PositiveInt = 5_000
    validate_on: Literal["split", "test"] = "split"
    models: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] = (
        "babycnn",
        "tinycnn",
        "simplecnn",
        "resnet18",
    )
    width: Annotated[float, Field(gt=0, le=16)] = 1.0
    optimizers: Optimizers = ("sgd", "momentum", "adam")
    learning_rates: Annotated[tuple[Positive, ...], Field(strict=False, min_length=1)] = (
        1e-1,
        1e-2,
        1e-3,
        1e-4,
    )
    distributions: Kinds = ("gaussian", "uniform")
    controls: bool = True
    epochs: Annotated[int, Field(ge=2, le=100_000)] = 300
    restart_epochs: PositiveInt = 50
    final_max: Positive = 1e-5
    minimum: NonNegative = 1e-6
    weight_decay: NonNegative = 1e-4
    batch_size: PositiveInt = 128
    augment: bool = True
    min_epochs: PositiveInt = 70
    window: PositiveInt = 10
    gradient_plateau: Positive = 0.025
    low_weight_update: NonNegative = 5e-4
    validation_plateau: Positive = 1e-4
    overfit_epochs: PositiveInt = 3
    sigma_min: NonNegative = 0.01
    sigma_max: NonNegative = 0.05
    weight_every: Literal["step", "epoch"] = "epoch"
    consecutive_trigger: PositiveInt = 10
    cooldown_min: PositiveInt = 3
    cooldown_max: PositiveInt = 10
    seeds: Annotated[int, Field(ge=1, le=1000)] = 6

    @field_validator("models")
    @classmethod
    def _known_models(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(known_model, names))

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        adaptive_of(self, "gaussian")  # its own checks
        if self.final_max > min(self.learning_rates) or self.minimum > self.final_max:
            raise ValueError(
                f"minimum {self.minimum:g} <= final_max {self.final_max:g} <= every learning rate is needed"
            )
        return self


@dataclass(frozen=True)
class Cell:
    """One point of the grid. kind: none, gaussian, uniform."""

    model: str
    optimizer: str
    learning_rate: float
    kind: str


def adaptive_of(params: Params, distribution: Literal["gaussian", "uniform"]) -> AdaptiveNoise:
    """The noise of a profile."""
    fields = AdaptiveNoise.model_fields.keys() - {"kind", "distribution"}
    return AdaptiveNoise(distribution=distribution, **{name: getattr(params, name) for name in fields})


def cells(params: Params) -> list[Cell]:
    """The grid, momentum first: a sweep cut short has shown most."""
    order = [name for name in ("momentum", "sgd", "adam") if name in params.optimizers]
    return [
        Cell(model, optimizer, rate, kind)
        for optimizer in order
        for model in params.models
        for rate in params.learning_rates
        for kind in ("none", *params.distributions)
    ]


def run_of(params: Params, cell: Cell, seed: int, script: ScriptedNoise | None = None) -> Run:
    """The training behind one cell and seed; with a script, that of a control."""
    noise = script or (None if cell.kind == "none" else adaptive_of(params, cell.kind))  # pyright: ignore
    return Run(
        data=data_of(params),
        model=Model(name=cell.model, width=params.width),
        parameter_noise=noise,
        optimizer=OPTIMIZERS[cell.optimizer].replace(weight_decay=params.weight_decay),
        schedule=Schedule(
            kind="cosine_decaying_restarts",
            learning_rate=cell.learning_rate,
            last=params.final_max,
            minimum=params.minimum,
            every=params.restart_epochs,
        ),
        epochs=params.epochs,
        batch_size=params.batch_size,
        augment=params.augment,
        validation_size=params.validation_size if params.validate_on == "split" else 0,
        evaluation=Evaluation(recalibrate=False),
        seed=seed,
    )


def runs(params: Params) -> list[Run]:
    """The grid; a whole grid of one seed before the next seed. The controls follow from its results."""
    return [run_of(params, cell, seed) for seed in range(params.seeds) for cell in cells(params)]


def follow_ups(params: Params, results: list[Result]) -> list[Run]:
    """The controls that the results so far allow: those of networks whose every cell is there."""
    outcome = Outcome(params, results)
    return [run for found in outcome.controls.values() for run in found.values()]


def control_script(result: Result, control: str, first: int) -> ScriptedNoise:
    """The script of a control, from the noise that an adaptive run had.

    first: epochs before which there is never noise; a shuffled script keeps to that.
    """
    noise = result.run.parameter_noise
    assert isinstance(noise, AdaptiveNoise)
    gradient, weight = (result.history[name].to_numpy() for name in ("gradient_noise", "weight_noise"))
    if control == "swapped":
        gradient, weight = weight, gradient
    if control == "shuffled":
        random = np.random.Generator(np.random.PCG64(derived_seed(result.run.seed, "shuffled")))
        order = np.arange(len(gradient))
        order[first:] = random.permutation(order[first:])
        gradient, weight = gradient[order], weight[order]
    return ScriptedNoise(
        distribution="uniform" if control == "replayed_uniform" else noise.distribution,
        gradient=tuple(map(float, gradient)),
        weight=tuple(map(float, weight)),
        weight_every=noise.weight_every,
    )


@dataclass(frozen=True)
class Outcome:
    """The results of the study and what follows from them."""

    params: Params
    results: list[Result]

    @cached_property
    def _by_key(self) -> dict[str, Result]:
        return {result.run.key: result for result in self.results}

    @cached_property
    def by_cell(self) -> dict[tuple[Cell, int], Result]:
        """Results of the grid by cell and seed; cells without one are absent."""
        run = functools.partial(run_of, self.params)
        return results_by_cell(self.results, cells(self.params), self.params.seeds, run)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The last epoch of every run of the grid: model, optimizer, learning_rate, kind, seed, status, and
        train, validation and test accuracy and loss; `gap` is validation minus training loss.

        Where no images are held out, those of the test set validate, as in the paper.
        """
        rows = []
        for (cell, seed), result in self.by_cell.items():
            rows.append({**vars(cell), "seed": seed, "status": result.status, **last_epoch(result)})
        columns = ["model", "optimizer", "learning_rate", "kind", "seed", "status", *last_epoch(None)]
        return pd.DataFrame(rows, columns=columns)

    def values(self, cell: Cell, quantity: str) -> dict[int, float]:
        """A quantity of the last epoch of one cell, by seed; diverged runs have none."""
        found = {seed: r for (c, seed), r in self.by_cell.items() if c == cell and r.status == "finished"}
        return {seed: last_epoch(result)[quantity] for seed, result in found.items()}

    def chosen(self, model: str, optimizer: str, kind: str) -> Cell | None:
        """The cell whose learning rate has the highest mean validation accuracy at the end over the seeds.

        One at which fewer seeds diverge goes first; of equal ones the largest rate. None where a rate is
        missing: a choice among some is another one.
        """
        scored = []
        for rate in self.params.learning_rates:
            cell = Cell(model, optimizer, rate, kind)
            there = [result for (c, _), result in self.by_cell.items() if c == cell]
            if not there:
                return None
            accuracy = mean_interval(list(self.values(cell, "validation_accuracy").values()))
            if accuracy.n:  # a mean over the seeds that survive flatters a rate at which others do not
                scored.append((accuracy.n - len(there), accuracy.mean, rate, cell))
        return max(scored, key=lambda found: found[:3])[3] if scored else None

    @cached_property
    def controls(self) -> dict[tuple[str, str, str], dict[int, Run]]:
        """The runs of the controls by model, optimizer and control, then by seed.

        Of a network and optimiser whose every run with Gaussian noise is there: else the choice of the
        learning rate, and with it the controls, might change.
        """
        params, found = self.params, {}
        if not params.controls or "gaussian" not in params.distributions:
            return found
        seeds = range(params.seeds)
        for optimizer, model in itertools.product(params.optimizers, params.models):
            tried = [Cell(model, optimizer, rate, "gaussian") for rate in params.learning_rates]
            if not all(place in self.by_cell for place in itertools.product(tried, seeds)):
                continue
            cell = self.chosen(model, optimizer, "gaussian")
            if cell is None:
                continue
            followed = {seed: self.by_cell[cell, seed] for seed in seeds}
            for control in CONTROLS:
                found[model, optimizer, control] = {
                    seed: run_of(params, cell, seed, control_script(result, control, params.min_epochs))
                    for seed, result in followed.items()
                    if result.status == "finished"
                }
        return found

    def control_values(self, model: str, optimizer: str, control: str, quantity: str) -> dict[int, float]:
        """A quantity of the last epoch of a control, by seed."""
        found = self.control_results(model, optimizer, control)
        return {seed: last_epoch(result)[quantity] for seed, result in found.items()}

    def control_results(self, model: str, optimizer: str, control: str) -> dict[int, Result]:
        """The finished runs of a control, by seed."""
        asked = self.controls.get((model, optimizer, control), {})
        found = {seed: self._by_key[run.key] for seed, run in asked.items() if run.key in self._by_key}
        return {seed: result for seed, result in found.items() if result.status == "finished"}

    @property
    def comparable(self) -> bool:
        """Whether the paper's numbers can be held against ours: its data, and all else as we read it."""
        chosen = {"study", "profile", "data", "seeds", "models", "optimizers", "distributions", "controls"}
        chosen |= {"learning_rates", "validate_on", "validation_size", "weight_every"}
        fixed = type(self.params).model_fields.keys() - chosen
        as_read = all(getattr(self.params, name) == getattr(Params(), name) for name in fixed)
        return as_read and self.on_paper_data

    @property
    def on_paper_data(self) -> bool:
        """Whether the images are the paper's."""
        return Data.parse(self.params.data).label in PAPER_DATA


def last_epoch(result: Result | None) -> dict[str, float]:
    """Accuracy and loss on training, validation and test images at the end, and `gap`; None: the names."""
    names = [*QUANTITIES, "test_accuracy", "test_loss"]
    if result is None:
        return dict.fromkeys([*names, "gap"], math.nan)
    last = result.history.iloc[-1]
    found = {
        name: float(last.get(name, last.get(name.replace("validation", "test"), math.nan))) for name in names
    }
    return {**found, "gap": found["validation_loss"] - found["train_loss"]}


def collect(params: Params, executor: str = "auto") -> Outcome:
    """The results of the grid and of its controls; what is not stored is trained first."""
    results = gather(runs(params), executor)
    results += gather(follow_ups(params, results), executor)
    outcome = Outcome(params, results)
    if not outcome.by_cell:
        raise UserError(f"none of the study's {len(runs(params))} runs finished: see `noiseutils status`")
    return outcome
