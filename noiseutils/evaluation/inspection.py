"""Inspect a network: loss gradients at activations and their similarity by class, feature maps, stds."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noiseutils.data import AnyImages, batches, to_float
from noiseutils.models.modes import eval_mode, frozen, full_float32
from noiseutils.noise.sites import INPUT, find_sites

PROBE_IMAGES = 256  # test images on which activation stds are measured
SIMILARITY_IMAGES = 2000  # of the test split: enough for means to two digits
BATCH_IMAGES = 125  # as `batched_call.GRADIENT`: the gradients of every site are held at once


def activation_gradients(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    after: Iterable[type[nn.Module] | str],
    criterion: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
) -> dict[str, Tensor]:
    """Return the loss gradient at the outputs of modules that each run once   (You et al., Eq. 3).

    x: (N, ...) inputs.   y: (N,) classes.   after: as in `noiseutils.noise.attach`; "input" is x itself.
    Returns site -> (N, ...). In eval mode no image sees another, so with a mean loss a row is that image's
    own gradient over N.
    """
    sites = find_sites(model, after)
    found: dict[str, Tensor] = {}

    def tap(name: str, value: Tensor) -> Tensor:
        # a leaf of zeros: later modules may overwrite the activations themselves
        found[name] = torch.zeros((), device=value.device).expand_as(value).requires_grad_()
        return value + found[name]

    def after_hook(name: str) -> Callable[..., Tensor]:
        return lambda module, inputs, output: tap(name, output)

    with ExitStack() as hooks, eval_mode(model), frozen(model), torch.enable_grad(), full_float32():
        for name, module in sites.items():
            hooks.enter_context(
                module.register_forward_pre_hook(lambda m, inputs: (tap(INPUT, inputs[0]), *inputs[1:]))
                if name == INPUT and module is model
                else module.register_forward_hook(after_hook(name))
            )
        loss = criterion(model(x), y)
        gradients = torch.autograd.grad(loss, [found[name] for name in sites])
    return dict(zip(sites, gradients, strict=True))


def class_similarity(
    model: nn.Module,
    images: AnyImages,
    num_classes: int,
    after: Iterable[str],
    limit: int = SIMILARITY_IMAGES,
) -> dict[str, list[list[float]]]:
    """Return the mean cosine of loss gradients by pairs of classes   (You et al., Eq. 5, Table 1).

    after: names of modules, inside `net` for a network wrapped with its normalisation.   limit: use the first
    so many images.   Returns site -> (K, K): entry (a, b) is the mean over all pairs of an image of class a
    with a different image of class b. Images with a zero gradient have no direction and are left out; a
    class without pairs gives nan.
    """
    sums: dict[str, Tensor] = {}
    counts: dict[str, Tensor] = {}
    inner = {name for name, _ in model.named_modules()}
    sites = {name if name in inner or name == INPUT else f"net.{name}": name for name in after}
    for x, y in batches(images.take(limit), BATCH_IMAGES):
        for place, gradient in activation_gradients(model, x, y, tuple(sites)).items():
            site = sites[place]
            flat = gradient.flatten(1).double()
            length = flat.norm(dim=1)
            usable = length > 0
            # zeros instead of removed rows: counting the rows would wait for the GPU
            directions = torch.where(usable[:, None], flat / length[:, None], 0)
            if site not in sums:
                sums[site] = directions.new_zeros(num_classes, directions.shape[1])
                counts[site] = directions.new_zeros(num_classes)
            sums[site].index_add_(0, y, directions)
            counts[site].index_add_(0, y, usable.double())
    found = {}
    for site, total in sums.items():
        n = counts[site]
        # the sum over all pairs is a product of sums; an image with itself, cosine 1, is no pair
        products, pairs = total @ total.T - n.diag(), torch.outer(n, n) - n.diag()
        found[site] = torch.where(pairs > 0, products / pairs, torch.nan).tolist()
    return found


def feature_maps(model: nn.Module, images: AnyImages, count: int) -> dict[str, Any]:
    """Return the first convolution's output through a sigmoid, for one test image of each of `count` classes.

    You et al., Figure 3. Returns "images" and "maps" in `packed` form: (count, C, H, W) and
    (count, channels, H', W'), bytes that scale [0, 1].
    """
    labels = images.labels.cpu().numpy()
    _, at = np.unique(labels, return_index=True)
    chosen = images.take(int(max(at)) + 1).subset(torch.from_numpy(at[:count]).to(images.labels.device))
    maps = maps_of(model, convolutions(model)[0], to_float(chosen.pixels))
    return {"images": packed(chosen.pixels), "maps": packed((maps * 255).round().to(torch.uint8))}


def convolutions(model: nn.Module) -> list[str]:
    """Name the convolutions of a network, in its order: the first is the nearest to the images."""
    return [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]


def maps_of(model: nn.Module, layer: str, x: Tensor) -> Tensor:
    """Return a convolution's output through a sigmoid, (N, channels, H, W), in eval mode.

    layer: its dotted name.   x: (N, C, H, W) pixels in [0, 1].
    """
    kept: list[Tensor] = []
    hook = model.get_submodule(layer).register_forward_hook(
        lambda module, inputs, output: kept.append(output.sigmoid())
    )
    with hook, eval_mode(model), torch.no_grad(), full_float32():
        model(x)
    return kept[0]


def sharpness(maps: np.ndarray) -> np.ndarray:
    """Return how sharp each image's feature maps are: the mean magnitude of their spatial gradient.

    maps: (N, C, H, W), in [0, 1]. Forward differences, sqrt(dx^2 + dy^2), averaged over channels and pixels.
    Returns (N,); 0 for constant maps. Blurring a map lowers it, and so does a lower contrast.
    """
    values = maps.astype(float)
    down = values[..., 1:, :-1] - values[..., :-1, :-1]
    across = values[..., :-1, 1:] - values[..., :-1, :-1]
    return np.hypot(down, across).mean((1, 2, 3))


def packed(array: Tensor) -> dict[str, Any]:
    """Encode a uint8 array for JSON: the shape, and the bytes in base64."""
    data = array.contiguous().cpu().numpy()
    return {"shape": list(data.shape), "bytes": base64.b64encode(data.tobytes()).decode()}


def unpacked(stored: dict[str, Any]) -> np.ndarray:
    """Decode the uint8 array that `packed` encoded."""
    return np.frombuffer(base64.b64decode(stored["bytes"]), np.uint8).reshape(stored["shape"])


def activation_stds(model: nn.Module, images: AnyImages) -> dict[str, float]:
    """Return `activation_std.<module>`: std of outputs of convolutions, BatchNorms, dense layers; noise off.

    model: wraps the bare network as `net`, whose names are those of the result.
    """
    found: dict[str, Tensor] = {}
    with ExitStack() as hooks, eval_mode(model), torch.no_grad():
        for name, module in model.get_submodule("net").named_modules():
            if isinstance(module, (nn.Conv2d, nn.BatchNorm2d, nn.Linear)):
                hooks.enter_context(
                    module.register_forward_hook(
                        lambda m, i, output, *, name=name: found.update({name: output.float().std()})
                    )
                )
        model(to_float(images.take(PROBE_IMAGES).pixels))
    values = torch.stack(list(found.values())).tolist()
    return {f"activation_std.{name}": value for name, value in zip(found, values, strict=True)}
