"""Contrast trainings for the NoisyDropout study's claims: one number a seed, see `registry.Contrast`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from noiseutils.stats import slope
from noiseutils.studies.noisy_dropout.grid import Cell
from noiseutils.studies.noisy_dropout.left_on import errors_left_on
from noiseutils.studies.noisy_dropout.params import Params
from noiseutils.studies.registry import Contrast, difference, minus
from noiseutils.studies.results import Results, best_by_other_seeds, common_seeds, mean_by_seed, shares_lost

ONE_LEVEL = "one level, nothing to choose: no verdict"
ONE_STEP = "one step of FGSM, masked gradients are not excluded"

Found = Results[Params, Cell]


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
    return shares_lost(results.values(cell, "top1_error"), results.values(cell, "top1_error", **where))


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
        found = _above_mean(class_changes(results, p, reading), name)
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
        return Contrast(_above_mean(by_class(results, noisy[-1]), name), (noisy[-1],))

    return contrast


def _above_mean(by_seed: Mapping[int, Mapping[str, float]], name: str) -> dict[int, float]:
    """Return the value of a class minus the mean of all classes by seed, where the class is there."""
    return {seed: by[name] - sum(by.values()) / len(by) for seed, by in by_seed.items() if name in by}


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
