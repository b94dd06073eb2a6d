"""Build optimisers by name. To add one, extend `OPTIMIZERS` and the names in `config.Optimizer`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from noiseutils.config import Optimizer

Rate = float | Tensor  # a tensor where steps are recorded: they read the rate anew


def _sgd(spec: Optimizer, parameters: list[nn.Parameter], rate: Rate) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        parameters,
        lr=rate,
        momentum=spec.momentum,
        nesterov=spec.nesterov,
        weight_decay=spec.weight_decay,
        fused=True,
    )


def _adam(spec: Optimizer, parameters: list[nn.Parameter], rate: Rate) -> torch.optim.Optimizer:
    recorded = isinstance(rate, Tensor)
    return torch.optim.Adam(
        parameters, lr=rate, weight_decay=spec.weight_decay, fused=True, capturable=recorded
    )


OPTIMIZERS: dict[str, Callable[[Optimizer, list[nn.Parameter], Rate], torch.optim.Optimizer]] = {
    "sgd": _sgd,
    "adam": _adam,
}


def build_optimizer(
    spec: Optimizer, parameters: list[nn.Parameter], recorded: torch.device | None
) -> torch.optim.Optimizer:
    """Build the optimiser of a run; `set_rate` sets the learning rate before every step.

    recorded: device on which steps are recorded; None: no recording.
    """
    rate = 0.0 if recorded is None else torch.zeros((), device=recorded)
    return OPTIMIZERS[spec.name](spec, parameters, rate)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of the next step."""
    group = optimizer.param_groups[0]
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate
