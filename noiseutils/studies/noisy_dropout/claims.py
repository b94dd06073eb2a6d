"""What the NoisyDropout paper claims, and how each claim is tested.

Each is tested in the default reading, noise in the dropped neurons, and in that of Equation 2 beside it.
Robustness is tested on the images that a network gets right without the corruption; an error over all images,
which stands beside, also counts what the network gets wrong anyway.
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
from noiseutils.studies.registry import Cause, Claim, Contrast, difference, minus, settings_of
from noiseutils.studies.results import (
    Results,
    best_by_other_seeds,
    common_seeds,
    mean_by_seed,
    reported_beside,
    select,
)

PROBABILITIES = (0.2, 0.25, 0.3)
READINGS = {"dropped": "", "all": ", Equation 2"}
FGSM_255, INPUT_NOISE = 2.0, 0.1  # the named sizes: the paper gives none
# of the top-5 error, from the lowest noise level to the highest, which is what the paper calls stable: a
# quarter of the 2 % that it prints without noise
STABLE = 0.005
# of the accuracy, likewise: the spread that the paper itself calls stable, 0.70 to 0.72
LEVEL_ACCURACY = 0.02
# section 4.1, of the classes that CIFAR-10 has: the class, at which p, and what the paper says of it
CLASSES: tuple[tuple[str, float, Literal["up", "down"], str], ...] = (
    ("bird", 0.2, "up", "is more robust to noise than the classes on average"),
    ("bird", 0.25, "up", "is more robust to noise than the classes on average"),
    ("bird", 0.3, "up", "is more robust to noise than the classes on average"),
    ("airplane", 0.3, "up", "is more robust to noise than the classes on average"),
)
# likewise, of classes that lose "more noticeably at higher noise levels"
SENSITIVE = (("automobile", 0.25), ("dog", 0.3))
# likewise, of high accuracy "even at high noise levels"
HIGH = (("bird", 0.2), ("bird", 0.25))

ONE_LEVEL = "one level, nothing to choose: no verdict"
ONE_STEP = "one step of FGSM, masked gradients are not excluded"

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


def lost_to(p: float, reading: str, **where: Any) -> Callable[[Found], Contrast | None]:
    """Return the contrast of the images lost to a corruption, noise minus ordinary dropout.

    Lost: of the images that a network gets right, the share that it gets wrong with the corruption. An image
    that it gets right with the corruption alone counts against that.
    """

    def contrast(results: Found) -> Contrast | None:
        noisy = noisy_cells(results, p, reading)
        if not noisy:
            return None
        cells = (*noisy, noisy[0].plain)
        *each, plain = (_lost(results, cell, **where) for cell in cells)
        found = minus(mean_by_seed(each), plain, cells)
        return replace(found, remark=ONE_STEP) if where["condition"] == "fgsm" else found

    return contrast


def _lost(results: Found, cell: Cell, **where: Any) -> dict[int, float]:
    clean = results.values(cell, "top1_error")
    corrupted = results.values(cell, "top1_error", **where)
    return {
        seed: (corrupted[seed] - clean[seed]) / (1 - clean[seed])
        for seed in clean
        if seed in corrupted and clean[seed] < 1
    }


def between_levels(quantity: str, p: float, reading: str) -> Callable[[Found], Contrast | None]:
    """Return the contrast of a quantity, highest noise level minus lowest; None where one was trained."""

    def contrast(results: Found) -> Contrast | None:
        noisy = noisy_cells(results, p, reading)
        return difference(results, noisy[-1], noisy[0], quantity) if len(noisy) > 1 else None

    return contrast


def plain_cost(quantity: str, high: float, low: float) -> Callable[[Found], Contrast | None]:
    """Return the contrast of a quantity of ordinary dropout, one probability minus another."""

    def contrast(results: Found) -> Contrast | None:
        high_cell, low_cell = (Cell(p, 0.0, "dropped") for p in (high, low))
        if not {high_cell, low_cell} <= set(results.cells):
            return None
        return difference(results, high_cell, low_cell, quantity)

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


def class_between_levels(name: str, p: float, reading: str) -> Callable[[Found], Contrast | None]:
    """Return the contrast of a class's accuracy at the highest noise level minus at the lowest."""

    def contrast(results: Found) -> Contrast | None:
        noisy = noisy_cells(results, p, reading)
        if len(noisy) < 2:
            return None
        high, low = (
            {seed: by[name] for seed, by in by_class(results, cell).items() if name in by}
            for cell in (noisy[-1], noisy[0])
        )
        return minus(high, low, (noisy[-1], noisy[0]))

    return contrast


def class_level(name: str, p: float, reading: str) -> Callable[[Found], Contrast | None]:
    """Return the contrast of a class's accuracy minus the mean of all classes, at the highest noise level."""

    def contrast(results: Found) -> Contrast | None:
        noisy = noisy_cells(results, p, reading)
        if not noisy:
            return None
        accuracies = by_class(results, noisy[-1]).items()
        found = {seed: by[name] - sum(by.values()) / len(by) for seed, by in accuracies if name in by}
        return Contrast(found, (noisy[-1],))

    return contrast


def best_class(p: float, reading: str, *, gains: bool = True) -> Callable[[Found], Contrast | None]:
    """Return the contrast of accuracy, noise minus ordinary dropout, of the class that gains, or loses, most.

    The class is chosen by the other seeds.
    """

    def contrast(results: Found) -> Contrast | None:
        noisy = noisy_cells(results, p, reading)
        changes = class_changes(results, p, reading)
        if not noisy:
            return None
        names = dict.fromkeys(name for by_class in changes.values() for name in by_class)
        each = {name: {seed: by_class[name] for seed, by_class in changes.items()} for name in names}
        return Contrast(best_by_other_seeds(each, largest=gains)[0], (*noisy, noisy[0].plain))

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


def _printed(p: float) -> str:
    """Return the top-1 errors that the paper prints of one probability, without noise and with the worst."""
    rows = select(reported_beside(__file__), p=p, quantity="top1_error")
    plain, worst = (select(rows, **where).value.item() for where in ({"level": 0}, {"over": "max"}))
    return f"{100 * plain:.2f} % without, up to {100 * worst:.2f} % with"


def _robustness_claims(p: float, reading: str, note: str) -> Iterator[NoisyDropoutClaim]:
    """Yield what the abstract claims of robustness, for one probability; the paper names none."""
    counted = reading == "dropped"
    end = "" if counted else f"-{reading}"
    over = "mean over the noise levels trained, minus ordinary dropout"
    right = "on images that are right without it"
    for name, size, words, corruption, where in (
        ("fgsm", f"FGSM {FGSM_255:g}/255", "attacks", "fgsm", FGSM_255 / 255),
        ("noisy-images", f"noise of σ = {INPUT_NOISE:g} on pixels in [0, 1]", "noise on images",
         "gaussian_noise", INPUT_NOISE),
    ):  # fmt: skip
        here = {"condition": corruption, "size": where}
        yield Claim(
            f"{name}-{p:g}{end}", "abstract",
            f"noise makes the network more robust to {words} at p = {p:g}{note}",
            f"error under {size} {right}, {over}", "down", lost_to(p, reading, **here), counted=counted,
            helps=True,
        )  # fmt: skip
        yield Claim(
            f"{name}-{p:g}-all-images{end}", "abstract",
            f"noise lowers the error over all images under {words} at p = {p:g}{note}",
            f"top-1 error under {size}, {over}", "down", noise_cost("top1_error", p, reading, **here),
            counted=False, helps=True,
        )  # fmt: skip


def _claims(reading: str, note: str) -> Iterator[NoisyDropoutClaim]:
    """Yield the paper's claims in one reading; `note` names the reading where it is not the default."""
    counted = reading == "dropped"
    end = "" if counted else f"-{reading}"
    over = "mean over the noise levels trained, minus ordinary dropout"
    for p in PROBABILITIES:
        yield Claim(
            f"error-{p:g}{end}", "4.2",
            f"noise raises the top-1 error at p = {p:g}{note} (printed: {_printed(p)})",
            f"top-1 error, {over}", "up", noise_cost("top1_error", p, reading), counted=counted,
        )  # fmt: skip
        yield Claim(
            f"error-{p:g}{end}-left-on", "beyond",
            f"noise raises the top-1 error at p = {p:g} where the layer stays on at evaluation{note}",
            f"top-1 error with the layer left on, {over}", "up", noise_cost_left_on(p, reading),
            counted=False,
        )  # fmt: skip
        yield Claim(
            f"level-{p:g}{end}", "4.3" if p == 0.25 else "4.2",
            f"the top-1 error grows with the noise level at p = {p:g}{note}",
            "slope of the top-1 error over the noise levels trained", "up", level_slope(p, reading),
            counted=counted,
        )  # fmt: skip
        yield Claim(
            f"top5-{p:g}{end}", "4.2",
            f"the top-5 error stays about the same as the noise level rises, p = {p:g}{note}",
            "top-5 error, highest noise level trained minus lowest", "within",
            between_levels("top5_error", p, reading), STABLE, counted,
        )  # fmt: skip
        if p < 0.3:
            yield Claim(
                f"top5-rises-{p:g}{end}", "4.2",
                f"the top-5 error rises a little under noise at p = {p:g}{note}",
                f"top-5 error, {over}", "up", noise_cost("top5_error", p, reading), counted=counted,
            )  # fmt: skip
        if p != 0.25:
            yield Claim(
                f"stable-{p:g}{end}", "4.3",
                f"the accuracy stays about the same as the noise level rises, p = {p:g}{note}",
                "accuracy, highest noise level trained minus lowest", "within",
                between_levels("weighted_accuracy", p, reading), LEVEL_ACCURACY, counted,
            )  # fmt: skip
        yield from _robustness_claims(p, reading, note)
    yield Claim(
        f"steeper{end}", "4.2", f"noise costs more at p = 0.3 than at p = 0.2{note}",
        "top-1 error, noise minus ordinary dropout, p = 0.3 minus p = 0.2", "up",
        cost_at(0.3, 0.2, reading, of_noise=True), counted=counted,
    )  # fmt: skip
    yield Claim(
        f"steeper-0.25{end}", "4.2", f"noise costs more at p = 0.25 than at p = 0.2{note}",
        "top-1 error, noise minus ordinary dropout, p = 0.25 minus p = 0.2", "up",
        cost_at(0.25, 0.2, reading, of_noise=True), counted=counted,
    )  # fmt: skip
    if counted:  # ordinary dropout has no reading
        yield Claim(
            "plain-lower-rates", "4.3", "without noise, the lower dropout rate has the smaller error",
            "top-1 error of ordinary dropout, p = 0.3 minus p = 0.2", "up",
            plain_cost("top1_error", 0.3, 0.2),
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
    for name, p in SENSITIVE:
        yield Claim(
            f"class-{name}-{p:g}{end}", "4.1",
            f"{name} loses accuracy as the noise level rises, p = {p:g}{note}",
            "accuracy of the class, highest noise level trained minus lowest", "down",
            class_between_levels(name, p, reading), counted=counted,
        )  # fmt: skip
    for name, p in HIGH:
        yield Claim(
            f"high-{name}-{p:g}{end}", "4.1",
            f"{name} has a high accuracy even at high noise levels, p = {p:g}{note}",
            "accuracy of the class minus the mean of all classes, at the highest noise level trained", "up",
            class_level(name, p, reading), counted=counted,
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
        f"some-class-loses{end}", "5.3", f"some class loses by noise{note}",
        "accuracy of the class that loses most (chosen by the other seeds), noise minus ordinary dropout, "
        "p = 0.25", "down", best_class(0.25, reading, gains=False), counted=counted,
    )  # fmt: skip
    yield Claim(
        f"best-level{end}", "5.2", f"a well chosen noise level improves the accuracy, p = 0.25{note}",
        "top-1 error at the best level (chosen by the other seeds), minus ordinary dropout, p = 0.25", "down",
        best_level(0.25, reading), counted=counted, helps=True,
    )  # fmt: skip
    yield Claim(
        f"calibration{end}", "beyond", f"noise calibrates the network better{note}",
        f"expected calibration error, {over}, p = 0.25", "down",
        noise_cost("calibration_error", 0.25, reading), counted=False,
    )  # fmt: skip


CLAIMS = tuple(claim for reading, note in READINGS.items() for claim in _claims(reading, note))

MAIN = ("error-0.25", "top5-0.25", "best-level", "fgsm-0.2", "fgsm-0.25", "noisy-images-0.25")
CAUSES = (
    Cause(
        "noise on every neuron, as Equation 2 has it, not in the dropped ones", "error-0.25", "error-0.25-all"
    ),
)
