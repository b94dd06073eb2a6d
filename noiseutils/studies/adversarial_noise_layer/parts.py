"""Parts of the ANL study, one a table or figure of the paper: their results, and what is comparable."""

from __future__ import annotations

from noiseutils.studies.adversarial_noise_layer.grid import Cell, label_of
from noiseutils.studies.adversarial_noise_layer.params import Params
from noiseutils.studies.output import OutputWriter
from noiseutils.studies.results import Results

PAPER_DATA = {
    "cifar10": ("cifar10", "cifar10-jpeg"),
    "cifar100": ("cifar100",),
    "mnist": ("mnist",),
    "fashion_mnist": ("fashion_mnist",),
    "imagenet": ("imagenet",),
}


def writer(results: Results[Params, Cell], *parts: str) -> OutputWriter:
    """Return a writer of the figures and tables of some parts, which says where their results come from."""
    own = [cell for cell, _ in results.by_cell if cell.part in parts]
    labels = [label_of(results.params, cell) for cell in own] or ["none"]
    return OutputWriter(
        results.params, labels, [r for (c, _), r in results.by_cell.items() if c.part in parts]
    )


def seeds_of(results: Results[Params, Cell], part: str) -> int:
    """Count the seeds of a part."""
    return len({seed for cell, seed in results.by_cell if cell.part == part})


def comparable(params: Params, cell: Cell, data: str) -> bool:
    """Tell whether a number that the paper reports for `data` can be held against this cell's.

    data: cifar10, cifar100, mnist, fashion_mnist or imagenet. The images have to be those, whole, and all
    that shapes the result as we read the paper.
    """
    if label_of(params, cell) not in PAPER_DATA[data]:
        return False
    own = {
        "table1": ("similarity_epochs", "lenet_width", "lenet_learning_rate", "batch_size", "weight_decay"),
        "imagenet": ("imagenet_size", "imagenet_epochs", "imagenet_width", "batch_size", "weight_decay"),
    }
    general = ("train_size", "test_size", "image_size", "width", "batch_size", "learning_rate")
    general += ("weight_decay", "augment", "validation_size")
    general += ("table2_epochs",) if cell.part == "table2" else ("table3_epochs", "plateau_epochs")
    lenet = ("lenet_width", "lenet_learning_rate", "lenet_epochs", "batch_size", "weight_decay")
    names = own.get(cell.part, lenet if cell.model == "lenet5" else general)
    if cell.part == "table2" and cell.method != "baseline":
        names += ("lat_epsilon",) if cell.method == "lat" else ("epsilon",)
    return params.are_default(names)
