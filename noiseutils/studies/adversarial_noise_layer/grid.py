"""The grid of the ANL study. A cell is one training of one of the paper's tables or figures:

table1     LeNet-5, whose loss gradients are compared by class
table2     five kinds of training beside the baseline; LeNet-5's give Figure 3 and a counterpart of Figure 2
table3     every architecture: baseline, dropout, ANL, CANL
table4     noise on the input, too, and adversarial training (AT), attacked: to the end, Table 2's schedule
phases     the same in the two phases of Table 3's schedule, as the paper gives none for its Table 4
figure4    ANL over epsilon
ablation   ANL with and without s(h); VGG-16 without s(h) is Figure 2's network
imagenet   AlexNet with and without CANL

In Table 3, its ablation and Figure 4 noise is on in the first half, and the rate drops where it ends. The
paper's baseline has no such drop; of dropout's schedule the paper says nothing, and it is read as the
baseline's. The `_switch` twins of both have the drop, and dropout's ends there: they isolate what the noise
does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from noiseutils.config import (
    AdversarialNoise,
    AdversarialTraining,
    ClassAdversarialNoise,
    Data,
    Evaluation,
    GaussianNoise,
    LayerwiseAdversarialNoise,
    Model,
    NoisyDropout,
    Optimizer,
    Run,
    Schedule,
)
from noiseutils.errors import UserError
from noiseutils.schedules import ANL_IMAGENET, ANL_TABLE_2, ANL_TABLE_3
from noiseutils.studies.adversarial_noise_layer.params import EPSILON_ELSE, EPSILONS, Params
from noiseutils.studies.study import made_once

TABLE_4 = {
    "to_the_end": "table4",
    "two_phases": "phases",
}  # a schedule of the profile -> its part of the grid
TABLE_4_NOISE = (("anl", 0.01), ("anl", 0.05), ("canl", 0.01), ("canl", 0.05))
# every module of LeNet-5, from the image to the logits
LENET_SITES = (
    "input", "conv1", "relu1", "pool1", "conv2", "relu2", "pool2", "fc1", "relu3", "fc2", "relu4", "fc3",
)  # fmt: skip
FEATURE_MAP_IMAGES = 5
METHODS = {
    "baseline": "no noise",
    "baseline_switch": "no noise, same switch",
    "gaussian": "Gaussian",
    "lat": "LAT",
    "anl": "ANL",
    "canl": "CANL",
    "anl_negative": "ANL, negative ε",
    "anl_unscaled": "ANL without s(h)",
    "dropout": "dropout 0.5",
    "dropout_switch": "dropout 0.5, same switch",
    "at": "adversarial training",
}


@dataclass(frozen=True)
class Cell:
    """One kind of training. epsilon: of the noise; in `at` the attack size; of Gaussian noise 4 std."""

    part: str
    data: str  # as `Data.parse` takes it
    model: str
    method: str = "baseline"
    epsilon: float = 0.0

    @property
    def plain(self) -> Cell:
        """The training without noise in the same table."""
        return replace(self, method="baseline", epsilon=0.0)


def cells(params: Params) -> list[Cell]:
    """Return the grid, the most telling cells first."""
    grid: list[Cell] = []
    if params.similarity_data:
        grid.append(Cell("table1", params.similarity_data, "lenet5"))
    rows = [("lenet5", params.lenet_data)] if params.lenet_data else []
    rows += [(model, data) for data in params.data for model in params.table2_models]
    for model, data in rows:
        grid += [Cell("table2", data, model, m, _table2_epsilon(params, m)) for m in params.methods]
    for data in params.data[:1]:
        grid += _table4(params, data)
        if params.ablation_model:
            model, epsilon = params.ablation_model, epsilon_of(params.ablation_model)
            grid += [Cell("ablation", data, model, method) for method in ("baseline", "baseline_switch")]
            grid += [Cell("ablation", data, model, method, epsilon) for method in ("anl", "anl_unscaled")]
    for data in params.data:
        for model in params.table3_models:
            grid += [Cell("table3", data, model, m, epsilon_of(model)) for m in ("anl", "canl")]
            grid += [Cell("table3", data, model, m) for m in ("baseline_switch", "baseline")]
            grid += [Cell("table3", data, model, m) for m in ("dropout_switch", "dropout")]
    for data in params.data[:1]:
        for model in params.figure4_models:
            grid += [Cell("figure4", data, model, method) for method in ("baseline", "baseline_switch")]
            grid += [Cell("figure4", data, model, "anl", epsilon) for epsilon in params.figure4_epsilons]
    if params.imagenet_data:
        grid += [Cell("imagenet", params.imagenet_data, "alexnet")]
        grid += [Cell("imagenet", params.imagenet_data, "alexnet", "canl", 0.05)]
    if not grid:
        raise UserError("no table is asked for: give data and models, or similarity_data, or lenet_data")
    return list(dict.fromkeys(grid))


def _table4(params: Params, data: str) -> list[Cell]:
    kinds = [("baseline", 0.0), *(("at", delta / 255) for delta in params.at_255), *TABLE_4_NOISE]
    parts = [TABLE_4[schedule] for schedule in params.table4_schedules if params.table4_model]
    return [Cell(part, data, str(params.table4_model), *kind) for part in parts for kind in kinds]


def stages(params: Params) -> list[list[Cell]]:
    """Return what gets all its seeds first: LeNet-5, then VGG-16 in Table 3, then Table 4's claims."""
    grid = cells(params)
    equal = ("baseline_switch", "dropout_switch", "anl", "canl")
    three = [c for c in grid if (c.part, c.model) == ("table3", "vgg16") and c.method in equal]
    four = [c for c in grid if c.part == "table4" and c.epsilon in (0.0, 0.05)]
    return [[c for c in grid if c.model == "lenet5"], three, four]


def _table2_epsilon(params: Params, method: str) -> float:
    special = {"baseline": 0.0, "lat": params.lat_epsilon, "anl_negative": -params.epsilon}
    return special.get(method, params.epsilon)


def epsilon_of(model: str) -> float:
    """Return Table 3's epsilon for an architecture."""
    return EPSILONS.get(model, EPSILON_ELSE)


@made_once
def run_of(params: Params, cell: Cell, seed: int) -> Run:
    """Return the training of one cell and seed."""
    return _first_run(params, cell, seed < params.feature_map_seeds).replace(seed=seed)


@made_once
def _first_run(params: Params, cell: Cell, with_maps: bool) -> Run:
    """Return the training of one cell with seed 0; the others share its parts.

    with_maps: whether LeNet-5's first feature maps are kept.
    """
    noise, after = noise_of(cell)
    common: dict[str, Any] = {
        "data": data_of(params, cell),
        "model": Model(name=cell.model, width=width_of(params, cell)),
        "noise": noise,
        "after": after,
        "batch_size": params.batch_size,
        "optimizer": Optimizer(momentum=0.9, nesterov=True, weight_decay=params.weight_decay),
        "augment": params.augment,
        "validation_size": params.validation_size,
        "evaluation": Evaluation(),
    }
    return Run(**common | _of_part(params, cell, with_maps))


def _of_part(params: Params, cell: Cell, with_maps: bool) -> dict[str, Any]:
    """Return what the runs of one table have of their own."""
    if cell.part == "table1":
        return {
            "schedule": Schedule(learning_rate=params.lenet_learning_rate),
            "epochs": params.similarity_epochs,
            "augment": False,
            "validation_size": 0,
            "evaluation": Evaluation(similarity=LENET_SITES),
        }
    if cell.part in ("table2", "table4"):
        lenet = cell.model == "lenet5"
        epochs = params.lenet_epochs if lenet else params.table2_epochs
        rate = params.lenet_learning_rate if lenet else params.learning_rate
        own: dict[str, Any] = {
            # a sixth of the epochs at each rate, as in the paper's 300
            "schedule": ANL_TABLE_2.replace(learning_rate=rate, every=max(1, epochs // 6)),
            "epochs": epochs,
        }
        if lenet:  # the paper crops and flips only CIFAR's images
            maps = FEATURE_MAP_IMAGES if with_maps else 0
            own |= {"augment": False, "validation_size": 0, "evaluation": Evaluation(feature_maps=maps)}
        return own | (_attacked(params, cell) if cell.part == "table4" else {})
    if cell.part == "imagenet":
        epochs = params.imagenet_epochs
        return {
            "schedule": ANL_IMAGENET.replace(every=max(1, epochs // 3)),
            "epochs": epochs,
            "optimizer": Optimizer(momentum=0.9, weight_decay=params.weight_decay),
            "validation_size": 0,
        }
    own = {
        "schedule": _two_phases(params, cell),
        "epochs": params.table3_epochs,
        "optimizer": Optimizer(momentum=0.9, weight_decay=params.weight_decay),
    }
    if noise_of(cell)[0] is not None and cell.method != "dropout":
        own["noise_epochs"] = params.table3_epochs // 2
    return own | (_attacked(params, cell) if cell.part == "phases" else {})


def _two_phases(params: Params, cell: Cell) -> Schedule:
    """Return Table 3's schedule: the rate drops to its minimum where the noise ends, at half of the epochs.

    The paper's baseline has no such drop; of dropout the paper says nothing, and it is read as the baseline.
    In Table 4 every network has the drop, so that they differ in noise alone; adversarial training attacks to
    the end.
    """
    plain = cell.part != "phases" and cell.method in ("baseline", "dropout")
    return ANL_TABLE_3.replace(
        learning_rate=params.learning_rate,
        every=params.plateau_epochs,
        minimum=min(ANL_TABLE_3.minimum, params.learning_rate),
        switch=None if plain else params.table3_epochs // 2,
    )


def _attacked(params: Params, cell: Cell) -> dict[str, Any]:
    """Return what the networks of Table 4 have of their own."""
    own: dict[str, Any] = {"evaluation": Evaluation(fgsm=tuple(delta / 255 for delta in params.fgsm_255))}
    if cell.method == "at":
        own["adversarial_training"] = AdversarialTraining(delta=cell.epsilon)
    return own


def noise_of(cell: Cell) -> tuple[Any, tuple[str, ...]]:
    """Return the noise of a cell and the places where noise goes; (None, ()) without."""
    epsilon = cell.epsilon
    noise = {
        "gaussian": lambda: GaussianNoise(std=epsilon / 4),  # Figure 3b
        "lat": lambda: LayerwiseAdversarialNoise(epsilon=epsilon),
        "anl": lambda: AdversarialNoise(epsilon=epsilon),
        "anl_negative": lambda: AdversarialNoise(epsilon=epsilon),
        "anl_unscaled": lambda: AdversarialNoise(epsilon=epsilon, scaled=False),
        "canl": lambda: ClassAdversarialNoise(epsilon=epsilon),
        "dropout": lambda: NoisyDropout(p=0.5),
        "dropout_switch": lambda: NoisyDropout(p=0.5),
    }.get(cell.method)
    if noise is None:
        return None, ()
    if cell.method.startswith("dropout"):  # between dense layers; before the only one, where there is one
        return noise(), ("relu6", "relu7") if cell.model == "alexnet" else ("flatten",)
    places = {"lenet5": ("conv1", "conv2"), "alexnet": ("Conv2d",)}.get(cell.model, ("BatchNorm2d",))
    return noise(), ("input", *places) if cell.part in TABLE_4.values() else places


def width_of(params: Params, cell: Cell) -> float:
    """Return the width of a cell's network, 1.0 is the paper's."""
    if cell.model == "lenet5":
        return params.lenet_width
    return params.imagenet_width if cell.part == "imagenet" else params.width


def data_of(params: Params, cell: Cell) -> Data:
    """Return the images of a cell."""
    if cell.part == "imagenet":
        return Data.parse(cell.data, image_size=params.imagenet_size, streamed=True)
    if cell.model == "lenet5":
        return Data.parse(cell.data)
    sizes = {name: getattr(params, name) for name in ("train_size", "test_size", "image_size")}
    return Data.parse(cell.data, **sizes)


def label_of(params: Params, cell: Cell) -> str:
    """Return where the pixels of a cell come from."""
    return data_of(params, cell).label


def described(params: Params, cell: Cell) -> dict[str, Any]:
    """Return a cell as the first columns of a table."""
    return {
        "data": label_of(params, cell),
        "model": cell.model,
        "method": METHODS[cell.method],
        "epsilon": cell.epsilon,
    }
