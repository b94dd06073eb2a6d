"""Find the smallest change of an image with which a network errs, and verify that change.

Bartschat et al., *Robustness of Deep Learning Architectures with Respect to Training Data Variation*, 3,
ask for the mean change of a pixel and name no attack. The attacks here minimise a distance: DDN (Rony et
al. 2019), Carlini & Wagner 2017 and DeepFool (Moosavi-Dezfooli et al. 2016) the L2 norm; FMN (Pintor et al.
2021) the L2 norm, or the L1 norm, which over the number of pixels is the mean change itself, in few pixels.
All are foolbox's. No single one comes to the boundary of every image: "best" takes for each image the
smallest mean change of DDN, DeepFool and FMN in L2, and shortens it until half of it no longer misleads.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from noiseutils.errors import UserError, one_of
from noiseutils.evaluation.attacks import check_pixels
from noiseutils.evaluation.batched_call import GRADIENT, BatchedCall
from noiseutils.models.modes import eval_mode, frozen, full_float32

Make = Callable[[Any, int], Any]  # foolbox, gradients an image -> the attack

SEARCHES = 6  # of Carlini & Wagner's constant between the two terms of its loss
BEST = "best"
DEEPFOOL_STEPS = 10  # beside others: it ends by itself after a few, and each takes a gradient a class
HALVINGS = 10  # of a change, as long as half of it misleads
BISECTIONS = 7  # of the share of a change between half and whole: to 1/256 of it
ROUNDS = 4
ATTACKS: dict[str, Sequence[Make]] = {
    BEST: [
        lambda foolbox, steps: foolbox.DDNAttack(steps=steps),
        lambda foolbox, steps: foolbox.L2DeepFoolAttack(steps=min(steps, DEEPFOOL_STEPS)),
        lambda foolbox, steps: foolbox.L2FMNAttack(steps=steps),
    ],
    "ddn": [lambda foolbox, steps: foolbox.DDNAttack(steps=steps)],
    "carlini_wagner": [
        lambda foolbox, steps: foolbox.L2CarliniWagnerAttack(
            binary_search_steps=SEARCHES, steps=steps, stepsize=0.03, initial_const=1.0
        )
    ],
    "deepfool": [lambda foolbox, steps: foolbox.L2DeepFoolAttack(steps=steps)],
    # large first steps find smaller changes, and now and then none: then smaller ones are tried
    "fmn_l1": [
        lambda foolbox, steps, first=first: foolbox.L1FMNAttack(steps=steps, max_stepsize=first)
        for first in (1.0, 0.3, 0.1)
    ],
}


@dataclass(frozen=True, eq=False)
class MinimalChange:
    """Hold the changes that an attack found, one an image, on CPU.

    size: (N,) float32, 255 * mean |change| over an image's pixels and channels; 0 for an image that the
    network gets wrong without a change, inf where no change was found: neither measures robustness.
    l2, linf: (N,) float32 norms of the change of pixels in [0, 1], 0 and inf likewise.
    half: (N,) bool, true if half the change misleads, too.   rounded: (N,) bool, true if the changed image
    misleads after rounding to 8-bit pixels.   predicted: (N,) int64 classes of the unchanged images.
    seconds: of the whole attack, all images included.
    images: (N, C, H, W) float32 changed images, unchanged where no change was found; None unless `keep`.
    """

    size: Tensor
    l2: Tensor
    linf: Tensor
    half: Tensor
    rounded: Tensor
    predicted: Tensor
    seconds: float
    images: Tensor | None = None

    @property
    def wrong(self) -> Tensor:
        """Return (N,) bool: true if the network is wrong without any change."""
        return self.size == 0

    @property
    def failed(self) -> Tensor:
        """Return (N,) bool: true if no change was found."""
        return self.size.isinf()

    @property
    def found(self) -> Tensor:
        """Return (N,) bool: true if the network was right and a change was found."""
        return ~(self.wrong | self.failed)


def minimal_change(
    model: nn.Module,
    x: Tensor,
    y: Tensor | None,
    *,
    attack: str = BEST,
    steps: int = 100,
    batch_size: int | None = None,
    keep: bool = False,
) -> MinimalChange:
    """Find the smallest change of each image with which the network errs.

    Every change is checked apart from the attack: the changed image, cut to [0, 1], goes through the network
    again, and counts only if its class is not y.

    x: (N, C, H, W) in [0, 1], on the model's device.   y: (N,) true classes; None: the classes that the
    network gives now, right or wrong.   attack: a key of `ATTACKS`.
    steps: gradients an image; Carlini & Wagner take as many for each of `SEARCHES`, DeepFool one a class at
    each step and ends by itself, FMN in L1 as many again where it has found nothing; "best" is three attacks.
    batch_size: images at once; None: see `GRADIENT`.   keep: return the changed images, too.
    Attacks run in eval mode, in float32 without TF32; the model's mode stays and parameters get no gradient.
    Raises UserError for another attack, pixels outside [0, 1], fewer than one step and if foolbox is missing.
    """
    if attack not in ATTACKS:
        raise one_of("attack", attack, ATTACKS)
    if not steps >= 1:
        raise UserError(f"steps must be at least 1, got {steps}")
    check_pixels(x)
    library = foolbox_library()
    started = time.perf_counter()
    batched = BatchedCall(batch_size) if batch_size else BatchedCall.of(GRADIENT, x.device)
    # DDN draws a direction where a gradient is zero, from the device's global generator
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with (
        eval_mode(model),
        frozen(model),
        full_float32(),
        torch.no_grad(),
        torch.random.fork_rng(devices=gpus),
        torch.autocast(x.device.type, enabled=False),
    ):
        torch.manual_seed(0)
        x = x.detach().float().contiguous()
        wrapped = library.PyTorchModel(model, bounds=(0, 1), device=x.device)
        predicted = batched(model, x).argmax(1)
        y = predicted if y is None else y
        size = torch.where(predicted == y, torch.inf, 0.0)
        changed = x.clone()
        for make in ATTACKS[attack]:
            left = (size > 0 if attack == BEST else size.isinf()).nonzero().squeeze(1)
            if len(left):
                run = partial(_attacked, library, wrapped, make, steps)
                found = batched(run, x[left], y[left]).split([1, x[0].numel()], 1)
                better = found[0].squeeze(1) < size[left]
                size[left[better]] = found[0][better, 0]
                changed[left[better]] = found[1][better].view(-1, *x.shape[1:])
        rows = x.new_zeros(len(x), 5 + x[0].numel())
        rows[:, :3], rows[:, 5:] = size[:, None], x.flatten(1)
        there = ((size > 0) & size.isfinite()).nonzero().squeeze(1)
        if len(there):
            measure = partial(_measured, model, shorten=attack == BEST)
            rows[there] = batched(measure, x[there], changed[there], y[there])
    rows = rows.cpu()
    images = rows[:, 5:].reshape(x.shape) if keep else None
    size, l2, linf = rows[:, :3].unbind(1)
    half, rounded = rows[:, 3:5].bool().unbind(1)
    seconds = time.perf_counter() - started
    return MinimalChange(size, l2, linf, half, rounded, predicted.cpu(), seconds, images)


def _attacked(library: Any, wrapped: Any, make: Make, steps: int, x: Tensor, y: Tensor) -> Tensor:
    """Return rows of a changed image and, before it, the size of its change: inf if it does not mislead."""
    with torch.enable_grad():
        attacked = make(library.attacks, steps).run(wrapped, x, library.criteria.Misclassification(y))
    changed = attacked.detach().clamp(0, 1)
    # Carlini & Wagner's attack returns black images where no change was found
    blank = (changed == 0).flatten(1).all(1)
    misled = (wrapped(changed).argmax(1) != y) & ~blank
    size = _size(changed - x).where(misled, torch.inf)
    return torch.cat([size[:, None], changed.flatten(1)], 1)


def _measured(model: nn.Module, x: Tensor, changed: Tensor, y: Tensor, shorten: bool) -> Tensor:
    """Return rows of size, L2 and L∞ norm, whether half and rounded changes mislead, and the changed image.

    shorten: the change first.   Both in one call, in equal batches: at the boundary the last bit decides.
    """

    def misleads(images: Tensor) -> Tensor:
        return model(images).argmax(1) != y

    if shorten:
        changed = shortened(misleads, x, changed)
    change = changed - x
    flat = change.flatten(1).abs()
    norms = torch.stack([_size(change), flat.norm(dim=1), flat.amax(1)], 1)
    norms = norms.where(misleads(changed)[:, None], torch.inf)
    flags = torch.stack([misleads(x + change / 2), misleads((255 * changed).round() / 255)], 1)
    changed = changed.where(norms[:, :1, None, None].isfinite(), x)
    return torch.cat([norms, flags.float(), changed.flatten(1)], 1)


def shortened(misleads: Callable[[Tensor], Tensor], x: Tensor, changed: Tensor) -> Tensor:
    """Return the images changed by a share of their change, of which half no longer misleads.

    Each round halves the shares as long as half of them misleads, then bisects between half and whole. Rounds
    end where half of what was found does not mislead.   misleads: (N, C, H, W) images -> (N,) bool.
    """
    change, share = changed - x, x.new_ones(len(x), 1, 1, 1)

    def enough(share: Tensor) -> Tensor:
        return misleads((x + share * change).clamp(0, 1)).view(-1, 1, 1, 1)

    for again in range(ROUNDS):
        for halving in range(HALVINGS):
            half = enough(share / 2)
            if not half.any():
                if again and halving == 0:
                    return (x + share * change).clamp(0, 1)
                break
            share = torch.where(half, share / 2, share)
        low, high = share / 2, share
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            misled = enough(middle)
            low, high = torch.where(misled, low, middle), torch.where(misled, middle, high)
        share = high
    return (x + share * change).clamp(0, 1)


def _size(change: Tensor) -> Tensor:
    return 255 * change.flatten(1).abs().mean(1)


def foolbox_library() -> Any:
    """Import foolbox. Raises UserError if foolbox is not installed."""
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # foolbox imports GitPython, which searches for git
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # from foolbox's own imports
            import foolbox
    except ImportError as error:
        message = "foolbox, which finds minimal changes, is not installed; pip install 'noiseutils[attacks]'"
        raise UserError(message) from error
    return foolbox
