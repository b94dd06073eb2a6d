"""The optimiser of a run."""

from __future__ import annotations

from typing import get_args

import torch
from torch import nn

from noiseutils.config import Optimizer
from noiseutils.training.optimizers import OPTIMIZERS, build_optimizer, set_rate

SGD = {"momentum": 0.9, "weight_decay": 5e-4}


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(36, 2))


def backward(model, step):
    model.zero_grad()
    x = torch.randn(6, 3, 5, 5, generator=torch.Generator().manual_seed(step))
    model(x).square().mean().backward()


def test_the_rate_is_a_tensor_where_steps_are_recorded():
    parameters = list(net().parameters())
    optimizer = build_optimizer(Optimizer(**SGD), parameters, torch.device("cpu"))
    rate = optimizer.param_groups[0]["lr"]
    set_rate(optimizer, 0.25)
    assert rate.item() == 0.25
    assert optimizer.param_groups[0]["lr"] is rate


def test_every_optimiser_of_a_run_is_in_the_dict():
    assert set(get_args(Optimizer.model_fields["name"].annotation)) == OPTIMIZERS.keys()
