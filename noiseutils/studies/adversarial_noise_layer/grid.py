"""The grid of the ANL study. A cell is one training of one of the paper's tables or figures:

table1     LeNet-5, whose loss gradients are compared by class
table2     five kinds of training beside the baseline; LeNet-5's give Figures 2 and 3
table3     every architecture: baseline, dropout, ANL, CANL
table4     noise on the input, too, and adversarial training (AT), attacked
figure4    ANL over epsilon
ablation   ANL without s(h)
imagenet   AlexNet with and without CANL
"""

from __future__ import annotations

from dataclasses import dataclass
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

TABLE_4 = (("baseline", 0.0), ("at", 0.05), ("anl", 0.01), ("anl", 0.05), ("canl", 0.01), ("canl", 0.05))
# every module of LeNet-5, from the image to the logits
LENET_SITES = (
    "input", "conv1", "relu1", "pool1", "conv2", "relu2", "pool2", "fc1", "relu3", "fc2", "relu4", "fc3",
)  # fmt: skip
FEATURE_MAP_IMAGES = 5
METHODS = {
    "baseline": "no noise",
    "gaussian": "Gaussian",
    "lat": "LAT",
    "anl": "ANL",
    "canl": "CANL",
    "anl_negative": "ANL, negative ε",
    "anl_unscaled": "ANL without s(h)",
    "dropout": "dropout 0.5",
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


def cells(params: Params) -> list[Cell]:
    """Return the grid, the most telling cells first."""
    first = params.data[:1]
    grid: list[Cell] = []
    if params.similarity_data:
        grid.append(Cell("table1", params.similarity_data, "lenet5"))
    rows = [("lenet5", params.lenet_data)] if params.lenet_data else []
    rows += [(model, data) for data in params.data for model in params.table2_models]
    for model, data in rows:
        grid += [Cell("table2", data, model, m, _table2_epsilon(params, m)) for m in params.methods]
    if params.table4_model:
        grid += [Cell("table4", data, params.table4_model, m, e) for data in first for m, e in TABLE_4]
    if params.ablation_model:
        model, epsilon = params.ablation_model, epsilon_of(params.ablation_model)
        for method in ("baseline", "anl", "anl_unscaled"):
            grid += [
                Cell("ablation", data, model, method, 0.0 if method == "baseline" else epsilon)
                for data in first
            ]
    for data in params.data:
        for model in params.table3_models:
            epsilon = epsilon_of(model)
            grid += [Cell("table3", data, model), Cell("table3", data, model, "dropout")]
            grid += [Cell("table3", data, model, method, epsilon) for method in ("anl", "canl")]
    for data in first:
        for model in params.figure4_models:
            grid += [Cell("figure4", data, model)]
            grid += [Cell("figure4", data, model, "anl", epsilon) for epsilon in params.figure4_epsilons]
    if params.imagenet_data:
        grid += [Cell("imagenet", params.imagenet_data, "alexnet")]
        grid += [Cell("imagenet", params.imagenet_data, "alexnet", "canl", 0.05)]
    if not grid:
        raise UserError("no table is asked for: give data and models, or similarity_data, or lenet_data")
    return list(dict.fromkeys(grid))


def _table2_epsilon(params: Params, method: str) -> float:
    special = {"baseline": 0.0, "lat": params.lat_epsilon, "anl_negative": -params.epsilon}
    return special.get(method, params.epsilon)


def epsilon_of(model: str) -> float:
    """Return Table 3's epsilon for an architecture."""
    return EPSILONS.get(model, EPSILON_ELSE)


def run_of(params: Params, cell: Cell, seed: int) -> Run:
    """Return the training of one cell and seed."""
    noise, after = noise_of(cell)
    common: dict[str, Any] = {
        "data": data_of(params, cell),
        "model": Model(name=cell.model, width=_width(params, cell)),
        "noise": noise,
        "after": after,
        "batch_size": params.batch_size,
        "optimizer": Optimizer(momentum=0.9, nesterov=True, weight_decay=params.weight_decay),
        "augment": params.augment,
        "validation_size": params.validation_size,
        "evaluation": Evaluation(),
        "seed": seed,
    }
    return Run(**common | _of_part(params, cell, seed))


def _of_part(params: Params, cell: Cell, seed: int) -> dict[str, Any]:
    """Return what the runs of one table have of their own."""
    if cell.part == "table1":
        return {
            "schedule": Schedule(learning_rate=params.lenet_learning_rate),
            "epochs": params.similarity_epochs,
            "augment": False,
            "validation_size": 0,
            "evaluation": Evaluation(similarity=LENET_SITES),
        }
    if cell.part == "table2":
        lenet = cell.model == "lenet5"
        epochs = params.lenet_epochs if lenet else params.table2_epochs
        rate = params.lenet_learning_rate if lenet else params.learning_rate
        own: dict[str, Any] = {
            # a sixth of the epochs at each rate, as in the paper's 300
            "schedule": ANL_TABLE_2.replace(learning_rate=rate, every=max(1, epochs // 6)),
            "epochs": epochs,
        }
        if lenet:  # the paper crops and flips only CIFAR's images
            maps = FEATURE_MAP_IMAGES if seed == 0 else 0
            own |= {"augment": False, "validation_size": 0, "evaluation": Evaluation(feature_maps=maps)}
        return own
    if cell.part == "imagenet":
        epochs = params.imagenet_epochs
        return {
            "schedule": ANL_IMAGENET.replace(every=max(1, epochs // 3)),
            "epochs": epochs,
            "optimizer": Optimizer(momentum=0.9, weight_decay=params.weight_decay),
            "validation_size": 0,
        }
    # with noise: half of the epochs, then the other half without it at the least rate
    half = params.table3_epochs // 2 if cell.method not in ("baseline", "dropout", "at") else None
    minimum = min(ANL_TABLE_3.minimum, params.learning_rate)
    own = {
        "schedule": ANL_TABLE_3.replace(
            learning_rate=params.learning_rate, every=params.plateau_epochs, minimum=minimum, switch=half
        ),
        "noise_epochs": half,
        "epochs": params.table3_epochs,
        "optimizer": Optimizer(momentum=0.9, weight_decay=params.weight_decay),
    }
    if cell.part == "table4":
        own["evaluation"] = Evaluation(fgsm=tuple(delta / 255 for delta in params.fgsm_255))
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
    }.get(cell.method)
    if noise is None:
        return None, ()
    if cell.method == "dropout":  # between dense layers; before the only one, where there is one
        return noise(), ("relu6", "relu7") if cell.model == "alexnet" else ("flatten",)
    places = {"lenet5": ("conv1", "conv2"), "alexnet": ("Conv2d",)}.get(cell.model, ("BatchNorm2d",))
    return noise(), ("input", *places) if cell.part == "table4" else places


def _width(params: Params, cell: Cell) -> float:
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
