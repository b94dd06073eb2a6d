"""`Run` and its parts: small frozen values that say everything that determines a result.

A part is checked when it is made (unknown key, wrong type, out of range: an error that names all three),
never changes afterwards, and can be compared, hashed and written as JSON. A variant comes from
`run.replace(seed=1)`. The run key is a digest of what determines the result and of nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from noiseutils.errors import UserError

SCHEMA = 1  # raise it when the same configuration starts to mean another result

EMBEDDED = ("shapes", "digits")
TORCHVISION = ("cifar10", "cifar100", "mnist", "fashion_mnist")
TREES = ("imagenet", "folder")

Probability = Annotated[float, Field(ge=0, lt=1)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
PositiveInt = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Names = Annotated[tuple[str, ...], Field(strict=False)]  # YAML and JSON write tuples as lists
Levels = Annotated[tuple[NonNegative, ...], Field(strict=False)]


class Spec(BaseModel):
    """A frozen value: strict types, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True)

    def replace(self, **changes: Any) -> Self:
        """The same value with some fields changed, checked again."""
        return type(self)(**{**dict(self), **changes})


class Data(Spec):
    """Which images. `root` says where they lie here and is not part of a run's identity."""

    name: Literal[
        "shapes", "digits", "cifar10", "cifar100", "mnist", "fashion_mnist", "imagenet", "folder"
    ] = "shapes"
    label: str = ""  # where the pixels came from; "" means the name, for a tree its folder's name
    root: str | None = None  # folder that holds the files; None: see `noiseutils.data.data_root`
    train_size: PositiveInt | None = None  # images; None: all (shapes: 2,000)
    test_size: PositiveInt | None = None  # images; None: all (shapes: 1,000)
    image_size: PositiveInt | None = None  # pixels a side; None: as stored
    streamed: bool = False  # decode an image tree anew each epoch: for one that does not fit in memory

    @model_validator(mode="before")
    @classmethod
    def _label_is_where_pixels_came_from(cls, values: Any) -> Any:
        if isinstance(values, dict) and not values.get("label"):
            values = {**values, "label": _label(values.get("name", "shapes"), values.get("root"))}
        return values

    @model_validator(mode="after")
    def _only_trees_are_streamed(self) -> Self:
        if self.streamed and self.name not in TREES:
            raise ValueError(f"`streamed` is for image trees ({', '.join(TREES)}); {self.name} is read whole")
        if self.streamed and self.image_size is None:
            raise ValueError("`streamed` needs `image_size`: pixels a side, after cutting")
        return self

    def replace(self, **changes: Any) -> Self:
        """The same with some fields changed; a label that was derived follows name and root."""
        if self.label == _label(self.name, self.root):
            changes = {"label": "", **changes}
        return super().replace(**changes)

    @classmethod
    def parse(cls, text: str, **sizes: Any) -> Data:
        """`Data` from what a person types.

        A known name; the path of a train/test image tree; NAME:PATH for one of torchvision's sets or imagenet
        in a folder of its own; NAME:PATH:LABEL for another set in that layout, which goes by its label.
        """
        if text in (*EMBEDDED, *TORCHVISION, "imagenet"):
            return cls(name=text, **sizes)
        name, _, rest = text.partition(":")
        if rest and name in (*TORCHVISION, "imagenet"):
            path, _, label = rest.partition(":")
            return cls(name=name, root=path, label=label or name, **sizes)
        if "/" in text or text.startswith((".", "~")):
            return cls(name="folder", root=text, **sizes)
        raise UserError(
            f"data {text!r} is not known; allowed: {', '.join((*EMBEDDED, *TORCHVISION, 'imagenet'))}, "
            "or the path of a folder with train/<class>/* and test/<class>/* (write ./NAME for one here), or "
            "NAME:PATH, or NAME:PATH:LABEL for a set of your own in the layout of NAME"
        )


def _label(name: str, root: str | None) -> str:
    """An image tree goes by its folder's name, every other set by its own."""
    return Path(os.path.expanduser(root)).absolute().name if name in TREES and root else name


class Model(Spec):
    """Which network; `width` scales the channels, 1.0 is the paper's."""

    name: str = "tinycnn"
    width: Positive = 1.0


class NoisyDropout(Spec):
    """Dropout with Gaussian noise, see `noiseutils.noise.noisy_dropout`; std = 0 is ordinary dropout."""

    kind: Literal["noisy_dropout"] = "noisy_dropout"
    p: Probability  # probability that a neuron is dropped
    std: NonNegative = 0.0  # of the noise, in the activations' own units
    where: Literal["dropped", "all"] = "dropped"  # which neurons get the noise: the text's, or Eq. 2's
    rescale: bool = True  # kept activations times 1 / (1 - p), as in every framework


class GaussianNoise(Spec):
    """Additive Gaussian noise on activations, N(0, std²), in the activations' own units."""

    kind: Literal["gaussian_noise"] = "gaussian_noise"
    std: NonNegative


class AdversarialNoise(Spec):
    """ANL: noise along the loss gradient of the same batch, from a first pass (You et al., Algorithm 1)."""

    kind: Literal["adversarial_noise"] = "adversarial_noise"
    epsilon: Finite  # no unit: it scales the activations' std; negative: against the gradient
    scaled: bool = True  # times s(h), the activations' std (Eq. 4); False is the paper's ablation
    batchnorm: Literal["both", "clean", "noisy"] = "both"  # which pass moves the running statistics
    variant: Literal["paper", "released"] = "paper"  # released: the rule of the authors' code


class ClassAdversarialNoise(Spec):
    """CANL: as ANL, along a gradient remembered for the sample's class (You et al., Algorithm 2)."""

    kind: Literal["class_adversarial_noise"] = "class_adversarial_noise"
    epsilon: Finite
    num_classes: PositiveInt | None = None  # None, in a Run alone: as many as its data has
    scaled: bool = True
    variant: Literal["paper", "released"] = "paper"


class LayerwiseAdversarialNoise(Spec):
    """LAT: noise along the sign of the gradient that the batch before left (You et al., Eq. 6 and 7)."""

    kind: Literal["layerwise_adversarial_noise"] = "layerwise_adversarial_noise"
    epsilon: Finite  # in the activations' own units


ActivationNoise = Annotated[
    NoisyDropout | GaussianNoise | AdversarialNoise | ClassAdversarialNoise | LayerwiseAdversarialNoise,
    Field(discriminator="kind"),
]


class AdversarialTraining(Spec):
    """AT: half of the loss on FGSM images, (1 - weight) J(x) + weight J(x + delta sign(grad J))."""

    delta: NonNegative  # attack size, pixels in [0, 1]
    weight: Annotated[float, Field(ge=0, le=1)] = 0.5  # Goodfellow et al. 2015 take one half


class Optimizer(Spec):
    """SGD (with or without momentum, Nesterov or not) or Adam."""

    name: Literal["sgd", "adam"] = "sgd"
    momentum: Probability = 0.0
    nesterov: bool = False
    weight_decay: NonNegative = 0.0

    @model_validator(mode="after")
    def _momentum_belongs_to_sgd(self) -> Self:
        if self.name == "adam" and (self.momentum or self.nesterov):
            raise ValueError("adam takes no momentum and no nesterov; use sgd or leave them out")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        return self


class Schedule(Spec):
    """Learning rate over epochs.

    constant   the same at every step
    step       times `factor` every `every` epochs
    plateau    times `factor` when the last `every` epochs have not lowered the validation loss, at least
               `every` epochs at each rate, down to `minimum`; from epoch `switch` on, `minimum`
    """

    kind: Literal["constant", "step", "plateau"] = "constant"
    learning_rate: Positive = 0.05  # at the first step
    factor: Annotated[float, Field(gt=0, le=1)] = 1.0
    every: PositiveInt | None = None  # epochs
    minimum: NonNegative = 0.0  # of a plateau schedule
    switch: PositiveInt | None = None  # epochs after which a plateau schedule stays at its minimum

    @model_validator(mode="after")
    def _kind_and_fields_agree(self) -> Self:
        if (self.kind == "constant") != (self.every is None):
            raise ValueError("step and plateau schedules need `every` (epochs), a constant one takes none")
        if self.kind != "plateau" and (self.minimum or self.switch is not None):
            raise ValueError("`minimum` and `switch` belong to a plateau schedule")
        if self.minimum > self.learning_rate:
            raise ValueError(f"minimum {self.minimum} is above the learning rate {self.learning_rate}")
        if self.switch is not None and not self.minimum:
            raise ValueError("`switch` needs a `minimum` above 0 to switch to")
        return self


class Evaluation(Spec):
    """What the trained network is put through, besides the clean test images."""

    noise: Levels = ()  # std of Gaussian noise on the input, pixels in [0, 1]
    fgsm: Levels = ()  # attack sizes, pixels in [0, 1]: write 2 / 255 as 0.00784…
    recalibrate: bool = True  # again with BatchNorm statistics re-estimated on clean batches
    similarity: Names = ()  # modules at which to compare the classes' gradients; "input" is the image
    feature_maps: Annotated[int, Field(ge=0)] = 0  # test images whose first feature maps are kept


class Run(Spec):
    """One training: everything that determines its result."""

    data: Data = Data()
    model: Model = Model()
    noise: ActivationNoise | None = None
    after: Names = ()  # where noise goes: module names ("conv3"), types ("BatchNorm2d"), "input" (the image)
    noise_epochs: PositiveInt | None = None  # noise in the first epochs alone; None: in all
    adversarial_training: AdversarialTraining | None = None
    loss: Literal["cross_entropy", "sigmoid_bce"] = "cross_entropy"
    optimizer: Optimizer = Optimizer(momentum=0.9)
    schedule: Schedule = Schedule()
    epochs: PositiveInt = 5
    batch_size: PositiveInt = 128
    augment: bool = False  # random crop (padding 4; of a streamed tree: random resized crop) and flip
    validation_size: Annotated[int, Field(ge=0)] = 0  # training images held out; 0: the test images validate
    evaluation: Evaluation = Evaluation()
    seed: Seed = 0

    @model_validator(mode="after")
    def _noise_has_a_place(self) -> Self:
        if (self.noise is None) != (not self.after):
            raise ValueError("`noise` needs `after` (module names or types), and `after` needs `noise`")
        if self.noise_epochs is not None and self.noise is None:
            raise ValueError("`noise_epochs` needs `noise`")
        if self.noise is not None and self.adversarial_training is not None:
            raise ValueError("a run takes `noise` or `adversarial_training`, not both")
        return self

    @property
    def key(self) -> str:
        """SHA-256 of the canonical JSON of what determines the result, and of `SCHEMA`."""
        text = json.dumps({"schema": SCHEMA, **_identity(self)}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def __str__(self) -> str:
        special = self.noise or self.adversarial_training
        noise = "no noise" if special is None else _short(special)
        return f"{self.model.name} on {self.data.label}, {noise}, seed {self.seed}"


def _identity(spec: Spec) -> dict[str, Any]:
    """What determines the result: fields that differ from their default, and the kind of a variant.

    Leaving defaults out lets a later version add a field (default: as before) and still find old results.
    """
    found = {}
    for name, field in type(spec).model_fields.items():
        value = getattr(spec, name)
        if name == "root" or (value == field.default and name != "kind"):
            continue
        if isinstance(value, Spec):
            value = _identity(value)
            if isinstance(field.default, Spec) and value == _identity(field.default):
                continue  # they differ in what does not determine the result
        found[name] = value
    return found


def _short(spec: Spec) -> str:
    fields = ", ".join(f"{k} {v:g}" if isinstance(v, float) else f"{k} {v}" for k, v in spec if k != "kind")
    return f"{getattr(spec, 'kind', type(spec).__name__)} ({fields})"


def explain(error: ValidationError, where: str) -> UserError:
    """A validation error as one screen: per problem the key, the value it had and what is allowed."""
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"]) or "(all)"
        if problem["type"] == "extra_forbidden":
            lines.append(f"  {key}: unknown key")
            continue
        message = problem["msg"].removeprefix("Value error, ")
        got = "" if problem["type"] == "missing" else f" (got {_clip(problem['input'])})"
        lines.append(f"  {key}: {message}{got}")
    return UserError(f"{where}:\n" + "\n".join(lines))


def _clip(value: object, width: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= width else text[: width - 1] + "…"
