"""Head to head in a sentence a setting, and in two tables: every method minus no noise, and minus dropout."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import pandas as pd

from noiseutils.studies.head_to_head.choice import finals
from noiseutils.studies.head_to_head.comparisons import Comparison, comparisons, quantities
from noiseutils.studies.head_to_head.grid import Cell
from noiseutils.studies.head_to_head.methods import LEVEL, METHODS
from noiseutils.studies.head_to_head.params import Params
from noiseutils.studies.params import data_of
from noiseutils.studies.readable import effect
from noiseutils.studies.results import Results

ALL = (
    "All methods in one setting, each at the strength that is best on validation images, then trained anew: "
    "top-1 error minus that of no noise with the same seeds, in points, with the 95 % interval of the row "
    "alone; lower or higher is said after correction for all rows. The best on average comes first."
)
PAPERS = (
    "The papers' noises minus dropout, likewise. NoisyDropout is dropout with noise on top, of std "
    f"{LEVEL:g}; its p is what was chosen."
)
VERDICTS = ("lower", "higher", "not shown")


def overview(results: Results[Params, Cell]) -> dict[str, pd.DataFrame]:
    """Return tables by what they say: all methods minus no noise, and the papers' noises minus dropout.

    A row a method, the best on average first, and a column a setting: difference in points of top-1 error,
    interval, verdict, the chosen strength; in the head the seeds and the rival's own error. Settings without
    a verdict are left out, and tables without one.
    """
    papers = _papers(results)
    found = {ALL: _table(results, "none", METHODS), PAPERS: _table(results, "dropout", papers)}
    return {says: table for says, table in found.items() if len(table)}


def in_short(results: Results[Params, Cell]) -> list[str]:
    """Return two sentences a setting: how many of the papers' noises beat no noise, and how many dropout."""
    papers, label = _papers(results), data_of(results.params).label
    against_none = _judged(results, "none", [*papers, "dropout"])
    against_dropout = _judged(results, "dropout", papers)
    found = []
    for setting in results.params.settings:
        judged = {method: one for (method, name), one in against_none.items() if name == setting.name}
        dropout = judged.pop("dropout", None)
        if not judged:
            continue
        said = (
            f"{setting.name} ({label}, {setting.epochs} epochs; each method at the best of its strengths on "
            f"validation images): of {len(judged)} methods of the papers, noise or blur, "
            f"{_counted(judged.values(), 'no noise')}."
        )
        if rest := [one for (_, name), one in against_dropout.items() if name == setting.name]:
            alone = f" ({_points(dropout)} against no noise)" if dropout is not None else ""
            said += f" Of {len(rest)}, {_counted(rest, f'dropout{alone}')}."
        found.append(said)
    return found


def _counted(judged: Iterable[Comparison], rival: str) -> str:
    """Return in words how many comparisons show a lower error, of what methods, and how many a higher."""
    shown = sorted((one for one in judged if one.shown), key=lambda one: one.interval.mean)
    lower = [one for one in shown if one.verdict == "lower"]
    named = [f"{METHODS[one.cell.method].label} {_points(one)}" for one in lower]
    listed = f" ({'; '.join(named)})" if named else ""
    higher = len(shown) - len(lower)
    return f"**{len(lower)}** have a lower error than {rival}{listed}, **{higher}** a higher one"


def _points(one: Comparison) -> str:
    """Return the mean difference of a comparison in points."""
    found = effect(one.interval.mean, one.interval.low, one.interval.high, "error")
    return f"{found.split(' [')[0]} points"


def _papers(results: Results[Params, Cell]) -> list[str]:
    """Return the methods that are the papers' noises."""
    return [name for name in results.params.methods if METHODS[name].kind not in ("", "common")]


def _table(results: Results[Params, Cell], rival: str, methods: Collection[str]) -> pd.DataFrame:
    judged = _judged(results, rival, methods)
    settings = [
        setting for setting in results.params.settings if setting.name in {name for _, name in judged}
    ]
    own = {
        method: [judged.get((method, setting.name)) for setting in settings]
        for method in results.params.methods
        if any(method == name for name, _ in judged)
    }
    label = data_of(results.params).label
    heads, seeds = [], []
    for setting in settings:
        plain = results.interval(finals(results, setting.name)[rival], "top1_error")
        seeds.append(plain.n)
        heads.append(
            f"{setting.name}; {label}, {setting.epochs} epochs, n = {plain.n}; {METHODS[rival].label}: "
            f"{100 * plain.mean:.1f} % error"
        )
    return pd.DataFrame(
        {"method": METHODS[method].label, **dict(zip(heads, map(_said, own[method], seeds), strict=True))}
        for method in sorted(own, key=lambda method: _mean(own[method]))
    )


def _judged(
    results: Results[Params, Cell], rival: str, methods: Collection[str]
) -> dict[tuple[str, str], Comparison]:
    """Return the comparisons of top-1 errors that have a verdict, by method and setting."""
    found = comparisons(results, quantities(results.params)["top1"], rival=rival)
    return {
        (one.cell.method, one.cell.setting): one
        for one in found
        if one.verdict in VERDICTS and one.cell.method in methods
    }


def _mean(found: list[Comparison | None]) -> float:
    return float(np.mean([one.interval.mean for one in found if one is not None]))


def _said(one: Comparison | None, seeds: int) -> str:
    """Return a comparison in words, with its own number of seeds where that is not the rival's."""
    if one is None:
        return "–"
    found = effect(one.interval.mean, one.interval.low, one.interval.high, "error").removesuffix(" points")
    strength = METHODS[one.cell.method].at(one.cell.strength)
    parts = [f"{found} {one.verdict if one.shown else 'not shown'}", strength]
    return "; ".join(filter(None, [*parts, f"n = {one.interval.n}" if one.interval.n != seeds else ""]))
