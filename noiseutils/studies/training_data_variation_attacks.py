"""What trained networks of the training-data study are asked: how little misleads them, and AutoAttack.

Both on test images as they are, the same ones for every network.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from typing import Any

import torch

from noiseutils.attacks import autoattack
from noiseutils.data import Images, load, to_float
from noiseutils.errors import UserError
from noiseutils.minimal_change import ATTACKS, minimal_change
from noiseutils.rng import derived_seed
from noiseutils.store import Store
from noiseutils.studies.analysis import work_off
from noiseutils.studies.training_data_variation import Cell, Params, cells, data_of, run_of
from noiseutils.subsets import fixed_order

AUTOATTACK = "autoattack"


def questions(params: Params) -> Iterator[tuple[Cell, int, str]]:
    """What is asked of whom: cell, seed, and an attack's name.

    The profile's attack for minimal changes of all networks, the others as a check of those trained on images
    as they are; AutoAttack of all. Whole seeds one after the other.
    """
    for seed in range(min(params.analysed_seeds, params.seeds)):
        for cell in cells(params) if params.change_images else ():
            yield cell, seed, params.change_attack
        for cell in cells(params) if params.change_images else ():
            if cell == cell.plain:
                yield from ((cell, seed, attack) for attack in ATTACKS if attack != params.change_attack)
        for cell in cells(params) if params.attack_images else ():
            yield cell, seed, AUTOATTACK


def name_of(params: Params, question: str) -> str:
    """What an answer is kept under: another name for other settings."""
    if question == AUTOATTACK:
        settings = [params.attack_images, list(params.attack_255), params.attack_queries]
    else:
        settings = [params.change_images, params.change_steps]
    return f"{question}-{hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]}"


def analyse(params: Params, store: Store, budget: float | None = None) -> None:
    """Ask what is not stored yet of the networks whose weights are here; budget: seconds."""
    jobs = [
        (params, store, cell, seed, question)
        for cell, seed, question in questions(params)
        if store.load_extra(run_of(params, cell, seed), name_of(params, question)) is None
        and store.has_weights(run_of(params, cell, seed))
    ]
    work_off(jobs, _keep_answer, "minimal changes and AutoAttack", budget)


def findings(params: Params, store: Store) -> dict[tuple[Cell, int, str], dict[str, Any]]:
    """The answers that are stored, by cell, seed and attack."""
    found = {}
    for cell, seed, question in questions(params):
        answer = store.load_extra(run_of(params, cell, seed), name_of(params, question))
        if answer is not None:
            found[cell, seed, question] = answer
    return found


def attacked_images(params: Params, count: int) -> Images:
    """The first `count` test images in an order of their own: stored, they may be sorted by class."""
    test = load(data_of(params)).test
    order = torch.from_numpy(fixed_order(len(test), "attacked"))
    return test.subset(order[:count])  # pyright: ignore[reportReturnType]


def _keep_answer(job: tuple[Params, Store, Cell, int, str]) -> None:
    params, store, cell, seed, question = job
    run = run_of(params, cell, seed)
    result = store.load(run, weights=True)
    if result is None or result.model is None:
        return
    count = params.attack_images if question == AUTOATTACK else params.change_images
    try:
        images = attacked_images(params, count)
    except UserError:
        return  # weights from elsewhere, and no images here
    device = "cuda" if torch.cuda.is_available() else "cpu"
    x, y = to_float(images.pixels).to(device), images.labels.to(device)
    ask = _autoattack if question == AUTOATTACK else _change
    store.save_extra(run, name_of(params, question), ask(params, result.model.to(device), x, y, question))


def _change(params: Params, model: torch.nn.Module, x, y, attack: str) -> dict[str, Any]:
    found = minimal_change(model, x, y, attack=attack, steps=params.change_steps)
    return {
        "attack": attack,
        "steps": params.change_steps,
        # JSON knows no infinity: null where no change was found, 0 where none was needed
        "size": _finite(found.size),
        "l2": _finite(found.l2),
        "linf": _finite(found.linf),
        "half": found.half.tolist(),
        "rounded": found.rounded.tolist(),
        "seconds": found.seconds,
        "device": _device(x),
    }


def _autoattack(params: Params, model: torch.nn.Module, x, y, question: str) -> dict[str, Any]:
    correct = {}
    for size in params.attack_255:
        predicted, _ = autoattack(
            model.eval(), x, y, delta=size / 255, seed=derived_seed(0, f"{question}/{size}"),
            queries=params.attack_queries,
        )  # fmt: skip
        correct[f"{size:g}"] = "".join("01"[int(right)] for right in predicted == y)
    with torch.no_grad():
        clean = "".join("01"[int(right)] for right in model(x).argmax(1) == y)
    return {"clean": clean, "correct": correct, "queries": params.attack_queries, "device": _device(x)}


def _finite(values: torch.Tensor) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values.tolist()]


def _device(x: torch.Tensor) -> str:
    if x.device.type == "cuda":
        return torch.cuda.get_device_name(x.device)
    return f"CPU, {torch.get_num_threads()} threads"
