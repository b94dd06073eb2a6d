"""Head to head in tables: what it comes to, every method minus no noise, the papers' noises minus dropout."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from noiseutils.studies.head_to_head.choice import finals
from noiseutils.studies.head_to_head.comparisons import Comparison, comparisons, quantities
from noiseutils.studies.head_to_head.grid import Cell
from noiseutils.studies.head_to_head.methods import METHODS, NOISE_STD
from noiseutils.studies.head_to_head.params import Params
from noiseutils.studies.head_to_head.tables import autoattack_table
from noiseutils.studies.params import data_of
from noiseutils.studies.readable import effect
from noiseutils.studies.results import Results

ALL_METHODS = (
    "All methods in one setting, each at the strength of four that was best on validation images, in one "
    "training each, then trained anew: top-1 error minus that of no noise with the same seeds, in points, "
    "with the 95 % interval of the row alone; lower or higher is said after correction for all rows. The "
    "best on average comes first. Crop and flip has no strength to choose. Where the weakest or the "
    "strongest of four was chosen, one beyond it might be better."
)
PAPERS_METHODS = (
    "The papers' noises minus dropout, likewise. NoisyDropout is dropout with noise on top, of std "
    f"{NOISE_STD:g}, which was not chosen; its p was."
)
IN_SHORT = (
    "The papers' noises, with blur, and with LAT and Gaussian noise on activations, which the ANL paper "
    "compares its noise with. In one setting, a column, networks differ in the method alone; six seeds or "
    "more, each method at the best of its strengths on validation images. Better: a lower top-1 error is "
    "shown, after correction for all methods and settings; worse: a higher one. NoisyDropout is dropout with "
    "noise on top. Images lost: of those that are right without the attack or the noise, the share that it "
    "turns wrong; one step of FGSM cannot tell robustness from masked gradients, AutoAttack can."
)
ON_DROPOUT = ("noisy_dropout", "noisy_dropout_all")  # methods that drop neurons, too
VERDICTS = ("lower", "higher", "not shown")
MORE_OR_FEWER = {"more robust": ": more", "less robust": ": fewer", "not shown": ": not shown"}


def overview(results: Results[Params, Cell]) -> dict[str, pd.DataFrame]:
    """Return tables by what they say: all methods minus no noise, and the papers' noises minus dropout.

    A row a method, the best on average first, and a column a setting: difference in points of top-1 error,
    interval, verdict, the chosen strength; in the head the seeds and the rival's own error. Settings without
    a verdict are left out, and tables without one.
    """
    papers = _papers(results)
    found = {
        ALL_METHODS: _table(results, "none", METHODS),
        PAPERS_METHODS: _table(results, "dropout", papers),
    }
    return {says: table for says, table in found.items() if len(table)}


def in_short(results: Results[Params, Cell]) -> dict[str, pd.DataFrame]:
    """Return a table by what it says: how many noises of the papers beat no noise, and how many dropout.

    Compared in top-1 error, then in robustness: of the images right without an attack or noise, the share
    that it turns wrong; and what one network of each kind gets right under AutoAttack. A row a comparison,
    a column a setting. Settings without a verdict are left out, and the table without one.
    """
    papers, params = _papers(results), results.params
    none, dropout = METHODS["none"].label, METHODS["dropout"].label
    plain = _judged(results, "none", [*papers, "dropout"])
    added = _judged(results, "dropout", papers)
    corrupted = {
        words: _judged(results, "none", [*papers, "dropout"], name)
        for name, words in (
            ("fgsm_lost", f"images lost to FGSM {params.fgsm_255:g}/255"),
            ("noise_lost", f"images lost to noise of σ = {params.noise:g}"),
        )
    }
    columns = {}
    attacked = autoattack_table(results)
    for setting in params.settings:
        name = setting.name
        if not (own := _of(plain, papers, name)):
            continue
        head = (
            f"{name}; {data_of(params).label}, {setting.epochs} epochs, n = {min(c.interval.n for c in own)}"
        )
        columns[head] = {
            f"the papers' noises against {none}": _counted(own),
            f"{dropout} against {none}": _judged_points(plain.get(("dropout", name))),
            f"the papers' noises against {dropout}": _counted(_of(added, papers, name)),
        }
        for method in ON_DROPOUT:
            if method in papers:
                row = f"{METHODS[method].label}, against {dropout}"
                columns[head][row] = _judged_points(added.get((method, name)))
        for words, found in corrupted.items():
            row = f"{words}: the papers' noises against {none}"
            columns[head][row] = _counted(_of(found, papers, name), found.get(("dropout", name)))
        if len(attacked):
            columns[head] |= _under_autoattack(attacked.loc[attacked.setting == name])
    table = pd.DataFrame(columns).fillna("–").rename_axis("comparison").reset_index()
    return {IN_SHORT: table} if columns else {}


def _of(judged: dict[tuple[str, str], Comparison], methods: Sequence[str], setting: str) -> list[Comparison]:
    """Return the comparisons of some methods in one setting."""
    return [one for (method, name), one in judged.items() if name == setting and method in methods]


def _counted(judged: Sequence[Comparison], dropout: Comparison | None = None) -> str:
    """Return how many methods are better and worse, and the best of them, with dropout beside it."""
    if not judged:
        return "–"
    lower, higher = ([one for one in judged if one.verdict == verdict] for verdict in ("lower", "higher"))
    on_dropout = sum(one.cell.method in ON_DROPOUT for one in lower)
    among = f" ({on_dropout} of them NoisyDropout)" if on_dropout else ""
    found = f"{len(lower)} of {len(judged)} better{among}, {len(higher)} worse"
    if not lower:
        return found
    best = min(lower, key=lambda one: one.interval.mean)
    beside = f"; {METHODS['dropout'].label} {_points(dropout)}" if dropout is not None else ""
    return f"{found}; best: {METHODS[best.cell.method].label} {_points(best)}{beside}"


def _under_autoattack(attacked: pd.DataFrame) -> dict[str, str]:
    """Return what networks of the first seed get right, clean and under AutoAttack: a text a size."""
    found = {}
    for size in sorted(set(attacked.delta_255)):
        rows = attacked.loc[(attacked.delta_255 == size) & (attacked.seed == attacked.seed.min())]
        shares = []
        for row in rows.to_dict("records"):
            clean, right = (f"{100 * (1 - row[name]):.1f}" for name in ("clean_error", "attacked_error"))
            verdict = MORE_OR_FEWER.get(row.get("verdict", ""), "")
            shares.append(f"{row['method']} {clean} → {right} %{verdict}")
        words = f"one network each, {rows.images.max():,} images"
        found[f"right, clean → under AutoAttack {size:g}/255, {words}"] = "; ".join(shares)
    return found


def _judged_points(one: Comparison | None) -> str:
    """Return the difference of a comparison in points, and what is shown of it."""
    if one is None:
        return "–"
    return f"{_points(one)}: {({'lower': 'better', 'higher': 'worse'}).get(one.verdict, 'not shown')}"


def _points(one: Comparison) -> str:
    """Return the difference of a comparison in points with its interval."""
    return effect(one.interval.mean, one.interval.low, one.interval.high, "error")


def _papers(results: Results[Params, Cell]) -> list[str]:
    """Return the methods that are the papers' noises."""
    return [name for name in results.params.methods if METHODS[name].of_papers]


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
    results: Results[Params, Cell], rival: str, methods: Collection[str], quantity: str = "top1"
) -> dict[tuple[str, str], Comparison]:
    """Return the comparisons of a quantity that have a verdict, by method and setting."""
    found = comparisons(results, quantities(results.params)[quantity], rival=rival)
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
