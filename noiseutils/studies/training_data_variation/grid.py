"""Training-data variation: the parameters, the grid of runs, and their results gathered.

Bartschat et al., *Robustness of Deep Learning Architectures with Respect to Training Data Variation*.
The grid: architecture x kind of corruption (Gaussian noise, Gaussian blur) x its strength, sigma, on the
training images. Every network is shown test images under both kinds at every strength.

Readings, where the text leaves it open:
    sigma      of noise on images in [-1, 1], as printed; pixels here are in [0, 1], so half of it is added.
               Of a blur in pixels across
    training   SGD with momentum 0.9 at a constant rate of 0.01, batches of 128, no crop or flip: the text
               gives the algorithm, the loss and 90 epochs
    networks   see `noiseutils.models.modules`

A blur below an eighth of a pixel is none: the filter is a single weight. Those cells are the network trained
on the images as they are, which is trained once.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from noiseutils.config import Corruption, Evaluation, Model, Optimizer, Run, Schedule
from noiseutils.corruptions import blurs
from noiseutils.evaluation.minimal_change import ATTACKS
from noiseutils.spec import Positive, PositiveInt
from noiseutils.studies.common import OneSetParams, data_of

NOTEBOOK = "04_training_data_variation"
KINDS = {"noise": "gaussian_noise", "blur": "gaussian_blur"}  # as a run's corruption and a condition say it
ARCHITECTURES = ("resnet", "inception", "resnext")
# Severities 1 to 5 for CIFAR-10 of Hendrycks & Dietterich 2019: noise on pixels in [0, 1], blur in pixels.
# Theirs are then cut to that range and stored in 8 bits, ours are not.
COMMON = {"noise": (0.04, 0.06, 0.08, 0.09, 0.10), "blur": (0.4, 0.6, 0.7, 0.8, 1.0)}

Architectures = Annotated[
    tuple[Literal["resnet", "inception", "resnext"], ...], Field(strict=False, min_length=1)
]
Kinds = Annotated[tuple[Literal["noise", "blur"], ...], Field(strict=False, min_length=1)]
Sigmas = Annotated[tuple[Positive, ...], Field(strict=False, min_length=1)]
Count = Annotated[int, Field(ge=0)]


class Params(OneSetParams):
    """What a profile says, key by key; flat, so that papermill can pass it."""

    study: Literal["training_data_variation"] = "training_data_variation"
    architectures: Architectures = ARCHITECTURES
    width: Annotated[float, Field(gt=0, le=16)] = 1.0
    kinds: Kinds = ("noise", "blur")
    sigmas: Sigmas = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0)
    epochs: Annotated[int, Field(ge=1, le=100_000)] = 90
    batch_size: PositiveInt = 128
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    learning_rate: Positive = 0.01
    augment: bool = False
    common: bool = True
    recalibrate: bool = True
    change_attack: str = "ddn"
    change_images: Count = 128
    change_steps: PositiveInt = 100
    change_seeds: PositiveInt = 6
    attack_255: Annotated[
        tuple[Annotated[float, Field(gt=0, le=255)], ...], Field(strict=False, min_length=1)
    ] = (1.0, 2.0)
    attack_images: Count = 1000
    attack_queries: PositiveInt = 5000
    attack_seeds: PositiveInt = 1
    seeds: Annotated[int, Field(ge=1, le=1000)] = 6

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if self.change_attack not in ATTACKS:
            known = ", ".join(ATTACKS)
            raise ValueError(f"change_attack {self.change_attack!r} is not known; allowed: {known}")
        for name in ("sigmas", "architectures", "kinds", "attack_255"):
            given = getattr(self, name)
            if len({f"{value:g}" if isinstance(value, float) else value for value in given}) < len(given):
                raise ValueError(f"{name} must differ, got {list(given)}")
        return self


@dataclass(frozen=True)
class Cell:
    """One network of the grid: what its training images go through. sigma 0: kind "none"."""

    architecture: str
    kind: str
    sigma: float

    @property
    def plain(self) -> Cell:
        """The same architecture, trained on the images as they are."""
        return Cell(self.architecture, "none", 0.0)


def cells(params: Params) -> list[Cell]:
    """The grid, the most telling cells first, so that a sweep cut short has shown most: those without a
    corruption, then noise of 0.1 and 1, then the rest.
    """
    telling = [sigma for sigma in (0.1, 1.0) if sigma in params.sigmas]
    levels = [*telling, *(sigma for sigma in params.sigmas if sigma not in telling)]
    grid = [Cell(architecture, "none", 0.0) for architecture in params.architectures]
    places = itertools.product(params.kinds, levels, params.architectures)
    return grid + [Cell(architecture, kind, sigma) for kind, sigma, architecture in places]


def row_of(params: Params, architecture: str, kind: str) -> list[Cell]:
    """The cells of one architecture and kind, from none to the strongest."""
    return [
        Cell(architecture, "none", 0.0),
        *(Cell(architecture, kind, sigma) for sigma in sorted(params.sigmas)),
    ]


def size_of(kind: str, sigma: float) -> float:
    """What a run's corruption and evaluation call a sigma: noise is on pixels in [0, 1] there."""
    return sigma / 2 if kind == "noise" else sigma


def shown_levels(params: Params, kind: str) -> list[float]:
    """The strengths at which networks are shown images of a kind, as sigma; the common ones among them."""
    common = [2 * level if kind == "noise" else level for level in COMMON[kind]] if params.common else []
    return sorted({*params.sigmas, *common})


def run_of(params: Params, cell: Cell, seed: int) -> Run:
    """The training behind one cell and seed."""
    corruption = None
    if not untouched(cell):
        corruption = Corruption(kind=KINDS[cell.kind], sigma=size_of(cell.kind, cell.sigma))  # pyright: ignore[reportArgumentType]
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
        seed=seed,
    )


def untouched(cell: Cell) -> bool:
    """Whether a cell's training images are the set's own: no corruption, or a blur that is none."""
    return cell.kind == "none" or (cell.kind == "blur" and not blurs(cell.sigma))


def runs(params: Params) -> list[Run]:
    """Every training of the study; a whole grid of one seed before the next seed."""
    grid = [run_of(params, cell, seed) for seed in range(params.seeds) for cell in cells(params)]
    return list(dict.fromkeys(grid))
