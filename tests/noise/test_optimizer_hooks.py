"""noiseutils.noise.optimizer_hooks: parameter noise in a foreign training loop equals the trainer's."""

from __future__ import annotations

import io
import math

import pytest
import torch
from torch import nn

from noiseutils.config import AdaptiveNoise, ScriptedNoise
from noiseutils.errors import UserError
from noiseutils.noise import attach_to_optimizer
from noiseutils.noise.adaptive import Adaptive
from noiseutils.noise.parameters import EpochStatistics

FLAGS = AdaptiveNoise(
    min_epochs=1, window=1, gradient_plateau=10.0, consecutive_trigger=2, cooldown_min=1, cooldown_max=1
)


def network():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))
    return net, torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)


X, Y = torch.randn(20, 3, 8, 8, generator=torch.Generator().manual_seed(1)), torch.arange(20) % 5


def epoch(net, optimizer, steps=3):
    """Of a loop that knows nothing of noise."""
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(X), Y)
        loss.backward()
        optimizer.step()
    return loss.item()


def weights(net):
    return torch.cat([p.detach().reshape(-1) for p in net.parameters()]).clone()


def test_without_a_flag_and_after_removal_the_training_is_the_clean_one():
    clean, optimizer = network()
    for _ in range(4):
        epoch(clean, optimizer)
    net, optimizer = network()
    with attach_to_optimizer(optimizer, AdaptiveNoise(min_epochs=4), epochs=4) as noise:
        for _ in range(2):
            noise.end_epoch(epoch(net, optimizer))
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    for _ in range(2):
        epoch(net, optimizer)
    assert torch.equal(weights(net), weights(clean))


def test_it_decides_as_the_state_machine_does_on_what_the_epochs_were_like():
    net, optimizer = network()
    noise = attach_to_optimizer(optimizer, FLAGS, epochs=6)
    machine = Adaptive(FLAGS, 6)
    for _ in range(6):
        norms, before = [], weights(net)
        watched = optimizer.register_step_pre_hook(
            lambda *_, norms=norms: norms.append(
                math.sqrt(sum(float(p.grad.square().sum()) for p in net.parameters()))
            )
        )
        watched_first = list(optimizer._optimizer_step_pre_hooks)
        optimizer._optimizer_step_pre_hooks.move_to_end(watched_first[-1], last=False)
        loss = epoch(net, optimizer)
        watched.remove()
        update = (weights(net) - before).norm().item()
        found = noise.end_epoch(loss)
        expected = machine.observe(EpochStatistics(sum(norms) / 3, update, loss))
        assert found.gradient == pytest.approx(expected.gradient, rel=1e-4)
        assert found.weight == pytest.approx(expected.weight, rel=1e-4)
        assert (found.gradient_flag, found.cooldown) == (expected.gradient_flag, expected.cooldown)
        if found.weight:
            assert (weights(net) - before).norm() > update, "once an epoch, before its first step"
    assert not noise.action.noisy, "nothing after the last epoch"


@pytest.mark.parametrize("where", ["gradient", "weight"])
@pytest.mark.parametrize("every", ["step", "epoch"])
def test_noise_is_there_in_its_epochs_alone(where, every):
    script = {"gradient": [0.0] * 3, "weight": [0.0] * 3}
    script[where][1] = 0.1
    net, optimizer = network()
    clean, plain = network()
    noise = attach_to_optimizer(
        optimizer, ScriptedNoise(**{k: tuple(v) for k, v in script.items()}, weight_every=every), epochs=3
    )
    assert epoch(net, optimizer) == epoch(clean, plain)
    assert noise.end_epoch(1.0).noisy
    once = where == "weight" and every == "epoch"
    assert torch.equal(weights(net), weights(clean)) is not once
    epoch(net, optimizer)
    epoch(clean, plain)
    assert not torch.equal(weights(net), weights(clean))
    assert not noise.end_epoch(1.0).noisy


SCRIPT = ScriptedNoise(gradient=(0.1,) * 6, weight=(0.05,) * 6)


@pytest.mark.parametrize("spec", [FLAGS, SCRIPT, SCRIPT.replace(weight_every="step")])
@pytest.mark.parametrize("stop", [1, 3])
def test_a_resumed_loop_ends_as_an_uninterrupted_one(stop, spec):
    net, optimizer = network()
    noise = attach_to_optimizer(optimizer, spec, epochs=6, seed=3)
    for done in range(6):
        if done == stop:
            file = io.BytesIO()
            torch.save([net.state_dict(), optimizer.state_dict(), noise.state_dict()], file)
            file.seek(0)
            stored = torch.load(file)
            again, other = network()
            again.load_state_dict(stored[0])
            other.load_state_dict(stored[1])
            resumed = attach_to_optimizer(other, spec, epochs=6, seed=3, state=stored[2])
            for _ in range(stop, 6):
                resumed.end_epoch(epoch(again, other))
        noise.end_epoch(epoch(net, optimizer))
    assert torch.equal(weights(net), weights(again))


def test_what_cannot_be_is_refused():
    net, optimizer = network()
    with pytest.raises(UserError, match="at least 1, got 0"):
        attach_to_optimizer(optimizer, FLAGS, epochs=0)
    with pytest.raises(UserError, match="the script of the noise has 2 epochs, not 3"):
        attach_to_optimizer(optimizer, ScriptedNoise(gradient=(0, 0), weight=(0, 0)), epochs=3)
    for p in net.parameters():
        p.requires_grad = False
    with pytest.raises(UserError, match="one device, they lie on: none"):
        attach_to_optimizer(optimizer, FLAGS, epochs=3)
    net, optimizer = network()
    noise = attach_to_optimizer(optimizer, FLAGS, epochs=1)
    with pytest.raises(UserError, match="no step of the optimiser"):
        noise.end_epoch(1.0)
    epoch(net, optimizer)
    with pytest.raises(UserError, match="finite number, got nan"):
        noise.end_epoch(math.nan)
    noise.end_epoch(1.0)
    epoch(net, optimizer)
    with pytest.raises(UserError, match="all 1 epochs are done"):
        noise.end_epoch(1.0)


def test_a_step_says_what_noise_cannot_go_on():
    net, optimizer = network()
    attach_to_optimizer(optimizer, FLAGS, epochs=3)
    with pytest.raises(UserError, match="takes no closure"):
        optimizer.step(lambda: torch.zeros(()))
    nn.functional.cross_entropy(net(X), Y).backward()
    net[3].bias.grad = None
    with pytest.raises(UserError, match=r"1 of the optimiser's parameters have no gradient.*\(5,\)"):
        optimizer.step()
