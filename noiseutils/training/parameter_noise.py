"""Noise on gradients and weights of a run, or an object that does nothing in its place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from noiseutils.config import Run
from noiseutils.noise.parameters import ParameterNoise, ParameterNoiseSpec
from noiseutils.rng import generator


class _NoAction:
    def row(self) -> dict[str, float]:
        return {}


class NoParameterNoise:
    """Stand-in for `ParameterNoise` in a run without such noise: every method does nothing."""

    source = None
    action = _NoAction()

    def begin_epoch(self) -> None:
        """Do nothing before an epoch."""

    def add_to_gradients(self) -> None:
        """Do nothing before an optimiser step."""

    def add_to_weights(self) -> None:
        """Do nothing after an optimiser step."""

    def example(self, x: Tensor, source: torch.Generator) -> None:
        """Return None: there is no noise to draw."""

    def observe(self, row: Mapping[str, Any]) -> bool:
        """Return False: steps stay as they are."""
        return False

    def change(self, spec: ParameterNoiseSpec) -> None:
        """Do nothing when the run's values change."""

    def state(self) -> dict[str, Tensor]:
        """Return an empty state."""
        return {}

    def restore(self, state: Mapping[str, Tensor], rows: Iterable[Mapping[str, Any]]) -> None:
        """Do nothing after a checkpoint was loaded."""


def parameter_noise_of(
    run: Run, parameters: list[nn.Parameter], source: torch.Generator
) -> ParameterNoise | NoParameterNoise:
    """Return the run's noise on gradients and weights, equal on every rank.

    source: generator whose initial seed the noise derives a generator of its own from.
    """
    if run.parameter_noise is None:
        return NoParameterNoise()
    own = generator(source.initial_seed(), "parameters", source.device)
    return ParameterNoise(run.parameter_noise, run.epochs, parameters, own)
