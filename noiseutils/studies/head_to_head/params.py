"""Parameters of head to head."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from noiseutils.spec import BatchSize, Count, Epochs, Level, Positive, PositiveInt, Probability, Spec, Width
from noiseutils.studies.head_to_head.methods import METHODS, MOST_TRIALS
from noiseutils.studies.params import OneSetParams, Queries, Seeds, Sizes255, known_model

Method = Annotated[str, Field(pattern=f"^({'|'.join(METHODS)})$")]
MOST_EPOCHS = 1000  # epochs


class Setting(Spec):
    """One network, and how it is trained: what all methods are compared in."""

    model: str = "cifar10net"
    width: Width = 1.0
    images: PositiveInt | None = None  # trained on, beside those held out; None: all that the profile has
    epochs: Annotated[Epochs, Field(le=MOST_EPOCHS)] = 20
    learning_rate: Positive = 0.05  # at the first step; half a cosine down to 0

    _known_model = field_validator("model")(known_model)

    @property
    def name(self) -> str:
        """Return the setting in words."""
        width = "" if self.width == 1 else f", width {self.width:g}"
        images = "all images" if self.images is None else f"{self.images:,} images"
        return f"{self.model}{width}, {images}"


class Params(OneSetParams):
    """Parameters of head to head."""

    study: Literal["head_to_head"] = "head_to_head"
    settings: Annotated[tuple[Setting, ...], Field(strict=False, min_length=1, max_length=20)] = (
        Setting(model="cifar10net", images=5_000, epochs=60),
        Setting(model="resnet20", images=5_000, epochs=60, learning_rate=0.1),
        Setting(model="babycnn", images=5_000, epochs=60, learning_rate=0.01),
        Setting(model="cifar10net", epochs=30),
        Setting(model="resnet20", epochs=30, learning_rate=0.1),
        Setting(model="babycnn", epochs=30, learning_rate=0.02),
    )
    methods: Annotated[tuple[Method, ...], Field(strict=False, min_length=2, max_length=100)] = tuple(METHODS)
    trials: Annotated[int, Field(ge=1, le=MOST_TRIALS)] = MOST_TRIALS
    trial_seeds: Seeds = 1
    validation_size: PositiveInt = 5_000
    batch_size: BatchSize = 128
    momentum: Probability = 0.9
    noise: Annotated[Level, Field(gt=0)] = 0.1
    blur: Annotated[Level, Field(gt=0)] = 1.0
    fgsm_255: Annotated[float, Field(gt=0, le=255)] = 2.0
    training_images: PositiveInt = 5_000
    attack_255: Annotated[Sizes255, Field(min_length=1)] = (2.0,)
    attack_images: Count = 1_000
    attack_queries: Queries = 5_000
    attack_seeds: Seeds = 1
    seeds: Seeds = 6

    def setting(self, name: str) -> Setting:
        """Return the setting of a name."""
        return next(setting for setting in self.settings if setting.name == name)

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        names = [setting.name for setting in self.settings]
        if len(set(names)) < len(names):
            raise ValueError(f"settings must differ in network, width or images, got {names}")
        if "none" not in self.methods:
            raise ValueError("methods must include none, the baseline of every comparison")
        if not any(METHODS[method].strengths for method in self.methods):
            raise ValueError(f"methods must include one with a strength to choose, got {list(self.methods)}")
        return self
