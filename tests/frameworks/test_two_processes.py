"""docs/how-to/ddp.md and fsdp.md, run as they stand in two processes, against two networks in one process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from pages import KINDS, ON_OPTIMIZER, assert_same, images, net, plain_epochs

from noiseutils.noise import attach
from noiseutils.rng import derived_seed

HERE = Path(__file__).parent


def train(page: str, folder: Path) -> Path:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launcher, HERE / "two_processes.py", page, folder],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": f"{HERE}:{HERE.parents[1]}"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return folder


@pytest.fixture(scope="module", params=["ddp", "fsdp"])
def trained(request, tmp_path_factory) -> Path:
    return train(request.param, tmp_path_factory.mktemp(request.param))


def two_networks(noise) -> list:
    """Train two networks on one half of each batch each, by the mean of their gradients."""
    networks = [net(), net()]
    seeds = [0, derived_seed(0, "rank 1")]
    handles = [
        attach(model, noise, after="ReLU", seed=seed) for model, seed in zip(networks, seeds, strict=True)
    ]
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.1) for model in networks]
    x, y = images(16)
    for step in range(2):
        for rank, handle in enumerate(handles):
            mine = slice(8 * step + rank, 8 * step + 8, 2)
            handle.loss(F.cross_entropy, x[mine], y[mine]).backward()
        for pair in zip(*(model.parameters() for model in networks), strict=True):
            mean = sum(p.grad for p in pair) / 2
            for p in pair:
                p.grad = mean.clone()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    return [model.state_dict() for model in networks]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_steps_of_two_processes_equal_two_networks_with_the_mean_of_their_gradients(trained, kind):
    found = [torch.load(trained / f"{kind}.{rank}.pt") for rank in range(2)]
    for rank, expected in enumerate(two_networks(KINDS[kind])):
        if rank > 0:  # DistributedDataParallel's statistics of BatchNorm are those of the first process
            expected = {name: value for name, value in expected.items() if "running" not in name}
        assert_same({name: found[rank][name] for name in expected}, expected)


@pytest.mark.slow
def test_noise_on_averaged_gradients_is_that_of_one_process_and_the_same_in_both(trained):
    if trained.name.startswith("fsdp"):
        pytest.skip("each shard has noise of its own: tests/noise/test_optimizer_noise_in_processes.py")
    (before, first), (_, second) = [torch.load(trained / f"optimizer.{rank}.pt") for rank in range(2)]
    model = net()
    model.load_state_dict(before)
    x, y = images(16)
    halves = [slice(8 * step + rank, 8 * step + 8, 2) for step in range(2) for rank in range(2)]
    epochs = [[(x[mine], y[mine]) for mine in halves]] * 3
    plain_epochs(model, ON_OPTIMIZER["scripted"], epochs, [1.0] * 3, accumulate=2)
    for name, p in model.named_parameters():
        torch.testing.assert_close(first[name], p.detach())
        assert torch.equal(first[name], second[name])
