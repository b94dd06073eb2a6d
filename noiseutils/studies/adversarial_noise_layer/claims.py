"""What the ANL paper reported and claimed, beside what was found here."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import pandas as pd

from noiseutils.stats import Interval, Paired, claim_verdict, holm, mean_interval, paired, value_verdict
from noiseutils.studies.adversarial_noise_layer.grid import METHODS, TABLE_4, Cell
from noiseutils.studies.adversarial_noise_layer.outcome import Outcome, comparable, label_of
from noiseutils.studies.adversarial_noise_layer.tables import against_baseline, difference, similarities
from noiseutils.studies.common import claims_of, select


def reported() -> pd.DataFrame:
    """Every number of Tables 1 to 4, of the ablation, the timing sentence and the ImageNet experiment.

    quantity: similarity, top1_error, accuracy (shares in [0, 1]) or seconds_per_epoch.   x: the class in
    Table 1, the attack size in Table 4.   rounding: half a unit of the last digit that the paper prints.
    """
    with (files("noiseutils.studies.adversarial_noise_layer") / "reported.csv").open() as file:
        return pd.read_csv(file)


def reported_table(outcome: Outcome, part: str) -> pd.DataFrame:
    """Ours beside the paper's, number by number, with a verdict; of `table1`, at the site that comes nearest.

    Only the cells that this profile has are in it; `data` is where our pixels came from.
    """
    rows = []
    for row in select(reported(), table=part).to_dict("records"):
        for cell in _cells_for(outcome, row):
            ours = mean_interval(list(_ours(outcome, cell, row).values()))
            verdict = value_verdict(
                row["value"],
                ours,
                row["rounding"],
                comparable=comparable(outcome.params, cell, row["data"]),
            )
            rows.append(
                {
                    "data": label_of(outcome.params, cell),
                    "model": cell.model,
                    "method": METHODS[cell.method],
                    "epsilon": cell.epsilon,
                    **({} if np.isnan(row["x"]) else {"class" if part == "table1" else "delta": row["x"]}),
                    "quantity": row["quantity"],
                    "paper": row["value"],
                    "ours": ours.mean,
                    "low": ours.low,
                    "high": ours.high,
                    "n": ours.n,
                    "verdict": verdict,
                }
            )
    return pd.DataFrame(rows)


def _cells_for(outcome: Outcome, row: dict) -> list[Cell]:
    """The cells that a reported number is about; embedded sets stand in for the first of the paper's."""
    found = outcome.of(row["table"], model=row["model"], method=row["method"])
    if row["table"] == "table4":
        found = [c for c in found if c.epsilon == row["epsilon"]]
    if row["model"] == "lenet5":
        return found
    hundred = row["data"] == "cifar100"
    return [c for c in found if (label_of(outcome.params, c) == "cifar100") == hundred]


def _ours(outcome: Outcome, cell: Cell, row: dict) -> dict[int, float]:
    if row["quantity"] == "similarity":
        site = nearest_site(outcome)
        other = int(row["x"])  # a set in place of MNIST may have fewer classes
        found = [(seed, v[0]) for seed, at, v in similarities(outcome) if at == site]
        return {seed: v[other] for seed, v in found if other < len(v)}
    if row["quantity"] == "accuracy":
        attacked = {"condition": "fgsm", "size": row["x"] / 255} if row["x"] else {}
        return {seed: 1 - error for seed, error in outcome.values(cell, **attacked).items()}
    return outcome.values(cell)


def nearest_site(outcome: Outcome) -> str:
    """The site at which class 0's similarity with itself comes nearest to the paper's 0.77."""
    found: dict[str, list[float]] = {}
    for _, site, values in similarities(outcome):
        found.setdefault(site, []).append(values[0][0])
    return min(found, key=lambda site: abs(float(np.mean(found[site])) - 0.77), default="")


def claims_table(outcome: Outcome) -> pd.DataFrame:
    """The paper's claims as paired tests of the top-1 error, with Holm's correction over them.

    difference: a share in [0, 1]; claimed "down" where the first of two has the smaller error.
    """
    tests: list[tuple[str, str, Paired]] = []
    for cell in [*outcome.of("table2"), *outcome.of("table3")]:
        test = None if cell.method == "baseline" else against_baseline(outcome, cell)
        if cell.model == "lenet5" and cell.method == "lat":
            continue  # the paper has no LAT on LeNet-5 and claims nothing
        if test is not None and cell.method != "dropout":
            worse = cell.method in ("gaussian", "anl_negative")
            tests.append((_named(outcome, cell, "against no noise"), "up" if worse else "down", test))
    for part, better, than in (
        ("table2", "anl", "lat"),
        ("table2", "canl", "lat"),
        ("table2", "anl", "canl"),
        ("table3", "anl", "dropout"),
        ("table3", "anl", "canl"),
        ("ablation", "anl", "anl_unscaled"),
    ):
        for cell in outcome.of(part, method=better):
            for other in outcome.of(part, method=than, data=cell.data, model=cell.model):
                if cell.model == "lenet5" and than == "lat":
                    continue
                said = _named(outcome, cell, f"against {METHODS[than]}")
                tests.append((said, "down", difference(outcome, cell, other)))
    tests += _robustness_claims(outcome)
    return claims_of(tests)


def _robustness_claims(outcome: Outcome) -> list[tuple[str, str, Paired]]:
    """Table 4: errors under the strongest FGSM, against no noise, and of a larger epsilon than another."""
    deltas = outcome.params.fgsm_255
    if not deltas:
        return []
    attacked = {"condition": "fgsm", "size": max(deltas) / 255}
    tests = []
    for cell in outcome.of("table4"):
        test = None if cell.method == "baseline" else against_baseline(outcome, cell, **attacked)
        if test is not None:
            said = f"against no noise, FGSM {max(deltas):g}/255"
            tests.append((_named(outcome, cell, said), "down", test))
    clean = outcome.of("table4", method="at")
    for cell in outcome.of("table4"):
        if clean and cell.method in ("anl", "canl") and cell.epsilon == max(e for _, e in TABLE_4):
            test = difference(outcome, cell, clean[0])
            tests.append((_named(outcome, cell, "against adversarial training, clean images"), "down", test))
    for method in ("anl", "canl"):
        pair = sorted(outcome.of("table4", method=method), key=lambda c: c.epsilon)
        if len(pair) == 2:
            said = f"against ε = {pair[0].epsilon:g}, FGSM {max(deltas):g}/255"
            tests.append(
                (_named(outcome, pair[1], said), "down", difference(outcome, pair[1], pair[0], **attacked))
            )
    return tests


def _named(outcome: Outcome, cell: Cell, what: str) -> str:
    table = {"table2": "Table 2", "table3": "Table 3", "table4": "Table 4", "ablation": "s(h)"}[cell.part]
    return (
        f"{table}: {cell.model} on {label_of(outcome.params, cell)}, "
        f"{METHODS[cell.method]} (ε = {cell.epsilon:g}) {what}"
    )


def similarity_claim(outcome: Outcome) -> pd.DataFrame:
    """CANL's argument, site by site: gradients within a class are more alike than between classes.

    difference: same-class mean minus other-class mean, paired over seeds. The paper's noise goes after the
    convolutions.
    """
    within: dict[str, dict[int, tuple[float, float]]] = {}
    for seed, site, values in similarities(outcome):
        own, off = np.diag(values), values[~np.eye(len(values), dtype=bool)]
        within.setdefault(site, {})[seed] = (float(np.nanmean(own)), float(np.nanmean(off)))
    tests = {
        site: paired([a for a, _ in seeds.values()], [b for _, b in seeds.values()])
        for site, seeds in within.items()
    }
    corrected = holm([test.p for test in tests.values()])
    rows = []
    for (site, test), p in zip(tests.items(), corrected, strict=True):
        d: Interval = test.difference
        rows.append(
            {
                "site": site,
                "noise": "here in the paper" if site in ("conv1", "conv2") else "",
                "difference": d.mean,
                "low": d.low,
                "high": d.high,
                "n": d.n,
                "p_holm": p,
                "verdict": claim_verdict(d, p, claimed="up"),
            }
        )
    return pd.DataFrame(rows)
