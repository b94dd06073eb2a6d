"""Workers and nodes that the runs of a Ray sweep have lost: counted, and when a run is given up for them."""

from __future__ import annotations

from collections import Counter

LOST_WORKERS, LOST_NODES = 3, 10  # that one run may cost in a row before it is given up


class Losses:
    """Losses of each run, by run key. A run that gets on between two losses is not what kills them."""

    def __init__(self) -> None:
        self._lost: Counter[tuple[str, str]] = Counter()  # workers and nodes in a row, by run key
        self._reached: Counter[str] = Counter()  # the last epoch seen of each run
        self._lost_at: Counter[str] = Counter()  # that epoch, at the run's last loss

    def reach(self, key: str, epoch: int) -> None:
        """Take note of an epoch that a run has ended."""
        self._reached[key] = max(self._reached[key], epoch)

    def count(self, key: str, error: Exception) -> str:
        """Count what Ray's error says was lost; return why the run is given up, nothing while it is not."""
        from ray import exceptions

        # a result that was lost on its way was lost with its node
        node = isinstance(error, exceptions.NodeDiedError | exceptions.ObjectLostError)
        what, most = ("node", LOST_NODES) if node else ("worker", LOST_WORKERS)
        if self._reached[key] > self._lost_at[key]:
            self._lost[key, "node"] = self._lost[key, "worker"] = 0
        self._lost_at[key] = self._reached[key]
        self._lost[key, what] += 1
        if self._lost[key, what] < most:
            return ""
        why = "their machines were lost" if node else "killed, or out of memory"
        return (
            f"{most} {what}s in a row were lost while they trained this run, and the run made no progress in "
            f"between: {why}. The last error: {_first_line(error)}"
        )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
