"""Tables of the adaptive-noise study; what the paper reports stands in reported.py."""

from __future__ import annotations

import numpy as np
import pandas as pd

from noiseutils.config import AdaptiveNoise
from noiseutils.noise.parameters import EpochStatistics
from noiseutils.studies.adaptive_noise.choice import QUANTITIES, chosen, edge, isolated
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

    Columns: model, noise, learning_rate (the chosen one), edge (see `choice.edge`), train and validation
    accuracy and loss, gap and test accuracy, each with its interval; epochs with noise on gradients and on
    weights; diverged runs.
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
                row["edge"] = edge(results.params, cell)
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
    """Show how the learning rate was chosen: mean validation accuracy at every rate, and which was taken.

    edge: where the chosen rate is the highest or lowest of its grid, a better one may lie beyond.
    """
    return pd.DataFrame(
        {
            "optimizer": cell.optimizer,
            "model": cell.model,
            "noise": cell.kind,
            "learning_rate": cell.learning_rate,
            **results.interval(cell, "validation_accuracy").row("validation_accuracy"),
            "diverged": results.diverged(cell),
            "chosen": "chosen" if taken else "",
            "edge": edge(results.params, cell) if taken else "",
        }
        for cell in results.cells
        if results.of_cell(cell)
        for taken in (cell == chosen(results, cell.model, cell.optimizer, cell.kind),)
    )


def flags_table(results: Results[Params, Cell]) -> pd.DataFrame:
    """Show what the noise scheduler did in every run at a chosen rate: a row a run.

    Columns: the cell and the seed; checks: epochs after which flags were looked at; gradient_flag,
    weight_flag: share of checks with the flag up; restart: share of checks whose window holds a restart of
    the learning rate, and gradient_flag_restart: share of checks with the gradient flag up among those;
    gradient_epochs, weight_epochs: with noise; cooldowns: their lengths in epochs; noisy: the epochs with
    noise; alike: share of the table's runs whose noise falls on the same epochs, whatever the training did.
    """
    rows = []
    for cell in _shown_cells(results):
        for seed, result in ((s, r) for (c, s), r in results.by_cell.items() if c == cell):
            if result.status == "finished":
                rows.append({**vars(cell), "seed": seed, **_flags(results.params, result.history)})
    table = pd.DataFrame(rows)
    if table.empty:
        return table
    counts = table.noisy.map(table.noisy.value_counts())
    return table.rename(columns={"kind": "noise"}).assign(alike=counts / len(table))


def _shown_cells(results: Results[Params, Cell]) -> list[Cell]:
    params = results.params
    found = [
        rule(results, model, optimizer, kind)
        for optimizer in params.optimizers
        for model in params.models
        for kind in params.distributions
        for rule in (isolated, chosen)
    ]
    return list(dict.fromkeys(cell for cell in found if cell))


def _flags(params: Params, history: pd.DataFrame) -> dict[str, object]:
    """Count over the epochs whose noise was decided by flags: those after the first full window."""
    checked = history[history.epoch > max(params.min_epochs, params.window + 1)]
    gradient, weight = checked.gradient_flag > 0, checked.weight_flag > 0
    # after epoch d = epoch - 1 the window compares d with d - window: does a cycle begin between them?
    done, cycle = checked.epoch - 1, params.restart_epochs
    restart = (done - 1) // cycle > (done - params.window - 1) // cycle
    noisy = history[(history.gradient_noise > 0) | (history.weight_noise > 0)]
    begun = history[(history.cooldown > 0) & (history.cooldown.shift(fill_value=0) != history.cooldown + 1)]
    return {
        "checks": len(checked),
        "gradient_flag": gradient.mean(),
        "weight_flag": weight.mean(),
        "restart": restart.mean(),
        "gradient_flag_restart": gradient[restart].mean(),
        "gradient_epochs": int((history.gradient_noise > 0).sum()),
        "weight_epochs": int((history.weight_noise > 0).sum()),
        "cooldowns": _in_words(begun.cooldown.astype(int).tolist()),
        "noisy": _steps(noisy.epoch.astype(int).tolist()),
    }


def _in_words(lengths: list[int]) -> str:
    """Return how often each length came: "9 x 7, 2 x 8"."""
    return ", ".join(f"{lengths.count(length)} x {length}" for length in sorted(set(lengths))) or "none"


def _steps(epochs: list[int]) -> str:
    """Return epochs as runs of equal steps: "8 to 30 by 2", or "71 to 80, 84 to 93"."""
    if len(epochs) > 2 and len(set(np.diff(epochs))) == 1 and epochs[1] - epochs[0] > 1:
        return f"{epochs[0]} to {epochs[-1]} by {epochs[1] - epochs[0]}"
    parts = np.split(np.array(epochs), np.flatnonzero(np.diff(epochs) > 1) + 1) if epochs else []
    return ", ".join(f"{p[0]} to {p[-1]}" if len(p) > 1 else f"{p[0]}" for p in parts) or "none"
