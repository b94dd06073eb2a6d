"""Find the smallest change of an image with which a network errs, and verify that change.

Bartschat et al., *Robustness of Deep Learning Architectures with Respect to Training Data Variation*, 3,
ask for the mean change of a pixel and name no attack. The attacks here minimise a distance: DDN (Rony et
al. 2019), Carlini & Wagner 2017 and DeepFool (Moosavi-Dezfooli et al. 2016) the L2 norm; FMN (Pintor et al.
2021) here the L1 norm, which over the number of pixels is the mean change itself. All are foolbox's.
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
ATTACKS: dict[str, Sequence[Make]] = {
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
    misleads after rounding to 8-bit pixels.   seconds: of the whole attack, all images included.
    images: (N, C, H, W) float32 changed images, unchanged where no change was found; None unless `keep`.
    """

    size: Tensor
    l2: Tensor
    linf: Tensor
    half: Tensor
    rounded: Tensor
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
    y: Tensor,
    *,
    attack: str = "ddn",
    steps: int = 100,
    batch_size: int | None = None,
    keep: bool = False,
) -> MinimalChange:
    """Find the smallest change of each image with which the network errs.

    Every change is checked apart from the attack: the changed image, cut to [0, 1], goes through the network
    again, and counts only if its class is not y.

    x: (N, C, H, W) in [0, 1], on the model's device.   y: (N,) true classes.   attack: a key of `ATTACKS`.
    steps: gradients an image; Carlini & Wagner take as many for each of `SEARCHES`, DeepFool one a class at
    each step and ends by itself, FMN as many again where it has found nothing.
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

    def verified(make: Make, x: Tensor, y: Tensor) -> Tensor:
        with torch.enable_grad():
            attacked = make(library.attacks, steps).run(wrapped, x, library.criteria.Misclassification(y))
        changed = attacked.detach().clamp(0, 1)
        # Carlini & Wagner's attack returns black images where no change was found
        blank = (changed == 0).flatten(1).all(1)
        change = changed - x

        def misleads(images: Tensor) -> Tensor:
            return model(images).argmax(1) != y

        flat = change.flatten(1).abs()
        columns = [255 * flat.mean(1), flat.norm(dim=1), flat.amax(1)]
        found = torch.stack(columns, 1).where((misleads(changed) & ~blank)[:, None], torch.inf)
        flags = [misleads(x + change / 2), misleads((255 * changed).round() / 255)]
        kept = [changed.flatten(1)] if keep else []
        return torch.cat([found, torch.stack(flags, 1).float(), *kept], 1)

    # DDN draws a direction where a gradient is zero, from the device's global generator
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with (
        eval_mode(model),
        frozen(model),
        full_float32(),
        torch.no_grad(),
        torch.random.fork_rng(devices=gpus),
    ):
        torch.manual_seed(0)
        x = x.detach().float().contiguous()
        with torch.autocast(x.device.type, enabled=False):
            wrapped = library.PyTorchModel(model, bounds=(0, 1), device=x.device)
            right = batched(model, x).argmax(1) == y
            rows = torch.cat([x.new_zeros(len(x), 5), *([x.flatten(1)] if keep else [])], 1)
            rows[right, :3] = torch.inf
            for make in ATTACKS[attack]:
                left = rows[:, 0].isinf().nonzero().squeeze(1)
                if len(left):
                    rows[left] = batched(partial(verified, make), x[left], y[left])
    rows = rows.cpu()
    size, l2, linf = rows[:, :3].unbind(1)
    half, rounded = rows[:, 3:5].bool().unbind(1)
    images = (
        torch.where(size.isinf()[:, None], x.flatten(1).cpu(), rows[:, 5:]).view(x.shape) if keep else None
    )
    return MinimalChange(size, l2, linf, half, rounded, time.perf_counter() - started, images)


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
