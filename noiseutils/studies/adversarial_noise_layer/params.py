"""Parameters of the ANL study."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from noiseutils.config import TREES, Data
from noiseutils.errors import UserError
from noiseutils.spec import (
    BatchSize,
    Count,
    Epochs,
    Finite,
    ImageSize,
    Names,
    NonNegative,
    Positive,
    PositiveInt,
    Width,
)
from noiseutils.studies.params import (
    Looks,
    Seeds,
    Sizes255,
    StudyParams,
    known_data,
    known_model,
)

# Table 3's second column; ResNet-20 is not in that table: as for the other small network, MobileNet V2
EPSILONS = {
    "mobilenet": 0.02,
    "mobilenet_v2": 0.02,
    "vgg11": 0.05,
    "vgg16": 0.05,
    "resnet18": 0.05,
    "resnet20": 0.02,
    "resnet34": 0.08,
    "pyramidnet48": 0.01,
    "pyramidnet270": 0.10,
}
EPSILON_ELSE = 0.05
Method = Literal["baseline", "gaussian", "lat", "anl", "canl", "anl_negative"]


class Params(StudyParams):
    """Parameters of the ANL study."""

    study: Literal["adversarial_noise_layer"] = "adversarial_noise_layer"
    data: Annotated[Names, Field(max_length=100)] = ("cifar10", "cifar100")
    train_size: PositiveInt | None = None
    test_size: PositiveInt | None = None
    image_size: ImageSize | None = None
    width: Width = 1.0
    batch_size: BatchSize = 128
    learning_rate: Positive = 0.1
    weight_decay: NonNegative = 5e-4
    augment: bool = True
    validation_size: Count = 0
    similarity_data: str | None = "mnist"
    similarity_epochs: Epochs = 3
    lenet_data: str | None = "fashion_mnist"
    lenet_width: Width = 1.0
    lenet_learning_rate: Positive = 0.05
    lenet_epochs: Epochs = 300
    feature_map_seeds: Annotated[int, Field(ge=0, le=1000)] = 6
    methods: Annotated[tuple[Method, ...], Field(strict=False, max_length=10)] = (
        "baseline", "gaussian", "lat", "anl", "anl_negative", "canl",
    )  # fmt: skip
    epsilon: Positive = 0.03
    lat_epsilon: Positive = 0.03
    table2_models: Names = ("vgg16", "resnet20", "resnet56")
    table2_epochs: Epochs = 300
    table3_models: Names = tuple(name for name in EPSILONS if name != "resnet20")
    table3_epochs: Annotated[int, Field(ge=2, le=100_000)] = 200
    plateau_epochs: Epochs = 5
    table4_model: str | None = "vgg16"
    table4_schedules: Annotated[
        tuple[Literal["to_the_end", "two_phases"], ...], Field(strict=False, max_length=10)
    ] = (
        "to_the_end",
        "two_phases",
    )
    at_255: Sizes255 = (12.75, 2.0, 4.0)  # the first is the paper's 0.05, as a share of the pixel range
    fgsm_255: Sizes255 = (2.0, 4.0, 6.0, 8.0)
    figure4_models: Names = ("mobilenet_v2", "vgg16", "resnet18")
    figure4_epsilons: Annotated[tuple[Finite, ...], Field(strict=False, max_length=100)] = (
        0.01, 0.02, 0.03, 0.05, 0.08, 0.1,
    )  # fmt: skip
    ablation_model: str | None = "vgg16"
    imagenet_data: str | None = None
    imagenet_size: ImageSize = 224
    imagenet_epochs: Epochs = 90
    imagenet_width: Width = 1.0
    attack_images: Count = 1000
    attack_255: Sizes255 = (2.0, 8.0)
    attack_queries: Annotated[int, Field(ge=0, le=1_000_000)] = 5000
    attack_seeds: Seeds = 1
    timing_batch: Annotated[int, Field(ge=0, le=2**20)] = 32
    seeds: Seeds = 6
    looks: Looks = 1

    @field_validator("data", mode="before")
    @classmethod
    def _one_set_is_a_list_of_one(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("data", "similarity_data", "lenet_data", "imagenet_data")
    @classmethod
    def _known_data(cls, value: Any) -> Any:
        for text in (value,) if isinstance(value, str) else value or ():
            known_data(text)
        return value

    @field_validator("imagenet_data")
    @classmethod
    def _an_image_tree(cls, value: str | None) -> str | None:
        if value is not None and Data.parse(value).name not in TREES:
            raise UserError("these images are streamed from files: name imagenet, imagenet:PATH or a folder")
        return value

    @field_validator("attack_255")
    @classmethod
    def _attacks_have_a_size(cls, value: Any, info: ValidationInfo) -> Any:
        if not value and info.data.get("table4_model") and info.data.get("attack_images"):
            raise ValueError("the attack report needs at least one size; attack_images=0 leaves it out")
        return value

    @field_validator("table2_models", "table3_models", "figure4_models", "table4_model", "ablation_model")
    @classmethod
    def _known_models(cls, value: Any) -> Any:
        for name in (value,) if isinstance(value, str) else value or ():
            known_model(name)
        return value
