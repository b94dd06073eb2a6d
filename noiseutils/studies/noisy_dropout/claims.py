"""What the NoisyDropout paper reported and claimed, beside what was found here."""

from __future__ import annotations

import math
from importlib.resources import files

import pandas as pd

from noiseutils.stats import Paired, mean_interval, paired, value_verdict
from noiseutils.studies.common import claims_of, select
from noiseutils.studies.noisy_dropout.grid import READINGS, Cell, Outcome, cells

PAPER_LEVELS = (0.05, 0.1, 0.3, 0.5, 1.0)
EXTREMES = {"min": min, "max": max}


def reported() -> pd.DataFrame:
    """The numbers that the paper's text ties to a cell: one row each, with the words they stand in.

    over: min or max where the number is over the noise levels.   bound: "above" or "below" where the paper
    gives a limit. Left out are two that belong to no cell: 0.69 on the way in Figure 10, and 78 % in 5.2.
    """
    with (files("noiseutils.studies.noisy_dropout") / "reported.csv").open() as file:
        return pd.read_csv(file)


def reported_table(outcome: Outcome, reading: str = "dropped") -> pd.DataFrame:
    """Ours beside the paper's: every reported number, our mean, interval and n, and a verdict from them.

    `over` min or max: the paper gives the least or greatest over its noise levels; ours is taken per seed.
    """
    rows = []
    for row in reported().to_dict("records"):
        extreme = EXTREMES.get(row["over"])
        levels = outcome.params.noise_levels if extreme else (row["level"],)
        each = [outcome.values(_cell(row["p"], level, reading), row["quantity"]) for level in levels]
        seeds = sorted(set.intersection(*(set(values) for values in each)))
        if extreme and not set(PAPER_LEVELS) <= set(levels):
            seeds = []  # an extreme over other levels is not the paper's
        ours = mean_interval([(extreme or max)(values[seed] for values in each) for seed in seeds])
        verdict = value_verdict(
            row["value"], ours, row["rounding"], comparable=outcome.comparable, bound=row["bound"]
        )
        rows.append({"ours": ours.mean, "low": ours.low, "high": ours.high, "n": ours.n, "verdict": verdict})
    return pd.concat([reported().drop(columns=["rounding", "quote"]), pd.DataFrame(rows)], axis=1)


def _cell(p: float, level: float, reading: str) -> Cell:
    return Cell(p, level, reading if level else "dropped")


def readings_table(outcome: Outcome) -> pd.DataFrame:
    """Which reading of the layer comes nearest to what the paper saw.

    cost: the greatest rise of the top-1 error against ordinary dropout, per seed, over the noise levels that
    all readings were run at (`levels`; over more of them one reading's maximum would be larger by luck).
    paper: the same from its Figures 6-8.   nearest: only for several seeds on the paper's data.
    """
    top1 = select(reported(), quantity="top1_error")
    rows = []
    for p in sorted(outcome.params.probabilities):
        noisy = {
            r: {c.level for c in cells(outcome.params) if (c.p, c.reading) == (p, r) and c.level}
            for r in READINGS
        }
        levels = sorted(set.intersection(*(found for found in noisy.values() if found)))
        highest, normal = select(top1, p=p, over="max"), select(top1, p=p, level=0)
        paper = highest.value.item() - normal.value.item() if len(highest) else math.nan
        plain = outcome.values(outcome.plain(p), "top1_error")
        for reading in READINGS:
            each = [outcome.values(Cell(p, level, reading), "top1_error") for level in levels]
            seeds = [seed for seed in plain if each and all(seed in values for values in each)]
            cost = mean_interval([max(values[seed] for values in each) - plain[seed] for seed in seeds])
            row = {"p": p, "reading": reading, "cost": cost.mean, "low": cost.low, "high": cost.high}
            rows.append(row | {"n": cost.n, "levels": " ".join(f"{v:g}" for v in levels), "paper": paper})
    table = pd.DataFrame(rows)
    distance = (table.cost - table.paper).abs().where((table.n > 1) & outcome.comparable)
    nearest = distance == distance.groupby(table.p).transform("min")
    return table.assign(nearest=nearest.map({True: "nearest", False: ""}))


def claims_table(outcome: Outcome, reading: str = "dropped") -> pd.DataFrame:
    """The paper's claims as paired tests, with Holm's correction over them, and a verdict each.

    difference: in the claim's quantity, a share in [0, 1]; averaged over noise levels, paired over seeds.
    """
    params = outcome.params
    noisy = {
        p: [Cell(p, level, reading) for level in params.noise_levels if level > 0]
        for p in params.probabilities
    }
    low, high = min(params.probabilities), max(params.probabilities)
    tests = [
        (
            f"4.2: noise raises the top-1 error (p = {p})",
            "up",
            against_plain(outcome, noisy[p], "top1_error"),
        )
        for p in params.probabilities
    ]
    if low != high:
        tests.append(
            (
                f"4.2: noise costs more at p = {high} than at p = {low}",
                "up",
                _steeper(outcome, noisy[low], noisy[high]),
            )
        )
    tests += [
        (
            f"abstract: noise helps against attacks (FGSM {delta:g}/255, p = {p})",
            "down",
            against_plain(outcome, noisy[p], "top1_error", "fgsm", delta / 255),
        )
        for delta in params.fgsm_255
        for p in params.probabilities
    ]
    tests += [
        (
            f"abstract: noise helps on noisy images (σ = {sigma:g}, p = {p})",
            "down",
            against_plain(outcome, noisy[p], "top1_error", "gaussian_noise", sigma),
        )
        for sigma in params.input_noise
        for p in params.probabilities
    ]
    return claims_of(tests)


def _steeper(outcome: Outcome, shallow: list[Cell], steep: list[Cell]) -> Paired:
    """Paired difference between what noise costs at two dropout probabilities."""
    costs = []
    for noisy in (steep, shallow):
        treated = _mean_by_seed(outcome, noisy, "top1_error")
        control = outcome.values(outcome.plain(noisy[0].p), "top1_error")
        costs.append({seed: treated[seed] - control[seed] for seed in treated if seed in control})
    seeds = [seed for seed in costs[0] if seed in costs[1]]
    return paired([costs[0][s] for s in seeds], [costs[1][s] for s in seeds])


def _mean_by_seed(
    outcome: Outcome, noisy: list[Cell], quantity: str, condition: str = "clean", size: float = 0.0
) -> dict[int, float]:
    """The mean over some cells, for every seed that has them all."""
    each = [outcome.values(cell, quantity, condition, size) for cell in noisy]
    seeds = sorted(set.intersection(*(set(values) for values in each)))
    return {seed: sum(values[seed] for values in each) / len(each) for seed in seeds}


def against_plain(
    outcome: Outcome, noisy: list[Cell], quantity: str, condition: str = "clean", size: float = 0.0
) -> Paired:
    """Paired difference: the mean over some cells of one probability minus ordinary dropout."""
    treated = _mean_by_seed(outcome, noisy, quantity, condition, size)
    control = outcome.values(outcome.plain(noisy[0].p), quantity, condition, size)
    seeds = [seed for seed in treated if seed in control]
    return paired([treated[s] for s in seeds], [control[s] for s in seeds])
