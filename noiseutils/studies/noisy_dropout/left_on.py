"""The reading "left on": the same trained networks, asked again with the noise layer active at evaluation.

A custom layer that ignores the mode drops neurons and adds noise in use, too. The paper does not say whether
its layer does.
"""

from __future__ import annotations

import logging

import pandas as pd
import torch
from torch import nn

from noiseutils.config import Run
from noiseutils.data import Dataset, load
from noiseutils.errors import UserError
from noiseutils.evaluation.evaluate import PROBABILITIES, measure, predict
from noiseutils.rng import derived_seed
from noiseutils.stats import mean_interval
from noiseutils.studies.noisy_dropout.grid import READINGS, Cell, cells, run_of
from noiseutils.studies.noisy_dropout.params import Params
from noiseutils.studies.params import data_of
from noiseutils.studies.results import Record, Results, paired_by_seed
from noiseutils.sweeps.analysis import work_off
from noiseutils.sweeps.store import Store
from noiseutils.training.classifier import Classifier, attach_noise

LEFT_ON = "left-on"  # the one question asked of a trained network
log = logging.getLogger("noiseutils")


def analyse(params: Params, store: Store, budget: float | None = None) -> None:
    """Evaluate the networks whose weights are here, where that is not stored yet; budget: seconds."""
    runs = dict.fromkeys(run_of(params, c, s) for s in range(params.seeds) for c in cells(params))
    jobs = [
        (params, store, run)
        for run in runs
        if store.load_extra(run, LEFT_ON) is None and store.has_weights(run)
    ]
    work_off(jobs, _keep_answer, "evaluations with the noise layer left on", budget)


def answers(params: Params, store: Store) -> dict[tuple[Cell, int, str], Record]:
    """Return the metrics that are stored, by cell and seed."""
    found = {
        (cell, seed, LEFT_ON): store.load_extra(run_of(params, cell, seed), LEFT_ON)
        for cell in cells(params)
        for seed in range(params.seeds)
    }
    return {place: answer for place, answer in found.items() if answer is not None}


def _keep_answer(job: tuple[Params, Store, Run]) -> None:
    params, store, run = job
    result = store.load(run, weights=True)
    if result is None or result.model is None:
        return
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        data = load(data_of(params), device)
    except UserError as error:  # weights from elsewhere and no images here
        log.warning("%s: not evaluated with the noise layer left on: %s", run, error)
        return
    store.save_extra(run, LEFT_ON, metrics_left_on(result.model.to(device), run, data))


def metrics_left_on(model: nn.Module, run: Run, data: Dataset) -> Record:
    """Return the metrics of `evaluate.measure` on clean test images with the run's noise layer active.

    The layer draws from generators of its own, the same for every network of a seed.
    """
    assert isinstance(model, Classifier)
    handle = attach_noise(model, run, data.num_classes, derived_seed(run.seed, "left_on"))
    assert handle is not None
    with handle, handle.left_on():
        logits, labels = predict(model, data.test)
    return measure(logits, labels, data.classes, PROBABILITIES[run.loss])


def errors_left_on(results: Results[Params, Cell], cell: Cell) -> dict[int, float]:
    """Return the top-1 error with the layer left on by seed, of the networks that were asked."""
    found = {seed: answer for (c, seed, _), answer in results.answers.items() if c == cell}
    return {seed: found[seed]["top1_error"] for seed in sorted(found)}


def left_on_table(results: Results[Params, Cell]) -> pd.DataFrame:
    """Compare the top-1 error with the layer off at evaluation, as dropout is, and left on: a row a cell.

    off, on: means over the n networks that were asked.   difference: on minus off, paired over seeds.
    missing: trained networks that could not be asked, as their weights are not here.
    """
    rows = []
    for cell in sorted(results.cells, key=lambda c: (READINGS.index(c.reading), c.p, c.level)):
        off, on = results.values(cell, "top1_error"), errors_left_on(results, cell)
        asked = [seed for seed in off if seed in on]
        test = paired_by_seed(on, off)
        rows.append(
            {"reading": cell.reading, "p": cell.p, "level": cell.level}
            | {"off": mean_interval([off[seed] for seed in asked]).mean}
            | {"on": mean_interval([on[seed] for seed in asked]).mean}
            | test.difference.row("difference")
            | {"p_value": test.p, "missing": len(off) - len(asked)}
        )
    return pd.DataFrame(rows)
