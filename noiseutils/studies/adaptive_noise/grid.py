"""The grid of the adaptive-noise study: network x optimiser x learning rate x kind of noise.

Beside the kinds of noise stand regularisers, which the paper's conclusion compares noise with and names none:

    dropout       half of the inputs of the last dense layer
    weight_decay  5e-4, the usual one for CIFAR-10 where no other regulariser is

Of the learning rates one is chosen for each network, optimiser and kind of noise, see `choice`.
"""

from __future__ import annotations

from dataclasses import dataclass

from noiseutils.config import Evaluation, Model, NoisyDropout, Optimizer, Run, Schedule, ScriptedNoise
from noiseutils.studies.adaptive_noise.params import Params
from noiseutils.studies.params import data_of
from noiseutils.studies.registry import settings_of
from noiseutils.studies.study import made_once

OPTIMIZERS = {
    "sgd": Optimizer(name="sgd"),
    "momentum": Optimizer(name="sgd", momentum=0.9),
    "adam": Optimizer(name="adam"),
}

STRONG_DECAY = 5e-4
DROPPED = {"tinycnn": "relu3", "simplecnn": "relu6"}  # before the last dense layer; elsewhere: flatten


@dataclass(frozen=True)
class Cell:
    """One point of the grid. kind: none, gaussian or uniform noise; or a regulariser's or control's name."""

    model: str
    optimizer: str
    learning_rate: float
    kind: str


def cells(params: Params) -> list[Cell]:
    """Return the grid, momentum first."""
    order = [name for name in ("momentum", "sgd", "adam") if name in params.optimizers]
    return [
        Cell(model, optimizer, rate, kind)
        for optimizer in order
        for model in params.models
        for rate in params.rates(optimizer)
        for kind in params.kinds
    ]


def settings(params: Params, cell: Cell) -> str:
    """Return how a cell was made, a key of `stats.SETTINGS`."""
    return settings_of(data_of(params).label, ("cifar10",), params.as_read)


def stages(params: Params) -> list[list[Cell]]:
    """Return the grid by optimiser: a sweep cut short has all seeds of the first."""
    grid = cells(params)
    return [[c for c in grid if c.optimizer == name] for name in dict.fromkeys(c.optimizer for c in grid)]


@made_once
def run_of(params: Params, cell: Cell, seed: int, script: ScriptedNoise | None = None) -> Run:
    """Return the training of one cell and seed; with a script, that of a control."""
    run = _first_run(params, cell)
    return run.replace(seed=seed) if script is None else run.replace(seed=seed, parameter_noise=script)


@made_once
def _first_run(params: Params, cell: Cell) -> Run:
    """Return the training of one cell with seed 0; the others share its parts."""
    noise = None
    if cell.kind in params.distributions:
        noise = params.adaptive_noise(cell.kind)  # pyright: ignore[reportArgumentType]
    dropout = cell.kind == "dropout"
    decay = STRONG_DECAY if cell.kind == "weight_decay" else params.weight_decay
    return Run(
        data=data_of(params),
        model=Model(name=cell.model, width=params.width),
        noise=NoisyDropout(p=0.5) if dropout else None,
        after=(DROPPED.get(cell.model, "flatten"),) if dropout else (),
        parameter_noise=noise,
        optimizer=OPTIMIZERS[cell.optimizer].replace(weight_decay=decay),
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
    )
