"""Attack images within a bound: FGSM, PGD, AutoAttack, and a margin loss that ignores the scale of logits.

Training, the papers' tables and `attack_report` use these attacks; AutoAttack comes from a library. Sources:
Goodfellow et al. 2015 (FGSM), Madry et al. 2018 (PGD), Croce & Hein 2020 (AutoAttack and its DLR loss).
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from noiseutils.errors import UserError
from noiseutils.evaluation.batched_call import GRADIENT, BatchedCall
from noiseutils.models.modes import frozen, still_statistics

Criterion = Callable[[Tensor, Tensor], Tensor]


def fgsm(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    delta: float,
    criterion: Criterion = F.cross_entropy,
    training: bool = False,
) -> Tensor:
    """Attack by fast gradient sign: clip(x + delta * sign(grad_x loss), 0, 1)   (Goodfellow 2015).

    This is `pgd` with one step of size delta.

    x: (N, C, H, W) in [0, 1].   y: (N,) true classes.   delta: in [0, 1], units of the pixel range: write
    8 / 255 for 8 of 255 levels.   training: see `pgd`.
    Returns (N, C, H, W) in [0, 1]. The model's mode is left as it is and its parameters get no gradient.
    Raises UserError for pixels or a delta outside [0, 1].
    """
    return pgd(model, x, y, delta=delta, steps=1, step_size=delta, criterion=criterion, training=training)


def pgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    delta: float,
    steps: int,
    step_size: float | None = None,
    random_start: torch.Generator | None = None,
    criterion: Criterion = F.cross_entropy,
    training: bool = False,
) -> Tensor:
    """Attack with projected gradient descent: x <- project(x + step_size * sign(grad_x loss))   (Madry 2018).

    The projection cuts to at most delta from the given images and to [0, 1].

    x: (N, C, H, W) in [0, 1].   y: (N,) true classes.   delta: in [0, 1], units of the pixel range: write
    8 / 255 for 8 of 255 levels.   step_size: in (0, 1]; None: 2.5 * delta / steps, so that any point within
    delta can be reached from any start and still be left again.   random_start: draws the first point evenly
    from within delta, on the images' device; None: starts at x.   criterion: reduced to a sum or a mean over
    samples, whose signs are equal.   training: the attack is a step of adversarial training, on a network in
    training mode; without it a warning says that dropout and BatchNorm act otherwise at evaluation. In either
    mode BatchNorm's running statistics stay as they are.
    Returns (N, C, H, W) in [0, 1], x itself for delta = 0. The model's mode is left as it is and its
    parameters get no gradient. Warns of a network that returns probabilities under cross-entropy, which takes
    logits. Raises UserError for pixels or sizes out of range and fewer than one step.
    """
    _check_size("delta", delta)
    if not steps >= 1:
        raise UserError(f"steps must be at least 1, got {steps}")
    if delta == 0:
        return x
    if step_size is None:
        step_size = 2.5 * delta / steps
    elif not step_size > 0:
        raise UserError(f"step_size must be above 0, got {step_size}")
    else:
        _check_size("step_size", step_size)
    check_pixels(x)
    if not training:
        _warn_in_training_mode(model)
    clean = x.detach()
    lower, upper = _bounds(clean, delta)
    x = clean if random_start is None else uniform_noise(clean, delta, random_start)
    # looking at the outputs would wait for the device in every step of a training
    looking = criterion is F.cross_entropy and not training
    for step in range(steps):
        loss = _cross_entropy_of_logits if looking and step == 0 else criterion
        x = (x + step_size * input_gradient(model, x, y, loss).sign()).clamp(lower, upper)
    return x


def fgsm_of(x: Tensor, direction: Tensor, delta: float) -> Tensor:
    """Return the images of `fgsm`, bit for bit, from sign(grad_x loss): one gradient serves every delta.

    x: (N, C, H, W) in [0, 1].   direction: -1, 0 or 1, shaped as x.   delta: at least 0, in units of the
    pixel range.   Returns (N, C, H, W) in [0, 1], x itself for delta = 0. Nothing is checked, so that nothing
    waits for the device.
    """
    return x if delta == 0 else (x + delta * direction).clamp(*_bounds(x, delta))


def _check_size(name: str, size: float) -> None:
    if not 0 <= size <= 1:
        raise UserError(
            f"{name} must be at least 0 and at most 1, the pixel range, got {size}: write 8 / 255 for 8 of "
            "255 levels"
        )


def _warn_in_training_mode(model: nn.Module) -> None:
    # by what a mode changes: a wrapper around a network in eval mode is often left in training mode
    if any(m.training for m in model.modules() if isinstance(m, (_BatchNorm, _DropoutNd))):
        warnings.warn(
            "the attacked network is in training mode: dropout draws anew and BatchNorm goes by the batch, "
            "so the images are not those of an attack at evaluation. Call model.eval() first; in adversarial "
            "training pass training=True",
            stacklevel=3,
        )


def are_probabilities(outputs: Tensor) -> bool:
    """Return whether outputs, (N, K), are probabilities of the classes, where logits are due."""
    outputs = outputs.detach().float()
    sums = outputs.sum(1)
    return bool((outputs >= 0).all() & torch.isclose(sums, torch.ones_like(sums), atol=1e-3).all())


def _cross_entropy_of_logits(outputs: Tensor, y: Tensor) -> Tensor:
    """Return the cross-entropy, and warn where the outputs are probabilities."""
    if not _capturing(outputs) and outputs.dim() == 2 and are_probabilities(outputs):
        warnings.warn(
            "the attacked network returns probabilities, and cross-entropy takes logits: its gradients are "
            "too small, or zero, and the attack is weaker than it looks. Leave out the last softmax, or give "
            "a criterion that suits",
            stacklevel=4,  # the caller of `pgd`
        )
    return F.cross_entropy(outputs, y)


def _capturing(x: Tensor) -> bool:
    return x.device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def check_pixels(x: Tensor) -> None:
    """Raise UserError for pixels outside [0, 1]."""
    if _capturing(x):
        return  # the check would wait for the device; training steps before the capture were checked
    low, high = torch.stack(torch.aminmax(x)).tolist()
    if not (low >= 0 and high <= 1):
        raise UserError(f"an attack takes pixels in [0, 1], got values from {low:.3g} to {high:.3g}")


def _bounds(x: Tensor, delta: float) -> tuple[Tensor, Tensor]:
    # bound the result, not the change: rounding the change would make FGSM inexact
    return (x - delta).clamp_(min=0), (x + delta).clamp_(max=1)


def input_gradient(model: nn.Module, x: Tensor, y: Tensor, criterion: Criterion) -> Tensor:
    """Return the gradient of the loss with respect to the images, shaped as x.

    Parameters get no gradient, and BatchNorm's running statistics stay as they are, in training mode, too.
    """
    with frozen(model), still_statistics(model), torch.enable_grad():
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(criterion(model(x), y), x)
    return gradient


def uniform_noise(x: Tensor, delta: float, generator: torch.Generator) -> Tensor:
    """Add uniform noise: clip(x + U(-delta, delta), 0, 1), one draw a pixel and channel.

    x: (N, C, H, W) in [0, 1].   delta: in [0, 1].   generator: on the images' device.
    Returns (N, C, H, W).
    """
    _check_size("delta", delta)
    change = torch.empty_like(x, memory_format=torch.contiguous_format)
    return (x + change.uniform_(-delta, delta, generator=generator)).clamp(0, 1)


def dlr_loss(logits: Tensor, y: Tensor) -> Tensor:
    """Return the difference of logits ratio: mean of -(z_y - max_{i≠y} z_i) / (z_π1 - z_π3)   (Croce & Hein).

    z_π1 ≥ z_π2 ≥ z_π3 ≥ … are a sample's sorted logits. Positive for a misclassified sample, and unchanged
    when all logits are shifted or scaled: confident predictions do not make the gradient vanish, as they do
    under cross-entropy.

    logits: (N, K), K at least 3: two classes have no third logit, and the ratio to the second is always -1
    or 1, without a gradient.   y: (N,).   Returns (). Raises UserError for fewer than 3 classes.
    """
    if logits.shape[1] < 3:
        raise UserError(f"dlr_loss needs at least 3 classes, got {logits.shape[1]}")
    own = logits.gather(1, y[:, None]).squeeze(1)
    other = logits.scatter(1, y[:, None], -torch.inf).amax(1)
    top = logits.topk(3, dim=1).values
    spread = (top[:, 0] - top[:, 2]).clamp_min(1e-12)  # three equal logits must not make a nan
    return -((own - other) / spread).mean()


def autoattack(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    delta: float,
    seed: int,
    queries: int = 5000,
    batch_size: int | None = None,
) -> tuple[Tensor, list[str]]:
    """Return the predictions under AutoAttack's standard version, and the warnings of the library.

    Croce & Hein 2020: APGD on cross-entropy, targeted APGD on the DLR loss, targeted FAB, Square, each on the
    images that withstood the attacks before.

    x: (N, C, H, W) in [0, 1], on the model's device.   y: (N,) true classes.   delta: in (0, 1].   queries:
    of Square; fewer are no longer the standard version.   batch_size: images at once; None: see `GRADIENT`.
    The random starts of an image depend on its batch. On CUDA the batch size is halved where memory runs
    out, and the attack begins again.
    Returns (N,) int64: y where every attack failed. The predictions are the library's own: FAB ends where
    the last bit decides, and other batches could turn a label of its images back. The
    model's mode is left as it is and its parameters get no gradient, nor does BatchNorm change; nothing is
    printed, written or reseeded. Warns of a network in training mode.
    Raises UserError for a delta out of range, fewer than 4 classes and if the library is not installed.
    """
    _check_size("delta", delta)
    if delta == 0:
        raise UserError("delta must be above 0, got 0")
    _warn_in_training_mode(model)
    library = autoattack_library()
    x = x.contiguous()  # the library takes views that channels-last memory does not allow
    size = batch_size or BatchedCall.of(GRADIENT, x.device).size
    with torch.no_grad(), frozen(model), still_statistics(model), _undo_side_effects() as warned:
        classes = model(x[:1]).shape[1]
        if classes < 4:
            raise UserError(f"AutoAttack's targeted parts need at least 4 classes, got {classes}")
        attack = library(model, eps=delta, norm="Linf", version="standard", seed=seed, device=x.device)
        # nine targets are the standard, but it indexes past the end where there are fewer other classes
        targets = min(attack.fab.n_target_classes, classes - 1)
        attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = targets
        attack.square.n_queries = queries
        while True:
            try:
                _, predicted = attack.run_standard_evaluation(x, y, batch_size=size)
                break
            except torch.cuda.OutOfMemoryError:
                if size == 1:
                    raise
            torch.cuda.empty_cache()
            size //= 2
    return predicted, sorted(set(warned))


def autoattack_library() -> Any:
    """Return AutoAttack's class. Raises UserError if the package is not installed."""
    try:
        from pyautoattack import AutoAttack
    except ImportError as error:
        message = "AutoAttack's library is not installed; pip install 'noiseutils[attacks]'"
        raise UserError(message) from error
    return AutoAttack


@contextmanager
def _undo_side_effects() -> Iterator[list[str]]:
    """Undo AutoAttack's effects on the process: a global seed, a dropped tracer, logs on stderr."""
    warned: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: warned.append(record.getMessage())
    logger, tracer = logging.getLogger("auto-attack"), sys.gettrace()
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    try:
        with torch.random.fork_rng(devices=gpus):
            yield warned
    finally:
        sys.settrace(tracer)
        logger.removeHandler(handler)
        logger.propagate = propagate
