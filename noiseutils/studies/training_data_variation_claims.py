"""What the training-data paper claims, each claim with a verdict computed from our numbers.

The paper prints no table: its text and Figures 4 to 7 claim directions, not values.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

import numpy as np
import pandas as pd

from noiseutils.stats import Interval, Paired, bootstrap_interval, holm, mean_interval, paired
from noiseutils.studies.common import claims_of
from noiseutils.studies.training_data_variation import Cell, Outcome, cells, row_of
from noiseutils.studies.training_data_variation_tables import change_sizes

STARTS = 0.1  # "starting with a model trained on the noise level 0.1" (section 3)
SMALL = {
    "noise": (0.05, 0.1),
    "blur": (0.01, 0.05, 0.1, 0.5),
}  # small noise raises the change, small blur not
ONE_PERCENT = 2.55  # of the 8-bit range: section 3 rounds it to 2.5


def accuracy_claims(outcome: Outcome) -> pd.DataFrame:
    """Claims about accuracy on noisy images, paired over seeds, with Holm's correction over the table.

    "Best" is tested against the best of all other strengths at that level, which is the hardest rival.
    """
    tests = []
    if "noise" in outcome.params.kinds:
        for architecture in outcome.params.architectures:
            row = row_of(outcome.params, architecture, "noise")
            for cell in row:
                if cell.sigma < STARTS:
                    continue
                text = f"Fig. 4: on noise {cell.sigma:g} training on noise {cell.sigma:g} is best"
                rival = _best(outcome, [other for other in row if other != cell], "noise", cell.sigma)
                if rival:
                    text += f", here against {rival.sigma:g} ({architecture})"
                    tests.append((text, "up", _difference(outcome, cell, rival, "noise", cell.sigma)))
            small = Cell(architecture, "noise", STARTS)
            if small in row:
                test = _difference(outcome, small, small.plain, "noise", STARTS)
                text = f"3: training on noise {STARTS:g} raises the accuracy on it ({architecture})"
                tests.append((text, "up", test))
    return claims_of(tests) if tests else pd.DataFrame()


def change_claims(outcome: Outcome) -> pd.DataFrame:
    """Claims about the least change that misleads, paired over images that both networks can be misled on.

    difference: in 8-bit values, a corruption minus none; n images. It tells of other images, not of other
    trainings: networks are few. Holm's correction over the table; a claim of no effect is held unless the
    change is raised.
    """
    rows, p_values = [], []
    for cell in cells(outcome.params):
        if cell.sigma not in SMALL.get(cell.kind, ()):
            continue
        test = _change_difference(outcome, cell)
        noise = cell.kind == "noise"
        words = "raises the needed change" if noise else "does not raise the needed change"
        figure = "Fig. 5: a little noise" if noise else "Fig. 7: blur"
        d = test.difference
        rows.append(
            {
                "claim": f"{figure}, {cell.sigma:g}, {words} ({cell.architecture})",
                "claimed": "up" if noise else "not up",
                "difference": d.mean,
                "low": d.low,
                "high": d.high,
                "n": d.n,
            }
        )
        p_values.append(test.p)
    for row, p in zip(rows, holm(p_values), strict=True):
        row |= {"p_holm": p, "verdict": _verdict(row, p)}
    return pd.DataFrame(rows)


def _verdict(row: dict, p: float, alpha: float = 0.05) -> str:
    if row["n"] < 2:
        return "not run"
    shown = p < alpha
    if row["claimed"] == "not up":
        return "the opposite" if shown and row["difference"] > 0 else "held"
    if not shown:
        return "not shown"
    return "held" if row["difference"] > 0 else "the opposite"


def percent_claims(outcome: Outcome) -> pd.DataFrame:
    """ "All of the models are easily tricked": the largest least change of each architecture, beside 1 %.

    size: mean change of a pixel in 8-bit values, its interval bootstrapped over n images.
    """
    rows = []
    for architecture in outcome.params.architectures:
        found = []
        for cell in cells(outcome.params):
            sizes = list(change_sizes(outcome, cell).values()) if cell.architecture == architecture else []
            if sizes:
                found.append((bootstrap_interval(sizes), cell))
        if not found:
            continue
        size, cell = max(found, key=lambda pair: pair[0].mean)
        rows.append(
            {
                "claim": f"3: a change of about 1 % misleads every model ({architecture})",
                "most_robust": cell.kind if cell.kind == "none" else f"{cell.kind} {cell.sigma:g}",
                "size": size.mean,
                "low": size.low,
                "high": size.high,
                "percent": size.mean / ONE_PERCENT,
                "n": size.n,
                "verdict": _below(size, ONE_PERCENT),
            }
        )
    return pd.DataFrame(rows)


def _below(size: Interval, bound: float) -> str:
    if size.n < 2:
        return "one image: no verdict"
    if size.high <= bound:
        return "held"
    return "did not hold" if size.low > bound else "not shown"


def architectures_table(outcome: Outcome) -> pd.DataFrame:
    """ "None of the architectures generalizes particularly well": accuracy over all strengths, in pairs.

    difference: of the accuracy averaged over training and shown strengths of a kind, paired over seeds; Holm
    over the table. That no difference is shown does not prove that there is none: see the interval.
    """
    rows, p_values = [], []
    for kind in outcome.params.kinds:
        means = {
            architecture: _overall(outcome, architecture, kind)
            for architecture in outcome.params.architectures
        }
        for first, second in itertools.combinations(means, 2):
            test = _paired(means[first], means[second])
            d = test.difference
            rows.append({"kind": kind, "first": first, "second": second, "difference": d.mean})
            rows[-1] |= {"low": d.low, "high": d.high, "n": d.n}
            p_values.append(test.p)
    for row, p in zip(rows, holm(p_values), strict=True):
        if row["n"] < 2:
            verdict = "one seed: no verdict" if row["n"] else "not run"
        elif p < 0.05:
            verdict = f"{row['first' if row['difference'] > 0 else 'second']} is better"
        else:
            verdict = "no difference shown"
        row |= {"p_holm": p, "verdict": verdict}
    return pd.DataFrame(rows)


def _overall(outcome: Outcome, architecture: str, kind: str) -> dict[int, float]:
    levels = [0.0, *sorted(outcome.params.sigmas)]
    each = [
        outcome.values(cell, kind, level)
        for cell in row_of(outcome.params, architecture, kind)
        for level in levels
    ]
    return {seed: float(np.mean([found[seed] for found in each])) for seed in _common(each)}


def _common(each: Iterable[dict[int, float]]) -> list[int]:
    return sorted(set.intersection(*(set(found) for found in each)))


def _best(outcome: Outcome, rivals: list[Cell], shown: str, level: float) -> Cell | None:
    means = [(mean_interval(list(outcome.values(c, shown, level).values())).mean, c) for c in rivals]
    known = [(mean, c) for mean, c in means if not math.isnan(mean)]
    return max(known, key=lambda pair: pair[0])[1] if known else None


def _difference(outcome: Outcome, a: Cell, b: Cell, shown: str, level: float) -> Paired:
    return _paired(outcome.values(a, shown, level), outcome.values(b, shown, level))


def _change_difference(outcome: Outcome, cell: Cell) -> Paired:
    return _paired(change_sizes(outcome, cell), change_sizes(outcome, cell.plain))


def _paired(a: dict[int, float], b: dict[int, float]) -> Paired:
    both = [key for key in a if key in b]
    return paired([a[key] for key in both], [b[key] for key in both])
