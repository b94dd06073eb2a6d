"""The grid of the adaptive-noise study: network x optimiser x learning rate x kind of noise.

Of the learning rates one is chosen for each network, optimiser and kind of noise, see `choice`.
"""

from __future__ import annotations

from dataclasses import dataclass

from noiseutils.config import Evaluation, Model, Optimizer, Run, Schedule, ScriptedNoise
from noiseutils.studies.adaptive_noise.params import Params
from noiseutils.studies.params import data_of

OPTIMIZERS = {
    "sgd": Optimizer(name="sgd"),
    "momentum": Optimizer(name="sgd", momentum=0.9),
    "adam": Optimizer(name="adam"),
}


@dataclass(frozen=True)
class Cell:
    """One point of the grid. kind: none, gaussian or uniform noise; or the name of a control."""

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
        for rate in params.learning_rates
        for kind in params.kinds
    ]


def run_of(params: Params, cell: Cell, seed: int, script: ScriptedNoise | None = None) -> Run:
    """Return the training of one cell and seed; with a script, that of a control."""
    noise = script or (None if cell.kind == "none" else params.adaptive_noise(cell.kind))  # pyright: ignore
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
