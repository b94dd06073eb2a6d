"""What a trained network is worth: errors, per-class accuracy, calibration; clean, under noise, attacked."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noiseutils.attacks import fgsm
from noiseutils.config import Evaluation
from noiseutils.corruptions import gaussian_noise
from noiseutils.data import AnyImages, Dataset, batches
from noiseutils.inspection import class_similarity, feature_maps
from noiseutils.modes import eval_mode, full_float32, has_batchnorm
from noiseutils.rng import generator

BATCH = 500  # images at once; evaluation keeps no activations, so larger batches gain nothing on CPU
RECALIBRATION_IMAGES = 10_000  # enough for stable means and variances; more costs a second epoch
Perturb = Callable[[Tensor, Tensor], Tensor]

PROBABILITIES: dict[str, Callable[[Tensor], Tensor]] = {
    "cross_entropy": lambda logits: logits.softmax(1),
    "sigmoid_bce": torch.sigmoid,
}


def evaluate(
    model: nn.Module,
    data: Dataset,
    evaluation: Evaluation = Evaluation(),  # noqa: B008 - a frozen value
    *,
    criterion: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    loss: str = "cross_entropy",
    seed: int = 0,
) -> dict[str, Any]:
    """The test metrics of a network: clean ones at the top, all of them under "conditions".

    model: takes pixels in [0, 1].   seed: of the input noise, the same images get the same noise whatever
    the network.   loss: how logits become probabilities, a key of `PROBABILITIES`.
    "conditions" is a list of records: condition (clean, gaussian_noise, fgsm), size (in units of the
    pixel range), statistics ("trained", or "recalibrated" for BatchNorm statistics re-estimated; absent
    for a network without BatchNorm), and what `measure` returns. "gradient_similarity" and "feature_maps",
    where asked for, are what `noiseutils.inspection` returns.
    """
    networks = {"trained": model}
    if evaluation.recalibrate and has_batchnorm(model):
        networks["recalibrated"] = recalibrated(model, data.train)
    records = []
    for statistics, network in networks.items():
        for condition, size, perturb in _conditions(network, evaluation, criterion, seed, data):
            logits, labels = predict(network, data.test, perturb)
            numbers = measure(logits, labels, data.classes, PROBABILITIES[loss])
            records.append({"condition": condition, "size": size, "statistics": statistics, **numbers})
    found = {k: v for k, v in records[0].items() if k not in ("condition", "size", "statistics")}
    found["conditions"] = records
    if evaluation.similarity:
        found["gradient_similarity"] = class_similarity(
            model, data.test, data.num_classes, evaluation.similarity
        )
    if evaluation.feature_maps:
        found["feature_maps"] = feature_maps(model, data.test, evaluation.feature_maps)
    return found


def _conditions(
    model: nn.Module, evaluation: Evaluation, criterion: Callable, seed: int, data: Dataset
) -> Iterator[tuple[str, float, Perturb | None]]:
    device = data.test.labels.device
    yield "clean", 0.0, None
    for sigma in evaluation.noise:
        source = generator(seed, f"evaluation/gaussian_noise/{sigma}", device)
        yield "gaussian_noise", sigma, lambda x, y, s=sigma, g=source: gaussian_noise(x, s, g)
    for delta in evaluation.fgsm:
        yield "fgsm", delta, lambda x, y, d=delta: fgsm(model, x, y, delta=d, criterion=criterion)


def predict(model: nn.Module, images: AnyImages, perturb: Perturb | None = None) -> tuple[Tensor, Tensor]:
    """Logits (N, K) in float32 and labels (N,) of a split, in eval mode, on the images' device."""
    found = []
    with eval_mode(model), torch.no_grad(), full_float32():
        for x, y in batches(images, BATCH):
            found.append(model(x if perturb is None else perturb(x, y)).float())
    return torch.cat(found), images.labels


def measure(
    logits: Tensor, labels: Tensor, classes: tuple[str, ...], probabilities: Callable[[Tensor], Tensor]
) -> dict[str, Any]:
    """Errors and calibration of predictions.

    logits: (N, K).   labels: (N,).   Errors and accuracies are shares in [0, 1]. weighted_accuracy is the
    mean of the per-class accuracies weighted by class size, which equals 1 - top1_error;
    weighted_precision weighs the per-class precisions likewise (0 for a class never predicted).
    """
    labels = labels.to(logits.device)
    count = len(classes)
    predicted = logits.argmax(1)
    table = torch.bincount(labels * count + predicted, minlength=count * count).view(count, count).double()
    support, right = table.sum(1), table.diagonal()
    top5 = logits.topk(min(5, count), dim=1).indices
    per_class = right / support
    precision = torch.nan_to_num(right / table.sum(0))
    confidence = probabilities(logits).amax(1)
    return {
        "top1_error": 1 - (right.sum() / support.sum()).item(),
        "top5_error": 1 - (top5 == labels[:, None]).any(1).double().mean().item(),
        "weighted_accuracy": (per_class * support).nansum().item() / len(labels),
        "weighted_precision": (precision * support).sum().item() / len(labels),
        "calibration_error": calibration_error(confidence, predicted == labels),
        "images": len(labels),
        "per_class": dict(zip(classes, per_class.tolist(), strict=True)),
    }


def calibration_error(confidence: Tensor, correct: Tensor, bins: int = 15) -> float:
    """Expected calibration error: sum over bins of share * |accuracy - confidence| (Guo et al. 2017, Eq. 3).

    confidence: (N,) in [0, 1], of the predicted class.   correct: (N,) bool.   Bins of equal width.
    """
    index = (confidence.double() * bins).long().clamp(0, bins - 1)
    gap = torch.zeros(bins, dtype=torch.double, device=confidence.device)
    gap.index_add_(0, index, correct.double() - confidence.double())
    return (gap.abs().sum() / len(confidence)).item()


def recalibrated(model: nn.Module, images: AnyImages) -> nn.Module:
    """A copy of the network whose BatchNorm statistics are averages over clean training batches.

    Noise before a BatchNorm in training shifts the statistics that inference uses; this undoes it. Attached
    noise must have been removed.
    """
    model = copy.deepcopy(model).eval()
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch: a plain average over the batches seen
        norm.train()
    # stored order may be sorted by class, and the statistics of one class are not the set's
    order = generator(0, "recalibration", images.labels.device)
    with torch.no_grad():
        for seen, (x, _) in enumerate(batches(images, BATCH, order=order)):
            if seen * BATCH >= RECALIBRATION_IMAGES:
                break
            model(x)
    return model.eval()
