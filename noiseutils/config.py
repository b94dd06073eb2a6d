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

from pydantic import Field, model_validator

from noiseutils.errors import UserError
from noiseutils.noise import AdaptiveNoise as AdaptiveNoise  # a run's parts are importable from here
from noiseutils.noise import AdversarialNoise as AdversarialNoise
from noiseutils.noise import AnyActivationNoise, AnyParameterNoise
from noiseutils.noise import ClassAdversarialNoise as ClassAdversarialNoise
from noiseutils.noise import GaussianNoise as GaussianNoise
from noiseutils.noise import LayerwiseAdversarialNoise as LayerwiseAdversarialNoise
from noiseutils.noise import NoisyDropout as NoisyDropout
from noiseutils.noise import ScriptedNoise as ScriptedNoise
from noiseutils.spec import (
    Levels,
    Names,
    NonNegative,
    Positive,
    PositiveInt,
    Probability,
    Seed,
    Spec,
    identity,
    short,
)

SCHEMA = 1  # raise it when the same configuration starts to mean another result

EMBEDDED = ("shapes", "digits")
TORCHVISION = ("cifar10", "cifar100", "mnist", "fashion_mnist")
TREES = ("imagenet", "folder")


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
        """Return the same with some fields changed; a label that was derived follows name and root."""
        if self.label == _label(self.name, self.root):
            changes = {"label": "", **changes}
        return super().replace(**changes)

    @classmethod
    def parse(cls, text: str, **sizes: Any) -> Data:
        """Read `Data` from what a person types.

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
    """Return the name of a data set: of an image tree the folder's."""
    return Path(os.path.expanduser(root)).absolute().name if name in TREES and root else name


class Model(Spec):
    """Which network; `width` scales the channels, 1.0 is the paper's."""

    name: str = "tinycnn"
    width: Positive = 1.0


class Corruption(Spec):
    """What is done to every training image, after crop and flip, before the network normalises it.

    gaussian_noise   fresh at every step, not clipped
    gaussian_blur    see `noiseutils.corruptions.gaussian_blur`
    """

    kind: Literal["gaussian_noise", "gaussian_blur"]
    sigma: NonNegative  # of the noise, pixels in [0, 1]; of the blur, pixels across


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
    cosine_decaying_restarts
               down to `minimum` by half a cosine in `every` epochs, then from a lower rate again, which falls
               to `last`; each cycle `t_mult` times as long as the one before
    """

    kind: Literal["constant", "step", "plateau", "cosine_decaying_restarts"] = "constant"
    learning_rate: Positive = 0.05  # at the first step
    factor: Annotated[float, Field(gt=0, le=1)] = 1.0
    every: PositiveInt | None = None  # epochs
    minimum: NonNegative = 0.0  # of a plateau or cosine schedule
    switch: PositiveInt | None = None  # epochs after which a plateau schedule stays at its minimum
    last: Positive | None = None  # of a cosine schedule: the rate of its last restart
    t_mult: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1.0  # of a cosine schedule

    @model_validator(mode="after")
    def _kind_and_fields_agree(self) -> Self:
        cosine = self.kind == "cosine_decaying_restarts"
        if (self.kind == "constant") != (self.every is None):
            raise ValueError("every schedule but a constant one needs `every` (epochs); that takes none")
        if self.switch is not None and self.kind != "plateau":
            raise ValueError("`switch` belongs to a plateau schedule")
        if self.minimum and self.kind not in ("plateau", "cosine_decaying_restarts"):
            raise ValueError("`minimum` belongs to a plateau or cosine schedule")
        if cosine == (self.last is None) or (self.t_mult != 1 and not cosine):
            raise ValueError("a cosine schedule needs `last`; `last` and `t_mult` belong to one")
        if cosine and self.factor != 1:
            raise ValueError("a cosine schedule takes no `factor`")
        if self.minimum > self.learning_rate:
            raise ValueError(f"minimum {self.minimum} is above the learning rate {self.learning_rate}")
        if self.last is not None and not self.minimum <= self.last <= self.learning_rate:
            raise ValueError(f"last {self.last} is not from {self.minimum} to {self.learning_rate}")
        if self.switch is not None and not self.minimum:
            raise ValueError("`switch` needs a `minimum` above 0 to switch to")
        return self


class Evaluation(Spec):
    """What the trained network is put through, besides the clean test images."""

    noise: Levels = ()  # std of Gaussian noise on the input, pixels in [0, 1]
    blur: Levels = ()  # std of a Gaussian blur of the input, in pixels across
    fgsm: Levels = ()  # attack sizes, pixels in [0, 1]: write 2 / 255 as 0.00784…
    recalibrate: bool = True  # again with BatchNorm statistics re-estimated on clean batches
    similarity: Names = ()  # modules at which to compare the classes' gradients; "input" is the image
    feature_maps: Annotated[int, Field(ge=0)] = 0  # test images whose first feature maps are kept


class Run(Spec):
    """One training: everything that determines its result."""

    data: Data = Data()
    model: Model = Model()
    noise: AnyActivationNoise | None = None
    after: Names = ()  # where noise goes: module names ("conv3"), types ("BatchNorm2d"), "input" (the image)
    noise_epochs: PositiveInt | None = None  # noise in the first epochs alone; None: in all
    corruption: Corruption | None = None  # of the training images
    adversarial_training: AdversarialTraining | None = None
    parameter_noise: AnyParameterNoise | None = None  # on gradients and weights
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
        if self.corruption is not None and self.adversarial_training is not None:
            raise ValueError("an attack needs pixels in [0, 1]: no `corruption` with `adversarial_training`")
        if self.parameter_noise is not None:
            self.parameter_noise.check_epochs(self.epochs)
        return self

    @property
    def schema(self) -> int:
        """`SCHEMA`, raised for the runs alone whose result has changed."""
        # s(h) after a BatchNorm was read from autograd's private state, and differed in its last bits
        after_batchnorm = any("BatchNorm" in name for name in self.after)
        return SCHEMA + (self.noise is not None and self.noise.uses_std and after_batchnorm)

    @property
    def key(self) -> str:
        """SHA-256 of the canonical JSON of what determines the result, and of its schema."""
        text = json.dumps({"schema": self.schema, **identity(self)}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def __str__(self) -> str:
        parts = (self.noise, self.corruption, self.adversarial_training, self.parameter_noise)
        special = [part for part in parts if part]
        noise = ", ".join(map(short, special)) or "no noise"
        return f"{self.model.name} on {self.data.label}, {noise}, seed {self.seed}"
