"""`train(run) -> Result`: one loop that reads from top to bottom. `training` is the same, a step at a time.

Within an epoch nothing waits for the device: losses and counts stay there and come over once, at its end.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Generator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from noiseutils.bench.roofline import outputs_of_named
from noiseutils.config import Run
from noiseutils.corruptions import corrupt
from noiseutils.data import AnyImages, Dataset, Images, assemble, batches, draws, load
from noiseutils.data.subsets import fixed_order
from noiseutils.errors import UserError
from noiseutils.evaluation.evaluate import evaluate, predict
from noiseutils.evaluation.inspection import activation_stds
from noiseutils.models.modes import has_batchnorm
from noiseutils.noise import Handle
from noiseutils.noise.parameters import ParameterNoise
from noiseutils.rng import derived_seed, generator, streams
from noiseutils.schedules import learning_rate
from noiseutils.training import checkpoint as snapshot
from noiseutils.training import distributed, engines
from noiseutils.training.allocator import keep_freed_memory
from noiseutils.training.checkpoint import CannotResume, Snapshot
from noiseutils.training.classifier import Classifier, attach_noise, build_classifier, parameter_noise_of
from noiseutils.training.distributed import decided, each, sum_, together
from noiseutils.training.epoch_metrics import Tally
from noiseutils.training.optimizers import build_optimizer, set_rate, step_of
from noiseutils.training.steps import LOSSES, CleanStep, Criterion, loss_of
from noiseutils.training.tuning import tuned


@dataclass(frozen=True)
class Result:
    """What a run left behind.

    status: "finished", or "diverged" when the loss stopped being finite (then metrics is empty).
    metrics: see `noiseutils.evaluation.evaluate.evaluate`.
    history: one row an epoch: epoch (from 1), train_loss, train_accuracy, test_loss, test_accuracy,
    validation_loss and validation_accuracy where images were held out, learning_rate (last step's),
    gradient_norm (mean over steps, L2 over all parameters), update_norm (L2 of the weight change over the
    epoch's steps), seconds (training alone), what `Action.row` says where there is noise on gradients or
    weights, and `activation_std.<module>` for every convolution, BatchNorm and dense layer (over the outputs
    for the first test images, in eval mode).
    model: the trained network, pixels in [0, 1] to logits; None for a result stored without weights.
    info: where, when and with what it was made, and the fingerprint of the images.
    """

    run: Run
    status: str
    metrics: dict[str, Any]
    history: pd.DataFrame
    model: nn.Module | None
    info: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Moment:
    """A training between two steps, for who watches it."""

    run: Run  # as it is now
    model: Classifier  # in training mode; ReLUs overwrite what they are given, so copy what a hook sees
    handle: Handle | None  # of noise on activations, if there is to be some
    parameter_noise: ParameterNoise | None  # on gradients and weights
    data: Dataset
    epoch: int  # in hand, from 1
    step: int  # taken so far
    tally: Tally  # of the epoch in hand
    rows: list[dict[str, float]]  # history of the epochs before


def train(
    run: Run,
    *,
    data: Dataset | None = None,
    device: str | torch.device | None = None,
    engine: str = "auto",
    resume: Snapshot | None = None,
    on_epoch: Callable[[dict[str, float], Callable[[], Snapshot]], None] | None = None,
) -> Result:
    """Train one network as `run` says and evaluate it.

    data: the run's data set when it is loaded already.   device: default CUDA where there is one.
    engine: how a step is run, a key of `engines.ENGINES`; it changes seconds and rounding alone.
    resume: where an earlier attempt stopped; on CPU the result is then, bit for bit, the uninterrupted one.
    on_epoch: called after each epoch with its history row and a function that makes a `Snapshot`; what it
    raises ends the training.
    Raises CannotResume for a snapshot from another kind of device or number of processes, or of other code.
    The process keeps the memory that it frees from now on, see `noiseutils.training.allocator`.

    After `distributed.start()` all processes train together: each calls this with the same arguments, and
    `on_epoch` is called on each, its snapshots to be made on all or on none. They start from the same weights
    and see one order of images and crops, each its part of every batch; noise differs by rank. Rank 0 alone
    evaluates, and tells the others, as what they do next depends on it.
    """
    steps = training(run, data=data, device=device, engine=engine, resume=resume, on_epoch=on_epoch)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def training(
    run: Run,
    *,
    data: Dataset | None = None,
    device: str | torch.device | None = None,
    engine: str = "auto",
    resume: Snapshot | None = None,
    on_epoch: Callable[[dict[str, float], Callable[[], Snapshot]], None] | None = None,
) -> Generator[Moment, Run | None, Result]:
    """The same training, paused after each step: yields a `Moment`, and returns what `train` does.

    To look changes nothing. `send(changed)` goes on with the values of another run, see `tuning.tuned`; the
    result then says so, and is not for a store. `close()` ends it.
    """
    rank, world = distributed.rank(), distributed.world()
    with together():
        device = torch.device(device or distributed.local_device())
        data = load(run.data, device) if data is None else data.to(device)
        random = streams(run.seed, device)
        model = build_classifier(run, data.num_classes, data.channels, data.image_size).normalise_as(data)
        numbers = outputs_of_named(run.model.name, run.model.width, data.channels, data.image_size)
        keep_freed_memory(4 * numbers * min(run.batch_size, len(data.train)))
        # torch's annotations of `to` leave memory_format out
        model = model.to(device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        noise_seed = distributed.rank_seed(random.noise.initial_seed())
        handle = attach_noise(model, run, data.num_classes, noise_seed)
        parameters = list(model.parameters())
        shaken = parameter_noise_of(run, parameters, random.noise)
        image_noise = generator(0, "corruption", device)  # begins anew with each epoch
        sources = [image_noise] if run.corruption else []
        sources += [] if shaken is None else [shaken.source]
        how = engines.Engine(engine if resume is None else resume.engine, device, model.net, handle, sources)
        criterion = LOSSES[run.loss]
        step = loss_of(run, model, handle, criterion)
        training, validation = held_out(data.train, run.validation_size)
        # BatchNorm's statistics need two images: a smaller part of a last batch stays out of it
        least = 2 if world > 1 and has_batchnorm(model) else 1
        largest = min(run.batch_size, len(training))
        if largest < least * world:
            raise UserError(f"batches of {largest} leave no {least} images for each of {world} processes")
        optimizer = build_optimizer(run.optimizer, parameters, device if how.records else None)
        rows: list[dict[str, float]] = []
        threads = torch.get_num_threads()
        if resume is not None:
            if resume.device != device.type:
                raise CannotResume(f"it was made on {resume.device}, this is {device.type}")
            try:
                snapshot.restore(resume, model, optimizer, random, handle, shaken)
            except (KeyError, ValueError, RuntimeError) as error:
                raise CannotResume(f"it does not fit: {error}") from error
            rows = list(resume.rows)
            torch.set_num_threads(resume.threads)
    steps_per_epoch = math.ceil(len(training) / run.batch_size)
    distributed.broadcast_model(model)
    tally = Tally(device)
    changed: list[int] = []  # after which steps the run was
    move = step_of(optimizer)
    bf16 = torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else nullcontext()

    laid_out: dict[str, Any] = {}
    plain = isinstance(step, CleanStep) and run.corruption is None
    if how.name == "blocked" and plain and isinstance(training, Images):
        # an operation on one small batch costs more to begin than to do: normalised several batches at a time
        step = CleanStep(model.net, criterion)
        laid_out = {
            "memory_format": torch.contiguous_format,
            "prepare": functools.partial(model.normalised, in_place=True),
        }

    def update(x: Tensor, y: Tensor) -> None:
        """One step. All it leaves is in the weights, the optimiser, the noise's memories and the tally."""
        for p in parameters:
            p.grad = None
        taken = len(y) if len(y) >= least else 0
        if run.corruption is not None:
            x = corrupt(x, run.corruption, image_noise)
        with together():
            if taken:
                with bf16:
                    loss, logits = step(x, y)
                loss.backward()
                tally.add_outputs(loss, logits, y)
        distributed.average_gradients(parameters, taken)
        tally.add_gradient([p.grad for p in parameters if p.grad is not None])
        if shaken is not None:
            shaken.add_to_gradients()
        move()
        if shaken is not None:
            shaken.add_to_weights()

    drawn = {"order": random.data, "augmentation": random.augmentation if run.augment else None}
    if how.records and isinstance(training, Images):  # then images are gathered and cropped in the graph, too
        images = training
        take = how.steps(lambda *chosen: update(*assemble(images, *chosen)))
        parts_of_epoch = functools.partial(draws, images, run.batch_size, **drawn)
    else:
        take = how.steps(update)
        parts_of_epoch = functools.partial(
            batches, training, run.batch_size, shard=(rank, world), **laid_out, **drawn
        )

    try:
        with how.stream():
            for epoch in range(len(rows), run.epochs):
                started = time.perf_counter()
                if handle is not None and run.noise_epochs is not None and epoch >= run.noise_epochs:
                    handle.remove()
                    how.forget()
                model.train()
                if shaken is not None:
                    shaken.begin_epoch()
                image_noise.manual_seed(derived_seed(noise_seed, f"corruption/{epoch}"))
                before = [p.detach().clone() for p in parameters]
                tally.clear()
                count, rate, seen = epoch * steps_per_epoch, 0.0, 0
                losses = [row.get("validation_loss", row["test_loss"]) for row in rows]
                with how.training():
                    for part in each(parts_of_epoch()):
                        rate = learning_rate(run.schedule, count, steps_per_epoch, losses, epochs=run.epochs)
                        set_rate(optimizer, rate)
                        take(*part)
                        count += 1
                        seen += len(part[0]) if len(part[0]) >= least else 0
                        wish = yield Moment(run, model, handle, shaken, data, epoch + 1, count, tally, rows)
                        if wish is not None:
                            run = tuned(run, wish, handle, shaken)
                            if run.adversarial_training is not None:
                                step = loss_of(run, model, handle, criterion)
                            changed.append(count)
                            how.forget()
                distributed.average_statistics(model)
                sums = tally.totals()
                sum_(sums[:2])
                seen = int(sum_(torch.tensor(seen)))
                updates = [p.detach() - b for p, b in zip(parameters, before, strict=True)]
                update_norm = nn.utils.get_total_norm(updates).item()
                del before, updates
                loss, correct, norm = sums.tolist()
                row = {
                    "epoch": epoch + 1,
                    "train_loss": loss / seen,
                    "train_accuracy": correct / seen,
                    "learning_rate": rate,
                    "gradient_norm": norm / steps_per_epoch,
                    "update_norm": update_norm,
                    "seconds": time.perf_counter() - started,
                } | ({} if shaken is None else shaken.action.row())
                if _finite(row):
                    row = decided(lambda row=row: {**row, **_scored(model, validation, data.test, criterion)})
                rows.append(row)
                if not _finite(row):
                    break
                if shaken is not None and shaken.observe(row):
                    how.forget()
                if on_epoch is not None:
                    with together():
                        on_epoch(
                            row,
                            lambda: snapshot.take(rows, model, optimizer, random, handle, shaken, how.name),
                        )
    finally:
        used = torch.get_num_threads()
        torch.set_num_threads(threads)
        if handle is not None:
            handle.remove()

    diverged = not _finite(rows[-1])
    metrics: dict[str, Any] = {}
    if not diverged:
        metrics = decided(
            lambda: evaluate(model, data, run.evaluation, criterion=criterion, loss=run.loss, seed=run.seed)
        )
    return Result(
        run=run,
        status="diverged" if diverged else "finished",
        metrics=metrics,
        history=pd.DataFrame(rows),
        model=model.eval(),
        info={
            "device": (
                torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {used} threads"
            )
            + (f", {world} processes" if world > 1 else ""),
            "engine": how.told,
            "seconds": sum(row["seconds"] for row in rows),
            "parameters": sum(p.numel() for p in parameters),
            "data": describe(data),
        }
        | ({"changed_after_steps": changed} if changed else {}),
    )


def describe(data: Dataset) -> dict[str, Any]:
    """Which images a result comes from: what a result carries of its data set."""
    return {
        "label": data.label,
        "fingerprint": data.fingerprint,
        "train": len(data.train),
        "test": len(data.test),
        "classes": list(data.classes),
        "channels": data.channels,
        "image_size": data.image_size,
    }


def held_out(images: AnyImages, size: int) -> tuple[AnyImages, AnyImages | None]:
    """Images to train on, and `size` of them kept for validation: the same ones in every run."""
    if size == 0:
        return images, None
    if size >= len(images):
        raise UserError(f"validation_size {size:,} leaves nothing to train on: {len(images):,} images")
    order = torch.from_numpy(fixed_order(len(images), "validation")).to(images.labels.device)
    return images.subset(order[size:].sort().values), images.subset(order[:size])


def _finite(row: dict[str, float]) -> bool:
    return all(map(math.isfinite, row.values()))


def _scored(
    model: Classifier, validation: AnyImages | None, test: AnyImages, criterion: Criterion
) -> dict[str, float]:
    found = {} if validation is None else _scores("validation", model, validation, criterion)
    return found | _scores("test", model, test, criterion) | activation_stds(model, test)


def _scores(split: str, model: nn.Module, images: AnyImages, criterion: Callable) -> dict[str, float]:
    logits, labels = predict(model, images)
    accuracy = (logits.argmax(1) == labels).double().mean()
    return {f"{split}_loss": criterion(logits, labels).item(), f"{split}_accuracy": accuracy.item()}
