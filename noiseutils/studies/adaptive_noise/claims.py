"""What the adaptive-noise paper reported and claimed, beside what was found here."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from noiseutils.stats import Paired, holm, value_verdict
from noiseutils.studies.adaptive_noise.choice import chosen, control_cells
from noiseutils.studies.adaptive_noise.grid import OPTIMIZERS, Cell
from noiseutils.studies.adaptive_noise.params import Params
from noiseutils.studies.results import Results, claims_of, reported_beside

# "the noise injection acted as a strong regularizer" for these; for Adam for TinyCNN alone (section III)
REGULARISED = {
    "sgd": ("resnet18", "simplecnn", "tinycnn"),
    "momentum": ("resnet18", "simplecnn", "tinycnn"),
    "adam": ("tinycnn",),
}


def reported() -> pd.DataFrame:
    """Read Tables I to III, a row a number; rounding: half a unit of its last digit."""
    return reported_beside(__file__)


def reported_table(results: Results[Params, Cell]) -> pd.DataFrame:
    """Set ours beside the paper's, for the networks and optimisers of the profile, at our chosen rate.

    Columns: those of the paper's row, learning_rate, ours, low, high, n, verdict.
    """
    rows, params = [], results.params
    for row in reported().to_dict("records"):
        if row["model"] not in params.models or row["optimizer"] not in params.optimizers:
            continue
        if row["noise"] not in params.kinds:
            continue
        cell = chosen(results, row["model"], row["optimizer"], row["noise"])
        ours = results.interval(cell, row["quantity"])
        verdict = value_verdict(row["value"], ours, row.pop("rounding"), comparable=params.comparable)
        if ours.n and not params.comparable and params.on_paper_data:
            verdict = "other settings: no verdict"
        rate = cell.learning_rate if cell else None
        rows.append({**row, "learning_rate": rate, **ours.row("ours"), "verdict": verdict})
    return pd.DataFrame(rows)


def against_none(
    results: Results[Params, Cell], model: str, optimizer: str, kind: str, quantity: str
) -> Paired:
    """Test a kind of noise against none, each at the rate chosen for it."""
    noisy, plain = (chosen(results, model, optimizer, k) for k in (kind, "none"))
    return results.paired(noisy, plain, quantity)


def claims_table(results: Results[Params, Cell]) -> pd.DataFrame:
    """Judge the paper's claims by paired tests, with Holm's correction over them.

    difference: noise minus none; of the accuracy a share in [0, 1], of the gap (validation minus training
    loss) in nats.
    """
    params, tests = results.params, []
    for optimizer in (name for name in OPTIMIZERS if name in params.optimizers):
        for model in params.models:
            for kind in params.distributions:
                where = f"{model}, {optimizer}, {kind}"
                accuracy = against_none(results, model, optimizer, kind, "validation_accuracy")
                tests.append((f"III: noise lowers the validation accuracy ({where})", "down", accuracy))
                if model in REGULARISED[optimizer]:
                    gap = against_none(results, model, optimizer, kind, "gap")
                    tests.append((f"III: noise regularises: a smaller gap ({where})", "down", gap))
    return claims_of(tests)


def controls_table(results: Results[Params, Cell]) -> pd.DataFrame:
    """Test each control against the adaptive run that it follows, beyond the paper; Holm over the table.

    A difference that is not shown is no proof of none: see its interval.
    """
    rows, p_values = [], []
    for cell in control_cells(results):
        for quantity in ("validation_accuracy", "gap"):
            test = results.paired(cell, replace(cell, kind="gaussian"), quantity)
            row = {"model": cell.model, "optimizer": cell.optimizer, "control": cell.kind}
            rows.append({**row, "quantity": quantity, **test.difference.row("difference")})
            p_values.append(test.p)
    return pd.DataFrame(rows).assign(p_holm=holm(p_values)) if rows else pd.DataFrame()
