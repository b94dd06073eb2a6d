"""Set the NoisyDropout paper's numbers beside ours."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import pandas as pd

from noiseutils.stats import MIN_SEEDS, NUMBER_JUDGED, mean_interval, prediction_interval, reported_verdict
from noiseutils.studies.noisy_dropout.claims import settings
from noiseutils.studies.noisy_dropout.grid import READINGS, Cell, level_name
from noiseutils.studies.noisy_dropout.params import Params
from noiseutils.studies.results import Results, common_seeds, reported_numbers, select

PAPER_LEVELS = (0.05, 0.1, 0.3, 0.5, 1.0)
EXTREMES = {"min": min, "max": max}
NAMED = ("dropped", "all")  # readings with 1/(1-p): the text's and the equation's
WIDTHS_CHOSEN = "the network's widths were chosen by it: no verdict"  # of all errors without noise


def reported() -> pd.DataFrame:
    """Read the numbers that the paper's text ties to a cell: one row each, with the words around it.

    over: min or max where the number is over the noise levels.   bound: "above" or "below" where the paper
    gives a limit. Left out are two that belong to no cell: 0.69 on the way in Figure 10, and 78 % in 5.2.
    """
    return reported_numbers(__file__)


class Place(NamedTuple):
    """A noise level, or an extreme over the paper's levels. over: "min" or "max" of EXTREMES, or empty."""

    label: str
    level: float | None
    over: str = ""


def places(results: Results[Params, Cell], p: float, quantity: str) -> list[Place]:
    """Return the noise levels of a profile, and those extremes of which the paper gives a quantity."""
    params = results.params
    levels = sorted({*params.noise_levels, *(params.eq2_levels or ())})
    found = [Place(level_name(level), level) for level in levels]
    printed = select(_printed(), p=p, quantity=quantity)
    for over, word in (("min", "least of the levels"), ("max", "greatest of the levels")):
        rows = select(printed, over=over)
        bounds = [f" (the paper: {bound})" for bound in rows.bound if isinstance(bound, str)]
        found += [Place(f"{word}{''.join(bounds)}", None, over)] * len(rows)
    return found


def ours_at(
    results: Results[Params, Cell], p: float, reading: str, quantity: str, place: Place
) -> dict[int, float]:
    """Return a quantity at a place by seed; extremes are taken per seed, where all the paper's levels ran."""
    if not place.over:
        assert place.level is not None
        return results.values(Cell(p, place.level, reading if place.level else "dropped"), quantity)
    if not set(PAPER_LEVELS) <= set(results.params.noise_levels):
        return {}
    each = [results.values(Cell(p, level, reading), quantity) for level in PAPER_LEVELS]
    return {seed: EXTREMES[place.over](values[seed] for values in each) for seed in common_seeds(each)}


def paper_at(p: float, quantity: str, place: Place) -> float:
    """Return the paper's number of a place, nan where it prints none."""
    where = {"over": place.over} if place.over else {"level": place.level}
    found = select(_printed(), p=p, quantity=quantity, **where).value
    return float(found.iloc[0]) if len(found) else math.nan


@functools.cache
def _printed() -> pd.DataFrame:
    return reported()


def reported_table(results: Results[Params, Cell], reading: str = "dropped") -> pd.DataFrame:
    """Set ours beside the paper's: every reported number, our mean, n, and the verdict of one training.

    low, high: prediction interval for one further training, as the paper's number is of one.   `over` min or
    max: the paper gives the least or greatest over its noise levels; ours is taken per seed.   settings: a
    key of `stats.SETTINGS`. Weighted accuracy is one minus the top-1 error by definition; the paper's two do
    not add up to one at five places, so that each has its own verdict. Numbers without noise have none: the
    widths of `CIFAR10Net`, which the paper does not give, were chosen to reach them.
    """
    rows = []
    for row in reported().to_dict("records"):
        place = Place("", row["level"], row["over"] if row["over"] in EXTREMES else "")
        ours = list(ours_at(results, row["p"], reading, row["quantity"], place).values())
        made = settings(results.params, Cell(row["p"], 0.0, "dropped"))
        verdict = reported_verdict(row["value"], ours, row["rounding"], settings=made, bound=row["bound"])
        if row["level"] == 0 and verdict in NUMBER_JUDGED:
            verdict = WIDTHS_CHOSEN
        found = prediction_interval(ours).row("ours")
        rows.append({**found, "settings": made, "verdict": verdict})
    return pd.concat([reported().drop(columns=["rounding", "quote"]), pd.DataFrame(rows)], axis=1)


def numbers(results: Results[Params, Cell]) -> pd.DataFrame:
    """List the reported numbers by their place in reported.csv with n, settings, verdict, in each reading."""
    found = pd.concat([reported_table(results, reading) for reading in NAMED])
    return found.loc[:, ["n", "settings", "verdict"]]


def readings_table(results: Results[Params, Cell]) -> pd.DataFrame:
    """Compare the readings of the layer: which comes nearest to what the paper saw.

    cost: the greatest rise of the top-1 error against ordinary dropout, per seed, over the noise levels that
    all readings were run at (`levels`; over more of them one reading's maximum would be larger by luck).
    paper: the same from its Figures 6-8.   nearest: for six seeds and all of the paper's levels alone.
    """
    top1 = select(reported(), quantity="top1_error")
    rows = []
    for p in sorted(results.params.probabilities):
        noisy = ({c.level for c in results.of(p=p, reading=r) if c.level} for r in READINGS)
        levels = sorted(set.intersection(*filter(None, noisy)))
        highest, normal = select(top1, p=p, over="max"), select(top1, p=p, level=0)
        paper = highest.value.item() - normal.value.item() if len(highest) else math.nan
        plain = results.values(Cell(p, 0.0, "dropped"), "top1_error")
        for reading in READINGS:
            each = [results.values(Cell(p, level, reading), "top1_error") for level in levels]
            seeds = [seed for seed in plain if each and all(seed in values for values in each)]
            cost = mean_interval([max(values[seed] for values in each) - plain[seed] for seed in seeds])
            row = {"p": p, "reading": reading, **cost.row("cost")}
            rows.append(row | {"levels": " ".join(f"{v:g}" for v in levels), "paper": paper})
    table = pd.DataFrame(rows)
    all_levels = " ".join(f"{level:g}" for level in PAPER_LEVELS)
    due = (table.n >= MIN_SEEDS) & (table.levels == all_levels) & results.params.as_read
    distance = (table.cost - table.paper).abs().where(due)
    nearest = distance == distance.groupby(table.p).transform("min")
    return table.assign(nearest=nearest.map({True: "nearest", False: ""}))
