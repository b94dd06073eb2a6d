"""Check how far networks have fitted their training images, and so whether a regulariser can be judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from noiseutils.stats import Interval, mean_interval
from noiseutils.studies.adversarial_noise_layer.grid import Cell
from noiseutils.studies.adversarial_noise_layer.params import Params
from noiseutils.studies.registry import Contrast, where_a_gap
from noiseutils.studies.results import Results, common_seeds, mean_by_seed

UNFITTED = "the network with noise has not fitted its training images: no verdict"
PLAIN = ("baseline", "baseline_switch")

Found = Results[Params, Cell]


def where_it_can_be_judged(
    results: Found, found: Contrast[Cell], pairs: Sequence[tuple[Cell, Cell]], plain: Sequence[Cell]
) -> Contrast[Cell]:
    """Return a contrast of regularisers, void where it cannot tell how they regularise.

    pairs: the networks compared, two by two.   plain: those without noise, whose test loss has to be above
    their training loss.   The remark says how many images the networks got right while they trained.

    Void, too, where a network of a pair is `unfitted` beside the other. This is a rule for both directions,
    whoever comes out better: the difference then measures how slowly a network learns with its noise in so
    many epochs, and not how well it generalises from what it has learned.
    """
    told = replace(found, remark=learned(results, *([pair[side] for pair in pairs] for side in (0, 1))))
    judged = where_a_gap(told, gap(results, *plain)) or told
    if judged.void or not any(unfitted(results, *two) or unfitted(results, *two[::-1]) for two in pairs):
        return judged
    return replace(judged, void=UNFITTED)


def unfitted(results: Found, cell: Cell, rival: Cell) -> bool:
    """Tell whether a network with noise gets fewer training images right than its rival test images.

    In the last epoch, in every seed. Where the noise is on to the end, it is on while training images are
    counted; False for a network without noise.
    """
    right = last_epoch(results, cell, "train_accuracy")
    errors = results.values(rival, "top1_error")
    seeds = common_seeds([right, errors])
    return cell.method not in PLAIN and bool(seeds) and all(right[s] < 1 - errors[s] for s in seeds)


def learned(results: Found, *sides: Sequence[Cell]) -> str:
    """Return in words how many images networks got right while they trained on them in the last epoch.

    sides: the cells of one side of a comparison, then those of the other; a mean over cells and seeds each.
    Augmented images, with dropout, and with noise where it is on to the end.
    """
    each = [mean_by_seed([last_epoch(results, c, "train_accuracy") for c in cells]) for cells in sides]
    if not all(each):
        return ""
    shares = [f"{100 * sum(values.values()) / len(values):.0f} %" for values in each]
    return f"right while training: {' against '.join(shares)}"


def gap(results: Found, *cells: Cell) -> Interval:
    """Return test minus training loss in the last epoch, in nats, averaged over cells; one value a seed.

    The training loss is the running one of the epoch, of augmented images: above that of the trained network.
    """
    each = []
    for cell in cells:
        test, train = (last_epoch(results, cell, f"{name}_loss") for name in ("test", "train"))
        each.append({seed: test[seed] - train[seed] for seed in test})
    return mean_interval(list(mean_by_seed(each).values()))


def last_epoch(results: Found, cell: Cell, column: str) -> dict[int, float]:
    """Return a column of the history in the last epoch by seed, of the trainings that finished."""
    return {
        seed: float(result.history[column].iloc[-1])
        for (other, seed), result in results.by_cell.items()
        if other == cell and result.status == "finished"
    }
