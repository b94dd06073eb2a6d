"""How-to pages run as they stand in two processes, against two networks in one process."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from pages import KINDS, ON_OPTIMIZER, assert_same, net, plain_epochs, resnet

from noiseutils.noise import attach
from noiseutils.rng import derived_seed

HERE = Path(__file__).parent
# what the page takes: batches a step, bfloat16
PAGES = {
    "ddp": (1, False),
    "fsdp": (1, False),
    "accelerate": (2, True),
    "hugging-face": (2, False),
    "lightning": (4, True),
    "fabric": (1, True),
}
THERE = importlib.util.find_spec("transformers") and importlib.util.find_spec("lightning")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launcher, HERE / "two_processes.py", folder, *(PAGES if THERE else ("ddp", "fsdp"))],
        capture_output=True,
        text=True,
        timeout=200,
        env=os.environ | {"PYTHONPATH": f"{HERE}:{HERE.parents[1]}", "ACCELERATE_USE_CPU": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return folder


def two_networks(model_of, noise, data, criterion, accumulate: int, bfloat16: bool) -> list:
    """Train two networks on their own batches, by the mean of their gradients; return their state dicts."""
    networks = [model_of().train() for _ in range(2)]
    seeds = [0, derived_seed(0, "rank 1")]
    pairs = zip(networks, seeds, strict=True)
    handles = [attach(model, noise, after="ReLU", seed=seed) for model, seed in pairs]
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.1) for model in networks]
    for i, batches in enumerate(zip(*data, strict=True), start=1):
        for handle, (x, y) in zip(handles, batches, strict=True):
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                loss = handle.loss(criterion, x, y)
            (loss / accumulate).backward()
        if i % accumulate:
            continue
        for p, q in zip(*(model.parameters() for model in networks), strict=True):
            p.grad = (p.grad + q.grad) / 2
            q.grad = p.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    assert i == 2 * accumulate
    return [model.state_dict() for model in networks]


def of_output(output, y):
    return F.cross_entropy(output.logits, y)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("page", PAGES)
def test_two_steps_of_two_processes_equal_two_networks_with_the_mean_of_their_gradients(trained, page, kind):
    if page not in ("ddp", "fsdp") and not THERE:
        pytest.skip("needs the frameworks extra")
    found, data = zip(*(torch.load(trained / f"{page}.{kind}.{rank}.pt") for rank in range(2)), strict=True)
    model_of, criterion = (resnet, of_output) if page == "hugging-face" else (net, F.cross_entropy)
    both = two_networks(model_of, KINDS[kind], data, criterion, *PAGES[page])
    for rank, expected in enumerate(both):
        if rank > 0:  # DistributedDataParallel's statistics of BatchNorm are those of the first process
            expected = {name: value for name, value in expected.items() if "running" not in name}
        assert_same({name: found[rank][name] for name in expected}, expected)


def test_noise_on_averaged_gradients_is_that_of_one_process_and_the_same_in_both(trained):
    (before, first), (_, second) = [torch.load(trained / f"gradients.{rank}.pt") for rank in range(2)]
    data = [torch.load(trained / f"ddp.LAT.{rank}.pt")[1] for rank in range(2)]
    halves = [batch for pair in zip(*data, strict=True) for batch in pair]
    model = net()
    model.load_state_dict(before)
    plain_epochs(model, ON_OPTIMIZER["scripted"], [halves] * 3, lambda model: 1.0, accumulate=2)
    for name, p in model.named_parameters():
        torch.testing.assert_close(first[name], p.detach())
        assert torch.equal(first[name], second[name])
