"""Build everything that a training needs before the first step: `setup(run) -> TrainState`."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from noiseutils.config import Run
from noiseutils.corruptions import Corruption, corrupt
from noiseutils.data import AnyImages, Dataset, Images, load, to_float
from noiseutils.data.subsets import fixed_order
from noiseutils.errors import UserError
from noiseutils.models.modes import has_batchnorm
from noiseutils.models.output_size import output_numel
from noiseutils.noise.parameters import NoParameterNoise, ParameterNoise
from noiseutils.rng import generator, streams
from noiseutils.training import distributed
from noiseutils.training.allocator import keep_freed_memory
from noiseutils.training.checkpoint import CannotResume, Checkpoint, restore_checkpoint
from noiseutils.training.classifier import attach_noise, build_classifier
from noiseutils.training.engines import ENGINES, Engine
from noiseutils.training.epoch_metrics import EpochMetrics
from noiseutils.training.mixup_cutout import MixupCutout
from noiseutils.training.optimizers import build_optimizer
from noiseutils.training.state import TrainState
from noiseutils.training.steps import LOSSES, CleanStep, loss_of, training_criterion, update

BLOCK_IMAGES = 5000  # images that noise is added to at once, where the whole set gets it


def setup(
    run: Run,
    *,
    data: Dataset | None = None,
    device: str | torch.device | None = None,
    engine: str = "auto",
    resume: Checkpoint | None = None,
) -> TrainState:
    """Build the state of a training before its next step; arguments as in `train`."""
    device = torch.device(device or distributed.local_device())
    data = load(run.data, device) if data is None else data.to(device)
    images, validation = held_out(data.train, run.validation_size)
    if run.corruption is not None and not run.corruption.fresh:
        images = noisy_copy(images, run.corruption, generator(run.seed, "fixed copy", device))
    random = streams(run.seed, device)

    model = build_classifier(run, data.num_classes, data.channels, data.image_size).normalise_as(data)
    numbers = output_numel(run.model.name, run.model.width, data.channels, data.image_size)
    keep_freed_memory(4 * numbers * min(run.batch_size, len(data.train)))
    # torch's annotations of `to` leave memory_format out
    model = model.to(device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    steps_per_epoch = _steps_per_epoch(len(images), run.batch_size, 2 if has_batchnorm(model) else 1)

    noise_seed = random.noise.initial_seed()
    handle = attach_noise(model, run, data.num_classes, noise_seed)
    parameters = list(model.parameters())
    parameter_noise = NoParameterNoise()
    if run.parameter_noise is not None:  # equal on every rank
        source = generator(random.noise.initial_seed(), "parameters", device)
        parameter_noise = ParameterNoise(run.parameter_noise, run.epochs, parameters, source)
    image_noise = generator(0, "corruption", device)  # seeded anew at each epoch
    sources = [image_noise] if run.corruption else []
    sources += [parameter_noise.source] if parameter_noise.source is not None else []
    mixup_cutout = MixupCutout(run, noise_seed, steps_per_epoch, model.mean, device)
    sources += mixup_cutout.sources
    name = engine if resume is None else resume.engine
    if resume is not None and name not in (*ENGINES,):
        raise CannotResume(f"its engine {name!r} is not known; allowed: {', '.join(ENGINES)}")
    machine = Engine(name, device, model.net, handle, sources)

    # an operation on one small batch costs more to begin than to do: several batches are normalised at once
    on_pixels = run.noise, run.adversarial_training, run.corruption, run.mixup or None, run.cutout or None
    plain = all(part is None for part in on_pixels)
    ahead = machine.name == "blocked" and plain and isinstance(images, Images) and distributed.world() == 1
    state = TrainState(
        run=run,
        device=device,
        data=data,
        images=images,
        validation=validation,
        model=model,
        network=model,
        handle=handle,
        parameter_noise=parameter_noise,
        image_noise=image_noise,
        mixup_cutout=mixup_cutout,
        noise_seed=noise_seed,
        streams=random,
        criterion=LOSSES[run.loss],
        optimizer=build_optimizer(run.optimizer, parameters, device if machine.records else None),
        engine=machine,
        loss=CleanStep(model.net, training_criterion(run)),
        batches=partial(
            machine.batches,
            images,
            run.batch_size,
            order=random.data,
            augmentation=random.augmentation if run.augment else None,
            shard=(distributed.rank(), distributed.world()),
            normalise=partial(model.normalised, in_place=True) if ahead else None,
        ),
        take=lambda *batch: None,
        metrics=EpochMetrics(device),
        steps_per_epoch=steps_per_epoch,
    )
    state.take = machine.steps(partial(update, state), images)
    if resume is not None:
        restore_checkpoint(resume, state)
    if not ahead:
        state.network = distributed.wrapped(model)
        state.loss = loss_of(run, model, state.network, handle, mixup_cutout)
    return state


def held_out(images: AnyImages, size: int) -> tuple[AnyImages, AnyImages | None]:
    """Return images to train on, and `size` images kept for validation: the same ones in every run."""
    if size == 0:
        return images, None
    if size >= len(images):
        raise UserError(f"validation_size {size:,} leaves nothing to train on: {len(images):,} images")
    order = torch.from_numpy(fixed_order(len(images), "validation")).to(images.labels.device)
    return images.subset(order[size:].sort().values), images.subset(order[:size])


def noisy_copy(images: AnyImages, corruption: Corruption, source: torch.Generator) -> Images:
    """Return the images as float32 pixels in [0, 1] with noise added once; the noise is not cut to [0, 1].

    source: of the noise, on the images' device.   Raises UserError for images that are not held in memory.
    """
    if not isinstance(images, Images):
        raise UserError("one noisy copy of the training images needs them in memory: not data.streamed")
    parts = images.pixels.split(BLOCK_IMAGES)
    return Images(torch.cat([corrupt(to_float(part), corruption, source) for part in parts]), images.labels)


def describe(data: Dataset) -> dict[str, Any]:
    """Return the description of a data set that a result carries."""
    return {
        "label": data.label,
        "fingerprint": data.fingerprint,
        "train": len(data.train),
        "test": len(data.test),
        "classes": list(data.classes),
        "channels": data.channels,
        "image_size": data.image_size,
    }


def _steps_per_epoch(images: int, batch_size: int, least: int) -> int:
    """Count an epoch's steps; several processes leave out a last batch too small for one of them.

    least: images that a process needs for a step: BatchNorm's statistics need two.
    """
    world = distributed.world()
    largest = min(batch_size, images)
    if world > 1 and largest < least * world:
        raise UserError(f"batches of {largest} leave no {least} images for each of {world} processes")
    whole, rest = divmod(images, batch_size)
    return whole + (rest > 0 and (world == 1 or rest >= least * world))
