"""Write the results of a Ray sweep into the store: workers write if they see the folder, else the driver.

Workers write until one of them does not see the folder. From then on all workers send their results back,
and the driver holds the claims of their runs and writes for them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import sys
import time

from noiseutils.config import Run
from noiseutils.errors import UserError
from noiseutils.sweeps.ray_queues import Queues
from noiseutils.sweeps.ray_tasks import Outcome
from noiseutils.sweeps.records import checkpoint_content, checkpoint_of
from noiseutils.sweeps.store import Store

log = logging.getLogger("noiseutils")

VISIBILITY_TIMEOUT = 30.0  # seconds until a result that a worker has stored must be visible here
POLL_SECONDS = 0.2


class Delivery:
    """Results, failures and checkpoints of a sweep, on their way into a store.

    apart: whether results come back to the driver.   most_claims: runs that workers may have at one time.
    """

    def __init__(self, store: Store, queues: Queues) -> None:
        self.store, self.queues = store, queues
        self.apart, self.most_claims = False, sys.maxsize
        self._unseen: list[tuple[float, Run]] = []  # stored by a worker, and not seen here yet

    def send_back(self) -> None:
        """Have all results sent back from now on, as not every node sees the store's folder."""
        if not self.apart:
            log.info("%s is not seen on all nodes: results are sent back", self.store.root)
            self.queues.take_checkpoints()
            self.most_claims = open_files() // 2  # each is an open file here
            self.apart = True

    def checkpoint(self, run: Run) -> bytes | None:
        """Return the stored state of a run, to be sent with its task; None if there is none."""
        stored = self.store.load_checkpoint(run)
        return None if stored is None else checkpoint_content(run, stored)

    def take(self, run: Run, outcome: Outcome) -> None:
        """Write what came back from a worker that does not see the store."""
        if not self.apart:
            return
        if outcome.dropped:
            self.store.drop_checkpoint(run, outcome.dropped)
        if outcome.files is not None:
            self.store.adopt(run, outcome.files, f"node {outcome.node}")
        if outcome.checkpoint is not None:
            self.store.save_checkpoint(run, checkpoint_of(run, outcome.checkpoint))
        if outcome.state == "failed":
            self.store.record_failure(run, outcome.trace)

    def take_checkpoints(self, runs: dict[str, Run]) -> None:
        """Write the checkpoints that have come of these runs, by key; the driver holds their claims."""
        for key, content in self.queues.waiting_checkpoints().items():
            if key in runs:
                self.store.save_checkpoint(runs[key], checkpoint_of(runs[key], content))

    def expect(self, run: Run) -> None:
        """Take note of a run that a worker has ended, and whose result is to be seen here at the end."""
        if not self.store.finished(run):
            self._unseen.append((time.monotonic(), run))

    def await_all(self) -> None:
        """Wait until results that workers have stored are seen here; a network's folder may take its time."""
        for since, run in self._unseen:
            while not self.store.finished(run):
                if time.monotonic() - since > VISIBILITY_TIMEOUT:
                    raise UserError(
                        f"a worker has stored {run}, and it is not in {self.store.root} here: is that one "
                        "folder on all machines?"
                    )
                with contextlib.suppress(OSError):
                    os.listdir(self.store.root)  # has the folder's entries read again
                time.sleep(POLL_SECONDS)


def open_files() -> int:
    """Return how many files this process may have open, once it may have as many as the system allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS has a limit beside the one that it names
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return soft if soft != resource.RLIM_INFINITY else sys.maxsize
