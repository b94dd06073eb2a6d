"""AutoAttack on trained networks of a study: the images, and the answers that are stored."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from noiseutils.config import Data
from noiseutils.data import Images, load
from noiseutils.data.subsets import fixed_order
from noiseutils.errors import UserError
from noiseutils.evaluation.attacks import autoattack
from noiseutils.evaluation.batched_call import FORWARD, BatchedCall
from noiseutils.models.modes import eval_mode, full_float32
from noiseutils.rng import derived_seed

AUTOATTACK = "autoattack"  # the question, in names of stored answers


def attacked_images(data: Data, count: int) -> Images:
    """Return `count` test images in an order of their own: as stored, they may be sorted by class.

    Raises UserError where there are fewer.
    """
    test = load(data).test
    if count > len(test):
        raise UserError(f"{count} images are to be attacked, the test set has {len(test)}")
    order = torch.from_numpy(fixed_order(len(test), "attacked"))
    return test.subset(order[:count])  # pyright: ignore[reportReturnType]


def autoattacked(
    model: nn.Module, x: Tensor, y: Tensor, sizes_255: Iterable[float], queries: int
) -> dict[str, Any]:
    """Return which images a network gets right, as they are and under AutoAttack: a digit an image, 1 or 0.

    x: (N, C, H, W) pixels in [0, 1].   y: (N,).   sizes_255: of the attacks, in 255ths of the pixel range.
    queries: of its last attack, Square. "correct" is by size, as text.
    """
    correct = {}
    with full_float32(), eval_mode(model), torch.no_grad():
        clean = digits(BatchedCall.of(FORWARD, x.device)(model, x).argmax(1) == y)
    for size in sizes_255:
        seed = derived_seed(0, f"{AUTOATTACK}/{size}")
        with full_float32(), eval_mode(model):
            found, _ = autoattack(model, x, y, delta=size / 255, seed=seed, queries=queries)
        correct[f"{size:g}"] = digits(found == y)
    return {"clean": clean, "correct": correct, "queries": queries, "device": device_of(x)}


def digits(right: Tensor) -> str:
    """Return one digit an image: 1 where it is right.   right: (N,) bool."""
    return "".join("01"[int(value)] for value in right)


def device_of(x: Tensor) -> str:
    """Return the name of a tensor's device, for a stored answer."""
    if x.device.type == "cuda":
        return torch.cuda.get_device_name(x.device)
    return f"CPU, {torch.get_num_threads()} threads"
