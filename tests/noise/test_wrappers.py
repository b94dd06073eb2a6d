"""Noise under DistributedDataParallel, in two processes: gradients are averaged in any order."""

import os
import sys
import warnings
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from noiseutils.errors import UserError
from noiseutils.noise import (
    AdversarialNoise,
    ClassAdversarialNoise,
    GaussianNoise,
    LayerwiseAdversarialNoise,
    NoisyDropout,
    attach,
)
from noiseutils.noise.wrappers import first_pass_network, unwrapped

CLASSES = 4
KINDS = {
    "gaussian": GaussianNoise(std=1.0),
    "dropout": NoisyDropout(p=0.3, std=0.5),
    "anl": AdversarialNoise(epsilon=2.0),
    "canl": ClassAdversarialNoise(epsilon=2.0, num_classes=CLASSES),
    "lat": LayerwiseAdversarialNoise(epsilon=0.3),
}
ORDERS = ("before", "module", "wrapper", "compiled")


def net() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, CLASSES)
        )


def batch(seed: int, n: int = 8) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(seed)
    return torch.rand(n, 3, 8, 8, generator=source), torch.arange(n) % CLASSES


def wrapped(noise, order: str):
    """Return a handle and its network, in one of the orders of two lines."""
    model = net()
    if order == "before":
        handle = attach(model, noise, seed=3)
        return handle, DistributedDataParallel(model)
    ddp = DistributedDataParallel(torch.compile(model, backend="eager") if order == "compiled" else model)
    return attach(model if order == "module" else ddp, noise, seed=3), ddp


def averaged(noise) -> list[Tensor]:
    """Return the gradients that DistributedDataParallel should give, averaged by hand."""
    model = net()
    handle = attach(model, noise, seed=3)
    for step in range(2):
        model.zero_grad()
        handle.forward(F.cross_entropy, *batch(10 * step + dist.get_rank()), network=model)[0].backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    for gradient in gradients:
        dist.all_reduce(gradient)
        gradient /= 2
    return gradients


def as_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    limit = timedelta(seconds=240)
    dist.init_process_group("gloo", f"file://{folder}/store", limit, world_size=2, rank=rank)
    failures = []
    for name, noise in KINDS.items():
        expected = averaged(noise)
        for order in ORDERS:
            handle, ddp = wrapped(noise, order)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                if order == "compiled":
                    warnings.simplefilter("ignore")
                for step in range(2):
                    ddp.zero_grad()
                    handle.loss(F.cross_entropy, *batch(10 * step + rank)).backward()
            gradients = [p.grad for p in ddp.parameters()]
            if not all(torch.allclose(a, b, atol=1e-6) for a, b in zip(gradients, expected, strict=True)):
                failures.append(f"{name}, attached {order}")
            del handle, ddp
    model = net()
    attach(model, GaussianNoise(std=1.0), after="0", seed=3)
    drawn = (model[0](torch.zeros(1, 3, 8, 8)) - model[0].bias.view(1, -1, 1, 1)).detach()
    both = [torch.empty_like(drawn) for _ in range(2)]
    dist.all_gather(both, drawn)
    if torch.allclose(both[0], both[1], atol=0.1):
        failures.append("both ranks draw one noise")
    with pytest.warns(UserWarning, match="2 processes train, but .* no DistributedDataParallel wraps"):
        attach(net(), GaussianNoise(std=1.0)).loss(F.cross_entropy, *batch(0))
    part = net()
    whole = DistributedDataParallel(nn.Sequential(part))
    with pytest.warns(UserWarning, match="a part of what DistributedDataParallel wraps"):
        attach(part, GaussianNoise(std=1.0)).loss(F.cross_entropy, *batch(0))
    del whole
    Path(folder, f"said.{rank}").write_text("\n".join(failures))
    dist.destroy_process_group()


@pytest.mark.slow
def test_gradients_are_averaged_wherever_noise_is_attached_and_ranks_draw_their_own(tmp_path, monkeypatch):
    monkeypatch.setitem(os.environ, "PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    spawn(as_rank, (str(tmp_path),), nprocs=2)
    assert [Path(tmp_path, f"said.{rank}").read_text() for rank in range(2)] == ["", ""]


def test_a_network_is_found_inside_its_wrappers():
    model = net()
    compiled = torch.compile(model, backend="eager")
    assert unwrapped(compiled) is unwrapped(nn.DataParallel(model)) is unwrapped(model) is model
    assert first_pass_network(compiled) is compiled


def test_dataparallel_on_several_devices_is_refused():
    several = nn.DataParallel(net())
    several.device_ids = [0, 1]
    with pytest.raises(UserError, match="use DistributedDataParallel"):
        attach(several, GaussianNoise(std=1.0))
    handle = attach(several.module, GaussianNoise(std=1.0))
    with pytest.raises(UserError, match="use DistributedDataParallel"):
        handle.forward(F.cross_entropy, *batch(0), network=several)
