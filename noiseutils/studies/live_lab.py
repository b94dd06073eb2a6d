"""Parameters of the live lab: a noise of any of the four papers, its strength, two trainings from one seed.

The lab is no study of its own: it shows one seed, to look at and to play with.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator
from torch import nn

from noiseutils.config import (
    Model,
    Optimizer,
    Run,
    Schedule,
)
from noiseutils.errors import UserError, clipped, one_of
from noiseutils.models import build_model
from noiseutils.noise.sites import INPUT
from noiseutils.spec import (
    BatchSize,
    Count,
    Epochs,
    Finite,
    Names,
    NonNegative,
    Positive,
    Probability,
    Seed,
    Width,
)
from noiseutils.studies.lab_noises import KINDS, Kind
from noiseutils.studies.params import OneSetParams, Queries, data_of, known_model
from noiseutils.studies.study import Study, gather, open_store

EPOCHS = 6  # of the attack lab's networks
Beside = Annotated[tuple[str, ...], Field(strict=False, max_length=2)]
Indices = Annotated[tuple[Count, ...], Field(strict=False, max_length=4)]


class Params(OneSetParams):
    """Settings that the lab starts with, see the parameters cell of its notebook. Strength: see `KINDS`."""

    study: Literal["live_lab"] = "live_lab"
    data: str = "digits"
    model: str = "lenet5"
    width: Width = 1.0
    noise: str = "adversarial_noise"
    strength: Finite = 0.1
    after: Names = ()
    compare: bool = True
    beside: Beside = ()
    learning_rate: Positive = 0.02
    momentum: Probability = 0.9
    batch_size: BatchSize = 64
    epochs: Epochs = 200
    seed: Seed = 0
    shown: Indices = ()
    steps: Queries = 60
    attack: str = "fgsm"
    attack_size: NonNegative = 16.0
    explore: str = "noisy_dropout"
    explore_profile: str = "cifar10-jpeg"
    interactive: bool | None = None

    _known_model = field_validator("model")(known_model)

    @field_validator("noise")
    @classmethod
    def _known_noise(cls, name: str) -> str:
        if name not in KINDS:
            raise one_of("noise", name, KINDS)
        return name

    @field_validator("beside")
    @classmethod
    def _known_beside(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            name, strength = _named_strength(text)
            if strength < 0 and KINDS[name].symbol != "ε":
                raise UserError(f"beside {clipped(text)}: the strength of {name} must be at least 0")
        return texts

    @property
    def kind(self) -> Kind:
        """Return the noise's entry in `KINDS`."""
        return KINDS[self.noise]


def places(model: str) -> tuple[str, ...]:
    """Return the names of the modules that noise on activations can follow, in the network's order."""
    small = build_model(model, width=0.05)
    kinds = (nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Linear)
    return tuple(name for name, module in small.named_modules() if isinstance(module, kinds))[:-1]


@cache
def usual_places(model: str) -> tuple[str, ...]:
    """Return the default places of noise: after every BatchNorm, in a network without after every ReLU."""
    small = build_model(model, width=0.05)
    batchnorm = any(isinstance(module, nn.BatchNorm2d) for module in small.modules())
    return ("BatchNorm2d",) if batchnorm else ("ReLU",)


def noisy_run(params: Params) -> Run:
    """Return the training with noise."""
    kind = params.kind
    if params.strength < 0 and kind.symbol != "ε":
        raise UserError(f"strength {params.strength:g} of {params.noise} must be at least 0")
    parts = kind.parts(params.strength, params.epochs)
    if kind.sites:
        parts["after"] = params.after or usual_places(params.model)
    return plain_run(params).replace(**parts)


def plain_run(params: Params) -> Run:
    """Return the same training without noise: the same initial weights, the same batches."""
    return Run(
        data=data_of(params),
        model=Model(name=params.model, width=params.width),
        optimizer=Optimizer(momentum=params.momentum),
        schedule=Schedule(learning_rate=params.learning_rate),
        epochs=params.epochs,
        batch_size=params.batch_size,
        seed=params.seed,
    )


def _named_strength(text: str) -> tuple[str, float]:
    """Read "gaussian_noise 0.2". Raises UserError for other text."""
    name, _, number = text.partition(" ")
    if name not in KINDS or name == "none":
        raise one_of("beside", name, [kind for kind in KINDS if kind != "none"])
    try:
        strength = float(number)
    except ValueError:
        strength = math.nan
    if not math.isfinite(strength):
        raise UserError(
            f"beside {clipped(text)}: write a noise and its strength, such as {name} {KINDS[name].usual:g}"
        )
    return name, strength


def pair(params: Params) -> dict[str, Run]:
    """Return the training lab's trainings by name: with noise, those beside it, and without noise."""
    named = {}
    if params.noise != "none":
        named[params.noise.replace("_", " ")] = noisy_run(params)
    for name, strength in map(_named_strength, params.beside):
        other = params.replace(noise=name, strength=strength, beside=())
        named[f"{name.replace('_', ' ')}, {other.kind.symbol} = {strength:g}"] = noisy_run(other)
    plain = params.compare or params.noise == "none"
    return named | ({"no noise": plain_run(params)} if plain else {})


def networks(params: Params) -> dict[str, nn.Module]:
    """Return the attack lab's networks by name, from the store; missing ones are trained first.

    Raises UserError for a training that failed or diverged.
    """
    wanted, place, found = attacked(params), open_store(), {}
    for run in wanted.values():
        place.load(run, weights=True)  # damaged weights are set aside now, and made again
    gather(list(wanted.values()), place, "inline")
    for name, run in wanted.items():
        result = place.load(run, weights=True)
        if result is None or result.model is None:
            if result is not None and result.status == "finished":
                raise UserError(f"{run} is stored without its weights: choose another seed")
            said = f"{run} could not be trained" if result is None else f"the training of {run} diverged"
            raise UserError(f"{said}: choose another strength or learning rate")
        found[name] = result.model
    return found


def attacked(params: Params) -> dict[str, Run]:
    """Return the trainings of the attack lab's networks by name: the same two, for a few epochs."""
    return pair(params.replace(epochs=min(EPOCHS, params.epochs), compare=True, beside=()))


def choices(model: str) -> Sequence[str]:
    """Return the places that can be named for noise in a network: types, then names."""
    return (*dict.fromkeys(("ReLU", *usual_places(model), "Conv2d", "Linear", INPUT)), *places(model))


def facts(params: Params, label: str) -> dict[str, Any]:
    """Describe a training in words.   label: of its data."""
    kind = params.kind
    return {
        "noise": kind.title,
        **({"strength": f"{kind.symbol} = {params.strength:g} ({kind.unit})"} if kind.symbol else {}),
        **({"after": ", ".join(noisy_run(params).after)} if kind.sites else {}),
        "network": params.model if params.width == 1 else f"{params.model}, width {params.width:g}",
        "data": label,
        "learning rate": params.learning_rate,
        "seed": params.seed,
    }


STUDY = Study(
    "live_lab",
    "06_live_lab",
    Params,
    cells=lambda params: list(attacked(params)),
    run_of=lambda params, name, seed: attacked(params)[name],
    seeds=lambda params: (params.seed,),
)
