"""A sweep's time: when to stop before the deadline, how often to store a checkpoint."""

from __future__ import annotations

import time

CHECKPOINT_SECONDS = 5.0  # at most this much training is lost to a kill; writing costs little beside it


class OutOfTime(Exception):
    """Raised when the next piece of work would not end before the deadline."""


class Clock:
    """Clock of a sweep: tells whether another lap, as long as the longest, ends before the deadline.

    longest: seconds of the longest lap so far, where others have gone before.
    """

    def __init__(self, deadline: float | None, longest: float = 0.0) -> None:
        self.deadline, self.longest, self.since = deadline, longest, time.monotonic()

    def over(self) -> bool:
        """Return whether another lap would end too late."""
        return self.deadline is not None and time.monotonic() + 1.1 * self.longest > self.deadline

    def start(self) -> None:
        """Begin a lap, or raise OutOfTime."""
        if self.over():
            raise OutOfTime
        self.since = time.monotonic()

    def lap(self) -> bool:
        """End a lap and begin the next; return whether that would end too late."""
        now = time.monotonic()
        self.longest, self.since = max(self.longest, now - self.since), now
        return self.over()
