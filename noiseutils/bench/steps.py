"""Single operations and single training steps, both sides built alike: what one part costs or saves."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from noiseutils import _torchvision_shim  # noqa: F401
from noiseutils.allocator import keep_freed_memory
from noiseutils.bench.ratios import Ratio, Way, interleaved, seconds
from noiseutils.config import Data
from noiseutils.data import crop_and_flip, draw_augmentation, load, to_float
from noiseutils.models import build_model
from noiseutils.noise import (
    AdversarialNoise,
    ClassAdversarialNoise,
    GaussianNoise,
    LayerwiseAdversarialNoise,
    NoisyDropout,
    attach,
)
from noiseutils.noise.sites import Noise
from noiseutils.rng import generator

BATCH = 128
ANL_NOISE: dict[str, Noise] = {  # the sizes of You et al., section 4
    "anl": AdversarialNoise(epsilon=0.05),
    "canl": ClassAdversarialNoise(epsilon=0.05, num_classes=10),
    "lat": LayerwiseAdversarialNoise(epsilon=0.03),
    "gaussian": GaussianNoise(std=0.0125),
}
SPOKEN = {"anl": "ANL", "canl": "CANL", "lat": "LAT", "gaussian": "Gaussian noise"}


def augmentation(rounds: int = 30) -> Ratio:
    """Crop and flip of a batch of 128: torchvision's transforms on PIL images over one call on the batch."""
    from PIL import Image
    from torchvision import transforms

    pixels = load(Data(train_size=BATCH, test_size=10)).train.pixels
    images = [Image.fromarray(array) for array in pixels.permute(0, 2, 3, 1).contiguous().numpy()]
    transform = transforms.Compose([transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()])
    random = generator(0, "bench")
    plain, ours = interleaved(
        {
            "PIL, image by image": lambda: seconds(lambda: [transform(image) for image in images]),
            "whole batch": lambda: seconds(lambda: crop_and_flip(pixels, *draw_augmentation(BATCH, random))),
        },
        rounds,
    ).values()
    return Ratio("augmentation", f"crop and flip of {BATCH} images, PIL one by one / ours", plain, ours)


def noisy_dropout_step(rounds: int = 15, width: float = 1.0) -> Ratio:
    """A training step of cifar10net with NoisyDropout over the same with torch's own dropout."""
    keep_freed_memory()
    data = load(Data(train_size=BATCH, test_size=10))
    x, y = to_float(data.train.pixels), data.train.labels
    ordinary = build_model("cifar10net", width=width)
    for name in ("relu3", "relu4"):
        ordinary.set_submodule(name, nn.Sequential(nn.ReLU(), nn.Dropout(0.25)))
    noisy = build_model("cifar10net", width=width)
    handle = attach(noisy, NoisyDropout(p=0.25, std=0.08), after=("relu3", "relu4"))
    criterion = nn.CrossEntropyLoss()

    def step(model: nn.Module, loss: Callable[[], Tensor]) -> Way:
        model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        return _step(torch.optim.Adam(model.parameters(), fused=True), loss)

    above, below = interleaved(
        {
            "NoisyDropout": step(noisy, lambda: handle.loss(criterion, x, y)),
            "nn.Dropout": step(ordinary, lambda: criterion(ordinary(x), y)),
        },
        rounds,
    ).values()
    what = "training step of cifar10net, NoisyDropout / torch's dropout"
    return Ratio("noisy_dropout_step", what, above, below)


def noise_steps(
    model: str = "vgg16", *, width: float = 1.0, batch_size: int = 32, rounds: int = 11
) -> dict[str, Ratio]:
    """A training step with each noise of You et al. over the same step without, all in turn.

    The paper's timing sentence as ratios. Both sides are built alike: channels last, fused SGD, momentum.
    """
    keep_freed_memory()
    data = load(Data(train_size=batch_size, test_size=10))
    x, y = to_float(data.train.pixels), data.train.labels
    criterion = nn.CrossEntropyLoss()

    def step(noise: Noise | None) -> Way:
        network = build_model(model, width=width)
        network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, fused=True)
        if noise is None:
            return _step(optimizer, lambda: criterion(network(x), y))
        handle = attach(network, noise)
        return _step(optimizer, lambda: handle.loss(criterion, x, y))

    # the warm-up also fills what CANL and LAT remember
    kinds = {"no noise": None, **ANL_NOISE}
    sides = interleaved({name: step(noise) for name, noise in kinds.items()}, rounds)
    clean = sides.pop("no noise")
    return {
        name: Ratio(
            f"{model}_{name}_step",
            f"training step of {model}, batch {batch_size}, {SPOKEN[name]} / no noise",
            side,
            clean,
        )
        for name, side in sides.items()
    }


def _step(optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor]) -> Way:
    def once() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return lambda: seconds(once)
