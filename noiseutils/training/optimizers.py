"""Optimisers by name; add one here and to `config.Optimizer`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from noiseutils.config import Optimizer


def build_optimizer(
    spec: Optimizer, parameters: list[nn.Parameter], recorded: torch.device | None
) -> torch.optim.Optimizer:
    """Build the optimiser of a run; `set_rate` sets the learning rate before every step.

    recorded: device on which steps are recorded and read the rate from a tensor; None: no recording.
    """
    rate = 0.0 if recorded is None else torch.zeros((), device=recorded)
    if spec.name == "adam":
        return torch.optim.Adam(
            parameters, lr=rate, weight_decay=spec.weight_decay, fused=True, capturable=recorded is not None
        )
    return torch.optim.SGD(
        parameters,
        lr=rate,
        momentum=spec.momentum,
        nesterov=spec.nesterov,
        weight_decay=spec.weight_decay,
        fused=True,
    )


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of the next step."""
    group = optimizer.param_groups[0]
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate
