"""Time two or more ways of doing the same thing in turn, in one process, as ratios of medians.

An absolute time says little on a shared machine; a ratio of interleaved runs holds when its speed drifts.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Way = Callable[[], float]  # does its work once and returns its cost, such as seconds


@dataclass(frozen=True)
class Side:
    """Hold one side of a ratio.

    values: one a round, in the ratio's unit.   warm_up: seconds of the first call, which does
    not count: compiling, recording a graph, libraries choosing kernels, workers starting.
    """

    name: str
    values: tuple[float, ...]
    warm_up: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.values)


@dataclass(frozen=True)
class Ratio:
    """Divide the median of `above` by the median of `below`.

    name: of the benchmark, or one of its parts.   what: a phrase for a table.   unit: of both sides.
    details: numbers that explain the ratio, as JSON holds them.
    """

    name: str
    what: str
    above: Side
    below: Side
    unit: str = "s"
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        return self.above.median / self.below.median

    @property
    def slow_seconds(self) -> float:
        """Return the median above, of a ratio of seconds."""
        return self.above.median

    @property
    def fast_seconds(self) -> float:
        """Return the median below, of a ratio of seconds."""
        return self.below.median

    def to_json(self) -> dict[str, Any]:
        """Return the ratio and everything from which the ratio was computed."""
        sides = {
            name: {
                "name": side.name,
                "median": side.median,
                "values": list(side.values),
                "warm_up_seconds": side.warm_up,
            }
            for name, side in (("above", self.above), ("below", self.below))
        }
        return (
            {"name": self.name, "what": self.what, "ratio": self.ratio, "unit": self.unit}
            | sides
            | ({"details": self.details} if self.details else {})
        )


def interleaved(ways: Mapping[str, Way], rounds: int) -> dict[str, Side]:
    """Call each way once, to warm up, then `rounds` times all ways in turn."""
    turns = Turns(ways)
    for _ in range(rounds + 1):
        turns.take()
    return turns.sides()


class Turns:
    """Call ways in turn, a round a call of `take`; the first round is the warm-up."""

    def __init__(self, ways: Mapping[str, Way]) -> None:
        self.ways = ways
        self._warm_up: dict[str, float] = {}
        self._values: dict[str, list[float]] = {name: [] for name in ways}

    def take(self) -> None:
        """Call each way once."""
        first = not self._warm_up
        for name, way in self.ways.items():
            started = time.perf_counter()
            value = way()
            if first:
                self._warm_up[name] = time.perf_counter() - started
            else:
                self._values[name].append(value)

    def sides(self) -> dict[str, Side]:
        """Return the values of the rounds so far."""
        return {name: Side(name, tuple(values), self._warm_up[name]) for name, values in self._values.items()}


def seconds(work: Callable[[], object]) -> float:
    """Time a call, which on CUDA has to wait for the device itself."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
