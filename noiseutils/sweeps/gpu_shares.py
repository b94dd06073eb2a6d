"""Share a GPU among the runs of a cluster: as much as the memory of runs like each, an eighth at least.

The first runs of a kind take the least. What they had reserved is the share of the next; one that lacked
memory is sent again with twice its share, up to a whole GPU.
"""

from __future__ import annotations

import logging
import math

from noiseutils.config import Run

log = logging.getLogger("noiseutils")

LEAST_SHARE = 0.125  # as many runs on a GPU as the executor `threads` trains on one
MEMORY_MARGIN = 1.25  # times the memory that a run had reserved
SHARES_OF_A_GPU = 16  # of a GPU: shares are multiples of a sixteenth


class GpuShares:
    """Shares by what the memory of a training depends on most: network, batch, images, and kind of noise.

    given: the share that all runs take, whatever they reserve; None to learn it.
    """

    def __init__(self, given: float | None = None) -> None:
        self.least = LEAST_SHARE if given is None else given
        self.learns = given is None
        self._learned: dict[tuple[object, ...], float] = {}

    def of(self, run: Run) -> float:
        """Return the share that a run takes."""
        return self._learned.get(_kind(run), self.least)

    def learn(self, run: Run, share: float, reserved: float, lacked: bool) -> None:
        """Take note of a run's memory.

        share: of a GPU, that it had.   reserved: the most of its GPU's memory that it had, in [0, 1].
        lacked: whether that was too little.
        """
        if not self.learns:
            return
        needed = math.ceil(reserved * MEMORY_MARGIN * SHARES_OF_A_GPU) / SHARES_OF_A_GPU
        if lacked:
            needed = 2 * share
            log.info("%s: too little memory with %g of a GPU; again with %g", run, share, min(1.0, needed))
        self._learned[_kind(run)] = min(1.0, max(self.of(run), needed))


def _kind(run: Run) -> tuple[object, ...]:
    return run.model, run.batch_size, run.data, type(run.noise)
