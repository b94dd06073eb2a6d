"""Name the settings of a cell of the ANL study, and contrast its trainings: one number a seed."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from noiseutils.stats import slope
from noiseutils.studies.adversarial_noise_layer.attacks import attacked_accuracies
from noiseutils.studies.adversarial_noise_layer.fit import where_it_can_be_judged
from noiseutils.studies.adversarial_noise_layer.grid import TABLE_4, Cell, label_of, width_of
from noiseutils.studies.adversarial_noise_layer.params import Params
from noiseutils.studies.adversarial_noise_layer.tables import reported, sharpness_by_seed, similarities
from noiseutils.studies.registry import Claim, Contrast, minus, settings_of
from noiseutils.studies.results import (
    Results,
    best_by_other_seeds,
    common_seeds,
    mean_by_seed,
    select,
    shares_lost,
)

AUTOATTACK_255 = 2.0  # the smaller size of the attack report: 8/255 leaves next to nothing
PAPERS_AT = 0.05  # a share of the pixel range
BEST_EPSILON = {"mobilenet_v2": 0.02, "vgg16": 0.05, "resnet18": 0.05}  # Figure 4 and the text on ε
NEARLY = ("vgg16", "resnet18")  # whose best ε the paper has as "about" and "close to" a value
ALONG_THE_GRADIENT = ("anl", "canl", "anl_negative", "anl_unscaled")
FULL_WIDTH = "ε of the network at full width"
NO_LAYER = "the paper names no layer"
NEIGHBOURS_ONLY = "only neighbouring ε: no verdict"
SITES = ("conv1", "conv2")  # where the noise goes in LeNet-5; of Table 1 the paper names no layer
TABLE_2_RATE = 0.1  # of all networks of Table 2
SWITCHED = ("table3", "ablation")  # where the learning rate drops when the noise ends

NONE = {"method": "baseline"}

AnlClaim = Claim[Params, Cell]
Found = Results[Params, Cell]
Test = Callable[[Found], "Contrast[Cell] | None"]


def settings(params: Params, cell: Cell) -> str:
    """Return how a cell was made: the paper's images, and all that shapes the result as read here."""
    kind = "table2 lenet5" if (cell.part, cell.model) == ("table2", "lenet5") else cell.part
    sets = {"table1": ("mnist",), "table2 lenet5": ("fashion_mnist",), "imagenet": ("imagenet",)}
    names = ("batch_size", "weight_decay")
    if kind in sets:
        names += {
            "table1": ("similarity_epochs", "lenet_width", "lenet_learning_rate"),
            "table2 lenet5": ("lenet_epochs", "lenet_width"),
            "imagenet": ("imagenet_size", "imagenet_epochs", "imagenet_width"),
        }[kind]
    else:
        names += ("train_size", "test_size", "image_size", "width", "learning_rate", "augment")
        names += ("validation_size",)
        to_the_end = cell.part in ("table2", "table4")
        names += ("table2_epochs",) if to_the_end else ("table3_epochs", "plateau_epochs")
    if cell.part in ("table4", "phases"):
        names += ("table4_model", "fgsm_255")
    if cell.part == "ablation":
        names += ("ablation_model",)
    if cell.part == "table2" and cell.method != "baseline":
        names += ("lat_epsilon",) if cell.method == "lat" else ("epsilon",)
    as_read = params.are_default(names)
    if kind == "table2 lenet5":  # whose default is another rate: at the paper's it diverges
        as_read &= params.lenet_learning_rate == TABLE_2_RATE
    return settings_of(label_of(params, cell), sets.get(kind, ("cifar10", "cifar100")), as_read)


def stands_for(params: Params, cell: Cell, data: str) -> bool:
    """Tell whether a cell's images are those of a set of the paper, or stand in its place."""
    if not data.startswith("cifar"):
        return True  # one set alone, which the part or the network goes with
    return (label_of(params, cell) == "cifar100") == (data == "cifar100")


def cell_at(results: Found, data: str = "cifar10", **equal: Any) -> Cell | None:
    """Return the cell with some fields and a set of the paper's images; of several the last, largest one."""
    found = [c for c in results.of(**equal) if stands_for(results.params, c, data)]
    return found[-1] if found else None


def errors(results: Found, cell: Cell | None, under: str = "clean") -> dict[int, float]:
    """Return the top-1 error by seed.

    under: clean, of all test images; fgsm, the same attacked, averaged over the profile's sizes; turned, the
    share of the images that are right without FGSM and wrong with it: (attacked - clean error) / (1 - clean
    error), where an image that FGSM turns right counts against one that it turns wrong.
    """
    clean = results.values(cell, "top1_error")
    if under == "clean":
        return clean
    sizes = [delta / 255 for delta in results.params.fgsm_255]
    each = [results.values(cell, "top1_error", condition="fgsm", size=size) for size in sizes]
    attacked = mean_by_seed(each)
    if under == "fgsm":
        return attacked
    return shares_lost(clean, attacked)


def than(one: Mapping[str, Any], other: Mapping[str, Any], under: str = "clean", **both: Any) -> Test:
    """Return the contrast of the top-1 error of one cell minus that of another; see `cell_at`."""

    def contrast(results: Found) -> Contrast[Cell] | None:
        cells = [cell_at(results, **{**both, **own}) for own in (one, other)]
        if cells[0] is None or cells[1] is None:
            return None
        values = [errors(results, cell, under) for cell in cells]
        return minus(values[0], values[1], (cells[0], cells[1]))

    return contrast


def better(one: Mapping[str, Any], other: Mapping[str, Any], **both: Any) -> Test:
    """Return the contrast of `than` on clean images; void where a regulariser cannot be judged, see `fit`.

    The networks without noise are the rival, where it is without, else those with the schedule of the noise.
    """
    plain = {"method": "baseline_switch" if both["part"] in SWITCHED else "baseline"}
    plain = dict(other) if str(other["method"]).startswith("baseline") else plain

    def contrast(results: Found) -> Contrast[Cell] | None:
        cell, found = cell_at(results, **both, **plain), than(one, other, **both)(results)
        if cell is None or found is None:
            return None
        treated, control = found.cells
        return where_it_can_be_judged(results, found, [(treated, control)], [cell])

    return contrast


@functools.cache
def is_papers_epsilon(cell: Cell) -> bool:
    """Tell whether a cell's noise has the ε that the paper gives its network, which is at full width."""
    if cell.method not in ALONG_THE_GRADIENT:
        return False
    if cell.part == "figure4":
        return BEST_EPSILON.get(cell.model) == cell.epsilon
    table = "table4" if cell.part in TABLE_4.values() else cell.part
    rows = select(reported(), table=table, model=cell.model, method=cell.method)
    return any(math.isclose(cell.epsilon, epsilon) for epsilon in rows.epsilon)


def with_width(contrast: Test) -> Test:
    """Return a contrast whose remark says where a narrower network has the ε of the one at full width.

    Table 3: "the choice of ε is based on the amount of parameters of the network". At a width below 1 with
    the paper's ε, a difference may be due to either.
    """

    def remarked(results: Found) -> Contrast[Cell] | None:
        found = contrast(results)
        if found is None or not found.by_seed:
            return found
        narrow = any(width_of(results.params, cell) < 1 and is_papers_epsilon(cell) for cell in found.cells)
        return replace(found, remark="; ".join(filter(None, (found.remark, FULL_WIDTH * narrow))))

    return remarked


def same_class(*sites: str) -> Test:
    """Return the contrast of gradients' cosines within a class minus between classes, a mean over layers."""

    def contrast(results: Found) -> Contrast[Cell] | None:
        cells, rows = results.of(part="table1"), similarities(results)
        if not cells:
            return None
        each = [select(rows, site=site).to_dict("records") for site in sites]
        found = [{r["seed"]: r["same_class"] - r["other_class"] for r in at} for at in each]
        return Contrast(mean_by_seed(found), tuple(cells), remark=NO_LAYER)

    return contrast


def harms_more(one: str, other: str) -> Test:
    """Return the contrast of what a negative epsilon costs in top-1 error, one network minus another."""

    def contrast(results: Found) -> Contrast[Cell] | None:
        costs = [
            than({"method": "anl_negative"}, {"method": "baseline"}, part="table2", model=model)(results)
            for model in (one, other)
        ]
        if costs[0] is None or costs[1] is None:
            return None
        return minus(costs[0].by_seed, costs[1].by_seed, (*costs[0].cells, *costs[1].cells))

    return contrast


def sharper(method: str) -> Test:
    """Return the contrast of the feature maps' sharpness over that without noise, minus one."""

    def contrast(results: Found) -> Contrast[Cell] | None:
        pair = [cell_at(results, "", part="table2", model="lenet5", method=m) for m in (method, "baseline")]
        if pair[0] is None or pair[1] is None:
            return None
        treated, control = sharpness_by_seed(results, pair[0]), sharpness_by_seed(results, pair[1])
        found = {seed: treated[seed] / control[seed] - 1 for seed in treated if seed in control}
        return Contrast(found, (pair[0], pair[1]))

    return contrast


def best_epoch(column: str, bound: float, *, at_first_rate: bool = False) -> Test:
    """Return the contrast of a negative epsilon's best epoch on VGG-16 minus a bound of the paper.

    Of the trainings that finished.   at_first_rate: the best of the epochs before the rate first drops.
    """

    def contrast(results: Found) -> Contrast[Cell] | None:
        cell = cell_at(results, part="table2", model="vgg16", method="anl_negative")
        if cell is None:
            return None
        best = {}
        for (other, seed), result in results.by_cell.items():
            if other == cell and result.status == "finished":
                last = result.run.schedule.every if at_first_rate else None
                best[seed] = float(result.history[column].iloc[:last].max())
        return Contrast({seed: value - bound for seed, value in best.items()}, (cell,))

    return contrast


def over_networks(method: str, rival: str = "baseline_switch") -> Test:
    """Return the contrast of noise minus a rival at an equal schedule, averaged over Table 3's networks.

    Void, as `better` is, where a regulariser cannot be judged: of networks that have not fitted, one will do.
    """
    kinds = (method, rival, "baseline_switch")

    def contrast(results: Found) -> Contrast[Cell] | None:
        networks = [
            [cell_at(results, part="table3", model=model, method=kind) for kind in kinds]
            for model in results.params.table3_models
        ]
        there = [(one, other, plain) for one, other, plain in networks if one and other and plain]
        if len(there) < 2:
            return None
        treated, control, plain = zip(*there, strict=True)
        values = [results.means(cells, "top1_error") for cells in (treated, control)]
        found = minus(values[0], values[1], (*treated, *control))
        return where_it_can_be_judged(results, found, list(zip(treated, control, strict=True)), plain)

    return contrast


def by_epsilon(results: Found, model: str) -> dict[Cell, dict[int, float]]:
    """Return Figure 4's errors of a network by cell and seed, from the smallest epsilon."""
    cells = sorted(results.of(part="figure4", model=model, method="anl"), key=lambda cell: cell.epsilon)
    return {cell: results.values(cell, "top1_error") for cell in cells}


def named_epsilon(model: str) -> Test:
    """Return the contrast of the paper's best epsilon minus the best other one, chosen by the other seeds.

    Where the paper says "about" or "close to", the values next to the named one are no rivals: an optimum
    between the two is about it as well. Void where there are no others.
    """

    def contrast(results: Found) -> Contrast[Cell] | None:
        values = by_epsilon(results, model)
        cells = list(values)
        named = [i for i, cell in enumerate(cells) if cell.epsilon == BEST_EPSILON[model]]
        others = [cell for i, cell in enumerate(cells) if i not in named]
        if not named or not others:
            return None
        away = 2 if model in NEARLY else 1
        rivals = [cell for i, cell in enumerate(cells) if abs(i - named[0]) >= away]
        best, _ = best_by_other_seeds({cell: values[cell] for cell in rivals or others}, largest=False)
        found = minus(values[cells[named[0]]], best, cells)
        return found if rivals else replace(found, void=NEIGHBOURS_ONLY)

    return contrast


def larger_network(results: Found) -> Contrast[Cell] | None:
    """Return the contrast of the error's slope over epsilon: MobileNetV2 minus the larger VGG-16."""
    slopes, cells = [], []
    for model in ("mobilenet_v2", "vgg16"):
        values = by_epsilon(results, model)
        if len(values) < 2:
            return None
        at, each = [cell.epsilon for cell in values], list(values.values())
        slopes.append({seed: slope(at, [v[seed] for v in each]) for seed in common_seeds(each)})
        cells += values
    return minus(slopes[0], slopes[1], cells)


def under_autoattack(method: str) -> Test:
    """Return the contrast of accuracy under AutoAttack: noise with the larger epsilon minus AT."""

    def contrast(results: Found) -> Contrast[Cell] | None:
        cell = cell_at(results, part="table4", method=method)
        rival = cell_at(results, part="table4", method="at", epsilon=PAPERS_AT)
        if cell is None or rival is None:
            return None
        treated, control = (
            attacked_accuracies(results, c, "autoattack", AUTOATTACK_255) for c in (cell, rival)
        )
        return minus(treated, control, (cell, rival))

    return contrast
