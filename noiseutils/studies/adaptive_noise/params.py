"""Parameters of the adaptive-noise study."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from noiseutils.config import AdaptiveNoise
from noiseutils.spec import NonNegative, Positive, PositiveInt
from noiseutils.studies.params import OneSetParams, Positives, Seeds, Width, data_of, known_model

PAPER_DATA = ("cifar10", "cifar10-jpeg")  # what the paper's numbers can be held against
# which cells are trained, and readings that the paper leaves open: its numbers are held against each
CHOSEN = {"study", "profile", "data", "seeds", "models", "optimizers", "distributions", "controls"}
CHOSEN |= {"learning_rates", "validate_on", "validation_size", "weight_every"}
Kinds = Annotated[tuple[Literal["gaussian", "uniform"], ...], Field(strict=False, min_length=1)]
Optimizers = Annotated[tuple[Literal["sgd", "momentum", "adam"], ...], Field(strict=False, min_length=1)]


class Params(OneSetParams):
    """Parameters of the adaptive-noise study. Defaults: Tables IV and V."""

    study: Literal["adaptive_noise"] = "adaptive_noise"
    validation_size: PositiveInt = 5_000
    validate_on: Literal["split", "test"] = "split"
    models: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] = (
        "babycnn",
        "tinycnn",
        "simplecnn",
        "resnet18",
    )
    width: Width = 1.0
    optimizers: Optimizers = ("sgd", "momentum", "adam")
    learning_rates: Positives = (1e-1, 1e-2, 1e-3, 1e-4)
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
    seeds: Seeds = 6

    @property
    def kinds(self) -> tuple[str, ...]:
        """Return the kinds of noise in the grid, without noise first."""
        return ("none", *self.distributions)

    @property
    def comparable(self) -> bool:
        """Tell whether the paper's numbers can be held against ours: its data, and all else as read here."""
        return self.are_default(type(self).model_fields.keys() - CHOSEN) and self.on_paper_data

    @property
    def on_paper_data(self) -> bool:
        """Tell whether the images are the paper's."""
        return data_of(self).label in PAPER_DATA

    def adaptive_noise(self, distribution: Literal["gaussian", "uniform"]) -> AdaptiveNoise:
        """Return the noise of the profile."""
        fields = AdaptiveNoise.model_fields.keys() - {"kind", "distribution"}
        return AdaptiveNoise(distribution=distribution, **{name: getattr(self, name) for name in fields})

    @field_validator("models")
    @classmethod
    def _known_models(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(known_model, names))

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        self.adaptive_noise("gaussian")  # makes its own checks
        if self.final_max > min(self.learning_rates) or self.minimum > self.final_max:
            raise ValueError(
                f"minimum {self.minimum:g} <= final_max {self.final_max:g} <= every learning rate is needed"
            )
        return self
