"""noiseutils.noise.optimizer_hooks: parameter noise in a foreign training loop equals the trainer's."""

from __future__ import annotations

import io
import math
import warnings

import pytest
import torch
from torch import nn

from noiseutils.config import AdaptiveNoise, GaussianNoise, ScriptedNoise
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
    with pytest.raises(UserError, match="the optimiser has taken no step"):
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
    nn.functional.cross_entropy(net(X), Y).backward()
    net[3].bias.grad = None
    with pytest.raises(UserError, match=r"1 of the optimiser's parameters have no gradient.*\(5,\)"):
        optimizer.step()


TWO_EPOCHS = ScriptedNoise(gradient=(0.1, 0.0), weight=(0.0, 0.1))


def scripted_training(optimizer_of, step):
    """Train two epochs with scripted noise; return the weights and what the noise has recorded."""
    net, optimizer = network()
    noise = attach_to_optimizer(optimizer_of(optimizer), TWO_EPOCHS, epochs=2)
    for _ in range(2):
        for _ in range(3):
            step(net, optimizer)
        noise.end_epoch(1.0)
    return weights(net), noise.state_dict()["epochs"]


def backward(net, optimizer):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(net(X), Y)
    loss.backward()
    return loss


def plain_step(net, optimizer):
    backward(net, optimizer)
    optimizer.step()


@pytest.mark.parametrize("as_keyword", [False, True])
def test_noise_goes_on_the_gradients_that_a_closure_leaves(as_keyword):
    def step(net, optimizer):
        closure = lambda: backward(net, optimizer)  # noqa: E731
        loss = optimizer.step(closure=closure) if as_keyword else optimizer.step(closure)
        assert loss > 0

    found, rows = scripted_training(lambda optimizer: optimizer, step)
    expected, plain_rows = scripted_training(lambda optimizer: optimizer, plain_step)
    assert torch.equal(found, expected)
    assert rows == plain_rows


def test_an_optimiser_that_evaluates_its_closure_twice_is_refused():
    net, _ = network()
    optimizer = torch.optim.LBFGS(net.parameters())
    attach_to_optimizer(optimizer, TWO_EPOCHS, epochs=2)
    with pytest.raises(UserError, match="LBFGS evaluates its closure more than once a step"):
        optimizer.step(lambda: backward(net, optimizer))


class Wrapper(torch.optim.Optimizer):
    """As Accelerate's: it holds an optimiser, and has no hooks of its own."""

    def __init__(self, optimizer):
        self.optimizer = optimizer


def test_noise_goes_on_the_optimiser_inside_wrappers():
    found, rows = scripted_training(lambda optimizer: Wrapper(Wrapper(optimizer)), plain_step)
    expected, plain_rows = scripted_training(lambda optimizer: optimizer, plain_step)
    assert torch.equal(found, expected)
    assert rows == plain_rows


def fused_and_plain(scale=2.0**16):
    """Two equal trainings under a gradient scaler: a fused optimiser divides the gradients in its step."""
    pairs = []
    for fused in (True, False):
        net, _ = network()
        # without momentum: torch leaves a fused one's buffer as it finds it where the first step is skipped
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05, fused=fused)
        pairs.append((net, optimizer, torch.amp.GradScaler("cpu", init_scale=scale)))
    return pairs


def scaled_epoch(net, optimizer, scaler, overflow=(), steps=3, unscale=False):
    for step in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(X), Y)
        scaler.scale(loss).backward()
        if step in overflow:
            net[0].weight.grad[0, 0, 0, 0] = math.inf
        if unscale:
            scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()


@pytest.mark.parametrize("unscale", [False, True])
@pytest.mark.parametrize("overflow", [(), (1,)])
def test_under_a_gradient_scaler_noise_and_norms_are_those_of_unscaled_gradients(overflow, unscale):
    spec = ScriptedNoise(gradient=(0.3, 0.3), weight=(0.1, 0.1), weight_every="step")
    found, clean = [], []
    for net, optimizer, scaler in fused_and_plain():
        noise = attach_to_optimizer(optimizer, spec, epochs=2)
        for _ in range(2):
            scaled_epoch(net, optimizer, scaler, overflow, unscale=unscale)
            noise.end_epoch(1.0)
        found.append((weights(net), [row["gradient_norm"] for row in noise.state_dict()["epochs"]]))
        net, optimizer, scaler = next(iter(fused_and_plain()))
        scaled_epoch(net, optimizer, scaler)
        clean.append(weights(net))
    assert torch.allclose(found[0][0], found[1][0], atol=1e-5)
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-5)
    assert (found[0][0] - clean[0]).abs().mean() > 0.05, "the noise is not lost in the division"


@pytest.mark.parametrize("looks", [True, False], ids=["CPU", "a device that is not waited for"])
def test_a_skipped_step_counts_for_nothing(looks, monkeypatch):
    if not looks:
        monkeypatch.setattr("noiseutils.noise.optimizer_hooks._known_to_be_zero", lambda number: False)
    net, optimizer, scaler = fused_and_plain()[0]
    spec = ScriptedNoise(gradient=(0.3, 0.0), weight=(0.1, 0.0), weight_every="step")
    noise = attach_to_optimizer(optimizer, spec, epochs=2)
    before = weights(net)
    scaled_epoch(net, optimizer, scaler, overflow=(0,), steps=1)
    assert torch.equal(weights(net), before)
    with pytest.raises(UserError, match="all 1 steps were skipped after an overflow"):
        noise.end_epoch(1.0)
    norms = []
    for steps in (1, 2):
        scaled_epoch(net, optimizer, scaler, steps=1)
        norms.append(float(noise._norms) / steps)
    noise.end_epoch(1.0)
    assert noise.state_dict()["epochs"][0]["gradient_norm"] == pytest.approx(norms[1], rel=1e-6)
    assert 0 < norms[0] < 10
    assert weights(net).isfinite().all()


def test_an_optimiser_that_is_handed_the_scaler_is_refused():
    class Old(torch.optim.SGD):
        _step_supports_amp_scaling = True

        def step(self, closure=None, grad_scaler=None):
            return super().step(closure)

    net, _ = network()
    optimizer, scaler = Old(net.parameters(), lr=0.1), torch.amp.GradScaler("cpu")
    attach_to_optimizer(optimizer, FLAGS, epochs=3)
    with pytest.warns(FutureWarning), pytest.raises(UserError, match="how it scales gradients is not known"):
        scaled_epoch(net, optimizer, scaler)


def frozen_start():
    net, _ = network()
    net[0].requires_grad_(False)
    return net, torch.optim.SGD(net.parameters(), lr=0.05)


def thaw(net, optimizer):
    net[0].requires_grad_(True)


def freeze(net, optimizer):
    net[3].requires_grad_(False)
    net[3].weight.grad = net[3].bias.grad = None
    net[0].requires_grad_(True)


def add(net, optimizer):
    net[3].scale = nn.Parameter(torch.ones(5))
    net[3].register_forward_hook(lambda module, inputs, output: output * module.scale)
    optimizer.add_param_group({"params": [net[3].scale]})


@pytest.mark.parametrize(
    ("change", "said", "count"),
    [
        (thaw, "2 were thawed or added, and 0 were", 4),
        (freeze, "2 were thawed or added, and 2 were", 2),
        (add, "1 were thawed or added, and 0 were", 3),
    ],
)
@pytest.mark.parametrize("every", ["step", "epoch"])
def test_noise_follows_what_the_optimiser_trains_and_says_so_once(change, said, count, every):
    net, optimizer = frozen_start()
    spec = ScriptedNoise(gradient=(0.1,) * 3, weight=(0.1,) * 3, weight_every=every)
    noise = attach_to_optimizer(optimizer, spec, epochs=3)
    start = [p.detach().clone() for p in net.parameters()]
    epoch(net, optimizer)
    noise.end_epoch(1.0)
    assert torch.equal(net[0].weight, start[0]), "frozen: no noise"
    change(net, optimizer)
    with pytest.warns(UserWarning, match=said):
        epoch(net, optimizer)
    noise.end_epoch(1.0)
    trained = [p for p in net.parameters() if p.requires_grad]
    assert len(noise.state_dict()["shapes"]) == len(trained) == count
    before = [p.detach().clone() for p in net.parameters()]
    expected = [p.grad.norm() for p in trained]
    optimizer.param_groups[0]["lr"] = 0.0
    epoch(net, optimizer, steps=1)
    noise.end_epoch(1.0)
    for p, b in zip(net.parameters(), before, strict=True):
        moved = every == "step" and p.requires_grad
        if p in set(net[0].parameters()) | set(net[3].parameters()) - {getattr(net[3], "scale", None)}:
            assert torch.equal(p, b) is not moved
    norm = noise.state_dict()["epochs"][-1]["gradient_norm"]
    assert 0 < norm < 100 * float(torch.stack(expected).norm())


def test_a_layer_frozen_between_steps_gets_no_noise_at_the_end_of_the_epoch():
    net, optimizer = network()
    noise = attach_to_optimizer(optimizer, SCRIPT, epochs=6)
    epoch(net, optimizer)
    net[0].requires_grad_(False)
    kept = net[0].weight.detach().clone()
    with pytest.warns(UserWarning, match="0 were thawed or added, and 2 were frozen"):
        noise.end_epoch(1.0)
    assert torch.equal(net[0].weight, kept)
    for p in net.parameters():
        p.requires_grad_(False)
    with pytest.raises(UserError, match="they lie on: none"):
        noise.end_epoch(1.0) if noise._steps else noise._follow()


def test_a_state_of_another_noise_or_other_parameters_is_refused_and_changes_nothing():
    net, optimizer = network()
    noise = attach_to_optimizer(optimizer, SCRIPT, epochs=6)
    epoch(net, optimizer)
    noise.end_epoch(1.0)
    state = noise.state_dict()
    noise.remove()
    wrong = [
        ({}, "lacks epochs, kind, random, shapes, shard"),
        *[({k: v for k, v in state.items() if k != lost}, f"lacks {lost}: ") for lost in state],
        (state | {"kind": "adaptive_noise"}, "another noise: adaptive_noise there, scripted_noise here"),
        (state | {"shapes": state["shapes"][:3]}, "other parameters: 3 there, 4 here"),
        (state | {"shapes": [[9, 9], *state["shapes"][1:]]}, r"number 0 is \[9, 9\] there, \[4, 3, 3, 3\]"),
        (state | {"shard": [1]}, r"another shard: 1 there, 0 here|another shard"),
        (state | {"epochs": [{}]}, "epochs need numbers for gradient_norm"),
        (state | {"epochs": 3}, "epochs need numbers"),
        (state | {"epochs": state["epochs"] * 7}, "has 7 epochs, and the training 6"),
        (state | {"random": torch.zeros(16, dtype=torch.uint8)}, "not of a generator on cpu"),
        (state | {"random": "seed"}, "not of a generator on cpu"),
    ]
    before = weights(net)
    for given, said in wrong:
        with pytest.raises(UserError, match=said):
            attach_to_optimizer(optimizer, SCRIPT, epochs=6, state=given, replace=True)
    with pytest.raises(UserError, match="lacks"):
        attach_to_optimizer(optimizer, SCRIPT, epochs=6, state=[1])
    assert torch.equal(weights(net), before)
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_a_refused_call_leaves_the_earlier_noise_on():
    net, optimizer = network()
    earlier = attach_to_optimizer(optimizer, SCRIPT, epochs=6)
    before = weights(net)
    with pytest.raises(UserError, match="lacks"):
        attach_to_optimizer(optimizer, SCRIPT, epochs=6, state={}, replace=True)
    assert torch.equal(weights(net), before)
    epoch(net, optimizer)
    earlier.end_epoch(1.0)


def test_noise_on_noise_is_said_and_replace_takes_the_earlier_off():
    net, optimizer = network()
    earlier = attach_to_optimizer(optimizer, SCRIPT.replace(weight=(0.0,) * 6), epochs=6)
    with pytest.warns(UserWarning, match="has noise already.*replace=True") as caught:
        second = attach_to_optimizer(optimizer, SCRIPT, epochs=6)
    assert caught[0].filename == __file__
    assert len(optimizer._optimizer_step_pre_hooks) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attach_to_optimizer(optimizer, SCRIPT, epochs=6, replace=True)
    assert len(optimizer._optimizer_step_pre_hooks) == len(optimizer._optimizer_step_post_hooks) == 1
    epoch(net, optimizer)
    for noise in (earlier, second):
        with pytest.raises(UserError, match="removed from the optimiser"):
            noise.end_epoch(1.0)


def test_what_is_no_optimiser_and_no_such_noise_is_refused():
    net, optimizer = network()
    with pytest.raises(UserError, match=r"must be a torch\.optim\.Optimizer, got Sequential"):
        attach_to_optimizer(net, FLAGS, epochs=3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="must be AdaptiveNoise or ScriptedNoise, got GaussianNoise"):
        attach_to_optimizer(optimizer, GaussianNoise(std=0.1), epochs=3)


def test_parameters_moved_to_another_device_are_named():
    net, optimizer = network()
    noise = attach_to_optimizer(optimizer, FLAGS, epochs=3)
    noise._noise.device = torch.device("meta")
    with pytest.raises(UserError, match="moved from meta to cpu"):
        epoch(net, optimizer)
