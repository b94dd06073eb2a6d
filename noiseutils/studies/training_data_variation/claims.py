"""Claims of the training-data paper, each with a verdict computed from our numbers.

The paper prints no table: its text (section 3) and Figures 4 to 7 claim directions, not values. Of a claim
that there is no difference a test can only say that none was shown.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from noiseutils.stats import Interval, Paired, bootstrap_interval, holm
from noiseutils.studies.results import Results, claims_of, common_seeds, paired_by_seed
from noiseutils.studies.training_data_variation.grid import Cell, row_of, shown_as, untouched
from noiseutils.studies.training_data_variation.params import Params
from noiseutils.studies.training_data_variation.tables import ONE_PERCENT, change_sizes, failures

Test = tuple[str, str, Paired]  # a claim in words, the direction that it claims, and its test

STARTS = 0.1  # "starting with a model trained on the noise level 0.1"
HELPFUL = (0.05, 0.1, 0.5)  # noise that raises the needed change: it "starts to drop" at 1 and 5
HARMLESS = 0.5  # "up to a blur level of 0.5 the models accuracy remains unchanged"
STRONG = (1.0, 5.0)  # noise and blur at which the needed change drops


def accuracy_claims(results: Results[Params, Cell]) -> pd.DataFrame:
    """Judge the claims about accuracy, paired over seeds, with Holm's correction over the table.

    "Best" is tested against the strength that is best of all others on these very seeds: the hardest rival,
    so that such a claim may hold, and is never called refuted.
    """
    tests = [
        test for architecture in results.params.architectures for test in _accuracy(results, architecture)
    ]
    table = claims_of(tests) if tests else pd.DataFrame()
    if len(table):
        best = table.claim.str.contains("is best")
        table.loc[best & (table.verdict == "the opposite"), "verdict"] = "not shown"
    return table


def _accuracy(results: Results[Params, Cell], architecture: str) -> Iterator[Test]:
    plain = Cell(architecture, "none", 0.0)
    noise, blur = (
        [cell for cell in row_of(results.params, architecture, kind) if kind in results.params.kinds]
        for kind in ("noise", "blur")
    )
    for cell in noise:
        if cell.sigma >= STARTS:
            rival = _best(results, [other for other in noise if other != cell], "noise", cell.sigma)
            if rival is not None:
                text = f"Fig. 4: on noise {cell.sigma:g} training on it is best, here against {rival.sigma:g}"
                test = _difference(results, cell, rival, "noise", cell.sigma)
                yield f"{text} ({architecture})", "up", test
        if cell.sigma == 0.01:
            text = f"Fig. 4: training on noise 0.01 is as on none, over all noise ({architecture})"
            levels = results.params.levels
            yield text, "none", paired_by_seed(*(_mean(results, [c], "noise", levels) for c in (cell, plain)))
        if cell.sigma == STARTS:
            text = f"Fig. 4: training on noise {STARTS:g} raises the accuracy on it ({architecture})"
            yield text, "up", _difference(results, cell, plain, "noise", STARTS)
        if cell.sigma in (0.01, 0.05, STARTS):
            text = f"Fig. 4: training on noise {cell.sigma:g} leaves clean images alone ({architecture})"
            yield text, "none", _difference(results, cell, plain, "noise", 0.0)
    for cell in blur:
        if 0 < cell.sigma <= HARMLESS and not untouched(cell):
            text = f"Fig. 6: training on blur {cell.sigma:g} leaves clean images alone ({architecture})"
            yield text, "none", _difference(results, cell, plain, "blur", 0.0)


def change_claims(results: Results[Params, Cell]) -> pd.DataFrame:
    """Judge the claims about the least change that misleads, with Holm's correction over the table.

    over: what the difference is paired over. With several networks of a cell their mean changes, by seed;
    with one its images, and then the verdict is about these networks alone: other trainings may differ.
    difference: in 8-bit values; n seeds or images.
    """
    tests, units = [], []
    for text, claimed, cell, base in _changes(results):
        test, unit = _change_difference(results, cell, base)
        tests.append((text, claimed, test))
        units.append(unit)
    if not tests:
        return pd.DataFrame()
    table = claims_of(tests)
    table.insert(list(table.columns).index("n"), "over", units)
    lone = table.over == "images"
    table.loc[lone & (table.n == 1), "verdict"] = "one image: no verdict"
    lone &= table.n > 1
    table.loc[lone, "verdict"] += ", for these networks"
    return table


def _changes(results: Results[Params, Cell]) -> Iterator[tuple[str, str, Cell, Cell]]:
    grid = results.cells
    for cell in grid:
        where = f"({cell.architecture})"
        if cell.kind == "noise" and cell.sigma in HELPFUL:
            text = f"Fig. 5: training on noise {cell.sigma:g} raises the needed change {where}"
            yield text, "up", cell, cell.plain
        peak = Cell(cell.architecture, "noise", STARTS)
        if cell.kind == "noise" and cell.sigma in STRONG and peak in grid:
            text = f"Fig. 5: with noise {cell.sigma:g} it is lower than with {STARTS:g} {where}"
            yield text, "down", cell, peak
        if cell.kind == "blur" and cell.sigma <= HARMLESS and not untouched(cell):
            text = f"Fig. 7: training on blur {cell.sigma:g} does not move it {where}"
            yield text, "none", cell, cell.plain
        if cell.kind == "blur" and cell.sigma in STRONG:
            text = f"Fig. 7: training on blur {cell.sigma:g} lowers it {where}"
            yield text, "down", cell, cell.plain


def percent_claims(results: Results[Params, Cell]) -> pd.DataFrame:
    """Set the largest least change of each architecture beside 1 %: "All of the models are easily tricked".

    size: mean change of a pixel in 8-bit values, its interval bootstrapped over n images.   failed: images of
    that network that withstood: with any of them the claim, of every image, is not shown.
    """
    rows = []
    for architecture in results.params.architectures:
        own = [cell for cell in results.cells if cell.architecture == architecture]
        found = [(bootstrap_interval(list(change_sizes(results, cell).values())), cell) for cell in own]
        known = [(size, cell) for size, cell in found if size.n]
        if not known:
            continue
        size, cell = max(known, key=lambda pair: pair[0].mean)
        failed = failures(results, cell)
        rows.append(
            {
                "claim": f"a change of about 1 % misleads every model ({architecture})",
                "most_robust": cell.kind if cell.kind == "none" else f"{cell.kind} {cell.sigma:g}",
                "size": size.mean,
                "low": size.low,
                "high": size.high,
                "percent": size.mean / ONE_PERCENT,
                "n": size.n,
                "failed": failed,
                "verdict": _below(size, ONE_PERCENT, failed),
            }
        )
    return pd.DataFrame(rows)


def _below(size: Interval, bound: float, failed: float) -> str:
    if size.n < 2:
        return "one image: no verdict"
    if size.low > bound:
        return "did not hold"
    return "held" if size.high <= bound and not failed else "not shown"


def architectures_table(results: Results[Params, Cell]) -> pd.DataFrame:
    """Compare architectures over all strengths: "None of the architectures generalizes particularly well".

    difference: of the accuracy averaged over training and shown strengths of a kind, paired over seeds; Holm
    over the table.   cells: training strengths that all architectures have finished with. That no difference
    is shown does not prove that there is none: see the interval.
    """
    rows, p_values = [], []
    for kind in results.params.kinds:
        levels = results.params.levels
        grid = [row_of(results.params, architecture, kind) for architecture in results.params.architectures]
        whole = [
            column
            for column in zip(*grid, strict=True)
            if all(results.values(cell, "accuracy") for cell in column)
        ]
        means = {
            row[0].architecture: _mean(results, list(row), kind, levels)
            for row in (zip(*whole, strict=True) if whole else ())
        }
        for first, second in itertools.combinations(results.params.architectures, 2):
            test = paired_by_seed(means.get(first, {}), means.get(second, {}))
            row = {"kind": kind, "first": first, "second": second}
            rows.append({**row, **test.difference.row("difference"), "cells": len(whole)})
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


def _mean(
    results: Results[Params, Cell], row: list[Cell], shown: str, levels: list[float]
) -> dict[int, float]:
    """Return the accuracy averaged over cells and shown strengths, by seed; seeds that all have."""
    each = [results.values(cell, "accuracy", **shown_as(shown, level)) for cell in row for level in levels]
    return {seed: float(np.mean([found[seed] for found in each])) for seed in common_seeds(each)}


def _best(results: Results[Params, Cell], rivals: list[Cell], shown: str, level: float) -> Cell | None:
    means = [(results.interval(c, "accuracy", **shown_as(shown, level)).mean, c) for c in rivals]
    known = [(mean, c) for mean, c in means if not math.isnan(mean)]
    return max(known, key=lambda pair: pair[0])[1] if known else None


def _difference(results: Results[Params, Cell], a: Cell, b: Cell, shown: str, level: float) -> Paired:
    return results.paired(a, b, "accuracy", **shown_as(shown, level))


def _change_difference(results: Results[Params, Cell], cell: Cell, base: Cell) -> tuple[Paired, str]:
    """Test over seeds where several networks of both were attacked, else over images that mislead both."""
    networks = [
        {
            seed: float(np.mean(list(sizes.values())))
            for seed in range(results.params.seeds)
            if (sizes := change_sizes(results, c, seed=seed))
        }
        for c in (cell, base)
    ]
    if len(common_seeds(networks)) > 1:
        return paired_by_seed(*networks), "seeds"
    return paired_by_seed(change_sizes(results, cell), change_sizes(results, base)), "images"
