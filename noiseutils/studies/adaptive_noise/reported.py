"""Set the adaptive-noise paper's numbers beside ours."""

from __future__ import annotations

import functools

import pandas as pd

from noiseutils.stats import prediction_interval, reported_verdict
from noiseutils.studies.adaptive_noise.choice import chosen, edge
from noiseutils.studies.adaptive_noise.grid import Cell, settings
from noiseutils.studies.adaptive_noise.params import Params
from noiseutils.studies.results import Results, reported_numbers


def reported() -> pd.DataFrame:
    """Read Tables I to III, a row a number; rounding: half a unit of its last digit."""
    return reported_numbers(__file__)


@functools.cache
def printed(model: str, optimizer: str, kind: str) -> dict[str, float]:
    """Return what the paper prints for one training, by quantity, and `gap`: validation minus train loss."""
    table = reported()
    rows = table[(table.model == model) & (table.optimizer == optimizer) & (table.noise == kind)]
    found = dict(zip(rows.quantity, rows.value, strict=True))
    return found | ({"gap": found["validation_loss"] - found["train_loss"]} if found else {})


def printed_difference(model: str, optimizer: str, kind: str, quantity: str) -> float | None:
    """Return the paper's value of a kind of noise minus that of none; None where it prints none."""
    noisy, plain = printed(model, optimizer, kind), printed(model, optimizer, "none")
    return noisy[quantity] - plain[quantity] if noisy and plain else None


def reported_table(results: Results[Params, Cell]) -> pd.DataFrame:
    """Set ours beside the paper's, for the networks and optimisers of the profile, at our chosen rate.

    Columns: those of the paper's row, learning_rate, edge (see `choice.edge`), ours with the prediction
    interval for one further training, as the paper's number is of one, n, settings (a key of
    `stats.SETTINGS`), verdict.
    """
    return pd.DataFrame(_beside(results).values())


def numbers(results: Results[Params, Cell]) -> pd.DataFrame:
    """List the reported numbers by their place in reported.csv with n, settings and verdict."""
    found = pd.DataFrame.from_dict(_beside(results), orient="index", columns=["n", "settings", "verdict"])
    return found.reindex(reported().index).fillna({"n": 0, "settings": "", "verdict": "not run"})


def _beside(results: Results[Params, Cell]) -> dict[int, dict[str, object]]:
    """Return the rows of `reported_table` by their place in reported.csv."""
    rows, params = {}, results.params
    for number, row in enumerate(reported().to_dict("records")):
        if row["model"] not in params.models or row["optimizer"] not in params.optimizers:
            continue
        if row["noise"] not in params.kinds:
            continue
        cell = chosen(results, row["model"], row["optimizer"], row["noise"])
        ours = list(results.values(cell, row["quantity"]).values())
        made = settings(params, cell or Cell(row["model"], row["optimizer"], 0.0, row["noise"]))
        verdict = reported_verdict(row["value"], ours, row.pop("rounding"), settings=made)
        rate = {
            "learning_rate": cell.learning_rate if cell else None,
            "edge": edge(params, cell) if cell else "",
        }
        found = prediction_interval(ours).row("ours")
        rows[number] = {**row, **rate, **found, "settings": made, "verdict": verdict}
    return rows
