"""The tables of the adaptive-noise study; what the paper said stands in claims.py."""

from __future__ import annotations

import numpy as np
import pandas as pd

from noiseutils.config import AdaptiveNoise
from noiseutils.noise.parameters import EpochStatistics
from noiseutils.stats import mean_interval
from noiseutils.studies.adaptive_noise.grid import OPTIMIZERS, QUANTITIES, Outcome

TABLES = {"sgd": "table_1_sgd", "momentum": "table_2_momentum", "adam": "table_3_adam"}


def play(spec: AdaptiveNoise, epochs: int, history: pd.DataFrame) -> pd.DataFrame:
    """What the state machine does with a history, real or made up: one row an epoch.

    history: epoch, gradient_norm, update_norm and validation_loss. Returns it with gradient_noise,
    weight_noise, gradient_flag, weight_flag, cooldown and the improvements, as a run's history has them: of
    the epoch that they act on.
    """
    machine, rows = spec.scheduler(epochs), []
    action = machine.begin()
    for row in history.to_dict("records"):
        rows.append({**row, **action.row()})
        action = machine.observe(EpochStatistics.of(row))
    return pd.DataFrame(rows)


def results_tables(outcome: Outcome) -> dict[str, pd.DataFrame]:
    """Tables I to III, one an optimiser, by the names of their files; n seeds, last epoch.

    Columns: model, noise, learning_rate (the chosen one), train and validation accuracy and loss, gap and
    test accuracy, each with its interval; epochs with noise on gradients and on weights; diverged runs.
    """
    found = {}
    for optimizer in (name for name in OPTIMIZERS if name in outcome.params.optimizers):
        rows = []
        for model in outcome.params.models:
            for kind in ("none", *outcome.params.distributions):
                cell = outcome.chosen(model, optimizer, kind)
                if cell is None:
                    continue
                row: dict[str, object] = {"model": model, "noise": kind, "learning_rate": cell.learning_rate}
                for quantity in (*QUANTITIES, "gap", "test_accuracy"):
                    interval = mean_interval(list(outcome.values(cell, quantity).values()))
                    row |= {quantity: interval.mean}
                    row |= {f"{quantity}_low": interval.low, f"{quantity}_high": interval.high}
                there = [r for (c, _), r in outcome.by_cell.items() if c == cell]
                for target in ("gradient", "weight"):
                    name = f"{target}_noise"
                    noisy = [np.count_nonzero(r.history[name]) if name in r.history else 0 for r in there]
                    row[f"{target}_epochs"] = sum(noisy) / len(noisy)
                row |= {
                    "n": len(outcome.values(cell, "gap")),
                    "diverged": sum(r.status == "diverged" for r in there),
                }
                rows.append(row)
        found[TABLES[optimizer]] = pd.DataFrame(rows)
    return found


def rates_table(outcome: Outcome) -> pd.DataFrame:
    """How the learning rate was chosen: mean validation accuracy at every rate, and which was taken."""
    frame = outcome.frame
    rows = []
    for place, group in frame.groupby(["optimizer", "model", "kind", "learning_rate"], sort=False):
        assert isinstance(place, tuple)
        optimizer, model, kind, rate = place
        finished = group[group.status == "finished"]
        accuracy = mean_interval(finished.validation_accuracy.tolist())
        cell = outcome.chosen(model, optimizer, kind)
        rows.append(
            {
                "optimizer": optimizer,
                "model": model,
                "noise": kind,
                "learning_rate": rate,
                "validation_accuracy": accuracy.mean,
                "low": accuracy.low,
                "high": accuracy.high,
                "n": accuracy.n,
                "diverged": int((group.status == "diverged").sum()),
                "chosen": "chosen" if cell and cell.learning_rate == rate else "",
            }
        )
    return pd.DataFrame(rows)
