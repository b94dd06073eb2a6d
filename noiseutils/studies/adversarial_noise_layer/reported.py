"""Set the ANL paper's numbers beside ours."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from noiseutils.stats import prediction_interval, reported_verdict, undecided
from noiseutils.studies.adversarial_noise_layer.contrasts import SITES, settings, stands_for
from noiseutils.studies.adversarial_noise_layer.grid import TABLE_4, Cell, described
from noiseutils.studies.adversarial_noise_layer.params import Params
from noiseutils.studies.adversarial_noise_layer.tables import reported, similarities
from noiseutils.studies.results import Results, select

LAYER_NOT_SAID = "layer not said: no verdict"  # of Table 1: each layer stands beside the paper's number


def reported_table(results: Results[Params, Cell], part: str) -> pd.DataFrame:
    """Set ours beside the paper's, number by number; of Table 1, at the sites where the noise goes.

    Only cells of this profile are in the table; of Table 4, in every schedule.   low, high: prediction
    interval for one further training, as the paper's number is held as one's.   settings: a key of
    `stats.SETTINGS`.
    """
    return pd.DataFrame(row for _, row in _beside(results, part))


def numbers(results: Results[Params, Cell]) -> pd.DataFrame:
    """List the reported numbers by their place in reported.csv with n, settings and verdict, cell by cell."""
    rows = [found for part in reported().table.unique() for found in _beside(results, part)]
    measured = pd.DataFrame([row for _, row in rows], index=[number for number, _ in rows])
    missing = reported().index.difference(measured.index)
    none = pd.DataFrame({"n": 0, "settings": "", "verdict": "not run"}, index=missing)
    columns = ["n", "settings", "verdict"]
    return pd.concat([measured.reindex(columns=columns), none]) if len(measured) else none


def _beside(results: Results[Params, Cell], part: str) -> Iterator[tuple[int, dict]]:
    """Yield the rows of `reported_table` with their number's place in reported.csv."""
    parts = tuple(TABLE_4.values()) if part == "table4" else (part,)
    names = {name: schedule.replace("_", " ") for schedule, name in TABLE_4.items()}
    printed = select(reported(), table=part)
    for number, row in zip(printed.index, printed.to_dict("records"), strict=True):
        for cell in [cell for name in parts for cell in _cells_for(results, name, row)]:
            made = settings(results.params, cell)
            for site in SITES if part == "table1" else ("",):
                ours = list(_ours(results, cell, row, site).values())
                verdict = reported_verdict(row["value"], ours, row["rounding"], settings=made)
                verdict = LAYER_NOT_SAID if site and not undecided(len(ours), made) else verdict
                named = described(results.params, cell)
                named |= {"site": site} if site else {}
                named |= {"schedule": names[cell.part]} if part == "table4" else {}
                named |= {} if np.isnan(row["x"]) else {"class" if site else "delta": row["x"]}
                named |= {"quantity": row["quantity"], "paper": row["value"]}
                ending = {"settings": made, "verdict": verdict}
                yield number, named | prediction_interval(ours).row("ours") | ending


def paper_value(results: Results[Params, Cell], cell: Cell, x: float = math.nan) -> float | None:
    """Return the number that the paper prints for a cell's row and column, a share; None where it has none.

    x: the attack size in 255ths, in Table 4.
    """
    table = "table4" if cell.part in TABLE_4.values() else cell.part
    for row in select(reported(), table=table, method=cell.method).to_dict("records"):
        same_x = row["x"] == x or (math.isnan(row["x"]) and math.isnan(x))
        if same_x and cell in _cells_for(results, cell.part, row):
            return row["value"]
    return None


def _cells_for(results: Results[Params, Cell], part: str, row: dict) -> list[Cell]:
    """Return the cells that a reported number is about; embedded sets stand in for the paper's first."""
    found = results.of(part=part, model=row["model"], method=row["method"])
    if row["table"] == "table4":
        found = [c for c in found if math.isclose(c.epsilon, row["epsilon"])]
    return [c for c in found if stands_for(results.params, c, row["data"])]


def _ours(results: Results[Params, Cell], cell: Cell, row: dict, site: str) -> dict[int, float]:
    if row["quantity"] == "similarity":
        rows, other = select(similarities(results), site=site), int(row["x"])
        with_class = dict(zip(rows.seed, rows.with_class, strict=True))
        # a set in place of MNIST may have fewer classes
        return {seed: values[other] for seed, values in with_class.items() if other < len(values)}
    if row["quantity"] == "accuracy":
        attacked = {"condition": "fgsm", "size": row["x"] / 255} if row["x"] > 0 else {}
        return {seed: 1 - error for seed, error in results.values(cell, "top1_error", **attacked).items()}
    return results.values(cell, "top1_error")
