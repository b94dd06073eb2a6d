"""The grid of the NoisyDropout study: dropout probability x noise level, ordinary dropout beside each.

In four readings of the layer:

    dropped   noise in the dropped neurons (the text, Figure 2)
    all       noise on every neuron (Equation 2)
    unscaled  as dropped, without the factor 1 / (1 - p)
    printed   as all, without it: Equation 2 to the letter
"""

from __future__ import annotations

from dataclasses import dataclass

from noiseutils.config import Evaluation, Model, NoisyDropout, Optimizer, Run, Schedule
from noiseutils.studies.noisy_dropout.params import Params
from noiseutils.studies.params import data_of
from noiseutils.studies.study import made_once

READINGS = ("dropped", "all", "unscaled", "printed")


@dataclass(frozen=True)
class Cell:
    """One point of the grid. level: share of `base_std`; 0 is dropout without noise."""

    p: float
    level: float
    reading: str

    @property
    def plain(self) -> Cell:
        """Ordinary dropout at the same probability: what noise is compared with."""
        return Cell(self.p, 0.0, "dropped")


def cells(params: Params) -> list[Cell]:
    """Return the grid, the most telling cells first."""
    grid = [Cell(p, 0.0, "dropped") for p in params.probabilities]
    for reading in params.readings:
        levels = (params.eq2_levels if reading == "all" else None) or params.noise_levels
        grid += [Cell(p, level, reading) for p in params.probabilities for level in levels]
    for p in params.probabilities:
        grid += [Cell(p, level, "unscaled") for level in params.unscaled_levels]
        # without noise the two unscaled readings are one
        grid += [Cell(p, level, "printed") for level in params.unscaled_levels if level > 0]
    middle, first = middle_of(params), [0.0, 0.5, 1.0]
    return sorted(
        dict.fromkeys(grid),
        key=lambda c: (
            c.p != middle,
            first.index(c.level) if c.level in first else 9,
            READINGS.index(c.reading),
        ),
    )


def level_name(level: float) -> str:
    """Return a noise level as text, in percent of the base std."""
    return "no noise" if level == 0 else f"{level * 100:g} %"


def middle_of(params: Params) -> float:
    """Return the middle dropout probability, which the study begins with."""
    return sorted(params.probabilities)[len(params.probabilities) // 2]


def stages(params: Params) -> list[list[Cell]]:
    """Return what gets all its seeds first: one level at the middle probability, in both readings.

    Then the claims that are counted, at the middle probability and at the others; the rest is left.
    """
    grid = cells(params)
    middle = [cell for cell in grid if cell.p == middle_of(params)]
    counted = [cell for cell in grid if cell.reading == "dropped"]
    one = next(cell.level for cell in middle if cell.level > 0)  # `cells` has the most telling level first
    begin = [cell for cell in middle if cell.level in (0, one) and cell.reading in ("dropped", "all")]
    return [begin, [cell for cell in middle if cell.reading == "dropped"], counted]


@made_once
def run_of(params: Params, cell: Cell, seed: int) -> Run:
    """Return the training of one cell and seed."""
    return _first_run(params, cell).replace(seed=seed)


@made_once
def _first_run(params: Params, cell: Cell) -> Run:
    """Return the training of one cell with seed 0; the others share its parts."""
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
    )
