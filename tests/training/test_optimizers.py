"""noiseutils.training.optimizers: a run's optimiser, and its step in the functional form."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from noiseutils.config import Optimizer
from noiseutils.training.optimizers import build_optimizer, set_rate, step_of

SGD = {"momentum": 0.9, "weight_decay": 5e-4}


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(36, 2))


def backward(model, step):
    model.zero_grad()
    x = torch.randn(6, 3, 5, 5, generator=torch.Generator().manual_seed(step))
    model(x).square().mean().backward()


@pytest.mark.parametrize(
    "fields",
    [
        {"momentum": 0.0},
        {"momentum": 0.9},
        SGD,
        {**SGD, "nesterov": True},
        {"name": "adam", "momentum": 0.0, "weight_decay": 1e-2},
    ],
)
def test_its_step_is_that_of_the_optimiser_bit_for_bit(fields):
    ours, theirs = net(), net()
    mine, reference = (
        build_optimizer(Optimizer(**fields), list(m.parameters()), None) for m in (ours, theirs)
    )
    move = step_of(mine)
    for i in range(5):
        for model, optimizer, step in ((ours, mine, move), (theirs, reference, reference.step)):
            backward(model, i)
            set_rate(optimizer, 0.1 / (i + 1))
            step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)
    states = [optimizer.state_dict()["state"] for optimizer in (mine, reference)]
    assert states[0].keys() == states[1].keys()
    for slot in states[0]:
        assert all(torch.equal(value, states[1][slot][name]) for name, value in states[0][slot].items())


def test_it_goes_on_from_a_loaded_state():
    first, second = net(), net()
    a = build_optimizer(Optimizer(**SGD), list(first.parameters()), None)
    b = build_optimizer(Optimizer(**SGD), list(second.parameters()), None)
    set_rate(a, 0.1)
    move = step_of(a)
    for i in range(2):
        backward(first, i)
        move()
    second.load_state_dict(first.state_dict())
    b.load_state_dict(copy.deepcopy(a.state_dict()))
    for model, step in ((first, move), (second, step_of(b))):
        backward(model, 2)
        step()
    for x, y in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(x, y)


def test_a_parameter_without_gradient_stays_where_it_is():
    model = net()
    optimizer = build_optimizer(Optimizer(**SGD), list(model.parameters()), None)
    set_rate(optimizer, 0.1)
    move = step_of(optimizer)
    for i in range(3):
        backward(model, i)
        before = model[2].bias.detach().clone()
        if i == 2:
            model[2].bias.grad = None
        weight = model[0].weight.detach().clone()
        move()
        assert not torch.equal(weight, model[0].weight)
        assert torch.equal(before, model[2].bias) == (i == 2)


def test_the_rate_is_a_tensor_where_steps_are_recorded():
    parameters = list(net().parameters())
    optimizer = build_optimizer(Optimizer(**SGD), parameters, torch.device("cpu"))
    rate = optimizer.param_groups[0]["lr"]
    set_rate(optimizer, 0.25)
    assert rate.item() == 0.25
    assert optimizer.param_groups[0]["lr"] is rate
