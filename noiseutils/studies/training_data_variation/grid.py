"""The grid of the training-data study: architecture x kind of corruption x its strength, sigma.

Training images are corrupted by Gaussian noise or Gaussian blur. Every network is shown test images under
both kinds at every strength.

Readings, where the text leaves it open:
    sigma      of noise on images in [-1, 1], as printed; pixels here are in [0, 1], so half of it is added.
               Of a blur in pixels across
    noise      fresh at every step; beside it one fixed noisy copy of the training set, where asked for
    training   SGD with momentum 0.9 at a constant rate of 0.01, batches of 128, no crop or flip: the text
               gives the algorithm, the loss and 90 epochs
    networks   see `noiseutils.models.modules`

A blur below an eighth of a pixel is none: the filter is a single weight. Those cells are the network trained
on the images as they are, which is trained once.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

from noiseutils.config import Corruption, Evaluation, Model, Optimizer, Run, Schedule
from noiseutils.corruptions import blurs
from noiseutils.studies.params import data_of
from noiseutils.studies.results import Record, conditions
from noiseutils.studies.study import made_once
from noiseutils.studies.training_data_variation.params import Params
from noiseutils.training.loop import Result

PAPERS_LEVELS = (0.0, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)  # sigma, of trainings and of what they are shown
KINDS = {"noise": "gaussian_noise", "blur": "gaussian_blur"}  # as a run's corruption and a condition say it
COPY = "noise_copy"
NAMES = {"resnet": "ResNet", "inception": "Inception", "resnext": "ResNeXt"}  # of architectures, for readers
# Severities 1 to 5 for CIFAR-10 of Hendrycks & Dietterich 2019: noise on pixels in [0, 1], blur in pixels.
# Theirs are then cut to that range and stored in 8 bits, ours are not.
COMMON = {"noise": (0.04, 0.06, 0.08, 0.09, 0.10), "blur": (0.4, 0.6, 0.7, 0.8, 1.0)}


@dataclass(frozen=True)
class Cell:
    """One network of the grid: what its training images go through. sigma 0: kind "none".

    kind: noise, blur, or noise_copy: one noisy copy of the training images instead of fresh noise.
    """

    architecture: str
    kind: str
    sigma: float

    @property
    def plain(self) -> Cell:
        """Return the same architecture, trained on the images as they are."""
        return Cell(self.architecture, "none", 0.0)


def cells(params: Params) -> list[Cell]:
    """Return the grid: cells without a corruption, noise of 0.1 and 1, the rest, and noisy copies at last."""
    telling = [sigma for sigma in (0.1, 1.0) if sigma in params.sigmas]
    levels = [*telling, *(sigma for sigma in params.sigmas if sigma not in telling)]
    grid = [Cell(architecture, "none", 0.0) for architecture in params.architectures]
    places = itertools.product(params.kinds, levels, params.architectures)
    copies = itertools.product([COPY], params.copy_sigmas, params.architectures)
    return grid + [Cell(architecture, kind, sigma) for kind, sigma, architecture in (*places, *copies)]


def stages(params: Params) -> list[list[Cell]]:
    """Return what gets all seeds before the rest, one part after the other.

    No corruption with weak noise, strong noise, the blur that should change nothing, and the one that should.
    """
    telling = [("noise", 0.1), ("noise", 1.0), ("blur", 0.5), ("blur", 1.0)]
    there = [at for at in telling if at[0] in params.kinds and at[1] in params.sigmas]
    found = [[Cell(architecture, *at) for architecture in params.architectures] for at in there]
    plain = [Cell(architecture, "none", 0.0) for architecture in params.architectures]
    return [[*plain, *found[0]], *found[1:]] if found else []


def row_of(params: Params, architecture: str, kind: str) -> list[Cell]:
    """Return the cells of one architecture and kind, from none to the strongest."""
    levels = [0.0, *sorted(params.copy_sigmas)] if kind == COPY else params.levels
    return [Cell(architecture, kind if sigma else "none", sigma) for sigma in levels]


def neighbours(sigma: float) -> list[float]:
    """Return the strengths next to one on the paper's grid, the weaker one first; the last has one alone."""
    at = PAPERS_LEVELS.index(sigma)
    return [*PAPERS_LEVELS[max(at - 1, 0) : at], *PAPERS_LEVELS[at + 1 : at + 2]]


def size_of(kind: str, sigma: float) -> float:
    """Return what a run's corruption and evaluation call a sigma: noise is on pixels in [0, 1] there."""
    return sigma if kind == "blur" else sigma / 2


def shown_levels(params: Params, kind: str) -> list[float]:
    """Return the strengths, as sigma, at which networks are shown a kind; the common ones among them."""
    return sorted({*params.sigmas, *(common_levels(kind) if params.common else ())})


def common_levels(kind: str) -> list[float]:
    """Return the severities of a common corruption, as sigma."""
    return [2 * level if kind == "noise" else level for level in COMMON[kind]]


@made_once
def run_of(params: Params, cell: Cell, seed: int) -> Run:
    """Return the training of one cell and seed."""
    return _first_run(params, cell).replace(seed=seed)


@made_once
def _first_run(params: Params, cell: Cell) -> Run:
    """Return the training of one cell with seed 0; the others share its parts."""
    corruption = None
    if not untouched(cell):
        size, fresh = size_of(cell.kind, cell.sigma), cell.kind != COPY
        kind = "gaussian_blur" if cell.kind == "blur" else "gaussian_noise"
        corruption = Corruption(kind=kind, sigma=size, fresh=fresh)
    levels = {
        kind: tuple(size_of(kind, sigma) for sigma in shown_levels(params, kind)) for kind in params.kinds
    }
    return Run(
        data=data_of(params),
        model=Model(name=f"module_{cell.architecture}", width=params.width),
        corruption=corruption,
        optimizer=Optimizer(momentum=params.momentum),
        schedule=Schedule(learning_rate=params.learning_rate),
        epochs=params.epochs,
        batch_size=params.batch_size,
        augment=params.augment,
        evaluation=Evaluation(
            noise=levels.get("noise", ()), blur=levels.get("blur", ()), recalibrate=params.recalibrate
        ),
    )


def untouched(cell: Cell) -> bool:
    """Tell whether a cell's training images are the set's own: no corruption, or a blur that is none."""
    return cell.kind == "none" or (cell.kind == "blur" and not blurs(cell.sigma))


def records(result: Result) -> list[Record]:
    """Return the records of a result's evaluation, the accuracy among their numbers."""
    return [{**record, "accuracy": 1 - record["top1_error"]} for record in conditions(result)]


def shown_as(kind: str, level: float) -> dict[str, Any]:
    """Return the condition and size that a result's records have for images of a kind at a level."""
    return {"condition": KINDS[kind], "size": size_of(kind, level)} if level else {}
