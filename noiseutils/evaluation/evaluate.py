"""Evaluate a trained network: errors, per class, calibration; clean, under noise, blur and attack."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noiseutils.config import Evaluation
from noiseutils.corruptions import gaussian_blur, gaussian_noise
from noiseutils.data import AnyImages, Dataset, batches
from noiseutils.data.subsets import fixed_order
from noiseutils.evaluation.attacks import fgsm_of, input_gradient
from noiseutils.evaluation.batched_call import FORWARD, GRADIENT, BatchedCall
from noiseutils.evaluation.inspection import class_similarity, feature_maps
from noiseutils.models.modes import eval_mode, full_float32, has_batchnorm
from noiseutils.rng import generator

# Noise is drawn, and BatchNorm statistics are estimated, for so many images at once on every device:
# other batch sizes would change the draws, and with them the results of earlier runs.
BLOCK_IMAGES = 500
LARGEST_SIDE = 64  # pixels; one block of larger images fills the device
RECALIBRATION_IMAGES = 10_000  # enough for stable means and variances; more costs a second epoch

TRAINING = "training"  # condition of training images as they are

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
    trained_on: AnyImages | None = None,
) -> dict[str, Any]:
    """Return the test metrics of a network: clean ones at the top, all of them under "conditions".

    model: takes pixels in [0, 1].   seed: of the input noise; equal images get equal noise under every
    network.   loss: key of `PROBABILITIES`, the map from logits to probabilities.   trained_on: images of
    which `evaluation.training_images` are tested, too; None: the set's training images.
    "conditions" is a list of records: condition (clean, gaussian_noise, gaussian_blur, fgsm; training: for
    training images as they are), size (in units of the pixel range; of a blur in pixels across), statistics
    ("trained", or "recalibrated" for BatchNorm statistics re-estimated; absent for a network without
    BatchNorm), and the values of `measure`.
    "gradient_similarity" and "feature_maps", where asked for, are those of `evaluation.inspection`.
    """
    networks = {"trained": model}
    if evaluation.recalibrate and has_batchnorm(model):
        networks["recalibrated"] = recalibrated(model, data.train)
    tests = _predictions(networks, data.test, evaluation, criterion, PROBABILITIES[loss], seed)
    conditions = [
        ("clean", 0.0),
        *(("gaussian_noise", sigma) for sigma in evaluation.noise),
        *(("gaussian_blur", sigma) for sigma in evaluation.blur),
        *(("fgsm", delta) for delta in evaluation.fgsm),
    ]
    records = []
    for statistics in networks:
        for condition, size in conditions:
            # without any noise or attack the images are the clean ones
            predictions = tests[statistics, *((condition, size) if size else conditions[0])]
            numbers = _summary(predictions, data.test.labels, data.classes)
            records.append({"condition": condition, "size": size, "statistics": statistics, **numbers})
    if evaluation.training_images:
        images = _some(data.train if trained_on is None else trained_on, evaluation.training_images)
        clean = _predictions(networks, images, Evaluation(), criterion, PROBABILITIES[loss], seed)
        for statistics in networks:
            numbers = _summary(clean[statistics, "clean", 0.0], images.labels, data.classes)
            records.append({"condition": TRAINING, "size": 0.0, "statistics": statistics, **numbers})
    found = {k: v for k, v in records[0].items() if k not in ("condition", "size", "statistics")}
    found["conditions"] = records
    if evaluation.similarity:
        found["gradient_similarity"] = class_similarity(
            model, data.test, data.num_classes, evaluation.similarity
        )
    if evaluation.feature_maps:
        found["feature_maps"] = feature_maps(model, data.test, evaluation.feature_maps)
    return found


def _some(images: AnyImages, count: int) -> AnyImages:
    """Return up to `count` images in an order of their own: as stored, they may be sorted by class."""
    order = torch.from_numpy(fixed_order(len(images), "evaluated"))
    return images.subset(order[:count].to(images.labels.device))


@dataclass(frozen=True, eq=False)
class Predictions:
    """Hold the predictions that metrics need, image by image: a few bytes for any number of classes.

    predicted: (N,) int64.   in_top5: (N,) bool, true if the true class is among the five likeliest.
    confidence: (N,) probability of the predicted class.
    """

    predicted: Tensor
    in_top5: Tensor
    confidence: Tensor

    @classmethod
    def of(cls, logits: Tensor, labels: Tensor, probabilities: Callable[[Tensor], Tensor]) -> Predictions:
        """Compute from logits: (N, K), labels: (N,) and probabilities: logits -> (N, K)."""
        top5 = logits.topk(min(5, logits.shape[1]), dim=1).indices
        return cls(logits.argmax(1), (top5 == labels[:, None]).any(1), probabilities(logits).amax(1))

    @classmethod
    def cat(cls, parts: list[Predictions]) -> Predictions:
        """Concatenate the predictions of several batches."""
        columns = zip(*((p.predicted, p.in_top5, p.confidence) for p in parts), strict=True)
        return cls(*(torch.cat(column) for column in columns))


def _predictions(
    networks: dict[str, nn.Module],
    images: AnyImages,
    evaluation: Evaluation,
    criterion: Callable[[Tensor, Tensor], Tensor],
    probabilities: Callable[[Tensor], Tensor],
    seed: int,
) -> dict[tuple[str, str, float], Predictions]:
    """Return the predictions by network, condition and size.

    The images are read once: every image is decoded once, a noise level is drawn once for all networks, one
    gradient serves all sizes of FGSM, and at most one block is held as floats.
    """
    device = images.labels.device
    forward, gradient = BatchedCall.of(FORWARD, device), BatchedCall.of(GRADIENT, device)
    sources = {
        sigma: generator(seed, f"evaluation/gaussian_noise/{sigma}", device)
        for sigma in evaluation.noise
        if sigma
    }
    deltas = [delta for delta in dict.fromkeys(evaluation.fgsm) if delta]
    found: dict[tuple[str, str, float], list[Predictions]] = {}

    def corrupted(x: Tensor) -> Iterator[tuple[str, float, Tensor]]:
        yield "clean", 0.0, x
        for sigma, source in sources.items():
            yield (
                "gaussian_noise",
                sigma,
                torch.cat([gaussian_noise(b, sigma, source) for b in x.split(BLOCK_IMAGES)]),
            )
        for sigma in filter(None, dict.fromkeys(evaluation.blur)):
            yield "gaussian_blur", sigma, gaussian_blur(x, sigma)

    with ExitStack() as stack:
        for network in networks.values():
            stack.enter_context(eval_mode(network))
        stack.enter_context(torch.no_grad())
        stack.enter_context(full_float32())
        for x, y in batches(images, _batch_size(images)):

            def add(name: str, condition: str, size: float, shown: Tensor, y: Tensor = y) -> None:
                logits = forward(networks[name], shown).float()
                predictions = Predictions.of(logits, y, probabilities)
                found.setdefault((name, condition, size), []).append(predictions)

            for condition, size, shown in corrupted(x):
                for name in networks:
                    add(name, condition, size, shown)
            for name, network in networks.items() if deltas else ():
                direction = gradient(partial(_direction, network, criterion), x, y)
                for delta in deltas:
                    add(name, "fgsm", delta, fgsm_of(x, direction, delta))
    return {key: Predictions.cat(parts) for key, parts in found.items()}


def _direction(
    model: nn.Module, criterion: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor
) -> Tensor:
    return input_gradient(model, x, y, criterion).sign()


def _batch_size(images: AnyImages) -> int:
    """Return the number of images converted to float at once, in whole blocks."""
    several = images.labels.device.type == "cuda" and images.image_size <= LARGEST_SIDE
    return FORWARD["cuda"] if several else BLOCK_IMAGES


def predict(model: nn.Module, images: AnyImages) -> tuple[Tensor, Tensor]:
    """Return logits (N, K) in float32 and labels (N,) of a split, in eval mode, on the images' device."""
    forward = BatchedCall.of(FORWARD, images.labels.device)
    with eval_mode(model), torch.no_grad(), full_float32():
        found = [forward(model, x).float() for x, _ in batches(images, _batch_size(images))]
    return torch.cat(found), images.labels


def measure(
    logits: Tensor, labels: Tensor, classes: tuple[str, ...], probabilities: Callable[[Tensor], Tensor]
) -> dict[str, Any]:
    """Compute errors and calibration of predictions.

    logits: (N, K).   labels: (N,).   Errors and accuracies are shares in [0, 1]. weighted_accuracy is the
    mean of the per-class accuracies weighted by class size, which equals 1 - top1_error;
    weighted_precision weighs the per-class precisions likewise (0 for a class never predicted).
    """
    labels = labels.to(logits.device)
    return _summary(Predictions.of(logits, labels, probabilities), labels, classes)


def _summary(predictions: Predictions, labels: Tensor, classes: tuple[str, ...]) -> dict[str, Any]:
    count, predicted = len(classes), predictions.predicted
    table = torch.bincount(labels * count + predicted, minlength=count * count).view(count, count).double()
    support, right = table.sum(1), table.diagonal()
    per_class = right / support
    precision = torch.nan_to_num(right / table.sum(0))
    return {
        "top1_error": 1 - (right.sum() / support.sum()).item(),
        "top5_error": 1 - predictions.in_top5.double().mean().item(),
        "weighted_accuracy": (per_class * support).nansum().item() / len(labels),
        "weighted_precision": (precision * support).sum().item() / len(labels),
        "calibration_error": calibration_error(predictions.confidence, predicted == labels),
        "images": len(labels),
        "per_class": dict(zip(classes, per_class.tolist(), strict=True)),
    }


def calibration_error(confidence: Tensor, correct: Tensor, bins: int = 15) -> float:
    """Return the calibration error: sum over bins of share * |accuracy - confidence|   (Guo 2017, Eq. 3).

    confidence: (N,) in [0, 1], of the predicted class.   correct: (N,) bool.   Bins of equal width.
    """
    index = (confidence.double() * bins).long().clamp(0, bins - 1)
    gap = torch.zeros(bins, dtype=torch.double, device=confidence.device)
    gap.index_add_(0, index, correct.double() - confidence.double())
    return (gap.abs().sum() / len(confidence)).item()


def recalibrated(model: nn.Module, images: AnyImages) -> nn.Module:
    """Copy a network with BatchNorm statistics averaged over clean training batches.

    Noise before a BatchNorm in training shifts the statistics that inference uses; the average undoes that
    shift. Remove attached noise first.
    """
    model = copy.deepcopy(model).eval()
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
    # stored order may be sorted by class, and the statistics of one class are not the set's
    order = generator(0, "recalibration", images.labels.device)
    with torch.no_grad():
        for seen, (x, _) in enumerate(batches(images, BLOCK_IMAGES, order=order)):
            if seen * BLOCK_IMAGES >= RECALIBRATION_IMAGES:
                break
            for norm in norms:
                # plain average over the batches; torch's momentum=None would wait for the device
                norm.momentum = 1 / (seen + 1)
            model(x)
    return model.eval()
