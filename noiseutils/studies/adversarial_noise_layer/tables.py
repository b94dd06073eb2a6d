"""Tables of the ANL study: means over seeds, with their intervals."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import torch

from noiseutils.bench import noise_steps
from noiseutils.bench.ratios import Ratio
from noiseutils.evaluation.inspection import sharpness, unpacked
from noiseutils.stats import holm, mean_interval, reported_verdict
from noiseutils.studies.adversarial_noise_layer.grid import (
    FEATURE_MAP_IMAGES,
    METHODS,
    TABLE_4,
    Cell,
    described,
)
from noiseutils.studies.adversarial_noise_layer.params import Params
from noiseutils.studies.results import Results, reported_numbers, select
from noiseutils.sweeps.jobs import one_thread


def reported() -> pd.DataFrame:
    """Read every number of Tables 1 to 4, of the ablation, the timing sentence and the ImageNet experiment.

    quantity: similarity, top1_error, accuracy (shares in [0, 1]) or seconds_per_epoch.   x: the class in
    Table 1, the attack size in Table 4.   rounding: half a unit of the last digit that the paper prints.
    """
    return reported_numbers(__file__)


def errors_table(results: Results[Params, Cell], part: str) -> pd.DataFrame:
    """Average the top-1 error of every cell of a table: as trained, and with re-estimated statistics.

    Columns: data, model, method, epsilon; top1_error with its interval; recalibrated (its mean, nan for a
    network without BatchNorm); n seeds; diverged runs.
    """
    rows = []
    for cell in results.of(part=part):
        error = results.interval(cell, "top1_error")
        again = results.interval(cell, "top1_error", statistics="recalibrated")
        row = described(results.params, cell) | error.columns("top1_error") | {"recalibrated": again.mean}
        rows.append(row | {"n": error.n, "diverged": results.diverged(cell)})
    return pd.DataFrame(rows)


def baseline_of(results: Results[Params, Cell], cell: Cell, method: str = "baseline") -> Cell | None:
    """Return the training without noise in the same table as a cell."""
    return next(iter(results.of(part=cell.part, data=cell.data, model=cell.model, method=method)), None)


def significance_table(results: Results[Params, Cell], part: str) -> pd.DataFrame:
    """Test every kind of training against no noise, paired over seeds, with Holm's correction.

    against: the paper's training without noise, or the one with the same switch of the learning rate.
    """
    rows = []
    for cell, against in itertools.product(results.of(part=part), ("baseline", "baseline_switch")):
        baseline = baseline_of(results, cell, against)
        alike = against == "baseline" or cell.method not in ("baseline", "dropout")
        if baseline is not None and cell != baseline and alike:
            test = results.paired(cell, baseline, "top1_error")
            row = described(results.params, cell) | {"against": METHODS[against]}
            rows.append(row | test.difference.row("difference") | {"p_value": test.p})
    table = pd.DataFrame(rows)
    return table.assign(p_holm=holm(table.p_value.tolist())) if rows else table


def similarities(results: Results[Params, Cell]) -> pd.DataFrame:
    """List the mean cosines of loss gradients of two images: a row a seed and site of Table 1's LeNet-5.

    same_class: mean over classes; class_0: of class 0 alone, and `with_class`: of class 0 with each class.
    other_class, greatest_other: over pairs of different classes.   separated: whether every class is more
    like itself than like any other.
    """
    rows = []
    for (cell, seed), result in results.by_cell.items():
        found = result.metrics.get("gradient_similarity", {}) if cell.part == "table1" else {}
        for site, matrix in found.items():
            values = np.array(matrix, dtype=float)
            own, others = np.diag(values), values[~np.eye(len(values), dtype=bool)].reshape(len(values), -1)
            rows.append(
                {
                    **vars(cell),
                    "seed": seed,
                    "site": site,
                    "same_class": float(np.nanmean(own)),
                    "class_0": float(own[0]),
                    "with_class": values[0],
                    "other_class": float(np.nanmean(others)),
                    "greatest_other": float(np.nanmax(others)),
                    "separated": bool((own > np.nanmax(others, axis=1)).all()),
                }
            )
    return pd.DataFrame(rows, columns=None if rows else ["seed", "site", "with_class"])


def similarity_table(results: Results[Params, Cell]) -> pd.DataFrame:
    """Average the cosines of loss gradients within and between classes, a row a site: Table 1.

    separated: in how many of the seeds every class is more like itself than like any other.
    """
    rows = []
    for site, seeds in similarities(results).groupby("site", sort=False):
        same = mean_interval(seeds.same_class.tolist())
        row = {"site": site} | same.columns("same_class")
        row |= mean_interval(seeds.class_0.tolist()).columns("class_0")
        row |= {name: np.mean(seeds[name]) for name in ("other_class", "greatest_other")}
        rows.append(row | {"separated": f"{seeds.separated.sum()} of {len(seeds)}", "n": same.n})
    return pd.DataFrame(rows)


def class_0_table(results: Results[Params, Cell]) -> pd.DataFrame:
    """Average the similarity of class 0 with every class, a row a site: Table 1 as it is printed, below ours.

    The paper does not say at which site its numbers were taken.
    """
    rows = []
    for site, seeds in similarities(results).groupby("site", sort=False):
        means = np.mean(np.stack(seeds.with_class.tolist()), axis=0)
        rows.append({"site": site} | {f"class {c}": v for c, v in enumerate(means)} | {"n": len(seeds)})
    printed = select(reported(), table="table1")
    paper = {f"class {x:g}": value for x, value in printed.loc[:, ["x", "value"]].to_numpy()}
    return pd.DataFrame([*rows, {"site": "the paper, site not said", **paper, "n": 1}] if rows else rows)


def sharpness_by_seed(results: Results[Params, Cell], cell: Cell) -> dict[int, float]:
    """Return the sharpness of a LeNet-5's stored feature maps by seed, a mean over images."""
    return {
        seed: float(sharpness(unpacked(result.metrics["feature_maps"]["maps"]) / 255).mean())
        for (other, seed), result in results.by_cell.items()
        if other == cell and "feature_maps" in result.metrics
    }


def sharpness_table(results: Results[Params, Cell]) -> pd.DataFrame:
    """Average the sharpness of the first feature maps, a row a kind of training: Figure 3 as numbers.

    images: each seed's maps are of as many.   share: of the sharpness without noise, per seed.
    """
    rows = []
    for cell in results.of(part="table2", model="lenet5"):
        found, plain = (sharpness_by_seed(results, c) for c in (cell, cell.plain))
        if found:
            mean = mean_interval(list(found.values())).row("sharpness")
            share = mean_interval([found[seed] / plain[seed] for seed in found if seed in plain]).mean
            rows.append(
                {"method": METHODS[cell.method], "images": FEATURE_MAP_IMAGES, **mean, "share": share}
            )
    return pd.DataFrame(rows)


def robustness_table(results: Results[Params, Cell]) -> pd.DataFrame:
    """Average the accuracy under FGSM, a row a network and attack size in 255ths: Table 4, by schedule."""
    rows = []
    sizes = (0.0, *results.params.fgsm_255)
    for schedule, part in TABLE_4.items():
        for cell, delta, statistics in itertools.product(
            results.of(part=part), sizes, ("trained", "recalibrated")
        ):
            condition = "fgsm" if delta else "clean"
            found = results.values(
                cell, "top1_error", statistics=statistics, condition=condition, size=delta / 255
            )
            accuracy = mean_interval([1 - error for error in found.values()])
            if accuracy.n:
                row = {"schedule": schedule.replace("_", " "), "method": METHODS[cell.method]}
                row |= {"epsilon": cell.epsilon, "statistics": statistics, "delta": delta}
                rows.append(row | accuracy.row("accuracy"))
    return pd.DataFrame(rows)


def activation_table(
    results: Results[Params, Cell], part: str = "table2", model: str = "lenet5"
) -> pd.DataFrame:
    """Average the activation std of each layer after the first and last epoch.

    By default of LeNet-5, a counterpart of Figure 2: the paper's is of VGG-16 with ANL without s(h).
    """
    table = results.histories(part=part, model=model)
    if table.empty:
        return pd.DataFrame(columns=["method", "layer", "first_epoch", "last_epoch", "n"])
    columns = [
        c
        for c in table.columns
        if c.startswith("activation_std.") and bool(table[c].notna().to_numpy().any())
    ]
    rows = []
    for method, group in table.groupby("method", sort=False):
        for column in columns:
            first = select(group, epoch=group.epoch.min())
            last = select(group, epoch=group.epoch.max())
            rows.append(
                {
                    "method": METHODS[str(method)],
                    "layer": column.removeprefix("activation_std."),
                    "first_epoch": first[column].mean(),
                    "last_epoch": last[column].mean(),
                    "n": last.seed.nunique(),
                }
            )
    return pd.DataFrame(rows)


def timing_table(params: Params) -> pd.DataFrame:
    """Measure the timing sentence as ratios: a step with each noise over the step without, here and now.

    paper: its seconds an epoch, 27.57 and 15.83 over 14.26, of another machine: no verdict is due. theory:
    forward, input gradients and weight gradients of a convolution cost alike, and ANL's round one takes the
    first two again: 5/3.
    """
    model = params.ablation_model or params.table4_model or "vgg16"
    with one_thread():
        ratios = noise_steps(model, width=params.width, batch_size=params.timing_batch)
        threads = torch.get_num_threads()
    paper = {"anl": 27.57 / 14.26, "canl": 15.83 / 14.26}
    theory = {"anl": 5 / 3}
    return pd.DataFrame(
        {
            "model": f"{model}, width {params.width:g}",
            "noise": METHODS[name],
            "ratio": ratio.ratio,
            "paper": paper.get(name, math.nan),
            "verdict": _timing_verdict(paper.get(name), ratio),
            "theory": theory.get(name, 1.0),
            "with_noise_ms": ratio.slow_seconds * 1000,
            "without_ms": ratio.fast_seconds * 1000,
            "batch": params.timing_batch,
            "rounds": len(ratio.above.values),
            "threads": threads,
        }
        for name, ratio in ratios.items()
    )


def _timing_verdict(paper: float | None, ratio: Ratio) -> str:
    each = [above / below for above, below in zip(ratio.above.values, ratio.below.values, strict=True)]
    return reported_verdict(paper, each, 0.005, settings="other") if paper else ""
