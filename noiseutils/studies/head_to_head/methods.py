"""The methods that are compared, each with its strengths and the fields of a `Run`.

Noise goes where its paper has it: NoisyDropout and dropout after late ReLUs or before the last dense layer,
noise on activations after every BatchNorm, or every convolution of a network without BatchNorm. Four
strengths a method, about a factor of two apart, around the values that its paper or common use has; a
probability or a smoothing closer. Crop and flip has none to choose. Another learning rate is no noise's own
chance: where it lowers the error, the setting's rate was not the best without noise.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from noiseutils.config import (
    AdaptiveNoise,
    AdversarialNoise,
    ClassAdversarialNoise,
    Corruption,
    GaussianNoise,
    LayerwiseAdversarialNoise,
    NoisyDropout,
    Optimizer,
    Schedule,
)
from noiseutils.models import build_model
from noiseutils.models.modes import has_batchnorm

MOST_TRIALS = 4
ORDER = (1, 2, 0, 3)  # in which strengths are tried where fewer than all are: the middle ones first
PAPER_EPOCHS = 300  # of adaptive noise, whose numbers of epochs are scaled to a training's
NOISE_STD = 0.08  # std of NoisyDropout: half of its paper's "standard deviation of the dataset"
DROPPED_SITES = {"cifar10net": ("relu3", "relu4"), "tinycnn": ("relu3",), "simplecnn": ("relu6",)}

KINDS = {
    "activations": "noise on activations",
    "parameters": "noise on gradients or weights",
    "images": "noise and blur on images",
    "common": "what people use",
}


@dataclass(frozen=True)
class Training:
    """State what a method needs to know of the training that it goes into."""

    model: str
    epochs: int
    momentum: float
    learning_rate: float


def half_cosine(learning_rate: float, epochs: int) -> Schedule:
    """Return a schedule of one cycle, which no restart follows: from a rate down to 0."""
    return Schedule(
        kind="cosine_decaying_restarts", learning_rate=learning_rate, last=learning_rate, every=epochs
    )


@dataclass(frozen=True)
class Method:
    """One way to regularise a training.

    label: for tables and figures.   kind: a key of `KINDS`; "" for no noise.   symbol, unit: of the strength.
    strengths: those that are tried, ascending; empty where there is nothing to choose.
    parts: strength, training -> fields of a `Run`.   passes: costs of a step in theory, 1 without noise.
    """

    label: str
    kind: str
    symbol: str
    unit: str
    strengths: tuple[float, ...]
    parts: Callable[[float, Training], dict[str, Any]]
    passes: float = 1.0

    def tried(self, trials: int) -> tuple[float, ...]:
        """Return the strengths of so many trials."""
        return tuple(sorted(self.strengths[i] for i in ORDER[:trials])) if self.strengths else ()

    @property
    def of_papers(self) -> bool:
        """Tell whether this is a noise that a paper tests, not what people use."""
        return self.kind not in ("", "common")

    def at(self, strength: float) -> str:
        """Return a strength in words."""
        return f"{self.symbol} {strength:g}" if self.strengths else ""


def dropped(model: str) -> tuple[str, ...]:
    """Return where dropout and NoisyDropout go."""
    return DROPPED_SITES.get(model, ("flatten",))


@functools.cache
def noisy(model: str) -> tuple[str, ...]:
    """Return where other noise on activations goes."""
    return ("BatchNorm2d",) if has_batchnorm(build_model(model, width=1 / 16)) else ("Conv2d",)


def adaptive(sigma: float, epochs: int, targets: str) -> AdaptiveNoise:
    """Return adaptive noise whose Table V is scaled from 300 epochs to a training's.

    Numbers of epochs shrink in proportion, to at least 1, and changes by the epoch grow. sigma: the largest
    std; the smallest is a fifth of it, as in the paper.   targets: the flag that is heeded.
    """
    scale = epochs / PAPER_EPOCHS
    table = AdaptiveNoise()
    counts = ("min_epochs", "window", "overfit_epochs", "consecutive_trigger", "cooldown_min", "cooldown_max")
    changes = ("gradient_plateau", "low_weight_update", "validation_plateau")
    scaled: dict[str, Any] = {name: max(1, round(getattr(table, name) * scale)) for name in counts}
    scaled |= {name: getattr(table, name) / scale for name in changes}
    return AdaptiveNoise(**scaled, sigma_min=sigma / 5, sigma_max=sigma, targets=targets)  # pyright: ignore[reportArgumentType]


DROP_PROBABILITIES = (0.1, 0.25, 0.4, 0.5)
METHODS = {
    "none": Method("no noise", "", "", "", (), lambda strength, training: {}),
    "noisy_dropout": Method(
        "NoisyDropout, in dropped neurons", "activations", "p", "drop probability, noise of std 0.08",
        DROP_PROBABILITIES,
        lambda p, t: {"noise": NoisyDropout(p=p, std=NOISE_STD), "after": dropped(t.model)},
    ),
    "noisy_dropout_all": Method(
        "NoisyDropout, on every neuron", "activations", "p", "drop probability, noise of std 0.08",
        DROP_PROBABILITIES,
        lambda p, t: {"noise": NoisyDropout(p=p, std=NOISE_STD, where="all"), "after": dropped(t.model)},
    ),
    "gaussian": Method(
        "Gaussian on activations", "activations", "σ", "the activations' own units", (0.05, 0.1, 0.2, 0.4),
        lambda std, t: {"noise": GaussianNoise(std=std), "after": noisy(t.model)},
    ),
    "lat": Method(
        "LAT", "activations", "ε", "the activations' own units", (0.01, 0.03, 0.1, 0.3),
        lambda e, t: {"noise": LayerwiseAdversarialNoise(epsilon=e), "after": noisy(t.model)},
    ),
    "anl": Method(
        "ANL", "activations", "ε", "times s(h), the activations' std", (0.03, 0.1, 0.3, 1.0),
        lambda e, t: {"noise": AdversarialNoise(epsilon=e), "after": noisy(t.model)}, passes=5 / 3,
    ),
    "canl": Method(
        "CANL", "activations", "ε", "times s(h), the activations' std", (0.03, 0.1, 0.3, 1.0),
        lambda e, t: {"noise": ClassAdversarialNoise(epsilon=e), "after": noisy(t.model)},
    ),
    "adaptive_gradient": Method(
        "adaptive noise on gradients", "parameters", "σ", "largest std, units of gradients",
        (0.005, 0.01, 0.02, 0.05),
        lambda sigma, t: {"parameter_noise": adaptive(sigma, t.epochs, "gradient")},
    ),
    "adaptive_weight": Method(
        "adaptive noise on weights", "parameters", "σ", "largest std, units of weights",
        (0.005, 0.01, 0.02, 0.05),
        lambda sigma, t: {"parameter_noise": adaptive(sigma, t.epochs, "weight")},
    ),
    "image_noise": Method(
        "Gaussian on images", "images", "σ", "pixels in [0, 1]", (0.02, 0.05, 0.1, 0.2),
        lambda sigma, t: {"corruption": Corruption(kind="gaussian_noise", sigma=sigma)},
    ),
    "image_blur": Method(
        "blur of images", "images", "σ", "pixels across", (0.3, 0.5, 0.7, 1.0),
        lambda sigma, t: {"corruption": Corruption(kind="gaussian_blur", sigma=sigma)},
    ),
    "learning_rate": Method(
        "another learning rate", "common", "×", "times the setting's", (0.25, 0.5, 2.0, 4.0),
        lambda times, t: {"schedule": half_cosine(times * t.learning_rate, t.epochs)},
    ),
    "dropout": Method(
        "dropout", "common", "p", "drop probability", DROP_PROBABILITIES,
        lambda p, t: {"noise": NoisyDropout(p=p), "after": dropped(t.model)},
    ),
    "weight_decay": Method(
        "weight decay", "common", "λ", "L2", (5e-4, 1e-3, 2e-3, 5e-3),
        lambda decay, t: {"optimizer": Optimizer(momentum=t.momentum, weight_decay=decay)},
    ),
    "label_smoothing": Method(
        "label smoothing", "common", "α", "share of the label", (0.05, 0.1, 0.2, 0.3),
        lambda share, t: {"label_smoothing": share},
    ),
    "mixup": Method(
        "mixup", "common", "α", "of Beta(α, α)", (0.1, 0.2, 0.5, 1.0), lambda alpha, t: {"mixup": alpha},
    ),
    "cutout": Method(
        "cutout", "common", "side", "pixels", (4, 8, 12, 16), lambda side, t: {"cutout": round(side)},
    ),
    "crop_flip": Method(
        "crop and flip", "common", "", "", (), lambda strength, t: {"augment": True},
    ),
}  # fmt: skip
