"""The strength of each method, chosen by its trials, and the trainings that follow."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

from noiseutils.config import Run
from noiseutils.studies.head_to_head.grid import COSTLY_PASSES, Cell, final, run_of, trial_seeds, trials
from noiseutils.studies.head_to_head.methods import KINDS, METHODS
from noiseutils.studies.head_to_head.params import Params
from noiseutils.studies.results import Results


def chosen(results: Results[Params, Cell], setting: str, method: str) -> Cell | None:
    """Choose the trial with the lowest mean validation error; of equal ones the weakest.

    A strength at which fewer seeds diverge goes first. None where a trial is missing: a choice among some is
    another one. A method without a strength is as it is, once there is a trial of the setting at all.
    """
    tried = trials(results.params, setting, method)
    if not tried:
        begun = any(results.of_cell(cell) for cell in trials(results.params, setting))
        return Cell(setting, method) if begun else None
    if any(len(results.of_cell(cell)) < len(trial_seeds(results.params)) for cell in tried):
        return None
    errors = {cell: results.interval(cell, "validation_error") for cell in tried}
    finished = [cell for cell in tried if errors[cell].n]
    return min(finished, key=lambda c: (-errors[c].n, errors[c].mean, c.strength)) if finished else None


def edge(params: Params, cell: Cell) -> str:
    """Return a mark for a strength at the edge of those tried: a better one may lie beyond. Else nothing."""
    tried = METHODS[cell.method].tried(params.trials)
    if len(tried) < 2:
        return ""
    return {tried[0]: "weakest tried", tried[-1]: "strongest tried"}.get(cell.strength, "")


def finals(results: Results[Params, Cell], setting: str, stage: str = "final") -> dict[str, Cell]:
    """Return the trainings of a setting at the chosen strengths by method, those that are known."""
    found = {method: chosen(results, setting, method) for method in results.params.methods}
    return {method: final(cell, stage) for method, cell in found.items() if cell is not None}


def followed(results: Results[Params, Cell], setting: str) -> Iterator[Cell]:
    """Yield the trainings of a setting that follow from its trials, no noise first."""
    known = finals(results, setting)
    yield from sorted(known.values(), key=lambda cell: cell.method != "none")
    for method, cell in known.items():
        if METHODS[method].passes >= COSTLY_PASSES:
            yield final(cell, "same_time")


def follow_ups(results: Results[Params, Cell]) -> dict[tuple[Cell, int], Run]:
    """Return the trainings at the chosen strengths, all seeds of a method together."""
    params = results.params
    return {
        (cell, seed): run_of(params, cell, seed)
        for setting in params.settings
        for cell in followed(results, setting.name)
        for seed in range(params.seeds)
    }


def best_of_kinds(results: Results[Params, Cell], setting: str) -> dict[str, Cell]:
    """Return no noise, and of each kind the method with the lowest validation error in its chosen trial.

    By kind, "" for no noise. Test images choose nothing. Methods without trials are no candidates.
    """
    known = finals(results, setting)
    best = {"": known["none"]} if "none" in known else {}
    for kind in KINDS:
        errors = {
            cell: results.interval(final(cell, "trial"), "validation_error")
            for method, cell in known.items()
            if METHODS[method].kind == kind and METHODS[method].strengths
        }
        candidates = [cell for cell, error in errors.items() if error.n]
        if candidates:
            best[kind] = min(candidates, key=lambda cell: errors[cell].mean)
    return best


def most_robust(results: Results[Params, Cell], setting: str) -> Cell | None:
    """Return the papers' noise of which FGSM turns the fewest right images wrong, on average over seeds.

    The seeds that AutoAttack judges choose nothing. None without others.
    """
    params, means = results.params, {}
    for method, cell in finals(results, setting).items():
        lost = results.values(cell, "lost", condition="fgsm", size=params.fgsm_255 / 255)
        others = [value for seed, value in lost.items() if seed >= params.attack_seeds]
        if METHODS[method].of_papers and others:
            means[cell] = fmean(others)
    return min(means, key=lambda cell: means[cell]) if means else None
