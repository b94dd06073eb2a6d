"""Compare the methods: in which quantities, by paired differences from no noise, by ranks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from noiseutils.stats import (
    CONFIDENCE,
    Interval,
    friedman,
    holm,
    mean_interval,
    nemenyi_distance,
    one_sample,
    ranks,
    undecided,
)
from noiseutils.studies.head_to_head.choice import finals
from noiseutils.studies.head_to_head.grid import Cell, settings
from noiseutils.studies.head_to_head.params import Params
from noiseutils.studies.registry import NO_GAP, difference
from noiseutils.studies.results import Results, common_seeds

RESAMPLES = 9_999


@dataclass(frozen=True)
class Quantity:
    """A number of each network, and the condition of the test images that it is of."""

    label: str
    column: str = "top1_error"
    where: Mapping[str, Any] = field(default_factory=dict)


PROFILE = ("top1", "calibration", "gap", "noise", "blur", "fgsm")  # quantities of every network, side by side


def quantities(params: Params) -> dict[str, Quantity]:
    """Return what networks are judged by, of each less is better, by the names of tables.

    noise, blur, fgsm: errors over all test images; a method that is better on clean ones gains there, too.
    …_lost: robustness, of the images that are right without it the share that it turns wrong.
    """
    noisy = {"condition": "gaussian_noise", "size": params.noise}
    blurred = {"condition": "gaussian_blur", "size": params.blur}
    attacked = {"condition": "fgsm", "size": params.fgsm_255 / 255}
    again = {"statistics": "recalibrated"}
    return {
        "top1": Quantity("top-1 error"),
        "calibration": Quantity("calibration error", "calibration_error"),
        "gap": Quantity("gap, test − training error", "gap"),
        "noise": Quantity(f"error under noise {params.noise:g}", where=noisy),
        "blur": Quantity(f"error under blur {params.blur:g}", where=blurred),
        "fgsm": Quantity(f"error under FGSM {params.fgsm_255:g}/255", where=attacked),
        "noise_lost": Quantity(f"right images lost to noise {params.noise:g}", "lost", noisy),
        "blur_lost": Quantity(f"right images lost to blur {params.blur:g}", "lost", blurred),
        "fgsm_lost": Quantity(f"right images lost to FGSM {params.fgsm_255:g}/255", "lost", attacked),
        "recalibrated": Quantity("top-1 error, statistics re-estimated", where=again),
    }


@dataclass(frozen=True)
class Comparison:
    """A method minus no noise, or minus another method, in one setting, over equal seeds.

    by_seed: the differences.   p: corrected over the family.   verdict: lower, higher or not shown, or why
    there is none.
    """

    cell: Cell
    by_seed: Mapping[int, float]
    p: float
    verdict: str

    @property
    def interval(self) -> Interval:
        """Mean and t interval."""
        return mean_interval(list(self.by_seed.values()))

    @property
    def shown(self) -> bool:
        """Tell whether a difference is shown."""
        return self.verdict in ("lower", "higher")


def comparisons(
    results: Results[Params, Cell], quantity: Quantity, stage: str = "final", rival: str = "none"
) -> list[Comparison]:
    """Compare every method with a rival, setting by setting; Holm's correction is over all of them.

    stage: final, or same_time: those trained in no noise's time alone, corrected beside all others as they
    are, so that both have a family of one size.   rival: no noise, or a method.
    """
    settings = [setting.name for setting in results.params.settings if rival in results.params.methods]
    rivals = {setting: finals(results, setting).get(rival) for setting in settings}
    pairs: list[tuple[Cell, Cell | None]] = []
    for setting in settings:
        again = finals(results, setting, stage)
        pairs += [
            (again[method] if results.of_cell(again[method]) else cell, rivals[setting])
            for method, cell in finals(results, setting).items()
            if method not in ("none", rival)
        ]
    found = [difference(results, *pair, quantity.column, **quantity.where) for pair in pairs]
    by_seed = [contrast.by_seed if contrast else {} for contrast in found]
    tests = [one_sample(list(values.values())) for values in by_seed]
    corrected = holm([test.p for test in tests])
    return [
        Comparison(cell, values, p, _verdict(results, cell, values, p, test.difference.mean))
        for (cell, _), values, p, test in zip(pairs, by_seed, corrected, tests, strict=True)
        if cell.stage == stage
    ]


def _verdict(
    results: Results[Params, Cell], cell: Cell, by_seed: Mapping[int, float], p: float, mean: float
) -> str:
    if reason := undecided(len(by_seed), settings(results.params, cell)):
        return reason
    if not results.interval(cell.plain, "gap").low > 0:  # a regulariser has nothing to do there
        return NO_GAP
    if math.isnan(p) or p >= 1 - CONFIDENCE:
        return "not shown"
    return "lower" if mean < 0 else "higher"


@dataclass(frozen=True)
class Ranks:
    """Mean ranks of the methods, 1 for the lowest value, over blocks: the seeds of one setting, or of all.

    low, high: percentile bootstrap over seeds, within settings.   distance: Nemenyi's; nan over several
    settings, whose seeds are no independent blocks of one kind.   p: of the Friedman test, likewise.
    """

    setting: str
    methods: Sequence[str]
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    n: int
    p: float = math.nan
    distance: float = math.nan


def ranked(results: Results[Params, Cell], quantity: Quantity) -> list[Ranks]:
    """Rank the methods in each setting that has them all, then over these settings, each counting equally."""
    names, found, blocks = list(results.params.methods), [], []
    for setting in results.params.settings:
        known = finals(results, setting.name)
        if len(known) < len(names):
            continue
        values = [results.values(known[m], quantity.column, **quantity.where) for m in names]
        seeds = common_seeds(values)
        if len(seeds) < 2:
            continue
        table = [[each[seed] for each in values] for seed in seeds]
        blocks.append(ranks(table))
        alone = {"p": friedman(table), "distance": nemenyi_distance(len(names), len(seeds))}
        found.append(Ranks(setting.name, names, *_resampled(blocks[-1:]), len(seeds), **alone))
    if len(found) > 1:
        found.append(Ranks("all settings", names, *_resampled(blocks), min(each.n for each in found)))
    return found


def _resampled(blocks: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean ranks over blocks, and their percentile bootstrap bounds, always the same.

    blocks: of each setting (seeds, methods).   Returns three arrays, (methods,).
    """
    random = np.random.Generator(np.random.PCG64(0))
    drawn = np.zeros((RESAMPLES, blocks[0].shape[1]))
    for block in blocks:
        drawn += block[random.integers(len(block), size=(RESAMPLES, len(block)))].mean(1) / len(blocks)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(drawn, [tail, 100 - tail], axis=0)
    return np.mean([block.mean(0) for block in blocks], axis=0), low, high


def step_cost(results: Results[Params, Cell], cell: Cell) -> float:
    """Return the seconds of an epoch over those of no noise: the fastest epoch of all seeds, of both.

    Timed where the runs were trained. What else ran there can only slow an epoch. nan without both.
    """
    own, plain = (results.values(c, "epoch_seconds").values() for c in (cell, cell.plain))
    return min(own) / min(plain) if own and plain else math.nan
