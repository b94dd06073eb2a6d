"""What the ANL paper reported and claimed, beside what was found here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from noiseutils.stats import claim_verdict, holm, mean_interval, paired, value_verdict
from noiseutils.studies.adversarial_noise_layer.grid import METHODS, TABLE_4, Cell, described, label_of
from noiseutils.studies.adversarial_noise_layer.params import Params
from noiseutils.studies.adversarial_noise_layer.parts import comparable
from noiseutils.studies.adversarial_noise_layer.tables import baseline_of, similarities
from noiseutils.studies.results import Results, claims_of, reported_beside, select


def reported() -> pd.DataFrame:
    """Read every number of Tables 1 to 4, of the ablation, the timing sentence and the ImageNet experiment.

    quantity: similarity, top1_error, accuracy (shares in [0, 1]) or seconds_per_epoch.   x: the class in
    Table 1, the attack size in Table 4.   rounding: half a unit of the last digit that the paper prints.
    """
    return reported_beside(__file__)


def reported_table(results: Results[Params, Cell], part: str) -> pd.DataFrame:
    """Set ours beside the paper's, number by number; of `table1`, at the site that comes nearest.

    Only cells of this profile are in the table; `data` is where our pixels came from.
    """
    rows = []
    for row in select(reported(), table=part).to_dict("records"):
        for cell in _cells_for(results, row):
            ours = mean_interval(list(_ours(results, cell, row).values()))
            same = comparable(results.params, cell, row["data"])
            verdict = value_verdict(row["value"], ours, row["rounding"], comparable=same)
            x = {} if np.isnan(row["x"]) else {"class" if part == "table1" else "delta": row["x"]}
            paper = {"quantity": row["quantity"], "paper": row["value"]}
            rows.append(described(results.params, cell) | x | paper | ours.row("ours") | {"verdict": verdict})
    return pd.DataFrame(rows)


def _cells_for(results: Results[Params, Cell], row: dict) -> list[Cell]:
    """Return the cells that a reported number is about; embedded sets stand in for the paper's first."""
    found = results.of(part=row["table"], model=row["model"], method=row["method"])
    if row["table"] == "table4":
        found = [c for c in found if c.epsilon == row["epsilon"]]
    if row["model"] == "lenet5":
        return found
    hundred = row["data"] == "cifar100"
    return [c for c in found if (label_of(results.params, c) == "cifar100") == hundred]


def _ours(results: Results[Params, Cell], cell: Cell, row: dict) -> dict[int, float]:
    if row["quantity"] == "similarity":
        rows, other = select(similarities(results), site=nearest_site(results)), int(row["x"])
        with_class = dict(zip(rows.seed, rows.with_class, strict=True))
        # a set in place of MNIST may have fewer classes
        return {seed: values[other] for seed, values in with_class.items() if other < len(values)}
    if row["quantity"] == "accuracy":
        attacked = {"condition": "fgsm", "size": row["x"] / 255} if row["x"] else {}
        return {seed: 1 - error for seed, error in results.values(cell, "top1_error", **attacked).items()}
    return results.values(cell, "top1_error")


def nearest_site(results: Results[Params, Cell]) -> str:
    """Return the site at which class 0's similarity with itself comes nearest to the paper's 0.77."""
    table = similarities(results)
    return (table.groupby("site", sort=False).class_0.mean() - 0.77).abs().idxmin() if len(table) else ""


def claims_table(results: Results[Params, Cell]) -> pd.DataFrame:
    """Judge the paper's claims by paired tests of the top-1 error, with Holm's correction over them.

    difference: a share in [0, 1]; claimed "down" where the first of two has the smaller error.
    """
    claims = [*_noise_claims(results), *_method_claims(results), *_robustness_claims(results)]
    return claims_of(
        [
            (
                _named(results, cell, f"against {rival}"),
                claimed,
                results.paired(cell, other, "top1_error", **where),
            )
            for cell, other, rival, claimed, where in claims
        ]
    )


Claim = tuple[Cell, Cell, str, str, dict[str, Any]]  # cell, its rival and the rival's name, direction, images


def _noise_claims(results: Results[Params, Cell]) -> Iterator[Claim]:
    """Yield the claims of Tables 2 and 3 about noise against none."""
    for cell in [*results.of(part="table2"), *results.of(part="table3")]:
        baseline = baseline_of(results, cell)
        if cell.model == "lenet5" and cell.method == "lat":
            continue  # the paper has no LAT on LeNet-5 and claims nothing
        if baseline is not None and cell.method not in ("baseline", "dropout"):
            worse = cell.method in ("gaussian", "anl_negative")
            yield cell, baseline, "no noise", "up" if worse else "down", {}


def _method_claims(results: Results[Params, Cell]) -> Iterator[Claim]:
    """Yield the claims of Tables 2 and 3, and of the ablation, about one method against another."""
    for part, better, than in (
        ("table2", "anl", "lat"),
        ("table2", "canl", "lat"),
        ("table2", "anl", "canl"),
        ("table3", "anl", "dropout"),
        ("table3", "anl", "canl"),
        ("ablation", "anl", "anl_unscaled"),
    ):
        for cell in results.of(part=part, method=better):
            for other in results.of(part=part, method=than, data=cell.data, model=cell.model):
                if cell.model != "lenet5" or than != "lat":
                    yield cell, other, METHODS[than], "down", {}


def _robustness_claims(results: Results[Params, Cell]) -> Iterator[Claim]:
    """Yield the claims of Table 4: under the strongest FGSM, and on clean images."""
    if not results.params.fgsm_255:
        return
    delta = max(results.params.fgsm_255)
    attacked = {"condition": "fgsm", "size": delta / 255}
    for cell in results.of(part="table4"):
        baseline = baseline_of(results, cell)
        if baseline is not None and cell.method != "baseline":
            yield cell, baseline, f"no noise, FGSM {delta:g}/255", "down", attacked
    for hard in results.of(part="table4", method="at"):
        for cell in results.of(part="table4", epsilon=max(e for _, e in TABLE_4)):
            if cell.method in ("anl", "canl"):
                yield cell, hard, "adversarial training, clean images", "down", {}
    for method in ("anl", "canl"):
        pair = sorted(results.of(part="table4", method=method), key=lambda c: c.epsilon)
        if len(pair) == 2:
            yield pair[1], pair[0], f"ε = {pair[0].epsilon:g}, FGSM {delta:g}/255", "down", attacked


def _named(results: Results[Params, Cell], cell: Cell, what: str) -> str:
    table = {"table2": "Table 2", "table3": "Table 3", "table4": "Table 4", "ablation": "s(h)"}[cell.part]
    return (
        f"{table}: {cell.model} on {label_of(results.params, cell)}, "
        f"{METHODS[cell.method]} (ε = {cell.epsilon:g}) {what}"
    )


def similarity_claim(results: Results[Params, Cell]) -> pd.DataFrame:
    """Test CANL's argument, site by site: gradients within a class are more alike than between classes.

    difference: same-class mean minus other-class mean, paired over seeds. The paper's noise goes after the
    convolutions.
    """
    table = similarities(results)
    tests = {
        site: paired(seeds.same_class.tolist(), seeds.other_class.tolist())
        for site, seeds in table.groupby("site", sort=False)
    }
    corrected = holm([test.p for test in tests.values()])
    return pd.DataFrame(
        {
            "site": site,
            "noise": "here in the paper" if site in ("conv1", "conv2") else "",
            **test.difference.row("difference"),
            "p_holm": p,
            "verdict": claim_verdict(test.difference, p, claimed="up"),
        }
        for (site, test), p in zip(tests.items(), corrected, strict=True)
    )
