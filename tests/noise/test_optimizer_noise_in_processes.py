"""Noise of `attach_to_optimizer` in two processes that train one network: this file, run as a script, is one.

Gradients: DistributedDataParallel and `fully_shard` average over both, which see different images.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from noiseutils.config import AdaptiveNoise, ScriptedNoise
from noiseutils.errors import UserError
from noiseutils.noise import attach_to_optimizer

pytestmark = pytest.mark.slow

SIGMA = 0.1
LOUD = ScriptedNoise(gradient=(SIGMA, 0.0), weight=(SIGMA, 0.0))
STUCK = AdaptiveNoise(min_epochs=1, window=1, gradient_plateau=100.0, validation_plateau=100.0)
X = torch.randn(8, 30, generator=torch.Generator().manual_seed(1))
Y = torch.arange(8) % 3


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(30, 41), nn.ReLU(), nn.Linear(41, 3))  # 41 rows: shards of 21 and 20


def step(net: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    optimizer.zero_grad()
    nn.functional.cross_entropy(net(x), y).backward()
    optimizer.step()


def my_part(rank: int) -> tuple[Tensor, Tensor]:
    return X[rank::2], Y[rank::2]


def whole(p: Any) -> Tensor:
    return (p.full_tensor() if hasattr(p, "full_tensor") else p).detach()


def train(net: nn.Module, rank: int, spec, loss: float, seed: int = 0) -> dict[str, Any]:
    """Train two epochs of one step each; return its first noise, weights and norms."""
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    clean = [whole(p).clone() for p in net.parameters()]
    noise = attach_to_optimizer(optimizer, spec, epochs=2, seed=seed)
    start = [whole(p).clone() for p in net.parameters()]
    for _ in range(2):
        step(net, optimizer, *my_part(rank))
        noise.end_epoch(loss)
    return {
        "weight_noise": [(a - b).tolist() for a, b in zip(start, clean, strict=True)],
        "weights": [whole(p).tolist() for p in net.parameters()],
        "epochs": noise.state_dict()["epochs"],
        "shard": noise.state_dict()["shard"],
    }


def replicated(rank: int) -> dict[str, Any]:
    return train(nn.parallel.DistributedDataParallel(network()), rank, LOUD, 1.0)


def replicated_with_own_losses(rank: int) -> dict[str, Any]:
    """Each process validates on images of its own: alone they would decide differently."""
    net = nn.parallel.DistributedDataParallel(network())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    noise = attach_to_optimizer(optimizer, STUCK, epochs=9)
    actions = []
    for epoch in range(4):
        step(net, optimizer, *my_part(rank))
        actions.append(noise.end_epoch([3.0, 5.0][rank] / (1 + epoch * (1 + rank))).row())
    return {"actions": actions, "weights": [p.tolist() for p in net.parameters()]}


def replicated_with_own_seeds(rank: int) -> dict[str, Any]:
    try:
        train(nn.parallel.DistributedDataParallel(network()), rank, STUCK, 1.0, seed=rank)
    except UserError as error:
        return {"said": str(error)}
    return {"said": ""}


def alone(rank: int) -> dict[str, Any]:
    """Two trainings that share nothing but the process group: each goes by its own loss."""
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    noise = attach_to_optimizer(optimizer, LOUD.replace(weight=(0.0, 0.0)), epochs=2, seed=rank)
    step(net, optimizer, *my_part(rank))
    noise.end_epoch(float(rank))
    return {"loss": noise.state_dict()["epochs"][0]["validation_loss"]}


def sharded(rank: int) -> dict[str, Any]:
    from torch.distributed.fsdp import fully_shard

    net = network()
    for layer in (net[0], net[2], net):
        fully_shard(layer)
    found = train(net, rank, LOUD, 1.0)
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    noise = attach_to_optimizer(optimizer, LOUD, epochs=2)
    states: list[Any] = [None, None]
    dist.all_gather_object(states, noise.state_dict())
    noise.remove()
    attach_to_optimizer(optimizer, LOUD, epochs=2, state=states[rank]).remove()
    try:
        attach_to_optimizer(optimizer, LOUD, epochs=2, state=states[1 - rank])
    except UserError as error:
        found["said"] = str(error)
    return found


def refused(rank: int) -> dict[str, Any]:
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

    said = []
    partly, old = network(), network()
    fully_shard(partly[0])
    for make in (
        lambda: partly,
        lambda: FullyShardedDataParallel(old, use_orig_params=True, device_id=torch.device("cpu")),
    ):
        try:
            attach_to_optimizer(torch.optim.SGD(make().parameters(), lr=1.0), LOUD, epochs=2)
        except UserError as error:
            said.append(str(error))
    return {"said": said}


CASES = {f.__name__: f for f in (replicated, replicated_with_own_losses, replicated_with_own_seeds)}
CASES |= {f.__name__: f for f in (alone, sharded, refused)}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What the two processes found, by case and rank."""
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, __file__, str(folder)]
    running = [subprocess.Popen([*command, str(rank)], stderr=subprocess.PIPE, text=True) for rank in (0, 1)]
    try:
        errors = [process.communicate(timeout=200)[1] for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()
    assert [process.returncode for process in running] == [0, 0], "\n".join(errors)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def numbers(found, name):
    return [torch.tensor(values) for values in found[name]]


def test_replicas_get_the_same_noise_and_stay_equal(both):
    for case in ("replicated", "replicated_with_own_losses"):
        one, other = (numbers(found[case], "weights") for found in both)
        assert all(map(torch.equal, one, other)), case
    assert torch.cat([n.flatten() for n in numbers(both[0]["replicated"], "weight_noise")]).std() > 0.05


def test_replicas_with_losses_of_their_own_decide_alike(both):
    one, other = (found["replicated_with_own_losses"]["actions"] for found in both)
    assert one == other
    assert any(action["weight_noise"] for action in one)


def test_replicas_with_seeds_of_their_own_are_told(both):
    for found in both:
        assert "one seed" in found["replicated_with_own_seeds"]["said"]


def test_separate_trainings_keep_their_own_losses(both):
    assert [found["alone"]["loss"] for found in both] == [0.0, 1.0]


def test_shards_get_noise_of_their_own_of_the_asked_size(both):
    assert [found["sharded"]["shard"] for found in both] == [[0], [1]]
    noise, again = (numbers(found["sharded"], "weight_noise") for found in both)
    assert all(map(torch.equal, noise, again)), "gathered, it is one network"
    upper, lower = noise[0][:21], noise[0][21:]
    assert not torch.isclose(upper[:20], lower, atol=1e-3).float().mean() > 0.05
    assert abs(torch.corrcoef(torch.stack([upper[:20].flatten(), lower.flatten()]))[0, 1]) < 0.15
    for part in (upper, lower):
        assert part.std().item() == pytest.approx(SIGMA, rel=0.1)


def test_the_norms_of_shards_are_those_of_the_whole(both):
    one, other = (found["sharded"]["epochs"] for found in both)
    assert repr(one) == repr(other)
    net = network()
    for p, noise in zip(net.parameters(), numbers(both[0]["sharded"], "weight_noise"), strict=True):
        p.data += noise
    nn.functional.cross_entropy(net(X), Y).backward()
    gradients = [p.grad for p in net.parameters()]
    assert one[0]["gradient_norm"] == pytest.approx(nn.utils.get_total_norm(gradients).item(), rel=1e-4)
    size = sum(p.numel() for p in net.parameters())
    squared = one[0]["gradient_norm"] ** 2 + size * SIGMA**2  # lr 1: the update is the gradient and its noise
    assert one[0]["update_norm"] == pytest.approx(squared**0.5, rel=0.1)


def test_the_state_of_another_shard_is_refused(both):
    assert "the state is of another shard: [1] there, [0] here" in both[0]["sharded"]["said"]
    assert "the state is of another shard: [0] there, [1] here" in both[1]["sharded"]["said"]


def test_parameters_split_in_several_ways_or_by_the_older_wrapper_are_refused(both):
    for found in both:
        partly, old = found["refused"]["said"]
        assert "2 of the optimiser's 4 parameters are shared between processes, in 1 ways" in partly
        assert "fully_shard" in old


def main(folder: Path, rank: int) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    found = {name: case(rank) for name, case in CASES.items()}
    (folder / f"{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
