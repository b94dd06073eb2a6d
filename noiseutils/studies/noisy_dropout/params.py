"""Parameters of the NoisyDropout study."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from noiseutils.spec import BatchSize, Epochs, Level, Names, Positive, Probability, Width
from noiseutils.studies.params import Looks, OneSetParams, Seeds, Sigmas, Sizes255, known_model

# which cells are trained, and what they are tested on: our choice, the paper's numbers hold for each
CHOSEN = {"study", "profile", "data", "seeds", "probabilities", "noise_levels", "readings"}
CHOSEN |= {"unscaled_levels", "eq2_levels", "input_noise", "fgsm_255", "looks"}
Levels = Annotated[tuple[Level, ...], Field(strict=False, max_length=100)]


class Params(OneSetParams):
    """Parameters of the NoisyDropout study."""

    study: Literal["noisy_dropout"] = "noisy_dropout"
    data: str = "shapes"
    model: str = "cifar10net"
    width: Width = 1.0
    after: Annotated[Names, Field(min_length=1)] = ("relu3", "relu4")
    probabilities: Annotated[
        tuple[Annotated[float, Field(gt=0, lt=1)], ...], Field(strict=False, min_length=1, max_length=100)
    ] = (0.2, 0.25, 0.3)
    noise_levels: Annotated[Sigmas, Field(min_length=1)] = (0.05, 0.1, 0.3, 0.5, 1.0)
    base_std: Positive = 0.1595
    readings: Annotated[
        tuple[Literal["dropped", "all"], ...], Field(strict=False, min_length=1, max_length=10)
    ] = (
        "dropped",
        "all",
    )
    eq2_levels: Annotated[Sigmas, Field(min_length=1)] | None = None
    unscaled_levels: Levels = (0.0, 0.5)
    epochs: Epochs = 10
    batch_size: BatchSize = 128
    optimizer: Literal["sgd", "adam"] = "adam"
    momentum: Probability = 0.0
    learning_rate: Positive = 0.001
    loss: Literal["cross_entropy", "sigmoid_bce"] = "sigmoid_bce"
    augment: bool = False
    input_noise: Levels = (0.05, 0.1)
    fgsm_255: Sizes255 = (1.0, 2.0, 4.0)
    seeds: Seeds = 6
    looks: Looks = 1

    _known_model = field_validator("model")(known_model)

    @property
    def as_read(self) -> bool:
        """Tell whether all that the paper's numbers depend on is the paper's as read here, images aside."""
        return self.are_default(type(self).model_fields.keys() - CHOSEN)

    @model_validator(mode="after")
    def _momentum_belongs_to_sgd(self) -> Self:
        if self.optimizer == "adam" and self.momentum:
            raise ValueError(f"adam takes no momentum, got {self.momentum}; use sgd or leave it out")
        return self
