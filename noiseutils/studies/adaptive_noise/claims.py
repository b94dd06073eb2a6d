"""State the adaptive-noise paper's claims, each with its test.

Noise is Gaussian where nothing else is said. A claim counts at the learning rate that was chosen without
noise, for both sides: then the noise alone differs. Beside it stand both at the rate that was chosen for the
noise (its name ends in "-noise-rate"), and each at its own ("-own-rate"): the paper's comparison, as we read
it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal

import pandas as pd

from noiseutils.stats import holm
from noiseutils.studies.adaptive_noise.choice import chosen, control_cells, isolated, pair
from noiseutils.studies.adaptive_noise.grid import OPTIMIZERS, Cell
from noiseutils.studies.adaptive_noise.params import Params
from noiseutils.studies.adaptive_noise.reported import printed, printed_difference
from noiseutils.studies.registry import Cause, Claim, Contrast, difference, minus, where_a_gap
from noiseutils.studies.results import Results, mean_by_seed

NAMES = {"babycnn": "BabyCNN", "tinycnn": "TinyCNN", "simplecnn": "SimpleCNN", "resnet18": "ResNet-18"}
OPTIMIZER_NAMES = {"sgd": "SGD", "momentum": "SGD with momentum", "adam": "Adam"}
# "the noise injection acted as a strong regularizer" for these; for Adam for TinyCNN alone (section III)
REGULARISED = {
    "sgd": ("resnet18", "simplecnn", "tinycnn"),
    "momentum": ("resnet18", "simplecnn", "tinycnn"),
    "adam": ("tinycnn",),
}
NOT_REGULARISED = ("resnet18", "simplecnn")  # with Adam "the regularizing effect is non existent" for these
SMALLEST = ("babycnn", "tinycnn")
# what the paper says of all trainings counts once an optimiser, at the network whose 300 epochs take no GPU;
# its conclusion once, at the paper's own example, whose gap of "around 0.02" is that with uniform noise; the
# other networks stand beside
NAMED, EXAMPLE = "babycnn", ("tinycnn", "sgd")
# of the accuracy, for "no differences are noticeable": nine of the paper's own twelve pairs, of single
# trainings, differ by less than one point, and it calls all twelve alike
ALIKE = 0.01
# of the gap in nats, for "non existent": a tenth of what the paper prints without noise (0.51, 0.87), or less
NO_EFFECT = 0.05
# what the paper says noise does to "almost all" trainings: name, quantity, direction, in words
EFFECTS: tuple[tuple[str, str, Literal["up", "down"], str], ...] = (
    ("accuracy", "validation_accuracy", "down", "noise lowers the validation accuracy"),
    ("train-accuracy", "train_accuracy", "down", "noise lowers the training accuracy"),
    ("train-loss", "train_loss", "up", "noise raises the training loss"),
    ("loss", "validation_loss", "up", "noise raises the validation loss"),
)
# readings that the paper leaves open: what a verdict says of another than the default
READINGS = {
    "weight_every": "noise on weights after every {}",
    "rate_of_change": "rates of change over the whole {}",
    "overfit": "overfit flag: {}",
    "stuck_argument": "argument of F_stuck: {}",
    "validation_change": "{} change of the validation loss",
    "spared": "no noise on {}",
}
RATES = {
    "plain": "both at the learning rate that is best without noise",
    "noise": "both at the learning rate that is best with Gaussian noise",
    "own": "each at its own best learning rate",
}

AdaptiveClaim = Claim[Params, Cell]
Found = Results[Params, Cell]
Test = Callable[[Found], Contrast | None]


def against(
    other: str, model: str, optimizer: str, quantity: str, rates: str, noise: str = "gaussian"
) -> Test:
    """Return the contrast of a quantity, noise minus another kind; rates: see `choice.pair`."""

    def contrast(results: Found) -> Contrast | None:
        cells = pair(results, model, optimizer, (noise, other), rates)
        found = difference(results, *cells, quantity)
        return replace(found, remark=_remark(results.params, optimizer)) if found else None

    return contrast


def _remark(params: Params, optimizer: str) -> str:
    """Return what a reader needs to know of a profile: a single rate, readings other than the default."""
    found = ["one learning rate was run, none chosen"] if len(params.rates(optimizer)) == 1 else []
    usual = Params.model_fields
    found += [
        words.format(getattr(params, name))
        for name, words in READINGS.items()
        if getattr(params, name) != usual[name].default
    ]
    return "; ".join(found)


def gap_closed(model: str, optimizer: str, rates: str, noise: str = "gaussian") -> Test:
    """Return the contrast of the gap, noise minus none; void where there is no gap without noise."""

    def contrast(results: Found) -> Contrast | None:
        found = against("none", model, optimizer, "gap", rates, noise)(results)
        _, plain = pair(results, model, optimizer, (noise, "none"), rates)
        return where_a_gap(found, results.interval(plain, "gap"))

    return contrast


def validation_above_training(model: str, optimizer: str, kind: str) -> Test:
    """Return the contrast of validation minus training accuracy, at the rate chosen for none."""

    def contrast(results: Found) -> Contrast | None:
        cell = isolated(results, model, optimizer, kind)
        if cell is None:
            return None
        validation = results.values(cell, "validation_accuracy")
        return minus(validation, results.values(cell, "train_accuracy"), (cell,))

    return contrast


def gradient_share(results: Found) -> Contrast | None:
    """Return the contrast of noisy epochs' shares: with noise on gradients minus with noise on weights.

    Mean over the networks and optimisers of the profile; a training without a noisy epoch is left out.
    """
    params, each, cells = results.params, [], []
    for optimizer in params.optimizers:
        for model in params.models:
            cell = isolated(results, model, optimizer, "gaussian")
            shares = {
                seed: _share(results.by_cell[cell, seed].history)
                for seed in results.values(cell, "gap")
                if cell is not None
            }
            if shares := {seed: share for seed, share in shares.items() if share is not None}:
                each.append(shares)
                cells.append(cell)
    if not each:
        return None
    epochs = {
        tuple(_noisy_epochs(results.by_cell[cell, seed].history))
        for cell, shares in zip(cells, each, strict=True)
        for seed in shares
    }
    alike = "noise falls on the same epochs in every training" if len(epochs) == 1 else ""
    return Contrast(mean_by_seed(each), (*cells,), remark=alike)


def _noisy_epochs(history: pd.DataFrame) -> list[int]:
    return history.epoch[(history.gradient_noise > 0) | (history.weight_noise > 0)].astype(int).tolist()


def _share(history: pd.DataFrame) -> float | None:
    gradient, weight = history.gradient_noise > 0, history.weight_noise > 0
    noisy = int((gradient | weight).sum())
    return int(gradient.sum() - weight.sum()) / noisy if noisy else None


def against_regularisers(model: str, optimizer: str, regulariser: str | None) -> Test:
    """Return the contrast of the validation accuracy, noise minus a regulariser; None: the mean of all."""

    def contrast(results: Found) -> Contrast | None:
        kinds = [regulariser] if regulariser else results.params.regularisers
        noisy = isolated(results, model, optimizer, "gaussian")
        if noisy is None or not kinds:
            return None
        others = [replace(noisy, kind=kind) for kind in kinds]
        means = results.means(others, "validation_accuracy")
        found = minus(results.values(noisy, "validation_accuracy"), means, (noisy, *others))
        return where_a_gap(found, results.interval(replace(noisy, kind="none"), "gap"))

    return contrast


def against_shuffled(model: str, optimizer: str) -> Test:
    """Return the contrast of the validation accuracy, adaptive noise minus the same in epochs at random."""

    def contrast(results: Found) -> Contrast | None:
        adaptive = chosen(results, model, optimizer, "gaussian")
        if adaptive is None:
            return None
        return difference(results, adaptive, replace(adaptive, kind="shuffled"), "validation_accuracy")

    return contrast


def _printed(model: str, optimizer: str, quantity: str, expected: str) -> str:
    """Return the paper's own numbers for a claim, and whether they are against it."""
    plain, noisy = (printed(model, optimizer, kind)[quantity] for kind in ("none", "gaussian"))
    change = printed_difference(model, optimizer, "gaussian", quantity) or 0.0
    contrary = abs(change) > NO_EFFECT if expected == "within" else (change > 0) != (expected == "up")
    return f" (printed: {plain:.4f} without, {noisy:.4f} with{', against the claim' * contrary})"


def _of_network(model: str, optimizer: str, rates: str) -> Iterator[AdaptiveClaim]:
    """Yield what the paper claims of a network and optimiser, in one choice of rates."""
    where = f"{NAMES[model]}, {OPTIMIZER_NAMES[optimizer]}"
    counted = rates == "plain"
    of_all = counted and model == NAMED
    end = f"-{model}-{optimizer}" + ("" if counted else f"-{rates}-rate")
    for name, quantity, claimed, text in EFFECTS:
        own = _printed(model, optimizer, quantity, claimed)
        concludes = name == "accuracy" and counted and (model, optimizer) == EXAMPLE
        yield Claim(
            f"{name}{end}", "IV" if concludes else "III", f"{text}: {where}{own}",
            f"{quantity.replace('_', ' ')}, noise minus none, {RATES[rates]}", claimed,
            against("none", model, optimizer, quantity, rates), counted=of_all or concludes,
            of_collapse=True,  # noise that ruins a network is the strongest case of what is claimed
        )  # fmt: skip
    gap = f"gap (validation minus training loss, nats), noise minus none, {RATES[rates]}"
    if model in REGULARISED[optimizer]:
        own = _printed(model, optimizer, "gap", "down")
        yield Claim(
            f"regularises{end}", "III", f"noise regularises, the gap is smaller: {where}{own}", gap, "down",
            gap_closed(model, optimizer, rates), counted=counted, helps=True,
        )  # fmt: skip
    if counted and (model, optimizer) == EXAMPLE:
        values = [printed(model, optimizer, kind)["gap"] for kind in ("none", "uniform")]
        yield Claim(
            f"regularises{end}-uniform", "III",
            f"uniform noise regularises, the gap is smaller: {where} (printed: {values[0]:.4f} without, "
            f"{values[1]:.4f} with)", gap, "down", gap_closed(model, optimizer, rates, "uniform"), helps=True,
        )  # fmt: skip
    if optimizer == "adam" and model in NOT_REGULARISED:
        own = _printed(model, optimizer, "gap", "within")
        yield Claim(
            f"no-effect{end}", "III", f"noise does not regularise: {where}{own}", gap, "within",
            gap_closed(model, optimizer, rates), NO_EFFECT, counted,
        )  # fmt: skip
    accuracies = [printed(model, optimizer, kind)["validation_accuracy"] for kind in ("gaussian", "uniform")]
    contrary = ", against the claim" * (abs(accuracies[0] - accuracies[1]) > ALIKE)
    yield Claim(
        f"alike{end}", "III",
        f"Gaussian and uniform noise do not differ: {where} (printed: {accuracies[0]:.4f} and "
        f"{accuracies[1]:.4f}{contrary})",
        f"validation accuracy, Gaussian minus uniform, {RATES[rates]}", "within",
        against("uniform", model, optimizer, "validation_accuracy", rates), ALIKE, of_all,
    )  # fmt: skip


def _of_conclusion(model: str, optimizer: str) -> Iterator[AdaptiveClaim]:
    """Yield how a network and optimiser bear on the conclusion, and on whether *adaptive* matters."""
    where, end = f"{NAMES[model]}, {OPTIMIZER_NAMES[optimizer]}", f"-{model}-{optimizer}"
    rate = "all at the learning rate that is best without noise"
    if model in REGULARISED[optimizer]:
        for regulariser in (None, "dropout", "weight_decay"):
            other = "the regularisers, on average," if regulariser is None else regulariser.replace("_", " ")
            yield Claim(
                f"suboptimal{end}" + (f"-{regulariser}" if regulariser else ""), "IV",
                f"noise is worth less than traditional regularisers: {where}",
                f"validation accuracy, noise minus {other} {rate}", "down",
                against_regularisers(model, optimizer, regulariser),
                counted=regulariser is None and (model, optimizer) == EXAMPLE,
            )  # fmt: skip
    yield Claim(
        f"adaptive{end}", "beyond", f"noise helps more when it stagnates than at other times: {where}",
        "validation accuracy, adaptive noise minus the same amounts in epochs at random, both at the "
        "learning rate that is best with Gaussian noise", "up",
        against_shuffled(model, optimizer), counted=False,
    )  # fmt: skip


def _of_smallest(model: str, optimizer: str) -> Iterator[AdaptiveClaim]:
    """Yield that the validation accuracy is above the training accuracy, with noise and without."""
    where = f"{NAMES[model]}, {OPTIMIZER_NAMES[optimizer]}"
    for kind, words in (("gaussian", "with noise"), ("none", "without noise")):
        own = printed(model, optimizer, kind)
        values = own["validation_accuracy"], own["train_accuracy"]
        contrary = ", against the claim" * (values[0] <= values[1])
        yield Claim(
            f"above-{model}-{optimizer}" + "-none" * (kind == "none"), "III",
            f"validation accuracy is higher than training accuracy {words}: {where} (printed: "
            f"{values[0]:.4f} and {values[1]:.4f}{contrary})",
            "validation minus training accuracy, as taken while an epoch trains, on augmented images", "up",
            validation_above_training(model, optimizer, kind), counted=kind == "gaussian",
        )  # fmt: skip


def _claims() -> Iterator[AdaptiveClaim]:
    for rates in RATES:
        for optimizer in OPTIMIZERS:
            for model in NAMES:
                yield from _of_network(model, optimizer, rates)
    yield Claim(
        "mainly-gradients", "III", "noise is mainly on the gradients",
        "share of noisy epochs with noise on gradients minus share with noise on weights", "up",
        gradient_share,
    )  # fmt: skip
    for optimizer in OPTIMIZERS:
        for model in SMALLEST:
            yield from _of_smallest(model, optimizer)
        for model in NAMES:
            yield from _of_conclusion(model, optimizer)


CLAIMS = tuple(_claims())


def controls_table(results: Results[Params, Cell]) -> pd.DataFrame:
    """Test each control against the adaptive run that it follows, beyond the paper; Holm over the table.

    A difference that is not shown is no proof of none: see its interval.
    """
    rows, p_values = [], []
    for cell in control_cells(results):
        for quantity in ("validation_accuracy", "gap"):
            test = results.paired(cell, replace(cell, kind="gaussian"), quantity)
            row = {"model": cell.model, "optimizer": cell.optimizer, "control": cell.kind}
            rows.append({**row, "quantity": quantity, **test.difference.row("difference")})
            p_values.append(test.p)
    return pd.DataFrame(rows).assign(p_holm=holm(p_values)) if rows else pd.DataFrame()


MAIN = (
    "accuracy-babycnn-momentum",
    "regularises-tinycnn-sgd",
    "regularises-simplecnn-momentum",
    "no-effect-simplecnn-adam",
    "suboptimal-tinycnn-sgd",
)
CAUSES = (
    Cause(
        "the learning rate chosen anew with the noise",
        "accuracy-babycnn-momentum",
        "accuracy-babycnn-momentum-own-rate",
    ),
)
