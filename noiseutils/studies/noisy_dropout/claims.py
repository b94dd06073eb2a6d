"""What the NoisyDropout paper reported and claimed, beside what was found here."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from noiseutils.stats import Paired, mean_interval, value_verdict
from noiseutils.studies.noisy_dropout.grid import READINGS, Cell
from noiseutils.studies.noisy_dropout.params import Params
from noiseutils.studies.results import (
    Results,
    claims_of,
    common_seeds,
    paired_by_seed,
    reported_beside,
    select,
)

PAPER_LEVELS = (0.05, 0.1, 0.3, 0.5, 1.0)
EXTREMES = {"min": min, "max": max}


def reported() -> pd.DataFrame:
    """Read the numbers that the paper's text ties to a cell: one row each, with the words around it.

    over: min or max where the number is over the noise levels.   bound: "above" or "below" where the paper
    gives a limit. Left out are two that belong to no cell: 0.69 on the way in Figure 10, and 78 % in 5.2.
    """
    return reported_beside(__file__)


def reported_table(results: Results[Params, Cell], reading: str = "dropped") -> pd.DataFrame:
    """Set ours beside the paper's: every reported number, our mean, interval and n, and their verdict.

    `over` min or max: the paper gives the least or greatest over its noise levels; ours is taken per seed.
    """
    rows = []
    for row in reported().to_dict("records"):
        extreme = EXTREMES.get(row["over"])
        levels = results.params.noise_levels if extreme else (row["level"],)
        cells = [Cell(row["p"], level, reading if level else "dropped") for level in levels]
        each = [results.values(cell, row["quantity"]) for cell in cells]
        # an extreme over other levels is not the paper's
        seeds = common_seeds(each) if not extreme or set(PAPER_LEVELS) <= set(levels) else []
        ours = mean_interval([(extreme or max)(values[seed] for values in each) for seed in seeds])
        verdict = value_verdict(
            row["value"], ours, row["rounding"], comparable=results.params.comparable, bound=row["bound"]
        )
        rows.append({**ours.row("ours"), "verdict": verdict})
    return pd.concat([reported().drop(columns=["rounding", "quote"]), pd.DataFrame(rows)], axis=1)


def readings_table(results: Results[Params, Cell]) -> pd.DataFrame:
    """Compare the readings of the layer: which comes nearest to what the paper saw.

    cost: the greatest rise of the top-1 error against ordinary dropout, per seed, over the noise levels that
    all readings were run at (`levels`; over more of them one reading's maximum would be larger by luck).
    paper: the same from its Figures 6-8.   nearest: only for several seeds on the paper's data.
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
    distance = (table.cost - table.paper).abs().where((table.n > 1) & results.params.comparable)
    nearest = distance == distance.groupby(table.p).transform("min")
    return table.assign(nearest=nearest.map({True: "nearest", False: ""}))


def claims_table(results: Results[Params, Cell], reading: str = "dropped") -> pd.DataFrame:
    """Judge the paper's claims by paired tests, with Holm's correction over them.

    difference: in the claim's quantity, a share in [0, 1]; averaged over noise levels, paired over seeds.
    """
    params = results.params
    noisy = {p: [Cell(p, level, reading) for level in params.noise_levels] for p in params.probabilities}
    low, high = min(params.probabilities), max(params.probabilities)
    tests = [
        (f"4.2: noise raises the top-1 error (p = {p})", "up", against_plain(results, noisy[p], "top1_error"))
        for p in params.probabilities
    ]
    if low != high:
        text = f"4.2: noise costs more at p = {high} than at p = {low}"
        costs = [_costs(results, noisy[p], "top1_error") for p in (high, low)]
        tests.append((text, "up", paired_by_seed(*costs)))
    for condition, sizes, text in (
        ("fgsm", [delta / 255 for delta in params.fgsm_255], "against attacks (FGSM {:g}/255, p = {})"),
        ("gaussian_noise", params.input_noise, "on noisy images (σ = {:g}, p = {})"),
    ):
        for size in sizes:
            shown = size * 255 if condition == "fgsm" else size
            tests += [
                (
                    f"abstract: noise helps {text.format(shown, p)}",
                    "down",
                    against_plain(results, noisy[p], "top1_error", condition=condition, size=size),
                )
                for p in params.probabilities
            ]
    return claims_of(tests)


def _costs(results: Results[Params, Cell], noisy: list[Cell], quantity: str) -> dict[int, float]:
    """Return by seed what noise adds to a quantity, over ordinary dropout."""
    treated, control = results.means(noisy, quantity), results.values(noisy[0].plain, quantity)
    return {seed: treated[seed] - control[seed] for seed in treated if seed in control}


def against_plain(results: Results[Params, Cell], noisy: list[Cell], quantity: str, **where: Any) -> Paired:
    """Test the mean over some cells of one probability against ordinary dropout."""
    treated = results.means(noisy, quantity, **where)
    return paired_by_seed(treated, results.values(noisy[0].plain, quantity, **where))
