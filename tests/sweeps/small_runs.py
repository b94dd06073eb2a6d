"""Runs of a second, and what is compared of their results."""

import contextlib
from pathlib import Path

import torch

from noiseutils.config import Data, Evaluation, Model, NoisyDropout, Run
from noiseutils.sweeps.store import Store

BASE = Run(
    data=Data(train_size=60, test_size=30),
    model=Model(name="cifar10net", width=0.1),
    noise=NoisyDropout(p=0.25, std=0.1),
    after=("relu3", "relu4"),
    epochs=2,
    batch_size=20,
    evaluation=Evaluation(),
)
RUNS = [BASE.replace(seed=seed) for seed in range(3)]


def stored_weights(root: Path, run: Run) -> dict[str, torch.Tensor]:
    result = Store(root).load(run, weights=True)
    assert result is not None
    assert result.model is not None
    return result.model.state_dict()


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def same_result(run: Run, one: Path, other: Path) -> bool:
    """Compare a run's results in two stores, bit for bit, but for the seconds that they took."""
    a, b = (Store(root).load(run) for root in (one, other))
    assert a is not None
    assert b is not None
    same = a.history.drop(columns="seconds").equals(b.history.drop(columns="seconds"))
    return same and a.metrics == b.metrics and equal(stored_weights(one, run), stored_weights(other, run))


def written(root: Path) -> dict[Path, int]:
    """Return when each file of a store was written."""
    found = {}
    for path in root.glob("*/*"):
        with contextlib.suppress(FileNotFoundError):
            found[path] = path.stat().st_mtime_ns
    return found


def finished(root: Path) -> dict[str, int]:
    """Return when each finished run was written, by its key."""
    return {path.parent.name: path.stat().st_mtime_ns for path in root.glob("*/run.json")}
