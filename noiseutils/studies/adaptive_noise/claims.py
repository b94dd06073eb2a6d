"""What the adaptive-noise paper reported and claimed, beside what was found here."""

from __future__ import annotations

from importlib.resources import files

import pandas as pd

from noiseutils.stats import Paired, holm, mean_interval, paired, value_verdict
from noiseutils.studies.adaptive_noise.grid import OPTIMIZERS, Outcome
from noiseutils.studies.common import claims_of

# "the noise injection acted as a strong regularizer" for these; for Adam for TinyCNN alone (section III)
REGULARISED = {
    "sgd": ("resnet18", "simplecnn", "tinycnn"),
    "momentum": ("resnet18", "simplecnn", "tinycnn"),
    "adam": ("tinycnn",),
}


def reported() -> pd.DataFrame:
    """Tables I to III, a row a number; rounding: half a unit of its last digit."""
    with (files("noiseutils.studies.adaptive_noise") / "reported.csv").open() as file:
        return pd.read_csv(file)


def reported_table(outcome: Outcome) -> pd.DataFrame:
    """Ours beside the paper's, for the networks and optimisers of the profile, at our chosen rate.

    Columns: those of the paper's row, learning_rate, ours, low, high, n, verdict.
    """
    rows = []
    params = outcome.params
    for row in reported().to_dict("records"):
        if row["model"] not in params.models or row["optimizer"] not in params.optimizers:
            continue
        if row["noise"] not in ("none", *params.distributions):
            continue
        cell = outcome.chosen(row["model"], row["optimizer"], row["noise"])
        values = outcome.values(cell, row["quantity"]) if cell else {}
        ours = mean_interval(list(values.values()))
        verdict = value_verdict(row["value"], ours, row.pop("rounding"), comparable=outcome.comparable)
        if ours.n and not outcome.comparable and outcome.on_paper_data:
            verdict = "other settings: no verdict"
        found = {"ours": ours.mean, "low": ours.low, "high": ours.high, "n": ours.n, "verdict": verdict}
        rows.append({**row, "learning_rate": cell.learning_rate if cell else None, **found})
    return pd.DataFrame(rows)


def against_none(outcome: Outcome, model: str, optimizer: str, kind: str, quantity: str) -> Paired:
    """Paired difference over seeds: a kind of noise minus none, each at the rate chosen for it."""
    with_noise, without = (outcome.chosen(model, optimizer, k) for k in (kind, "none"))
    if with_noise is None or without is None:
        return paired([], [])
    return _paired(outcome.values(with_noise, quantity), outcome.values(without, quantity))


def against_adaptive(outcome: Outcome, model: str, optimizer: str, control: str, quantity: str) -> Paired:
    """Paired difference over seeds: a control minus the adaptive run that it follows."""
    cell = outcome.chosen(model, optimizer, "gaussian")
    if cell is None:
        return paired([], [])
    treated = outcome.control_values(model, optimizer, control, quantity)
    return _paired(treated, outcome.values(cell, quantity))


def _paired(treated: dict[int, float], control: dict[int, float]) -> Paired:
    seeds = [seed for seed in treated if seed in control]
    return paired([treated[seed] for seed in seeds], [control[seed] for seed in seeds])


def claims_table(outcome: Outcome) -> pd.DataFrame:
    """The paper's claims as paired tests, with Holm's correction over them, and a verdict each.

    difference: noise minus none; of the accuracy a share in [0, 1], of the gap (validation minus training
    loss) in nats.
    """
    params, tests = outcome.params, []
    for optimizer in (name for name in OPTIMIZERS if name in params.optimizers):
        for model in params.models:
            for kind in params.distributions:
                where = f"{model}, {optimizer}, {kind}"
                accuracy = against_none(outcome, model, optimizer, kind, "validation_accuracy")
                tests.append((f"III: noise lowers the validation accuracy ({where})", "down", accuracy))
                if model in REGULARISED[optimizer]:
                    gap = against_none(outcome, model, optimizer, kind, "gap")
                    tests.append((f"III: noise regularises: a smaller gap ({where})", "down", gap))
    return claims_of(tests)


def controls_table(outcome: Outcome) -> pd.DataFrame:
    """Beyond the paper: each control minus the adaptive run whose noise it follows; Holm over the table.

    A difference that is not shown is no proof of none: see its interval.
    """
    rows, p_values = [], []
    for model, optimizer, control in outcome.controls:
        for quantity in ("validation_accuracy", "gap"):
            test = against_adaptive(outcome, model, optimizer, control, quantity)
            d = test.difference
            p_values.append(test.p)
            rows.append(
                {
                    "model": model,
                    "optimizer": optimizer,
                    "control": control,
                    "quantity": quantity,
                    "difference": d.mean,
                    "low": d.low,
                    "high": d.high,
                    "n": d.n,
                }
            )
    return pd.DataFrame(rows).assign(p_holm=holm(p_values)) if rows else pd.DataFrame()
