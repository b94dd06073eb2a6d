"""What the NoisyDropout paper claims, and how each claim is tested.

Each is tested in the default reading, noise in the dropped neurons, and in that of Equation 2 beside it.
Weighted average accuracy is by definition one minus the top-1 error: it makes no further claims.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

from noiseutils.stats import slope
from noiseutils.studies.noisy_dropout.grid import Cell
from noiseutils.studies.noisy_dropout.left_on import errors_left_on
from noiseutils.studies.noisy_dropout.params import Params
from noiseutils.studies.params import data_of
from noiseutils.studies.registry import Cause, Claim, Contrast, minus, settings_of
from noiseutils.studies.results import Results, best_by_other_seeds, common_seeds, mean_by_seed

PROBABILITIES = (0.2, 0.25, 0.3)
READINGS = {"dropped": "", "all": ", Equation 2"}
FGSM_255, INPUT_NOISE = 2.0, 0.1  # the named sizes: the paper gives none
# of the top-5 error, over no noise: the paper's own rises reach 1.27 points; what it calls stable is the
# error from noise level to noise level
STABLE = 0.015
# section 4.1, of the classes that CIFAR-10 has: the class, at which p, and what the paper says of it
CLASSES: tuple[tuple[str, float, Literal["up", "down"], str], ...] = (
    ("bird", 0.2, "up", "is more robust to noise than the classes on average"),
    ("bird", 0.25, "up", "is more robust to noise than the classes on average"),
    ("automobile", 0.25, "down", "loses more to noise than the classes do on average"),
    ("bird", 0.3, "up", "is more robust to noise than the classes on average"),
    ("airplane", 0.3, "up", "is more robust to noise than the classes on average"),
    ("dog", 0.3, "down", "loses more to noise than the classes do on average"),
)

ONE_LEVEL = "one level, nothing to choose: no verdict"

NoisyDropoutClaim = Claim[Params, Cell]
Found = Results[Params, Cell]


def settings(params: Params, cell: Cell) -> str:
    """Return how a cell was made: readings without 1/(1-p) are the paper's as well as those with it."""
    return settings_of(data_of(params).label, ("cifar10",), params.as_read)


def noisy_cells(results: Found, p: float, reading: str) -> list[Cell]:
    """Return the cells with noise of one probability and reading, from the lowest level."""
    found = results.of(p=p, reading=reading)
    return sorted((cell for cell in found if cell.level > 0), key=lambda cell: cell.level)


def noise_cost(quantity: str, p: float, reading: str, **where: Any) -> Callable[[Found], Contrast | None]:
    """Return the contrast of noise, averaged over levels, minus ordinary dropout."""

    def contrast(results: Found) -> Contrast | None:
        noisy = noisy_cells(results, p, reading)
        if not noisy:
            return None
        plain = noisy[0].plain
        treated = results.means(noisy, quantity, **where)
        return minus(treated, results.values(plain, quantity, **where), (*noisy, plain))

    return contrast


def noise_cost_left_on(p: float, reading: str) -> Callable[[Found], Contrast | None]:
    """Return the contrast of noise minus ordinary dropout where the layer acts at evaluation, too."""

    def contrast(results: Found) -> Contrast | None:
        noisy = noisy_cells(results, p, reading)
        if not noisy:
            return None
        cells = (*noisy, noisy[0].plain)
        *each, plain = (errors_left_on(results, cell) for cell in cells)
        return minus(mean_by_seed(each), plain, cells)

    return contrast


def level_slope(p: float, reading: str) -> Callable[[Found], Contrast | None]:
    """Return the contrast of the top-1 error's slope over the noise level, from the lowest level on."""

    def contrast(results: Found) -> Contrast | None:
        noisy = noisy_cells(results, p, reading)
        if len(noisy) < 2:
            return None
        each, levels = [results.values(cell, "top1_error") for cell in noisy], [cell.level for cell in noisy]
        found = {seed: slope(levels, [values[seed] for values in each]) for seed in common_seeds(each)}
        return Contrast(found, tuple(noisy))

    return contrast


def cost_at(high: float, low: float, reading: str, *, of_noise: bool) -> Callable[[Found], Contrast | None]:
    """Return the contrast of one probability minus another: of what noise costs, or of the noisy error."""

    def contrast(results: Found) -> Contrast | None:
        found = [noise_cost("top1_error", p, reading)(results) for p in (high, low)]
        if found[0] is None or found[1] is None:
            return None
        if not of_noise:
            each = [results.means(noisy_cells(results, p, reading), "top1_error") for p in (high, low)]
            return minus(each[0], each[1], (*found[0].cells, *found[1].cells))
        return minus(found[0].by_seed, found[1].by_seed, (*found[0].cells, *found[1].cells))

    return contrast


def best_level(p: float, reading: str) -> Callable[[Found], Contrast | None]:
    """Return the contrast of the best level's top-1 error, chosen by the other seeds, minus that of none.

    Void where one level alone was trained: then nothing was chosen.
    """

    def contrast(results: Found) -> Contrast | None:
        noisy = noisy_cells(results, p, reading)
        if not noisy:
            return None
        errors = {cell: results.values(cell, "top1_error") for cell in noisy}
        best, _ = best_by_other_seeds(errors, largest=False)
        plain = noisy[0].plain
        found = minus(best, results.values(plain, "top1_error"), (*noisy, plain))
        return found if len(noisy) > 1 else replace(found, void=ONE_LEVEL)

    return contrast


def class_change(name: str, p: float, reading: str) -> Callable[[Found], Contrast | None]:
    """Return the contrast of a class's change of accuracy by noise minus the mean change of all classes."""

    def contrast(results: Found) -> Contrast | None:
        noisy = noisy_cells(results, p, reading)
        if not noisy:
            return None
        changes = class_changes(results, p, reading).items()
        found = {seed: by[name] - sum(by.values()) / len(by) for seed, by in changes if name in by}
        return Contrast(found, (*noisy, noisy[0].plain))

    return contrast


def best_class(p: float, reading: str) -> Callable[[Found], Contrast | None]:
    """Return the contrast of accuracy, noise minus ordinary dropout, of the class that gains most.

    The class is chosen by the other seeds.
    """

    def contrast(results: Found) -> Contrast | None:
        noisy = noisy_cells(results, p, reading)
        changes = class_changes(results, p, reading)
        if not noisy:
            return None
        names = dict.fromkeys(name for by_class in changes.values() for name in by_class)
        each = {name: {seed: by_class[name] for seed, by_class in changes.items()} for name in names}
        return Contrast(best_by_other_seeds(each, largest=True)[0], (*noisy, noisy[0].plain))

    return contrast


def class_changes(results: Found, p: float, reading: str) -> dict[int, dict[str, float]]:
    """Return by seed each class's change of accuracy by noise, averaged over levels; empty without noise."""
    noisy = noisy_cells(results, p, reading)
    if not noisy:
        return {}
    each = [by_class(results, cell) for cell in (*noisy, noisy[0].plain)]
    return {seed: _changes([values[seed] for values in each]) for seed in common_seeds(each)}


def by_class(results: Found, cell: Cell) -> dict[int, Mapping[str, float]]:
    """Return the accuracy on clean images by seed and class."""
    return {seed: record["per_class"] for seed, record in results.record_of(cell).items()}


def _changes(accuracies: list[Mapping[str, float]]) -> dict[str, float]:
    """Return by class the mean over noisy accuracies minus the last, that of ordinary dropout."""
    *noisy, plain = accuracies
    return {name: sum(a[name] for a in noisy) / len(noisy) - plain[name] for name in plain}


def _claims(reading: str, note: str) -> Iterator[NoisyDropoutClaim]:
    """Yield the paper's claims in one reading; `note` names the reading where it is not the default."""
    counted = reading == "dropped"
    end = "" if counted else f"-{reading}"
    over = "mean over the noise levels trained, minus ordinary dropout"
    for p in PROBABILITIES:
        yield Claim(
            f"error-{p:g}{end}", "4.2", f"noise raises the top-1 error at p = {p:g}{note}",
            f"top-1 error, {over}", "up", noise_cost("top1_error", p, reading), counted=counted,
        )  # fmt: skip
        yield Claim(
            f"error-{p:g}{end}-left-on", "beyond",
            f"noise raises the top-1 error at p = {p:g} where the layer stays on at evaluation{note}",
            f"top-1 error with the layer left on, {over}", "up", noise_cost_left_on(p, reading),
            counted=False,
        )  # fmt: skip
        yield Claim(
            f"level-{p:g}{end}", "4.2" if p == 0.2 else "4.3",
            f"the top-1 error grows with the noise level at p = {p:g}{note}",
            "slope of the top-1 error over the noise levels trained", "up", level_slope(p, reading),
            counted=counted,
        )  # fmt: skip
        yield Claim(
            f"top5-{p:g}{end}", "4.2", f"the top-5 error stays about the same under noise at p = {p:g}{note}",
            f"top-5 error, {over}", "within", noise_cost("top5_error", p, reading), STABLE, counted,
        )  # fmt: skip
    yield Claim(
        f"steeper{end}", "4.2", f"noise costs more at p = 0.3 than at p = 0.2{note}",
        "top-1 error, noise minus ordinary dropout, p = 0.3 minus p = 0.2", "up",
        cost_at(0.3, 0.2, reading, of_noise=True), counted=counted,
    )  # fmt: skip
    yield Claim(
        f"lower-rates{end}", "4.1", f"with noise, the lower dropout rate has the smaller error{note}",
        "top-1 error, mean over the noise levels trained, p = 0.3 minus p = 0.2", "up",
        cost_at(0.3, 0.2, reading, of_noise=False), counted=counted,
    )  # fmt: skip
    for name, p, claimed, says in CLASSES:
        yield Claim(
            f"class-{name}-{p:g}{end}", "4.1", f"{name} {says}, p = {p:g}{note}",
            "accuracy of the class, noise minus ordinary dropout, minus the mean of all classes", claimed,
            class_change(name, p, reading), counted=counted,
        )  # fmt: skip
    yield Claim(
        f"precision{end}", "5.3", f"noise lowers the average precision over classes{note}",
        f"weighted precision, {over}, p = 0.25", "down", noise_cost("weighted_precision", 0.25, reading),
        counted=counted,
    )  # fmt: skip
    yield Claim(
        f"some-class{end}", "5.3", f"some class gains from noise{note}",
        "accuracy of the class that gains most (chosen by the other seeds), noise minus ordinary dropout, "
        "p = 0.25", "up", best_class(0.25, reading), counted=counted,
    )  # fmt: skip
    yield Claim(
        f"best-level{end}", "5.2", f"a well chosen noise level improves the accuracy{note}",
        "top-1 error at the best level (chosen by the other seeds), minus ordinary dropout, p = 0.25", "down",
        best_level(0.25, reading), counted=counted, helps=True,
    )  # fmt: skip
    fgsm = {"condition": "fgsm", "size": FGSM_255 / 255}
    yield Claim(
        f"fgsm{end}", "abstract", f"noise makes the network more robust to attacks{note}",
        f"top-1 error under FGSM {FGSM_255:g}/255, {over}, p = 0.25", "down",
        noise_cost("top1_error", 0.25, reading, **fgsm), counted=counted, helps=True,
    )  # fmt: skip
    noisy = {"condition": "gaussian_noise", "size": INPUT_NOISE}
    yield Claim(
        f"noisy-images{end}", "abstract", f"noise makes the network better on noisy images{note}",
        f"top-1 error under noise of {INPUT_NOISE:g} on pixels in [0, 1], {over}, p = 0.25", "down",
        noise_cost("top1_error", 0.25, reading, **noisy), counted=counted, helps=True,
    )  # fmt: skip
    yield Claim(
        f"calibration{end}", "beyond", f"noise calibrates the network better{note}",
        f"expected calibration error, {over}, p = 0.25", "down",
        noise_cost("calibration_error", 0.25, reading), counted=False,
    )  # fmt: skip


CLAIMS = tuple(claim for reading, note in READINGS.items() for claim in _claims(reading, note))

MAIN = ("error-0.25", "top5-0.25", "best-level", "fgsm", "noisy-images")
CAUSES = (
    Cause(
        "noise on every neuron, as Equation 2 has it, not in the dropped ones", "error-0.25", "error-0.25-all"
    ),
)
