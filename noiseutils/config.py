"""`Run` and its parts: small frozen values that say everything that determines a result.

A part is checked when it is made (unknown key, wrong type, out of range: an error that names all three),
never changes afterwards, and can be compared, hashed and written as JSON. A variant comes from
`run.replace(seed=1)`. The run key is a digest of what determines the result and of nothing else.

A noise, a corruption, a schedule and a data set are declared beside the code that makes them.
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from noiseutils.corruptions import Corruption
from noiseutils.data.spec import EMBEDDED as EMBEDDED  # a run's parts are importable from here
from noiseutils.data.spec import TREES as TREES
from noiseutils.data.spec import Data
from noiseutils.noise import AdaptiveNoise as AdaptiveNoise
from noiseutils.noise import AdversarialNoise as AdversarialNoise
from noiseutils.noise import AnyActivationNoise, AnyParameterNoise
from noiseutils.noise import ClassAdversarialNoise as ClassAdversarialNoise
from noiseutils.noise import GaussianNoise as GaussianNoise
from noiseutils.noise import LayerwiseAdversarialNoise as LayerwiseAdversarialNoise
from noiseutils.noise import NoisyDropout as NoisyDropout
from noiseutils.noise import ScriptedNoise as ScriptedNoise
from noiseutils.schedules import Schedule
from noiseutils.spec import (
    BatchSize,
    Count,
    Epochs,
    Levels,
    Names,
    NonNegative,
    Probability,
    Seed,
    Spec,
    Width,
    identity,
    short,
)

# pixels in [0, 1]: 2 / 255 is 0.00784…; above 1 it is a number of levels
AttackSize = Annotated[float, Field(ge=0, le=1)]
MixupAlpha = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]
SCHEMA = 1  # raise it when the same configuration starts to mean another result


class Model(Spec):
    """Network by name; `width` scales the number of channels, 1.0 is the paper's."""

    name: str = "tinycnn"
    width: Width = 1.0


class AdversarialTraining(Spec):
    """AT: half of the loss on FGSM images, (1 - weight) J(x) + weight J(x + delta sign(grad J))."""

    delta: AttackSize
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


class Evaluation(Spec):
    """Tests of the trained network, in addition to the clean test images."""

    noise: Levels = ()  # std of Gaussian noise on the input, pixels in [0, 1]
    blur: Levels = ()  # std of a Gaussian blur of the input, in pixels across
    fgsm: Annotated[tuple[AttackSize, ...], Field(strict=False, max_length=1000)] = ()
    recalibrate: bool = True  # again with BatchNorm statistics re-estimated on clean batches
    similarity: Names = ()  # modules at which to compare the classes' gradients; "input" is the image
    feature_maps: Count = 0  # test images whose first feature maps are kept
    training_images: Count = 0  # training images, as they are, on which the network is tested, too


class Run(Spec):
    """One training: everything that determines its result."""

    data: Data = Data()
    model: Model = Model()
    noise: AnyActivationNoise | None = None
    after: Names = ()  # where noise goes: module names ("conv3"), types ("BatchNorm2d"), "input" (the image)
    noise_epochs: Epochs | None = None  # noise in the first epochs alone; None: in all
    corruption: Corruption | None = None  # of the training images
    adversarial_training: AdversarialTraining | None = None
    parameter_noise: AnyParameterNoise | None = None  # on gradients and weights
    loss: Literal["cross_entropy", "sigmoid_bce"] = "cross_entropy"
    optimizer: Optimizer = Optimizer(momentum=0.9)
    schedule: Schedule = Schedule()
    epochs: Epochs = 5
    batch_size: BatchSize = 128
    augment: bool = False  # random crop (padding 4; of a streamed tree: random resized crop) and flip
    label_smoothing: Probability = 0.0  # share of the label spread over all classes, in training
    mixup: MixupAlpha = 0.0  # alpha of Beta(alpha, alpha), by which pairs of images are mixed; 0: none
    cutout: Count = 0  # side of the square that is erased from each training image, in pixels; 0: none
    validation_size: Count = 0  # training images held out; 0: the test images validate
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

    @model_validator(mode="after")
    def _labels_are_mixed_where_the_loss_takes_it(self) -> Self:
        if self.label_smoothing and self.loss != "cross_entropy":
            raise ValueError(f"`label_smoothing` needs the loss cross_entropy, got {self.loss}")
        for name in ("noise", "adversarial_training"):
            if self.mixup and getattr(self, name) is not None:
                raise ValueError(f"a run takes `mixup` or `{name}`, not both: each has a loss of its own")
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
        return self._key

    @cached_property
    def _key(self) -> str:  # with the underscore pydantic leaves it out of the fields' values
        text = json.dumps({"schema": self.schema, **identity(self)}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def __str__(self) -> str:
        parts = (self.noise, self.corruption, self.adversarial_training, self.parameter_noise)
        special = [short(part) for part in parts if part]
        for name in ("label_smoothing", "mixup", "cutout"):
            if value := getattr(self, name):
                special.append(f"{name.replace('_', ' ')} {value:g}")
        noise = ", ".join(special) or "no noise"
        return f"{self.model.name} on {self.data.label}, {noise}, seed {self.seed}"
