"""Head to head in two tables: every method minus no noise in each setting, and minus dropout."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd

from noiseutils.studies.head_to_head.choice import finals
from noiseutils.studies.head_to_head.comparisons import Comparison, comparisons, quantities
from noiseutils.studies.head_to_head.grid import Cell
from noiseutils.studies.head_to_head.methods import METHODS
from noiseutils.studies.head_to_head.params import Params
from noiseutils.studies.params import data_of
from noiseutils.studies.readable import effect
from noiseutils.studies.results import Results

ALL = (
    "All methods in one setting, each at the strength that is best on validation images, then trained anew: "
    "top-1 error minus that of no noise with the same seeds, in points, with the 95 % interval of the row "
    "alone; lower or higher is said after correction for all rows. The best on average comes first."
)
PAPERS = "The papers' noises minus dropout, likewise. NoisyDropout is dropout with noise on top."
VERDICTS = ("lower", "higher", "not shown")


def overview(results: Results[Params, Cell]) -> dict[str, pd.DataFrame]:
    """Return tables by what they say: all methods minus no noise, and the papers' noises minus dropout.

    A row a method, the best on average first, and a column a setting: difference in points of top-1 error,
    interval, verdict, the chosen strength; in the head the seeds and the rival's own error. Settings without
    a verdict are left out, and tables without one.
    """
    papers = [name for name in results.params.methods if METHODS[name].kind not in ("", "common")]
    found = {ALL: _table(results, "none", METHODS), PAPERS: _table(results, "dropout", papers)}
    return {says: table for says, table in found.items() if len(table)}


def _table(results: Results[Params, Cell], rival: str, methods: Collection[str]) -> pd.DataFrame:
    found = comparisons(results, quantities(results.params)["top1"], rival=rival)
    judged = {
        (one.cell.method, one.cell.setting): one
        for one in found
        if one.verdict in VERDICTS and one.cell.method in methods
    }
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
