"""Runs of a second, and what is compared of their results."""

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
