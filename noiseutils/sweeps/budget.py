"""How a sweep keeps to its time: when to stop before the deadline, how often to write where a run stands."""

from __future__ import annotations

import time

CHECKPOINT_SECONDS = 5.0  # at most this much training is lost to a kill; writing costs little beside it


class OutOfTime(Exception):
    """The next piece of work would not end before the deadline."""


class Clock:
    """Knows whether another lap, as long as the longest so far, still ends before the deadline."""

    def __init__(self, deadline: float | None) -> None:
        self.deadline, self.longest, self.since = deadline, 0.0, time.monotonic()

    def over(self) -> bool:
        return self.deadline is not None and time.monotonic() + 1.1 * self.longest > self.deadline

    def start(self) -> None:
        if self.over():
            raise OutOfTime
        self.since = time.monotonic()

    def lap(self) -> bool:
        now = time.monotonic()
        self.longest, self.since = max(self.longest, now - self.since), now
        return self.over()
