"""The smallest adversarial change, in three readings of what is averaged over the attacked images.

The paper attacks 128 images and averages, and does not say what becomes of images that a network gets wrong
without any change.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from noiseutils.studies.registry import at_chance
from noiseutils.studies.results import Results
from noiseutils.studies.training_data_variation.grid import Cell
from noiseutils.studies.training_data_variation.params import Params

Found = Results[Params, Cell]
READINGS = {
    "correct": "images that all compared networks get right",
    "zero": "an image that is wrong already counts as 0",
    "predicted": "change of the predicted class, right or wrong",
}
ONE_PERCENT = 2.55  # of the 8-bit range; the paper's text rounds it to 2.5
MIN_IMAGES = 10  # that compared networks must share for a mean of a seed


def sizes_of(results: Found, cell: Cell, seed: int, reading: str, attack: str = "") -> dict[int, float]:
    """Return the smallest changes of one network by image, in 8-bit values, without images that withstood.

    attack: "" for the profile's. Empty where the network was not attacked, or in an older way that does not
    have the reading.
    """
    answer = results.answers.get((cell, seed, attack or results.params.change_attack), {})
    sizes = answer.get("predicted_size" if reading == "predicted" else "size", ())
    least = 0.0 if reading == "zero" else 1e-12
    return {i: size for i, size in enumerate(sizes) if size is not None and size >= least}


def common_sizes(
    results: Found, cells: Sequence[Cell], reading: str
) -> dict[int, dict[Cell, dict[int, float]]]:
    """Return the smallest changes by seed, cell and image, on images that all the cells have in a reading."""
    attacked = [
        {s for c, s, question in results.answers if (c, question) == (cell, results.params.change_attack)}
        for cell in cells
    ]
    found = {}
    for seed in sorted(set.intersection(*attacked)) if attacked else ():
        each = {cell: sizes_of(results, cell, seed, reading) for cell in cells}
        images = set.intersection(*(set(sizes) for sizes in each.values()))
        found[seed] = {cell: {i: sizes[i] for i in sorted(images)} for cell, sizes in each.items()}
    return found


def means_of(results: Found, cells: Sequence[Cell], reading: str) -> dict[Cell, dict[int, float]]:
    """Return by cell and seed the mean smallest change over the images that all the cells have in common.

    Seeds with fewer than `MIN_IMAGES` of them are left out.
    """
    found = common_sizes(results, cells, reading)
    return {
        cell: {
            seed: mean(by_cell[cell].values())
            for seed, by_cell in found.items()
            if len(by_cell[cell]) >= MIN_IMAGES
        }
        for cell in cells
    }


def compared(results: Found, row: Iterable[Cell]) -> list[Cell]:
    """Return the attacked cells of a row whose networks are better than chance.

    A network at chance is right about a few images by luck, and would leave the others those alone.
    """
    attacked = {c for c, _, question in results.answers if question == results.params.change_attack}
    return [cell for cell in row if cell in attacked and not at_chance(results, cell)]


def mean(values: Iterable[float]) -> float:
    """Return the mean of numbers."""
    return float(np.mean(list(values)))
