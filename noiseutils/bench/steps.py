"""Time single operations and single training steps, both sides built alike."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from noiseutils import _torchvision_shim  # noqa: F401
from noiseutils.bench.ratios import Ratio, Way, interleaved, seconds
from noiseutils.config import Data, ScriptedNoise
from noiseutils.corruptions import gaussian_blur
from noiseutils.data import crop_and_flip, draw_augmentation, load, to_float
from noiseutils.models import build_model
from noiseutils.models.output_size import output_numel
from noiseutils.noise import (
    AdversarialNoise,
    ClassAdversarialNoise,
    GaussianNoise,
    LayerwiseAdversarialNoise,
    NoisyDropout,
    attach,
)
from noiseutils.noise.parameters import ParameterNoise
from noiseutils.noise.site import ActivationNoise
from noiseutils.rng import generator
from noiseutils.training.allocator import keep_freed_memory

BATCH_SIZE = 128
ANL_NOISE: dict[str, ActivationNoise] = {  # the sizes of You et al., section 4
    "anl": AdversarialNoise(epsilon=0.05),
    "canl": ClassAdversarialNoise(epsilon=0.05, num_classes=10),
    "lat": LayerwiseAdversarialNoise(epsilon=0.03),
    "gaussian": GaussianNoise(std=0.0125),
}
NOISE_NAMES = {"anl": "ANL", "canl": "CANL", "lat": "LAT", "gaussian": "Gaussian noise"}


def augmentation(rounds: int = 30) -> Ratio:
    """Time crop and flip of 128 images: torchvision's transforms on PIL images over one call on the batch."""
    from PIL import Image
    from torchvision import transforms

    pixels = load(Data(train_size=BATCH_SIZE, test_size=10)).train.pixels
    images = [Image.fromarray(array) for array in pixels.permute(0, 2, 3, 1).contiguous().numpy()]
    transform = transforms.Compose([transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()])
    random = generator(0, "bench")
    plain, ours = interleaved(
        {
            "PIL, image by image": lambda: seconds(lambda: [transform(image) for image in images]),
            "whole batch": lambda: seconds(
                lambda: crop_and_flip(pixels, *draw_augmentation(BATCH_SIZE, random))
            ),
        },
        rounds,
    ).values()
    return Ratio("augmentation", f"crop and flip of {BATCH_SIZE} images, PIL one by one / ours", plain, ours)


def blur(sigma: float = 5.0, rounds: int = 15) -> Ratio:
    """Time a Gaussian blur of 128 images: torchvision's one by one over one call on the batch.

    Both cut the filter off at four sigma. Ours has kept its matrices from the first call.
    """
    from torchvision.transforms.functional import gaussian_blur as torchvision_blur

    x = to_float(load(Data(train_size=BATCH_SIZE, test_size=10)).train.pixels)
    side = 2 * int(4 * sigma + 0.5) + 1
    plain, ours = interleaved(
        {
            "torchvision, image by image": lambda: seconds(
                lambda: [torchvision_blur(i, [side, side], [sigma, sigma]) for i in x]
            ),
            "whole batch": lambda: seconds(lambda: gaussian_blur(x, sigma)),
        },
        rounds,
    ).values()
    what = f"Gaussian blur of {BATCH_SIZE} images, sigma {sigma:g}, torchvision one by one / ours"
    return Ratio("blur", what, plain, ours)


def noisy_dropout_step(rounds: int = 15, width: float = 1.0) -> Ratio:
    """Time a training step of cifar10net with NoisyDropout over the same with torch's own dropout."""
    keep_freed_memory()
    data = load(Data(train_size=BATCH_SIZE, test_size=10))
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
    """Time a training step with each noise of You et al. over the same step without, all in turn.

    The paper's timing sentence as ratios. Both sides are built alike: channels last, fused SGD, momentum.
    """
    keep_freed_memory()
    data = load(Data(train_size=batch_size, test_size=10))
    x, y = to_float(data.train.pixels), data.train.labels
    criterion = nn.CrossEntropyLoss()

    def step(noise: ActivationNoise | None) -> Way:
        network = build_model(model, width=width)
        network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, fused=True)
        if noise is None:
            return _step(optimizer, lambda: criterion(network(x), y))
        handle = attach(network, noise)
        return _step(optimizer, lambda: handle.loss(criterion, x, y))

    # the warm-up also fills the memories of CANL and LAT
    kinds = {"no noise": None, **ANL_NOISE}
    sides = interleaved({name: step(noise) for name, noise in kinds.items()}, rounds)
    clean = sides.pop("no noise")
    return {
        name: Ratio(
            f"{model}_{name}_step",
            f"training step of {model}, batch {batch_size}, {NOISE_NAMES[name]} / no noise",
            side,
            clean,
        )
        for name, side in sides.items()
    }


def parameter_noise_steps(
    model: str = "resnet18", *, width: float = 1.0, batch_size: int = BATCH_SIZE, rounds: int = 7
) -> list[Ratio]:
    """Time a training step with noise on gradients, and on weights, over the same step without, in turn."""
    network = build_model(model, width=width)
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    keep_freed_memory(4 * batch_size * output_numel(model, width, 3, 32))
    data = load(Data(train_size=batch_size, test_size=10))
    x, y = to_float(data.train.pixels), data.train.labels
    parameters, criterion = list(network.parameters()), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(parameters, lr=1e-3, momentum=0.9, fused=True)

    def step(script: ScriptedNoise) -> Way:
        noise = ParameterNoise(script, 2, parameters, generator(0, "bench"))

        def once() -> None:
            optimizer.zero_grad()
            criterion(network(x), y).backward()
            noise.add_to_gradients()
            optimizer.step()
            noise.add_to_weights()

        return lambda: seconds(once)

    small, none = (1e-4, 0.0), (0.0, 0.0)
    scripts = {"no noise": ScriptedNoise(gradient=none, weight=none)}
    for kind in ("gaussian", "uniform"):
        on_gradients = ScriptedNoise(distribution=kind, gradient=small, weight=none)
        on_weights = ScriptedNoise(distribution=kind, gradient=none, weight=small, weight_every="step")
        scripts |= {f"{kind} noise on gradients": on_gradients, f"{kind} noise on weights": on_weights}
    sides = interleaved({name: step(script) for name, script in scripts.items()}, rounds)
    clean = sides.pop("no noise")
    return [
        Ratio(
            f"{model}_{name.replace(' noise on ', '_')}",
            f"training step of {model}, batch {batch_size}, {name} / none",
            side,
            clean,
        )
        for name, side in sides.items()
    ]


def _step(optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor]) -> Way:
    def once() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return lambda: seconds(once)
