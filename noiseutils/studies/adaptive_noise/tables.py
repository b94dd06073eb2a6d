"""Tables of the adaptive-noise study; what the paper reports stands in claims.py."""

from __future__ import annotations

import numpy as np
import pandas as pd

from noiseutils.config import AdaptiveNoise
from noiseutils.noise.parameters import EpochStatistics
from noiseutils.studies.adaptive_noise.choice import QUANTITIES, chosen
from noiseutils.studies.adaptive_noise.grid import OPTIMIZERS, Cell
from noiseutils.studies.adaptive_noise.params import Params
from noiseutils.studies.results import Results

TABLES = {"sgd": "table_1_sgd", "momentum": "table_2_momentum", "adam": "table_3_adam"}


def play(spec: AdaptiveNoise, epochs: int, history: pd.DataFrame) -> pd.DataFrame:
    """Run the noise scheduler over a history, real or made up: one row an epoch.

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


def results_tables(results: Results[Params, Cell]) -> dict[str, pd.DataFrame]:
    """Make Tables I to III, one an optimiser, by the names of their files; n seeds, last epoch.

    Columns: model, noise, learning_rate (the chosen one), train and validation accuracy and loss, gap and
    test accuracy, each with its interval; epochs with noise on gradients and on weights; diverged runs.
    """
    found = {}
    for optimizer in (name for name in OPTIMIZERS if name in results.params.optimizers):
        rows = []
        for model in results.params.models:
            for kind in results.params.kinds:
                cell = chosen(results, model, optimizer, kind)
                if cell is None:
                    continue
                row: dict[str, object] = {"model": model, "noise": kind, "learning_rate": cell.learning_rate}
                for quantity in (*QUANTITIES, "gap", "test_accuracy"):
                    row |= results.interval(cell, quantity).columns(quantity)
                histories = [result.history for result in results.of_cell(cell)]
                for target in ("gradient", "weight"):
                    name = f"{target}_noise"
                    noisy = [np.count_nonzero(h[name]) if name in h else 0 for h in histories]
                    row[f"{target}_epochs"] = sum(noisy) / len(noisy)
                rows.append(row | {"n": results.interval(cell, "gap").n, "diverged": results.diverged(cell)})
        found[TABLES[optimizer]] = pd.DataFrame(rows)
    return found


def rates_table(results: Results[Params, Cell]) -> pd.DataFrame:
    """Show how the learning rate was chosen: mean validation accuracy at every rate, and which was taken."""
    return pd.DataFrame(
        {
            "optimizer": cell.optimizer,
            "model": cell.model,
            "noise": cell.kind,
            "learning_rate": cell.learning_rate,
            **results.interval(cell, "validation_accuracy").row("validation_accuracy"),
            "diverged": results.diverged(cell),
            "chosen": "chosen" if cell == chosen(results, cell.model, cell.optimizer, cell.kind) else "",
        }
        for cell in results.cells
        if results.of_cell(cell)
    )
