"""Attack reports of the Table 4 networks: does their robustness survive more than FGSM?"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from typing import Any

import pandas as pd
import torch

from noiseutils.data import load
from noiseutils.errors import UserError
from noiseutils.evaluation.attack_report import Effort, attack_report
from noiseutils.evaluation.attacks import autoattack_library
from noiseutils.stats import holm, mcnemar
from noiseutils.studies.adversarial_noise_layer.grid import METHODS, Cell, cells, data_of, run_of
from noiseutils.studies.adversarial_noise_layer.params import Params
from noiseutils.studies.results import Record, Results
from noiseutils.studies.study import open_store
from noiseutils.sweeps.analysis import work_off
from noiseutils.sweeps.store import Store

REPORT = "attacks"  # the one question asked of a trained network
SURROGATES = ("baseline", "at")  # whose adversarial images are tried on all the others; the first of each
ATTACKS = {
    "noise": "uniform noise",
    "fgsm": "FGSM",
    "pgd20": "PGD-20",
    "pgd100": "PGD-100",
    "pgd100_dlr": "PGD-100, DLR loss",
    "autoattack": "AutoAttack",
    "best": "all together",
}


def attacked(params: Params) -> list[tuple[Cell, int]]:
    """Return the networks that get a report, by cell and seed."""
    grid = [cell for cell in cells(params) if cell.part == "table4"]
    seeds = min(params.attack_seeds, params.seeds)
    return [(cell, seed) for seed in range(seeds) for cell in grid] if params.attack_images else []


def name_of(params: Params) -> str:
    """Return the name that a report is stored under: another one for other settings."""
    settings = [params.attack_images, list(params.attack_255), params.attack_queries]
    return "attacks-" + hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]


def analyse(params: Params, store: Store, budget: float | None = None) -> None:
    """Make the reports that are not stored yet, of networks whose weights are here.

    budget: seconds, see `analysis.work_off`.
    """
    jobs = [
        (params, store, cell, seed)
        for cell, seed in attacked(params)
        if store.load_extra(run_of(params, cell, seed), name_of(params)) is None
        and store.has_weights(run_of(params, cell, seed))
    ]
    if jobs and params.attack_queries:
        autoattack_library()
    work_off(jobs, _keep_report, "attack reports", budget)


def _keep_report(job: tuple[Params, Store, Cell, int]) -> None:
    params, store, cell, seed = job
    report = _report(params, store, cell, seed)
    if report is not None:
        store.save_extra(run_of(params, cell, seed), name_of(params), report)


def _report(params: Params, store: Store, cell: Cell, seed: int) -> dict[str, Any] | None:
    """Return the report of one network; None without its weights, or its images."""
    result = store.load(run_of(params, cell, seed), weights=True)
    if result is None or result.model is None:
        return None
    surrogates = []
    grid = [other for other in cells(params) if other.part == "table4"]
    for other in (next((c for c in grid if c.method == method), cell) for method in SURROGATES):
        found = None if other == cell else store.load(run_of(params, other, seed), weights=True)
        if found is not None and found.model is not None:
            surrogates.append((METHODS[other.method], found.model))
    try:
        test = load(data_of(params, cell)).test
    except UserError:
        return None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for _, network in surrogates:
        network.to(device)
    return attack_report(
        result.model.to(device),
        test.pixels,
        test.labels,
        deltas=[delta / 255 for delta in params.attack_255],
        surrogates=surrogates,
        seed=seed,
        images_limit=params.attack_images,
        autoattack=params.attack_queries > 0,
        effort=Effort(square_queries=max(1, params.attack_queries)),
    )


def answers(params: Params, store: Store) -> dict[tuple[Cell, int, str], Record]:
    """Return the reports that are stored."""
    found = {
        (cell, seed, REPORT): store.load_extra(run_of(params, cell, seed), name_of(params))
        for cell, seed in attacked(params)
    }
    return {place: report for place, report in found.items() if report is not None}


def reports(results: Results[Params, Cell]) -> dict[tuple[Cell, int], Record]:
    """Return the reports by cell and seed."""
    return {(cell, seed): report for (cell, seed, _), report in results.answers.items()}


def attacked_accuracies(
    results: Results[Params, Cell], cell: Cell, attack: str, delta: float
) -> dict[int, float]:
    """Return the accuracy of a cell's networks under one attack of a report, by seed; delta: in 255ths."""
    return {
        seed: record["attacks"][attack]["accuracy"]
        for (other, seed), report in reports(results).items()
        for record in report["deltas"]
        if other == cell and attack in record["attacks"] and math.isclose(record["delta"] * 255, delta)
    }


def check_library(params: Params) -> None:
    """Raise a UserError without the library that reports not stored yet need.

    A network that is stored without its weights can no longer be attacked, so it needs none.
    """
    store, name = open_store(), name_of(params)
    runs = [run_of(params, cell, seed) for cell, seed in attacked(params)]
    wanted = [run for run in runs if store.load_extra(run, name) is None]
    if params.attack_queries and any(store.has_weights(run) or not store.finished(run) for run in wanted):
        autoattack_library()


def _accuracies(record: dict[str, Any]) -> Iterator[tuple[str, float]]:
    yield "noise", record["noise"]["accuracy"]
    for name, found in record["attacks"].items():
        yield name, found["accuracy"]
    for name, found in record["transfer"].items():
        yield f"transfer from {name}", found["accuracy"]
    yield "best", record["best"]["accuracy"]


def accuracy_table(found: dict[tuple[Cell, int], Record]) -> pd.DataFrame:
    """List the accuracy of every network under every attack, a row an attack: shares of the attacked images.

    delta: in 255ths of the pixel range.   images: how many were attacked.
    """
    rows = [
        {
            "method": METHODS[cell.method],
            "epsilon": cell.epsilon,
            "seed": seed,
            "delta": record["delta"] * 255,
            "attack": ATTACKS.get(name, name),
            "clean": report["clean"]["accuracy"],
            "accuracy": accuracy,
            "images": report["settings"]["images"],
        }
        for (cell, seed), report in found.items()
        for record in report["deltas"]
        for name, accuracy in _accuracies(record)
    ]
    return pd.DataFrame(rows)


def masking_table(found: dict[tuple[Cell, int], Record]) -> pd.DataFrame:
    """Set out what tells masked gradients from robustness, a row a network.

    order: whether FGSM >= PGD-20 >= PGD-100 >= AutoAttack holds at every size.   zero_gradients: share of
    images whose input gradient is exactly zero.   zero_at: the attack size in 255ths at which PGD-20 leaves
    nothing right.   signs: what raises suspicion, see `noiseutils.evaluation.attack_report`.
    """
    rows = []
    for (cell, seed), report in found.items():
        zero_at = report["curve"]["reaches_zero_at"]
        rows.append(
            {
                "method": METHODS[cell.method],
                "epsilon": cell.epsilon,
                "seed": seed,
                "order": "holds" if all(r["order"]["holds"] for r in report["deltas"]) else "broken",
                "zero_gradients": report["gradient"]["zero_images"],
                "zero_at": "never" if zero_at is None else f"{zero_at * 255:g}",
                "signs": ", ".join(dict.fromkeys(s["sign"] for s in report["signs"])) or "none",
                "skipped": ", ".join(report["skipped"]) or "nothing",
                "images": report["settings"]["images"],
            }
        )
    return pd.DataFrame(rows)


def survival_table(found: dict[tuple[Cell, int], Record]) -> pd.DataFrame:
    """Test whether the gain over no noise survives FGSM, and all attacks, on equal images.

    only_here, only_baseline: images that only the one network gets right.   p_value: exact McNemar; the
    verdict goes by p_holm, corrected over the table.
    """
    rows = []
    for (cell, seed), report in found.items():
        plain = found.get((Cell("table4", cell.data, cell.model), seed))
        if plain is None or cell.method == "baseline":
            continue
        for ours, theirs in zip(report["deltas"], plain["deltas"], strict=True):
            pairs = {"fgsm": (ours["attacks"]["fgsm"], theirs["attacks"]["fgsm"])}
            pairs["best"] = (ours["best"], theirs["best"])
            for name, (a, b) in pairs.items():
                only_here, only_baseline, p = mcnemar(*([c == "1" for c in r["correct"]] for r in (a, b)))
                rows.append(
                    {
                        "method": METHODS[cell.method],
                        "epsilon": cell.epsilon,
                        "seed": seed,
                        "delta": ours["delta"] * 255,
                        "attack": ATTACKS[name],
                        "accuracy": a["accuracy"],
                        "baseline": b["accuracy"],
                        "only_here": only_here,
                        "only_baseline": only_baseline,
                        "p_value": p,
                    }
                )
    for row, p in zip(rows, holm([row["p_value"] for row in rows]), strict=True):
        row |= {"p_holm": p, "verdict": _verdict(row["only_here"], row["only_baseline"], p)}
    return pd.DataFrame(rows)


def _verdict(only_here: int, only_baseline: int, p: float, alpha: float = 0.05) -> str:
    if not p < alpha:
        return "no difference shown"
    return "more robust" if only_here > only_baseline else "less robust"
