"""AutoAttack on the best network of each kind, and on the one that loses the fewest images to FGSM.

The best of a kind is the method that validation images favour. What FGSM spares shows whether its robustness
is more than masked gradients.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping

import torch

from noiseutils.config import Run
from noiseutils.data import to_float
from noiseutils.errors import UserError
from noiseutils.evaluation.attacks import autoattack_library
from noiseutils.studies.autoattacked import AUTOATTACK, attacked_images, autoattacked
from noiseutils.studies.head_to_head.choice import best_of_kinds, follow_ups, most_robust
from noiseutils.studies.head_to_head.grid import Cell, cells, records, run_of, trial_seeds
from noiseutils.studies.head_to_head.methods import METHODS
from noiseutils.studies.head_to_head.params import Params
from noiseutils.studies.params import data_of
from noiseutils.studies.results import Record, Results
from noiseutils.studies.study import open_store
from noiseutils.sweeps.analysis import work_off
from noiseutils.sweeps.store import Store
from noiseutils.training.loop import Result

log = logging.getLogger("noiseutils")


def asked(params: Params, store: Store) -> Iterator[tuple[Cell, int]]:
    """Yield the networks that are attacked, whole seeds one after the other, as far as is known."""
    trials = {
        (cell, seed): run_of(params, cell, seed) for cell in cells(params) for seed in trial_seeds(params)
    }
    tried = Results(params, cells(params), _stored(trials, store), records)
    followed = {place: run for place, run in follow_ups(tried).items() if METHODS[place[0].method].of_papers}
    known = Results(params, cells(params), {**tried.by_cell, **_stored(followed, store)}, records)
    best: dict[Cell, None] = {}
    for setting in params.settings:
        best |= dict.fromkeys(best_of_kinds(tried, setting.name).values())
        if robust := most_robust(known, setting.name):
            best[robust] = None
    seeds = min(params.attack_seeds, params.seeds) if params.attack_images else 0
    yield from ((cell, seed) for seed in range(seeds) for cell in best)


def _stored(runs: Mapping[tuple[Cell, int], Run], store: Store) -> dict[tuple[Cell, int], Result]:
    """Return the results of those runs that are stored, at their places."""
    return {place: result for place, run in runs.items() if (result := store.load(run)) is not None}


def name_of(params: Params) -> str:
    """Return the name that an answer is stored under: another one for other settings."""
    settings = [params.attack_images, list(params.attack_255), params.attack_queries]
    return f"{AUTOATTACK}-{hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]}"


def check_library(params: Params) -> None:
    """Raise a UserError without the library of AutoAttack, where attacks are asked for and not all stored."""
    if not params.attack_images:
        return
    store, name = open_store(), name_of(params)
    wanted = [run_of(params, cell, seed) for cell, seed in asked(params, store)]
    open_ = [run for run in wanted if store.load_extra(run, name) is None]
    tried = all(store.finished(run_of(params, c, s)) for c in cells(params) for s in trial_seeds(params))
    if not tried or any(store.has_weights(run) or not store.finished(run) for run in open_):
        autoattack_library()


def analyse(params: Params, store: Store, budget: float | None = None) -> None:
    """Attack the networks whose weights are here, where that is not stored yet; budget: seconds."""
    runs = [run_of(params, cell, seed) for cell, seed in asked(params, store)]
    open_ = [r for r in runs if store.load_extra(r, name_of(params)) is None and store.has_weights(r)]
    if open_:
        autoattack_library()  # missing, it is missed here and not in a process of its own
    jobs = [(params, store, run) for run in dict.fromkeys(open_)]
    work_off(jobs, _keep_answer, "AutoAttack", budget)


def answers(params: Params, store: Store) -> dict[tuple[Cell, int, str], Record]:
    """Return the answers that are stored, by cell and seed."""
    return {
        (cell, seed, AUTOATTACK): answer
        for cell, seed in asked(params, store)
        if (answer := store.load_extra(run_of(params, cell, seed), name_of(params))) is not None
    }


def _keep_answer(job: tuple[Params, Store, Run]) -> None:
    params, store, run = job
    result = store.load(run, weights=True)
    if result is None or result.model is None:
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        images = attacked_images(data_of(params), params.attack_images)
    except UserError as error:  # weights from elsewhere and no images here, or too few of them
        log.warning("%s: not attacked: %s", run, error)
        return
    x, y = to_float(images.pixels).to(device), images.labels.to(device)
    answer = autoattacked(result.model.to(device), x, y, params.attack_255, params.attack_queries)
    store.save_extra(run, name_of(params), answer)
