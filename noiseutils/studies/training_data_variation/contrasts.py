"""Contrast trainings for the training-data study's claims: one number a seed, see `registry.Contrast`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

from noiseutils.stats import against_margin
from noiseutils.studies.readable import signed
from noiseutils.studies.registry import Contrast, minus
from noiseutils.studies.results import K, best_by_other_seeds, common_seeds, mean_by_seed
from noiseutils.studies.training_data_variation.changes import (
    ONE_PERCENT,
    Found,
    compared,
    mean,
    means_of,
)
from noiseutils.studies.training_data_variation.grid import NAMES, Cell, neighbours, row_of, shown_as

At = tuple[str, float]  # kind of a training's corruption and its strength
Part = Callable[[Found, str], Contrast | None]  # of one architecture

NONE: At = ("none", 0.0)
ABOUT_ONE_PERCENT = 1.5  # percent of the 8-bit range: what rounds to one
TRAINED, RECALIBRATED = "trained", "recalibrated"  # BatchNorm statistics, as records name them
NO_NEIGHBOURS = "neighbouring strengths not run: no verdict"
NO_GAIN = "no gain: no verdict"
LEARNED_STRENGTH = 1.0  # strongest training in means over strengths: the paper's 5 leaves nothing to compare


def over_architectures(part: Part, points: bool = True) -> Callable[[Found], Contrast | None]:
    """Return the contrast that is the mean of every architecture's, for seeds that all of them have.

    points: the contrast is of accuracies, which the remark gives in percentage points.
    """

    def contrast(results: Found) -> Contrast | None:
        each = {architecture: part(results, architecture) for architecture in results.params.architectures}
        there = {architecture: found for architecture, found in each.items() if found is not None}
        if len(there) < len(each):
            return None
        cells = tuple(cell for found in there.values() for cell in found.cells)
        by_seed = mean_by_seed([found.by_seed for found in there.values()])
        effects = own_effects({a: [found.by_seed[s] for s in by_seed] for a, found in there.items()}, points)
        void = next((found.void for found in there.values() if found.void), "")
        remarks = [alone(results) if len(there) == 1 else effects, *(f.remark for f in there.values())]
        return Contrast(by_seed, cells, void, "; ".join(dict.fromkeys(filter(None, remarks))))

    return contrast


def own_effects(values: Mapping[str, Sequence[float]], points: bool) -> str:
    """Return each architecture's mean effect in words.   points: of accuracies, in percentage points."""
    scale, digits, unit = (100, 1, " points") if points else (1, 2, "")
    means = {architecture: scale * mean(own) for architecture, own in values.items() if own}
    said = ", ".join(f"{NAMES[architecture]} {signed(own, digits)}" for architecture, own in means.items())
    return said + unit if said else ""


def alone(results: Found) -> str:
    """Return in words which architectures a profile has, where these are not all of the paper's."""
    has = [name for name in NAMES if name in results.params.architectures]
    return f"{' and '.join(NAMES[name] for name in has)} modules alone" if len(has) < len(NAMES) else ""


def cell_at(results: Found, architecture: str, at: At) -> Cell | None:
    """Return the cell of an architecture and a training; None if the profile does not have it."""
    cell = Cell(architecture, *at)
    return cell if cell in results.cells else None


def accuracy(
    results: Found,
    cell: Cell,
    shown: str = "noise",
    levels: Sequence[float] = (0.0,),
    statistics: str = TRAINED,
) -> dict[int, float]:
    """Return the accuracy by seed, averaged over shown strengths; 0: clean images.

    statistics: of BatchNorm, as trained or `RECALIBRATED`, estimated again on clean training images.
    """
    at = [shown_as(shown, level) | {"statistics": statistics} for level in levels]
    return mean_by_seed([results.values(cell, "accuracy", **where) for where in at])


def learned(results: Found, architecture: str, kind: str) -> list[Cell]:
    """Return the trainings of a kind up to `LEARNED`, from none to the strongest."""
    row = row_of(results.params, architecture, kind)
    return [cell for cell in row if cell.sigma <= LEARNED_STRENGTH and cell in results.cells]


def gain(
    results: Found,
    architecture: str,
    at: At,
    base: At,
    shown: str,
    levels: Sequence[float] | None,
    statistics: str = TRAINED,
) -> Contrast | None:
    """Return the contrast of accuracy, one training minus another.   levels: shown; None: the profile's."""
    cells = [cell_at(results, architecture, place) for place in (at, base)]
    if cells[0] is None or cells[1] is None:
        return None
    levels = results.params.levels if levels is None else levels
    treated, control = (accuracy(results, cell, shown, levels, statistics) for cell in (cells[0], cells[1]))
    return minus(treated, control, (cells[0], cells[1]))


def against_rivals(
    own: Mapping[int, float], rivals: Mapping[K, Mapping[int, float]]
) -> tuple[dict[int, float], list[K]]:
    """Return values by seed minus those of the best rival, chosen by the other seeds; and the rivals."""
    known = {rival: {s: v for s, v in values.items() if s in own} for rival, values in rivals.items()}
    best, chosen = best_by_other_seeds({r: values for r, values in known.items() if values}, largest=True)
    return {seed: own[seed] - value for seed, value in best.items()}, chosen


def against(levels: Iterable[float]) -> str:
    """Return in words which strengths something was set against."""
    names = [f"{level:g}" if level else "none" for level in levels]
    return f"against {', '.join(names)}" if names else ""


def without_neighbours(sigma: float, levels: Iterable[float]) -> str:
    """Return why there is no verdict at a strength if the strengths beside it are not among those run."""
    return "" if set(neighbours(sigma)) <= set(levels) else NO_NEIGHBOURS


def matched(results: Found, architecture: str, sigma: float, statistics: str = TRAINED) -> Contrast | None:
    """Return the contrast of accuracy on noise, trained on the same noise minus the best other training.

    Training on none is always among the others. Void where the strengths beside it were not trained on: the
    rivals that are nearest would be missing.
    """
    cell = cell_at(results, architecture, ("noise", sigma))
    if cell is None:
        return None
    row = row_of(results.params, architecture, "noise")
    accuracies = {c: accuracy(results, c, "noise", (sigma,), statistics) for c in row}
    own, plain = accuracies.pop(cell), accuracies[cell.plain]
    run = {c: values for c, values in accuracies.items() if values}
    found, rivals = against_rivals({seed: value for seed, value in own.items() if seed in plain}, run)
    levels = [c.sigma for c in run]
    return Contrast(found, (cell, *rivals), without_neighbours(sigma, levels), against(levels))


def peak(results: Found, architecture: str, sigma: float, statistics: str = TRAINED) -> Contrast | None:
    """Return the contrast of one training's accuracy, shown its own noise minus the best other noise.

    Void where the strengths beside it were not shown.
    """
    cell = cell_at(results, architecture, ("noise", sigma))
    if cell is None:
        return None
    each = {level: accuracy(results, cell, "noise", (level,), statistics) for level in results.params.levels}
    shown = {level: values for level, values in each.items() if values}
    found, _ = against_rivals(shown.pop(sigma, {}), shown)
    return Contrast(found, (cell,), without_neighbours(sigma, shown), against(shown))


def at_its_own(results: Found, architecture: str, sigma: float) -> Contrast | None:
    """Return the contrast of accuracy, trained and shown a noise minus trained and shown none."""
    cells = [cell_at(results, architecture, at) for at in (("noise", sigma), NONE)]
    if cells[0] is None or cells[1] is None:
        return None
    own = accuracy(results, cells[0], "noise", (sigma,))
    return minus(own, accuracy(results, cells[1]), (cells[0], cells[1]))


def shown_as_clean(results: Found, architecture: str, sigma: float) -> Contrast | None:
    """Return the contrast of accuracy, shown weak noise minus clean images, averaged over trainings."""
    row = learned(results, architecture, "noise")
    each = [minus(accuracy(results, c, "noise", (sigma,)), accuracy(results, c), ()).by_seed for c in row]
    return Contrast(mean_by_seed(each), tuple(row)) if sigma in results.params.sigmas else None


def widest_pair(
    found: Mapping[str, Mapping[int, float]],
    rows: Mapping[str, Sequence[Cell]],
    margin: float,
    relative: bool,
) -> Contrast | None:
    """Return the contrast of the two architectures that decides whether all are within a margin.

    All are alike if every two are: where no mean difference is beyond the margin, the pair that is hardest to
    show alike stands for all (intersection-union). One pair beyond it is enough to refute: that of the
    smallest p, times the number of pairs. The range of three networks would be above 0 by chance alone.
    relative: differences as shares of the architectures' mean.
    """
    if len(found) < 2:
        return None
    seeds = common_seeds(found.values())
    scale = {s: mean([own[s] for own in found.values()]) if relative else 1.0 for s in seeds}
    pairs = {
        (one, other): {s: (found[one][s] - found[other][s]) / scale[s] for s in seeds}
        for one, other in combinations(found, 2)
    }
    p_values = {pair: against_margin(list(values.values()), margin) for pair, values in pairs.items()}
    beyond = [pair for pair, values in pairs.items() if seeds and abs(mean(values.values())) > margin]
    pair = min(beyond, key=p_values.__getitem__) if beyond else max(pairs, key=p_values.__getitem__)
    cells = tuple(cell for architecture in found for cell in rows[architecture])
    remark = f"{NAMES[pair[0]]} minus {NAMES[pair[1]]}"
    return Contrast(pairs[pair], cells, remark=remark, chosen_of=len(pairs) if beyond else 1)


def by_architecture(
    results: Found, kind: str, clean: bool
) -> tuple[dict[str, dict[int, float]], dict[str, list[Cell]]]:
    """Return accuracies by architecture and seed, and the cells behind them, of profiles with the kind.

    Averaged over trainings and shown strengths of a kind up to `LEARNED`.   clean: without any instead.
    """
    found, cells = {}, {}
    for architecture in results.params.architectures if kind in results.params.kinds or clean else ():
        row = [Cell(architecture, *NONE)] if clean else learned(results, architecture, kind)
        shown = [0.0] if clean else [level for level in results.params.levels if level <= LEARNED_STRENGTH]
        found[architecture] = mean_by_seed([accuracy(results, cell, kind, shown) for cell in row])
        cells[architecture] = row
    return found, cells


def accuracies_alike(kind: str, margin: float, *, clean: bool = False) -> Callable[[Found], Contrast | None]:
    """Return the contrast of the least alike architectures' accuracies; see `by_architecture`."""

    def contrast(results: Found) -> Contrast | None:
        found, rows = by_architecture(results, kind, clean)
        return widest_pair(found, rows, margin, relative=False)

    return contrast


def changes_alike(kind: str, margin: float) -> Callable[[Found], Contrast | None]:
    """Return the contrast of the least alike architectures' smallest changes, as a share of the mean.

    On images common to all architectures at each strength.
    """

    def contrast(results: Found) -> Contrast | None:
        if kind not in results.params.kinds:
            return None
        rows = [learned(results, architecture, kind) for architecture in results.params.architectures]
        means: dict[Cell, dict[int, float]] = {}
        for column in zip(*rows, strict=True):
            means |= means_of(results, column, "correct")
        found = {row[0].architecture: mean_by_seed([means[cell] for cell in row]) for row in rows}
        return widest_pair(found, {row[0].architecture: row for row in rows}, margin, relative=True)

    return contrast


def inception_best(kind: str, *, clean: bool = False) -> Callable[[Found], Contrast | None]:
    """Return the contrast of accuracy, Inception minus the best of the others; see `by_architecture`."""

    def contrast(results: Found) -> Contrast | None:
        accuracies, rows = by_architecture(results, kind, clean)
        own = accuracies.pop("inception", None)
        if own is None or not accuracies:
            return None
        found, rivals = against_rivals(own, accuracies)
        return Contrast(found, tuple(cell for name in ("inception", *rivals) for cell in rows[name]))

    return contrast


def change_gain(
    results: Found, architecture: str, at: At, base: At, reading: str, relative: bool = False
) -> Contrast | None:
    """Return the contrast of the smallest change, one training minus another.   relative: to the other's."""
    cell, other = (cell_at(results, architecture, place) for place in (at, base))
    if cell is None or other is None:
        return None
    means = means_of(results, (cell, other), reading)
    found = minus(means[cell], means[other], (cell, other))
    if not relative:
        return found
    return Contrast({s: value / means[other][s] for s, value in found.by_seed.items()}, found.cells)


def change_beyond(results: Found, architecture: str, at: At, base: At, bound: float) -> Contrast | None:
    """Return the contrast of the relative gain in change minus a bound, on images that both get right."""
    found = change_gain(results, architecture, at, base, "correct", relative=True)
    if found is None:
        return None
    return replace(found, by_seed={seed: value - bound for seed, value in found.by_seed.items()})


def where_gained(
    beyond: Callable[[Found], Contrast | None], bound: float
) -> Callable[[Found], Contrast | None]:
    """Return a contrast of gains minus a bound, void unless their mean is above 0: a loss is no gain."""

    def contrast(results: Found) -> Contrast | None:
        found = beyond(results)
        if found is None or not found.by_seed or mean(found.by_seed.values()) + bound > 0:
            return found
        return replace(found, void=NO_GAIN)

    return contrast


def change_fall(results: Found, architecture: str, sigma: float, reading: str) -> Contrast | None:
    """Return the contrast of the smallest change, trained on a noise minus the largest of weaker noises.

    All on one set of images. The largest is chosen by the other seeds; networks at chance are none of them.
    Void where the next weaker noise was not run: a rise and fall between the two would be missed.
    """
    cell = cell_at(results, architecture, ("noise", sigma))
    if cell is None:
        return None
    weaker = [Cell(architecture, "noise", level) for level in results.params.levels if 0 < level < sigma]
    run = compared(results, weaker)
    means = means_of(results, (cell, *run), reading)
    found, chosen = against_rivals(means.pop(cell), means)
    levels = [rival.sigma for rival in run]
    void = "" if neighbours(sigma)[0] in levels else NO_NEIGHBOURS
    return Contrast(found, (cell, *chosen), void, against(levels))


def most_robust(results: Found) -> Contrast | None:
    """Return in percent of the 8-bit range the smallest change of the most robust network, minus the bound.

    The greatest of all networks, a seed at a time: no smaller than that of any one, so that it does not help
    the claim. Of each network on the images that it gets right.
    """
    cells = compared(results, results.cells)
    by_seed: dict[int, float] = {}
    for cell in cells:
        for seed, size in means_of(results, (cell,), "correct")[cell].items():
            by_seed[seed] = max(by_seed.get(seed, 0.0), size / ONE_PERCENT)
    above = {seed: percent - ABOUT_ONE_PERCENT for seed, percent in by_seed.items()}
    return Contrast(above, tuple(cells), remark=alone(results))
