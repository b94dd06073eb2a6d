"""Attacks on the trained networks of the training-data study: smallest adversarial changes, and AutoAttack.

Both on test images as they are, the same ones for every network.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from noiseutils.config import Run
from noiseutils.data import to_float
from noiseutils.errors import UserError
from noiseutils.evaluation.attacks import autoattack_library
from noiseutils.evaluation.minimal_change import ATTACKS, foolbox_library, minimal_change
from noiseutils.studies.autoattacked import AUTOATTACK, attacked_images, autoattacked, device_of
from noiseutils.studies.params import data_of
from noiseutils.studies.results import Record
from noiseutils.studies.study import open_store
from noiseutils.studies.training_data_variation.grid import Cell, cells, run_of
from noiseutils.studies.training_data_variation.params import Params
from noiseutils.sweeps.analysis import work_off
from noiseutils.sweeps.store import Store

log = logging.getLogger("noiseutils")


def questions(params: Params) -> Iterator[tuple[Cell, int, str]]:
    """Yield what is asked of which network: cell, seed, and an attack's name.

    The profile's attack for minimal changes of all networks, the others as a check of those trained on images
    as they are, of one seed; AutoAttack of all. Whole seeds one after the other.
    """
    for seed in range(params.seeds):
        for cell in cells(params) if params.change_images and seed < params.change_seeds else ():
            yield cell, seed, params.change_attack
        for cell in cells(params) if params.change_images and seed == 0 else ():
            if cell == cell.plain:
                yield from ((cell, seed, attack) for attack in ATTACKS if attack != params.change_attack)
        for cell in cells(params) if params.attack_images and seed < params.attack_seeds else ():
            yield cell, seed, AUTOATTACK


def name_of(params: Params, question: str) -> str:
    """Return the name that an answer is stored under: another one for other settings."""
    if question == AUTOATTACK:
        settings = [params.attack_images, list(params.attack_255), params.attack_queries]
    else:
        settings = [params.change_images, params.change_steps]
    return f"{question}-{hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]}"


def check_libraries(params: Params) -> None:
    """Raise a UserError without a library that attacks not stored yet need.

    A network that is stored without its weights can no longer be attacked, so it needs none.
    """
    store, asked = open_store(), set()
    for cell, seed, question in questions(params):
        run = run_of(params, cell, seed)
        stored = store.load_extra(run, name_of(params, question)) is not None
        if not stored and (store.has_weights(run) or not store.finished(run)):
            asked.add(question)
    _require_libraries(asked)


def _require_libraries(questions: Iterable[str]) -> None:
    for question in sorted(set(questions)):
        autoattack_library() if question == AUTOATTACK else foolbox_library()


def analyse(params: Params, store: Store, budget: float | None = None) -> None:
    """Attack the networks whose weights are here, where that is not stored yet; budget: seconds."""
    jobs = {}  # by run: cells whose images are alike share one
    for cell, seed, question in questions(params):
        run, name = run_of(params, cell, seed), name_of(params, question)
        if store.load_extra(run, name) is None and store.has_weights(run):
            jobs.setdefault((run.key, name), (params, store, run, question))
    # missing, it is missed here and not in a process of its own
    _require_libraries(question for *_, question in jobs.values())
    work_off(list(jobs.values()), _keep_answer, "minimal changes and AutoAttack", budget)


def answers(params: Params, store: Store) -> dict[tuple[Cell, int, str], Record]:
    """Return the answers that are stored, by cell, seed and attack."""
    found = {}
    for cell, seed, question in questions(params):
        answer = store.load_extra(run_of(params, cell, seed), name_of(params, question))
        if answer is not None:
            found[cell, seed, question] = answer
    return found


def _keep_answer(job: tuple[Params, Store, Run, str]) -> None:
    params, store, run, question = job
    result = store.load(run, weights=True)
    if result is None or result.model is None:
        return
    count = params.attack_images if question == AUTOATTACK else params.change_images
    device = "cuda" if torch.cuda.is_available() else "cpu"
    ask = _autoattack if question == AUTOATTACK else _change
    try:
        images = attacked_images(data_of(params), count)
        x, y = to_float(images.pixels).to(device), images.labels.to(device)
        answer = ask(params, result.model.to(device), x, y, question)
    except UserError as error:  # weights from elsewhere and no images here, or too few of them, or of classes
        log.warning("%s, %s: not attacked: %s", run, question, error)
        return
    store.save_extra(run, name_of(params, question), answer)


def _change(params: Params, model: nn.Module, x: Tensor, y: Tensor, attack: str) -> dict[str, Any]:
    found = minimal_change(model, x, None, attack=attack, steps=params.change_steps)
    right = (found.predicted == y.cpu()).tolist()
    sizes = _finite(found.size)
    return {
        "attack": attack,
        "steps": params.change_steps,
        # JSON knows no infinity: null where no change was found, 0 where none was needed
        "size": [size if ok else 0.0 for size, ok in zip(sizes, right, strict=True)],
        "predicted_size": sizes,  # of a change of the predicted class, right or wrong
        "l2": _finite(found.l2),
        "linf": _finite(found.linf),
        "half": found.half.tolist(),
        "rounded": found.rounded.tolist(),
        "seconds": found.seconds,
        "device": device_of(x),
    }


def _autoattack(params: Params, model: nn.Module, x: Tensor, y: Tensor, question: str) -> dict[str, Any]:
    return autoattacked(model, x, y, params.attack_255, params.attack_queries)


def _finite(values: Tensor) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values.tolist()]
