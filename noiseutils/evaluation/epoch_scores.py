"""Score a network after each epoch of its training."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from noiseutils.data import AnyImages
from noiseutils.evaluation.evaluate import predict
from noiseutils.evaluation.inspection import activation_stds

Criterion = Callable[[Tensor, Tensor], Tensor]


def epoch_scores(
    model: nn.Module, test: AnyImages, validation: AnyImages | None, criterion: Criterion
) -> dict[str, float]:
    """Return the columns of a history row that are measured in eval mode.

    test_loss and test_accuracy, validation_loss and validation_accuracy where images were held out, and
    `activation_std.<module>`, see `activation_stds`.
    """
    scores = {} if validation is None else _scores("validation", model, validation, criterion)
    return scores | _scores("test", model, test, criterion) | activation_stds(model, test)


def _scores(split: str, model: nn.Module, images: AnyImages, criterion: Criterion) -> dict[str, float]:
    logits, labels = predict(model, images)
    accuracy = (logits.argmax(1) == labels).double().mean()
    return {f"{split}_loss": criterion(logits, labels).item(), f"{split}_accuracy": accuracy.item()}
