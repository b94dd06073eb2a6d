"""Parameters of the training-data study."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from noiseutils.errors import clipped, one_of
from noiseutils.evaluation.minimal_change import ATTACKS, BEST
from noiseutils.spec import BatchSize, Count, Epochs, Positive, Probability, Width
from noiseutils.studies.params import OneSetParams, Queries, Seeds, Sigmas, Sizes255

ARCHITECTURES = ("resnet", "inception", "resnext")
# parameters that leave the paper's setting as it is: which cells are run, and what is asked beyond the paper
CHOSEN = {"study", "profile", "data", "seeds", "copy_sigmas", "common", "recalibrate", "change_seeds"}
CHOSEN |= {"attack_255", "attack_images", "attack_queries", "attack_seeds"}
Architectures = Annotated[
    tuple[Literal["resnet", "inception", "resnext"], ...], Field(strict=False, min_length=1, max_length=10)
]
Kinds = Annotated[tuple[Literal["noise", "blur"], ...], Field(strict=False, min_length=1, max_length=10)]


class Params(OneSetParams):
    """Parameters of the training-data study."""

    study: Literal["training_data_variation"] = "training_data_variation"
    architectures: Architectures = ARCHITECTURES
    width: Width = 1.0
    kinds: Kinds = ("noise", "blur")
    sigmas: Annotated[Sigmas, Field(min_length=1)] = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0)
    copy_sigmas: Sigmas = ()
    epochs: Epochs = 90
    batch_size: BatchSize = 128
    momentum: Probability = 0.9
    learning_rate: Positive = 0.01
    augment: bool = False
    common: bool = True
    recalibrate: bool = True
    change_attack: str = BEST
    change_images: Count = 128
    change_steps: Queries = 100
    change_seeds: Seeds = 6
    attack_255: Annotated[Sizes255, Field(min_length=1)] = (1.0, 2.0)
    attack_images: Count = 1000
    attack_queries: Queries = 5000
    attack_seeds: Seeds = 1
    seeds: Seeds = 6

    @property
    def levels(self) -> list[float]:
        """Return the training strengths from none to the strongest."""
        return [0.0, *sorted(self.sigmas)]

    @property
    def as_read(self) -> bool:
        """Tell whether all that the paper's numbers depend on is the paper's as read here, images aside."""
        return self.are_default(type(self).model_fields.keys() - CHOSEN)

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if self.change_attack not in ATTACKS:
            raise one_of("change_attack", self.change_attack, ATTACKS)
        for name in ("sigmas", "copy_sigmas", "attack_255"):
            given = getattr(self, name)
            if len({f"{value:g}" for value in given}) < len(given):  # as tables name them
                raise ValueError(f"{name} must differ, got {clipped(list(given))}")
        return self
