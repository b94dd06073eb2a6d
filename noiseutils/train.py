"""`train(run) -> Result`: one loop that reads from top to bottom.

Within an epoch nothing waits for the device: losses and counts stay there and come over once, at its end.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import pandas as pd
import torch
from torch import Tensor, nn

from noiseutils.config import Optimizer, Run
from noiseutils.data import Dataset, Images, batches, load, to_float
from noiseutils.evaluate import eval_mode, evaluate, predict
from noiseutils.models import build_model
from noiseutils.noise import Handle, attach
from noiseutils.rng import Streams, streams
from noiseutils.schedules import learning_rate
from noiseutils.steps import LOSSES, CleanStep, NoisyStep, Step

PROBE_IMAGES = 256  # test images on which activation stds are read after each epoch


@dataclass(frozen=True)
class Result:
    """What a run left behind.

    status: "finished", or "diverged" when the loss stopped being finite (then metrics is empty).
    metrics: see `noiseutils.evaluate.evaluate`.
    history: one row an epoch: epoch (from 1), train_loss, train_accuracy, test_loss, test_accuracy,
    learning_rate (last step's), gradient_norm (mean over steps, L2 over all parameters), update_norm (L2 of
    the epoch's whole weight change), seconds (training alone), and `activation_std.<module>` for every
    convolution and dense layer (over the outputs for the first test images, in eval mode).
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
class Snapshot:
    """All that an unfinished run needs to go on, after a whole number of epochs."""

    rows: list[dict[str, float]]  # the history so far
    tensors: dict[str, Tensor]  # weights, optimiser state, positions of the generators
    threads: int  # sums over threads round differently for another number of them
    device: str  # type of device: a generator's position means nothing on another


class CannotResume(Exception):
    """A snapshot is not of this run on this kind of device."""


class Classifier(nn.Module):
    """A network with its normalisation inside, so that it takes pixels in [0, 1]."""

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, channels: int) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.zeros(1, channels, 1, 1))
        self.register_buffer("std", torch.ones(1, channels, 1, 1))

    def normalise_as(self, data: Dataset) -> Self:
        """Take mean and std per channel from a data set's training images."""
        self.mean.copy_(torch.tensor(data.mean).view_as(self.mean))
        self.std.copy_(torch.tensor(data.std).view_as(self.std))
        return self

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W) in [0, 1].   Returns (N, K) logits."""
        return self.net((x - self.mean) / self.std)


def train(
    run: Run,
    *,
    data: Dataset | None = None,
    device: str | torch.device | None = None,
    resume: Snapshot | None = None,
    on_epoch: Callable[[dict[str, float], Callable[[], Snapshot]], None] | None = None,
) -> Result:
    """Train one network as `run` says and evaluate it.

    data: the run's data set when it is loaded already.   device: default CUDA where there is one.
    resume: where an earlier attempt stopped; on CPU the result is then, bit for bit, the uninterrupted one.
    on_epoch: called after each epoch with its history row and a function that makes a `Snapshot`; what it
    raises ends the training.
    Raises CannotResume for a snapshot from another kind of device, or of other code.
    """
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    data = load(run.data, device) if data is None else data.to(device)
    random = streams(run.seed, device)
    model = build_classifier(run, data.num_classes, data.channels, data.image_size).normalise_as(data)
    # torch's annotations of `to` leave memory_format out
    model = model.to(device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    handle = attach_noise(model, run, random.noise.initial_seed())
    criterion = LOSSES[run.loss]
    step: Step = NoisyStep(handle, criterion) if handle else CleanStep(model, criterion)
    parameters = list(model.parameters())
    optimizer = build_optimizer(run.optimizer, parameters, device)
    rows: list[dict[str, float]] = []
    threads = torch.get_num_threads()
    if resume is not None:
        if resume.device != device.type:
            raise CannotResume(f"it was made on {resume.device}, this is {device.type}")
        try:
            _restore(resume.tensors, model, optimizer, random, handle)
        except (KeyError, ValueError, RuntimeError) as error:
            raise CannotResume(f"it does not fit: {error}") from error
        rows = list(resume.rows)
        torch.set_num_threads(resume.threads)
    steps_per_epoch = math.ceil(len(data.train) / run.batch_size)
    augmentation = random.augmentation if run.augment else None
    bf16 = torch.autocast("cuda", torch.bfloat16, enabled=device.type == "cuda")

    try:
        for epoch in range(len(rows), run.epochs):
            started = time.perf_counter()
            model.train()
            before = [p.detach().clone() for p in parameters]
            totals = torch.zeros(3, dtype=torch.double, device=device)  # loss, correct, gradient norm
            count, rate = epoch * steps_per_epoch, 0.0
            for x, y in batches(data.train, run.batch_size, order=random.data, augmentation=augmentation):
                rate = learning_rate(run.schedule, count, steps_per_epoch)
                optimizer.param_groups[0]["lr"] = rate
                with bf16:
                    loss, logits = step(x, y)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                gradient = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
                optimizer.step()
                correct = (logits.detach().argmax(1) == y).sum()
                totals += torch.stack((loss.detach().double() * len(y), correct.double(), gradient.double()))
                count += 1
            updates = [p.detach() - b for p, b in zip(parameters, before, strict=True)]
            update = nn.utils.get_total_norm(updates).item()
            sums = totals.tolist()
            row = {
                "epoch": epoch + 1,
                "train_loss": sums[0] / len(data.train),
                "train_accuracy": sums[1] / len(data.train),
                "learning_rate": rate,
                "gradient_norm": sums[2] / steps_per_epoch,
                "update_norm": update,
                "seconds": time.perf_counter() - started,
            }
            if not _finite(row):
                rows.append(row)
                break
            row |= _test_row(model, data.test, criterion) | activation_stds(model, data.test)
            rows.append(row)
            if not _finite(row):
                break
            if on_epoch is not None:
                on_epoch(row, lambda: _snapshot(rows, model, optimizer, random, handle))
    finally:
        used = torch.get_num_threads()
        torch.set_num_threads(threads)

    if handle is not None:
        handle.remove()
    diverged = not _finite(rows[-1])
    metrics: dict[str, Any] = {}
    if not diverged:
        metrics = evaluate(model, data, run.evaluation, criterion=criterion, loss=run.loss, seed=run.seed)
    return Result(
        run=run,
        status="diverged" if diverged else "finished",
        metrics=metrics,
        history=pd.DataFrame(rows),
        model=model.eval(),
        info={
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {used} threads",
            "seconds": sum(row["seconds"] for row in rows),
            "parameters": sum(p.numel() for p in parameters),
            "data": describe(data),
        },
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


def build_classifier(run: Run, num_classes: int, channels: int, image_size: int) -> Classifier:
    """The network of a run at its initial weights, its normalisation not yet set."""
    net = build_model(
        run.model.name,
        num_classes=num_classes,
        in_channels=channels,
        image_size=image_size,
        width=run.model.width,
        seed=streams(run.seed).init.initial_seed(),
    )
    return Classifier(net, channels)


def attach_noise(model: Classifier, run: Run, seed: int) -> Handle | None:
    """The run's noise on a network, None for a run without; names are those of the bare network."""
    if run.noise is None:
        return None
    names = {name for name, _ in model.net.named_modules()}
    return attach(model, run.noise, tuple(f"net.{n}" if n in names else n for n in run.after), seed)


def build_optimizer(
    spec: Optimizer, parameters: list[nn.Parameter], device: torch.device
) -> torch.optim.Optimizer:
    """The optimiser of a run; its learning rate is set before every step."""
    if spec.name == "adam":
        return torch.optim.Adam(parameters, weight_decay=spec.weight_decay, fused=True)
    return torch.optim.SGD(
        parameters,
        momentum=spec.momentum,
        nesterov=spec.nesterov,
        weight_decay=spec.weight_decay,
        fused=True,
    )


def activation_stds(model: Classifier, images: Images) -> dict[str, float]:
    """`activation_std.<module>`: std of each convolution's and dense layer's outputs, noise off."""
    found: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(
            lambda m, i, output, *, name=name: found.update({name: output.float().std()})
        )
        for name, module in model.net.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    ]
    try:
        with eval_mode(model), torch.no_grad():
            model(to_float(images.pixels[:PROBE_IMAGES]))
    finally:
        for hook in hooks:
            hook.remove()
    values = torch.stack(list(found.values())).tolist()
    return {f"activation_std.{name}": value for name, value in zip(found, values, strict=True)}


def _finite(row: dict[str, float]) -> bool:
    return all(map(math.isfinite, row.values()))


def _test_row(model: nn.Module, images: Images, criterion: Callable) -> dict[str, float]:
    logits, labels = predict(model, images)
    accuracy = (logits.argmax(1) == labels).double().mean()
    return {"test_loss": criterion(logits, labels).item(), "test_accuracy": accuracy.item()}


def _snapshot(
    rows: list[dict[str, float]],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    random: Streams,
    handle: Handle | None,
) -> Snapshot:
    slots = optimizer.state_dict()["state"]
    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    tensors |= {
        f"optimizer/{i}/{k}": v for i, slot in slots.items() for k, v in slot.items() if v is not None
    }
    tensors |= {f"streams/{name}": value for name, value in random.state().items()}
    if handle is not None:
        tensors |= {f"noise/{name}": value for name, value in handle.state().items()}
    copies = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}
    device = next(model.parameters()).device.type
    return Snapshot(list(rows), copies, torch.get_num_threads(), device)


def _restore(
    tensors: dict[str, Tensor],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    random: Streams,
    handle: Handle | None,
) -> None:
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}, "streams": {}, "noise": {}}
    for key, value in tensors.items():
        part, name = key.split("/", 1)
        parts[part][name] = value
    model.load_state_dict(parts["model"])
    parameters = list(model.parameters())
    slots: dict[int, dict[str, Tensor]] = {}
    for key, value in parts["optimizer"].items():
        index, name = key.split("/")
        like = parameters[int(index)]
        # fused kernels walk memory: a slot needs its parameter's layout, which a stored file does not keep
        slot = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
        slots.setdefault(int(index), {})[name] = slot
    optimizer.load_state_dict({**optimizer.state_dict(), "state": slots})
    random.restore(parts["streams"])
    if handle is not None:
        handle.restore(parts["noise"])
