"""Train a run: `train(run) -> Result` is one loop from top to bottom, `training` the same loop by steps.

Within an epoch nothing waits for the device: losses and counts stay on the device until the epoch ends.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from noiseutils.config import Run
from noiseutils.data import Dataset
from noiseutils.evaluation.epoch_scores import epoch_scores
from noiseutils.evaluation.evaluate import evaluate
from noiseutils.rng import derived_seed
from noiseutils.schedules import learning_rate
from noiseutils.training import distributed
from noiseutils.training.changes import change_run
from noiseutils.training.checkpoint import CannotResume, Checkpoint, take_checkpoint
from noiseutils.training.distributed import each, on_rank0, raise_on_all
from noiseutils.training.optimizers import set_rate
from noiseutils.training.setup import describe, held_out, setup
from noiseutils.training.state import TrainState

__all__ = ["CannotResume", "OnEpoch", "Result", "TrainState", "train", "training"]

OnEpoch = Callable[[dict[str, float], Callable[[], Checkpoint]], None]


@dataclass(frozen=True)
class Result:
    """Result of a run.

    status: "finished", or "diverged" when the loss stopped being finite (then metrics is empty).
    metrics: see `noiseutils.evaluation.evaluate`.
    history: one row an epoch: epoch (from 1), train_loss, train_accuracy, test_loss, test_accuracy,
    validation_loss and validation_accuracy where images were held out, learning_rate (last step's),
    gradient_norm (mean over steps, L2 over all parameters), update_norm (L2 of the weight change over the
    epoch's steps), seconds (training alone), the columns of `Action.row` for noise on gradients or weights,
    and `activation_std.<module>` for every convolution, BatchNorm and dense layer (over the outputs for the
    first test images, in eval mode).
    model: trained network, pixels in [0, 1] to logits; None for a result stored without weights.
    info: device, threads, engine, seconds, parameters, data set with the fingerprint of its images.
    """

    run: Run
    status: str
    metrics: dict[str, Any]
    history: pd.DataFrame
    model: nn.Module | None
    info: dict[str, Any] = field(default_factory=dict)


def train(
    run: Run,
    *,
    data: Dataset | None = None,
    device: str | torch.device | None = None,
    engine: str = "auto",
    resume: Checkpoint | None = None,
    on_epoch: OnEpoch | None = None,
) -> Result:
    """Train one network as `run` says and evaluate the network.

    data: the run's data set when it is loaded already.   device: default CUDA where there is one.
    engine: a key of `engines.ENGINES`; an engine changes seconds and rounding alone.
    resume: checkpoint of an earlier attempt; on CPU the result is then, bit for bit, the uninterrupted one.
    on_epoch: called after each epoch with its history row and a function that makes a `Checkpoint`; an
    exception raised in `on_epoch` ends the training.
    Raises CannotResume for a checkpoint from another kind of device or number of processes, or of other code.
    The process keeps the memory that it frees from now on, see `noiseutils.training.allocator`.

    After `distributed.start()` all processes train together: each calls `train` with the same arguments, and
    `on_epoch` is called on each, its checkpoints to be made on all or on none. All start from the same
    weights and draw one order of images and crops, each takes its part of every batch; noise differs by rank.
    Rank 0 alone evaluates and sends the numbers to the others.
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
    resume: Checkpoint | None = None,
    on_epoch: OnEpoch | None = None,
) -> Generator[TrainState, Run | None, Result]:
    """Yield the state of the same training after each step, and return the result of `train`.

    `send(changed)` goes on with the values of another run, see `changes.change_run`; the result then records
    the change and cannot be stored. `close()` ends the training.
    """
    with raise_on_all():
        threads = torch.get_num_threads()
        state = setup(run, data=data, device=device, engine=engine, resume=resume)
        if resume is not None:
            torch.set_num_threads(resume.threads)
    parameters = state.parameters
    try:
        with state.engine.stream():
            while state.epoch <= state.run.epochs:
                started = time.perf_counter()
                if state.run.noise_epochs is not None and state.epoch > state.run.noise_epochs:
                    _remove_noise(state)
                state.model.train()
                state.parameter_noise.begin_epoch()
                state.image_noise.manual_seed(derived_seed(state.noise_seed, f"corruption/{state.epoch - 1}"))
                state.mixup_cutout.begin_epoch(state.epoch)
                before = [p.detach().clone() for p in parameters]
                state.metrics.clear()
                losses = [row.get("validation_loss", row["test_loss"]) for row in state.rows]
                rate, seen = 0.0, 0
                with state.engine.training():
                    for batch in each(islice(state.batches(), state.steps_per_epoch)):
                        rate = learning_rate(
                            state.run.schedule, state.step, state.steps_per_epoch, losses, epochs=run.epochs
                        )
                        set_rate(state.optimizer, rate)
                        state.take(*batch)
                        state.step += 1
                        seen += len(batch[0])
                        if (changed := (yield state)) is not None:
                            change_run(state, changed)
                row = _training_row(state, before, seen, rate)
                row |= {"seconds": time.perf_counter() - started} | state.parameter_noise.action.row()
                finite = _finite(row)
                if finite:
                    row |= on_rank0(
                        partial(epoch_scores, state.model, state.data.test, state.validation, state.criterion)
                    )
                    if resume is not None and row.keys() != resume.rows[0].keys():
                        raise CannotResume("its history has other columns than this version writes")
                state.rows.append(row)
                if not finite or not _finite(row):
                    break
                state.epoch += 1
                if state.parameter_noise.observe(row):
                    state.engine.forget()
                if on_epoch is not None:
                    with raise_on_all():
                        on_epoch(row, partial(take_checkpoint, state))
        if state.handle is not None:
            state.handle.remove()
        return _result(state)  # evaluated with the training's threads
    finally:
        torch.set_num_threads(threads)
        if state.handle is not None:
            state.handle.remove()
        # the step holds the state, and the state its step: without this the images and the network would stay
        # in memory until Python looks for cycles, which it rarely does between trainings
        state.take = _ended


def _ended(*_: Tensor) -> None:
    raise RuntimeError("this training has ended")


def _remove_noise(state: TrainState) -> None:
    if state.handle is not None:
        state.handle.remove()
        state.engine.forget()


def _training_row(state: TrainState, before: list[Tensor], seen: int, rate: float) -> dict[str, float]:
    """Return the history columns of an epoch's steps.

    before: the weights before the epoch.   seen: images trained on here.   rate: in the last step.
    """
    distributed.average_statistics(state.model)
    sums = state.metrics.totals()
    distributed.all_reduce_sum(sums[:2])
    images = int(distributed.all_reduce_sum(torch.tensor(seen)))
    updates = [p.detach() - b for p, b in zip(state.parameters, before, strict=True)]
    loss, correct, norm = sums.tolist()
    return {
        "epoch": state.epoch,
        "train_loss": loss / images,
        "train_accuracy": correct / images,
        "learning_rate": rate,
        "gradient_norm": norm / state.steps_per_epoch,
        "update_norm": nn.utils.get_total_norm(updates).item(),
    }


def _finite(row: dict[str, float]) -> bool:
    return all(map(math.isfinite, row.values()))


def _result(state: TrainState) -> Result:
    """Evaluate the trained network, without noise."""
    run, data, device = state.run, state.data, state.device
    finished = _finite(state.rows[-1])
    metrics: dict[str, Any] = {}
    if finished:
        # not the state's: those may have a corruption in them
        trained_on = held_out(data.train, run.validation_size)[0] if run.evaluation.training_images else None
        options = {"criterion": state.criterion, "loss": run.loss, "seed": run.seed, "trained_on": trained_on}
        metrics = on_rank0(lambda: evaluate(state.model, data, run.evaluation, **options))
    threads = torch.get_num_threads()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {threads} threads"
    world = distributed.world()
    info = {
        "device": name + (f", {world} processes" if world > 1 else ""),
        "threads": threads,  # on CPU, for a run whose sums another number of threads would round differently
        "engine": state.engine.description,
        "seconds": sum(row["seconds"] for row in state.rows),
        "parameters": sum(p.numel() for p in state.parameters),
        "data": describe(data),
    }
    if state.changed_after:
        info["changed_after_steps"] = state.changed_after
    return Result(
        run=run,
        status="finished" if finished else "diverged",
        metrics=metrics,
        history=pd.DataFrame(state.rows),
        model=state.model.eval(),
        info=info,
    )
