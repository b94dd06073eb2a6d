"""Choose a learning rate for each kind of noise from the grid's results, and derive the controls.

The controls follow a script made from what a run with Gaussian noise did:

    shuffled          the same amounts in epochs drawn at random: what would be left of *adaptive*
    replayed_uniform  the same amounts in the same epochs, uniform noise
    swapped           the same amounts in the same epochs, on weights for gradients and the reverse
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from noiseutils.config import AdaptiveNoise, Run, ScriptedNoise
from noiseutils.rng import derived_seed
from noiseutils.studies.adaptive_noise.grid import Cell, run_of
from noiseutils.studies.adaptive_noise.params import Params
from noiseutils.studies.results import CLEAN, Record, Results
from noiseutils.training.loop import Result

CONTROLS = ("shuffled", "replayed_uniform", "swapped")
QUANTITIES = ("train_accuracy", "validation_accuracy", "train_loss", "validation_loss")


def last_epoch(result: Result) -> Sequence[Record]:
    """Return accuracy and loss on training, validation and test images at the end, and `gap`.

    gap: validation minus training loss. Where no images are held out, those of the test set validate. The
    paper does not say which images "Val" are; its accuracies suggest 5,000 held-out images.
    """
    if result.status != "finished":
        return []
    last = result.history.iloc[-1]
    found = {
        name: float(last.get(name, last.get(name.replace("validation", "test"), math.nan)))
        for name in (*QUANTITIES, "test_accuracy", "test_loss")
    }
    return [{**CLEAN, **found, "gap": found["validation_loss"] - found["train_loss"]}]


def chosen(results: Results[Params, Cell], model: str, optimizer: str, kind: str) -> Cell | None:
    """Choose the cell whose learning rate has the highest mean validation accuracy at the end.

    A rate at which fewer seeds diverge goes first; of equal ones the largest. None where a rate is missing:
    a choice among some is another one.
    """
    scored = []
    for rate in results.params.rates(optimizer):
        cell = Cell(model, optimizer, rate, kind)
        count = len(results.of_cell(cell))
        if not count:
            return None
        accuracy = results.interval(cell, "validation_accuracy")
        if accuracy.n:  # a mean over the seeds that survive flatters a rate at which others do not
            scored.append((accuracy.n - count, accuracy.mean, rate, cell))
    return max(scored, key=lambda found: found[:3])[3] if scored else None


def isolated(results: Results[Params, Cell], model: str, optimizer: str, kind: str) -> Cell | None:
    """Return the cell of a kind at the learning rate that was chosen without noise."""
    plain = chosen(results, model, optimizer, "none")
    return replace(plain, kind=kind) if plain else None


def pair(
    results: Results[Params, Cell],
    model: str,
    optimizer: str,
    kinds: tuple[str, str],
    rates: str,
) -> tuple[Cell | None, Cell | None]:
    """Return the cells of two kinds that are compared.

    rates: "plain" for both at the rate chosen without noise, or "noise" for both at the rate chosen for the
    first kind, so that the kind alone differs; "own" for each at the rate chosen for it, as we read the
    paper: II-C reports "the result of the best learning rate" and does not say best of what.
    """
    rate_of = {"plain": ("none", "none"), "noise": (kinds[0], kinds[0]), "own": kinds}[rates]
    found = [chosen(results, model, optimizer, kind) for kind in rate_of]
    first, second = (
        replace(cell, kind=kind) if cell else None for cell, kind in zip(found, kinds, strict=True)
    )
    return first, second


def edge(params: Params, cell: Cell) -> str:
    """Return a mark for a rate at the edge of its grid: a better one may lie beyond. Empty elsewhere."""
    rates = params.rates(cell.optimizer)
    if len(rates) == 1:
        return "the only rate"
    if cell.learning_rate in (least := min(rates), max(rates)):
        return "lowest of the grid" if cell.learning_rate == least else "highest of the grid"
    return ""


def controls(results: Results[Params, Cell]) -> dict[tuple[Cell, int], Run]:
    """Return the controls that the results so far allow, by cell and seed.

    Of a network and optimiser whose every run with Gaussian noise is there: else the choice of the
    learning rate, and with it the controls, might change.
    """
    params, found = results.params, {}
    if not params.controls or "gaussian" not in params.distributions:
        return found
    seeds = range(params.seeds)
    for optimizer, model in itertools.product(params.optimizers, params.models):
        tried = [Cell(model, optimizer, rate, "gaussian") for rate in params.rates(optimizer)]
        cell = chosen(results, model, optimizer, "gaussian")
        if cell is None or not all(place in results.by_cell for place in itertools.product(tried, seeds)):
            continue
        followed = {seed: results.by_cell[cell, seed] for seed in seeds}
        for control, (seed, result) in itertools.product(CONTROLS, followed.items()):
            if result.status == "finished":
                script = control_script(result, control, params.min_epochs)
                found[replace(cell, kind=control), seed] = run_of(params, cell, seed, script)
    return found


def control_cells(results: Results[Params, Cell]) -> list[Cell]:
    """Return the controls that the results so far allow, network after network."""
    return list(dict.fromkeys(cell for cell, _ in controls(results)))


def control_script(result: Result, control: str, first: int) -> ScriptedNoise:
    """Return the script of a control, from the noise that an adaptive run had.

    first: epochs that never have noise, in a shuffled script neither.
    """
    noise = result.run.parameter_noise
    assert isinstance(noise, AdaptiveNoise)
    gradient, weight = (result.history[name].to_numpy() for name in ("gradient_noise", "weight_noise"))
    if control == "swapped":
        gradient, weight = weight, gradient
    if control == "shuffled":
        random = np.random.Generator(np.random.PCG64(derived_seed(result.run.seed, "shuffled")))
        order = np.arange(len(gradient))
        order[first:] = random.permutation(order[first:])
        gradient, weight = gradient[order], weight[order]
    return ScriptedNoise(
        distribution="uniform" if control == "replayed_uniform" else noise.distribution,
        gradient=tuple(map(float, gradient)),
        weight=tuple(map(float, weight)),
        weight_every=noise.weight_every,
        spared=noise.spared,
    )
