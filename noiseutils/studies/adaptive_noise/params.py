"""Parameters of the adaptive-noise study."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from noiseutils.config import AdaptiveNoise
from noiseutils.noise.parameters import Spared, WeightEvery
from noiseutils.spec import BatchSize, Epochs, NonNegative, Positive, PositiveInt, Width
from noiseutils.studies.params import Looks, OneSetParams, Positives, Seeds, known_model

# which cells are trained, and readings that the paper leaves open: its numbers are held against each. The
# images that validate are not among them: the printed accuracies show that there were 5,000
CHOSEN = {"study", "profile", "data", "seeds", "models", "optimizers", "distributions", "controls"}
CHOSEN |= {"learning_rates", "adam_rates", "regularisers", "looks"}
CHOSEN |= {"weight_every", "rate_of_change", "overfit", "stuck_argument", "validation_change", "spared"}
Kinds = Annotated[
    tuple[Literal["gaussian", "uniform"], ...], Field(strict=False, min_length=1, max_length=10)
]
Regularisers = Annotated[tuple[Literal["dropout", "weight_decay"], ...], Field(strict=False, max_length=10)]
Optimizers = Annotated[
    tuple[Literal["sgd", "momentum", "adam"], ...], Field(strict=False, min_length=1, max_length=10)
]


class Params(OneSetParams):
    """Parameters of the adaptive-noise study. Defaults: Tables IV and V."""

    study: Literal["adaptive_noise"] = "adaptive_noise"
    validation_size: PositiveInt = 5_000
    validate_on: Literal["split", "test"] = "split"
    models: Annotated[tuple[str, ...], Field(strict=False, min_length=1, max_length=20)] = (
        "babycnn",
        "tinycnn",
        "simplecnn",
        "resnet18",
    )
    width: Width = 1.0
    optimizers: Optimizers = ("sgd", "momentum", "adam")
    learning_rates: Positives = (1e-1, 1e-2, 1e-3, 1e-4)
    adam_rates: Annotated[tuple[Positive, ...], Field(strict=False, max_length=100)] = ()
    distributions: Kinds = ("gaussian", "uniform")
    regularisers: Regularisers = ()
    controls: bool = True
    epochs: Annotated[int, Field(ge=2, le=100_000)] = 300
    restart_epochs: Epochs = 50
    final_max: Positive = 1e-5
    minimum: NonNegative = 1e-6
    weight_decay: NonNegative = 1e-4
    batch_size: BatchSize = 128
    augment: bool = True
    min_epochs: PositiveInt = 70
    window: PositiveInt = 10
    gradient_plateau: Positive = 0.025
    low_weight_update: NonNegative = 5e-4
    validation_plateau: Positive = 1e-4
    overfit_epochs: PositiveInt = 3
    sigma_min: NonNegative = 0.01
    sigma_max: NonNegative = 0.05
    weight_every: WeightEvery = "epoch"
    consecutive_trigger: PositiveInt = 10
    cooldown_min: PositiveInt = 3
    cooldown_max: PositiveInt = 10
    rate_of_change: Literal["epoch", "window"] = "epoch"
    overfit: Literal["row", "both", "counted"] = "row"
    stuck_argument: Literal["printed", "shifted"] = "printed"
    validation_change: Literal["relative", "absolute"] = "relative"
    spared: Spared = "none"
    seeds: Seeds = 6
    looks: Looks = 1

    @property
    def kinds(self) -> tuple[str, ...]:
        """Return the kinds of noise in the grid, without noise first, and the regularisers beside them."""
        return ("none", *self.distributions, *self.regularisers)

    def rates(self, optimizer: str) -> tuple[float, ...]:
        """Return the learning rates of an optimiser, one of which is chosen."""
        return self.adam_rates if optimizer == "adam" and self.adam_rates else self.learning_rates

    @property
    def as_read(self) -> bool:
        """Tell whether all that the paper's numbers depend on is the paper's as read here, images aside."""
        return self.are_default(type(self).model_fields.keys() - CHOSEN)

    def adaptive_noise(self, distribution: Literal["gaussian", "uniform"]) -> AdaptiveNoise:
        """Return the noise of the profile."""
        fields = AdaptiveNoise.model_fields.keys() - {"kind", "distribution", "targets"}
        return AdaptiveNoise(distribution=distribution, **{name: getattr(self, name) for name in fields})

    @field_validator("models")
    @classmethod
    def _known_models(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(known_model, names))

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        self.adaptive_noise("gaussian")  # makes its own checks
        if (
            self.final_max > min(*self.learning_rates, *self.adam_rates, math.inf)
            or self.minimum > self.final_max
        ):
            raise ValueError(
                f"minimum {self.minimum:g} <= final_max {self.final_max:g} <= every learning rate is needed"
            )
        return self
