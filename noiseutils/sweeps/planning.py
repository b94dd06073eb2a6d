"""How the runs of a sweep are best trained on this machine: found by trying, where that pays.

Two questions, each asked once a machine and a kind of training: are several runs side by side, each with a
part of the cores, done sooner than one after the other with all of them? And does compiling gain, within one
run, more than it costs?
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import statistics
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

import torch

from noiseutils.bench.roofline import work_of_named
from noiseutils.config import Data, Evaluation, Run, Schedule
from noiseutils.data import Dataset, Images
from noiseutils.sweeps.local import deaf
from noiseutils.sweeps.measured import measured
from noiseutils.training.loop import train

log = logging.getLogger(__name__)

# Trying costs ten to thirty seconds: it must be a small part of what it may save a third of.
WORTH_A_TRY = 300.0  # seconds of training
# operations a second, to guess those seconds before anything has run
ASSUMED_RATE = {"cpu": 1e11, "cuda": 1e13}
COMPILING = 30.0  # seconds at least; a run that is over in four times as long cannot win them back
STEPS = 8  # of a trial, in each of its two epochs
PATIENCE = 300.0  # seconds for a trial in other processes


@dataclass(frozen=True)
class Plan:
    """How one run is trained: among others or alone, and by which engine."""

    side_by_side: bool = True
    engine: str = "auto"


def plans(runs: Sequence[Run], sets: Mapping[Data, Dataset], workers: int, device: str) -> dict[str, Plan]:
    """A plan for each run, by its key. What is too short to be tried is trained side by side, uncompiled.

    workers: how many runs side by side.   device: "cpu" or "cuda", where `workers` share the one device.
    """
    kinds: dict[str, list[Run]] = {}
    for run in runs:
        kinds.setdefault(str(kind(run, sets[run.data])), []).append(run)
    found = {}
    for alike in kinds.values():
        plan = _plan(alike, sets[alike[0].data], workers, device)
        found |= {run.key: plan for run in alike}
    return found


def kind(run: Run, data: Dataset) -> dict[str, Any]:
    """What the cost of a training step depends on."""
    return {
        "model": run.model.name,
        "width": run.model.width,
        "images": [data.channels, data.image_size, data.num_classes],
        "batch": min(run.batch_size, len(data.train)),
        "noise": None if run.noise is None else run.noise.kind,
        "after": list(run.after),
        "attacked": run.adversarial_training is not None,
        "augment": run.augment,
        "optimizer": run.optimizer.name,
    }


def expected_seconds(run: Run, data: Dataset, device: str) -> float:
    """A guess at a run's training, from its operations alone."""
    work = work_of_named(
        run.model.name,
        width=run.model.width,
        num_classes=data.num_classes,
        in_channels=data.channels,
        image_size=data.image_size,
    )
    return work.operations * len(data.train) * run.epochs / ASSUMED_RATE[device]


def seconds_per_step(run: Run, data: Dataset, engine: str, device: str) -> tuple[float, float]:
    """Of a short training like the run's: seconds a step, and what its first epoch took beyond that."""
    assert isinstance(data.train, Images)
    few = min(len(data.train), STEPS * run.batch_size)
    part = replace(data, train=data.train.take(few), test=data.test.take(8))
    short = run.replace(
        epochs=3,
        noise_epochs=None,
        parameter_noise=None,  # a script has as many epochs as its run
        validation_size=0,
        schedule=Schedule(learning_rate=1e-4),  # whatever the network: steps that cannot diverge
        evaluation=Evaluation(),
    )
    first, *others = train(short, data=part, device=device, engine=engine).history.seconds
    rest = statistics.median(others)
    return rest / max(1, few // run.batch_size), max(0.0, first - rest)


def _plan(runs: list[Run], data: Dataset, workers: int, device: str) -> Plan:
    run, steps = runs[0], len(data.train) / runs[0].batch_size
    longest = max(run.epochs for run in runs)
    expected = sum(expected_seconds(run, data, device) for run in runs)
    if not isinstance(data.train, Images) or expected < WORTH_A_TRY:
        return Plan()
    question = kind(run, data)
    engine = "auto"
    if expected / len(runs) > 4 * COMPILING:
        ways = measured({**question, "asked": "compiled"}, lambda: _compiled(run, data, device))
        if ways and (ways["auto"] - ways["compiled"]) * steps * longest > ways["compiling"]:
            engine = "compiled"
    if len(runs) == 1 or workers == 1:
        return Plan(engine=engine)
    ways = measured(
        {**question, "asked": "side by side", "workers": workers, "engine": engine},
        lambda: SIDE_BY_SIDE[device](run, data, workers, engine),
    )
    together = ways is None or ways["side by side"] >= ways["alone"]
    return Plan(side_by_side=together, engine=engine)


def _compiled(run: Run, data: Dataset, device: str) -> dict[str, float] | None:
    """Seconds a step without and with compiling, and what compiling took."""
    try:
        plain, _ = seconds_per_step(run, data, "auto", device)
        step, compiling = seconds_per_step(run, data, "compiled", device)
    except Exception as error:  # no C++ compiler, or a network that cannot be compiled
        log.info("not compiled: %s", error)
        return {"auto": 0.0, "compiled": 0.0, "compiling": float("inf")}
    return {"auto": plain, "compiled": step, "compiling": compiling}


def in_processes(run: Run, data: Dataset, workers: int, engine: str) -> dict[str, float] | None:
    """Steps a second on CPU: of one training with all threads, of `workers` at once with a share of them."""
    threads = max(1, torch.get_num_threads() // workers)
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(workers)
    few = replace(data, train=data.train.take(STEPS * run.batch_size), test=data.test.take(8))
    pipes: list[Connection] = []
    processes = []
    for _ in range(workers):
        receive, send = context.Pipe(duplex=False)
        arguments = (run, few, engine, threads, ready, send)
        processes.append(context.Process(target=_probe, args=arguments, daemon=True))
        with deaf():
            processes[-1].start()
        send.close()
        pipes.append(receive)
    try:
        rates = [pipe.recv() for pipe in pipes if pipe.poll(PATIENCE)]
    except EOFError:  # one died: what is not known is not remembered
        rates = []
    finally:
        for process in processes:
            process.terminate()
            process.join()
    if len(rates) < workers:
        return None
    return {"alone": 1 / seconds_per_step(run, data, engine, "cpu")[0], "side by side": sum(rates)}


def in_threads(
    run: Run, data: Dataset, workers: int, engine: str, device: str = "cuda"
) -> dict[str, float] | None:
    """Steps a second on one device: of one training, and of `workers` at once in threads of their own."""
    rates: list[float] = []
    ready = threading.Barrier(workers)

    def work() -> None:
        with contextlib.suppress(Exception):  # out of memory, say: then fewer rates come than threads were
            seconds_per_step(run, data, engine, device)
            ready.wait(PATIENCE)
            rates.append(1 / seconds_per_step(run, data, engine, device)[0])

    alone = 1 / seconds_per_step(run, data, engine, device)[0]
    threads = [threading.Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"alone": alone, "side by side": sum(rates) if len(rates) == workers else 0.0}


SIDE_BY_SIDE = {"cpu": in_processes, "cuda": in_threads}


def _probe(run: Run, data: Dataset, engine: str, threads: int, ready: Any, send: Connection) -> None:
    torch.set_num_threads(threads)
    seconds_per_step(run, data, engine, "cpu")  # imports, first touches of memory
    ready.wait(PATIENCE)
    send.send(1 / seconds_per_step(run, data, engine, "cpu")[0])
