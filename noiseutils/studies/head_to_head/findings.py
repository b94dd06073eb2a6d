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
    "All methods in one setting, each at the strength of four that was best on validation images, in one "
    "training each, then trained anew: top-1 error minus that of no noise with the same seeds, in points, "
    "with the 95 % interval of the row alone; lower or higher is said after correction for all rows. The "
    "best on average comes first. Where the strongest of four was chosen, a stronger one might be better."
)
PAPERS = (
    "The papers' noises minus dropout, likewise. NoisyDropout is dropout with noise on top, of std "
    f"{LEVEL:g}, which was not chosen; its p was."
)
MASKED = " One step of FGSM cannot tell robustness from masked gradients."
ON_DROPOUT = ("noisy_dropout", "noisy_dropout_all")  # methods that drop neurons, too
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
    """Return an item a setting, with items below it: how many noises of the papers beat no noise and dropout.

    Compared in top-1 error, then in the error under attack and on noisy images.
    """
    papers, params = _papers(results), results.params
    against_none = _judged(results, "none", [*papers, "dropout"])
    against_dropout = _judged(results, "dropout", papers)
    attack, noise = f"under FGSM {params.fgsm_255:g}/255", f"on images with noise of σ = {params.noise:g}"
    under = {
        words: _judged(results, "none", [*papers, "dropout"], name)
        for name, words in (("fgsm", attack), ("noise", noise))
    }
    found = []
    for setting in params.settings:
        judged, dropout = _in_setting(against_none, setting.name)
        if not judged:
            continue
        seeds = min(one.interval.n for one in judged)
        head = (
            f"{setting.name} ({data_of(params).label}, {setting.epochs} epochs, n = {seeds}; each method at "
            "the best of its strengths on validation images):"
        )
        parts = [f"Of {len(judged)} methods of the papers, noise or blur, {_counted(judged, 'no noise')}."]
        if rest := _in_setting(against_dropout, setting.name)[0]:
            alone = f" ({_points(dropout)} against no noise)" if dropout is not None else ""
            parts += [f"Of {len(rest)}, {_counted(rest, f'dropout{alone}')}."]
            parts += _on_dropout(rest)
        for words, those in under.items():
            attacked, plain = _in_setting(those, setting.name)
            if attacked:
                alone = f"; dropout {_points(plain)}" if plain is not None else ""
                parts += [
                    f"The same networks {words}: **{_shown(attacked, 'lower')}** of {len(attacked)} have a "
                    f"lower error than no noise{_best(attacked, alone)}, "
                    f"**{_shown(attacked, 'higher')}** a higher one."
                ]
                parts[-1] += MASKED * (words == attack)
        found.append("\n".join([head, *(f"  - {part}" for part in parts)]))
    return found


def _in_setting(
    judged: dict[tuple[str, str], Comparison], setting: str
) -> tuple[list[Comparison], Comparison | None]:
    """Return the papers' methods of one setting, and dropout apart from them."""
    found = {method: one for (method, name), one in judged.items() if name == setting}
    dropout = found.pop("dropout", None)
    return list(found.values()), dropout


def _on_dropout(judged: Iterable[Comparison]) -> list[str]:
    """Return what noise adds to dropout, in a sentence; NoisyDropout is dropout with noise on top."""
    added = [
        f"{effect(one.interval.mean, one.interval.low, one.interval.high, 'error')} "
        f"({METHODS[one.cell.method].label.partition(', ')[2]})"
        for one in judged
        if one.cell.method in ON_DROPOUT
    ]
    return [f"NoisyDropout is dropout with noise: its noise changes the error by {', '.join(added)}."] * bool(
        added
    )


def _shown(judged: Iterable[Comparison], verdict: str) -> int:
    return sum(one.verdict == verdict for one in judged)


def _best(judged: Iterable[Comparison], dropout: str) -> str:
    """Return the method that lowers the error most, beside dropout, in brackets; nothing if none is shown."""
    lower = [one for one in judged if one.verdict == "lower"]
    if not lower:
        return ""
    best = min(lower, key=lambda one: one.interval.mean)
    return f" ({METHODS[best.cell.method].label} {_points(best)}{dropout})"


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
