"""The executor of a Ray cluster: each run is a task, which Ray places where there is room for it.

Images go into the object store once, and from there to each node once. See `noiseutils.sweeps.ray_tasks` for
what a task does. The tasks in Ray's queue are a few more than fit at the same time, so that a driver's memory
does not grow with the sweep, and a cluster that grows with its queue does.

A task whose worker or node was lost is sent again and goes on from its last checkpoint.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import secrets
import sys
import time
from collections import Counter, deque
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from noiseutils.config import Run
from noiseutils.errors import UserError
from noiseutils.provenance import versions
from noiseutils.sweeps.budget import Clock
from noiseutils.sweeps.execution import claim_run
from noiseutils.sweeps.gpu_shares import GpuShares
from noiseutils.sweeps.jobs import Job
from noiseutils.sweeps.ray_connection import connected
from noiseutils.sweeps.ray_queues import Queues
from noiseutils.sweeps.ray_tasks import Outcome, Task, packed, train_task
from noiseutils.sweeps.records import checkpoint_content, checkpoint_of

log = logging.getLogger("noiseutils")

LOST_WORKERS, LOST_NODES = 3, 10  # that one run may cost in a row before it is given up
AHEAD = 16  # tasks in Ray's queue beyond twice as many as fit: a growing cluster sees that more is wanted
POLL_SECONDS = 0.2  # between two looks at events
LOOK_SECONDS = 5.0  # between two looks at the cluster's size
HELD_SECONDS = 1.0  # before a run that another sweep holds is tried again
PATIENCE = 30.0  # seconds that no task runs before that is said, and that a result may take to be seen here


@dataclass
class Flight:
    """Task in Ray's hands.   claim: held by the driver while results come back to it.   gpus: its share."""

    run: Run
    claim: ExitStack
    gpus: float


def on_ray(job: Job) -> None:
    """Train on `job.cluster`; a run that costs it three workers is recorded as failed.

    Without Ray, or where the cluster cannot be reached, raises UserError.
    """
    token = secrets.token_hex(8)
    with connected(job.cluster), job.done.store.signed(token), _Driver(job, token) as driver:
        driver.fly()


class _Driver:
    """A sweep's tasks: sent, waited for, sent again."""

    def __init__(self, job: Job, token: str) -> None:
        import ray

        self.job, self.done, self.store = job, job.done, job.done.store
        self.clock = Clock(job.deadline)
        self.pending = deque(job.todo)
        self.held: deque[tuple[float, Run]] = deque()  # by another sweep; when to look again
        self.flying: dict[Any, Flight] = {}  # by the reference to the task's outcome
        self.running: dict[str, str] = {}  # node by run key, of tasks that have begun
        self.lost: Counter[tuple[str, str]] = Counter()  # workers and nodes in a row, by run key
        self.reached: Counter[str] = Counter()  # the last epoch seen of each run
        self.lost_at: Counter[str] = Counter()  # that epoch, when it last lost its worker
        self.unseen: list[tuple[float, Run]] = []  # stored by a worker, and not seen here yet
        self.runs = {run.key: run for run in job.todo}
        self.apart, self.most_claims = False, sys.maxsize
        self.token = token
        self.versions = versions()
        self.slots, self.looked, self.idle_since = 0, -LOOK_SECONDS, time.monotonic()
        self.shares = self._shares()
        self.gpus = self.shares.least
        cpus = job.cluster.cpus
        # a lost task is sent again here, as it then has another checkpoint and counts against its run
        options = {"num_cpus": cpus, "num_gpus": self.gpus, "max_retries": 0}
        self.task: Any = ray.remote(**options)(train_task)
        self.threads = max(1, int(cpus))
        self.images: dict[Any, Any] = {}
        self.queues = Queues()

    def _shares(self) -> GpuShares:
        """Return how much of a GPU tasks take: nothing where there is none."""
        import ray

        if self.job.device is not None and not self.job.device.startswith("cuda"):
            return GpuShares(0.0)
        given = self.job.cluster.gpus
        return GpuShares(0.0 if given is None and not ray.cluster_resources().get("GPU") else given)

    def __enter__(self) -> _Driver:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave no task behind, whatever ends the sweep, and no claim."""
        import ray
        from ray import exceptions

        with contextlib.suppress(exceptions.RayError, ConnectionError):
            for reference in self.flying:
                ray.cancel(reference, force=True)
            self.queues.shut_down()
        for flight in self.flying.values():
            flight.claim.close()

    def fly(self) -> None:
        """Send tasks and take their outcomes until all runs are done, failed, or out of time."""
        import ray

        while self.flying or not (self.done.out_of_time or self._all_sent()):
            self._send()
            ready = []
            if self.flying:
                references = list(self.flying)
                ready, _ = ray.wait(references, num_returns=1, timeout=POLL_SECONDS)
                if ready:  # perhaps not alone
                    ready, _ = ray.wait(references, num_returns=len(references), timeout=0)
            elif not self._all_sent():  # all that is left is held by others
                time.sleep(POLL_SECONDS)
            self._take_events()
            for reference in ready:
                self._land(self.flying.pop(reference), reference)
            self._show()
            if self.job.deadline is not None and time.monotonic() > self.job.deadline:
                self.done.out_of_time |= bool(self.flying) or not self._all_sent()
                break  # what still runs has a checkpoint, and is cancelled
        self._await_unseen()

    def _all_sent(self) -> bool:
        return not (self.pending or self.held)

    def _send(self) -> None:
        """Fill Ray's queue."""
        now = time.monotonic()
        if now - self.looked > LOOK_SECONDS:
            self.looked, self.slots = now, self._slots()
        while self.held and self.held[0][0] < now:
            self.pending.append(self.held.popleft()[1])
        most = min(self.job.workers or 2 * self.slots + AHEAD, self.most_claims)
        while self.pending and len(self.flying) < most and not self.done.out_of_time:
            if self.clock.over():
                self.done.out_of_time = True
                return
            self._launch(self.pending.popleft())

    def _slots(self) -> int:
        """Return how many runs fit the cluster at the same time."""
        import ray

        has = ray.cluster_resources()
        fits = has.get("CPU", 0) / self.job.cluster.cpus
        return int(min(fits, has.get("GPU", 0) / self.gpus) if self.gpus else fits)

    def _launch(self, run: Run) -> None:
        claim, checkpoint = ExitStack(), None
        if self.apart:
            with ExitStack() as claiming:
                state, trace = claim_run(run, self.job, claiming)
                if state != "claimed":
                    self._settle(run, Outcome(state, trace))
                    return
                stored = self.store.load_checkpoint(run)
                checkpoint = None if stored is None else checkpoint_content(run, stored)
                claim = claiming.pop_all()
        deadline, share = self.job.deadline, self.shares.of(run)
        task = Task(
            run=run,
            store=self.store,
            token=self.token,
            apart=self.apart,
            checkpoint=checkpoint,
            deadline=None if deadline is None else time.time() + deadline - time.monotonic(),
            longest=self.clock.longest,
            device=self.job.device if self.gpus else "cpu",
            threads=self.threads,
            fingerprint=self.job.sets[run.data].fingerprint,
            images=[self._images(run)],
            events=self.queues.events,
            checkpoints=self.queues.checkpoints,
            versions=self.versions,
            shared=self.shares.learns and share < 1,
        )
        reference = self.task.options(name="noiseutils run", num_gpus=share).remote(task)
        self.flying[reference] = Flight(run, claim, share)

    def _images(self, run: Run) -> Any:
        import ray

        if run.data not in self.images:
            self.images[run.data] = ray.put(packed(self.job.sets[run.data]))
        return self.images[run.data]

    def _land(self, flight: Flight, reference: Any) -> None:
        """Take the outcome of a task that has ended."""
        import ray
        from ray import exceptions

        run = flight.run
        self.running.pop(run.key, None)
        with flight.claim:
            try:
                outcome: Any = ray.get(reference)
            except exceptions.RayTaskError as error:  # not of a training: those are caught where they are
                raise UserError(
                    "a worker could not begin: noiseutils must be installed on all machines of the cluster, "
                    f"at the same version.\n{error}"
                ) from None
            except (exceptions.LocalRayletDiedError, exceptions.RuntimeEnvSetupError) as error:
                raise UserError(f"the Ray cluster takes no tasks: {error}") from None
            except exceptions.RayError as error:
                self._lose(run, error)
                return
            if isinstance(outcome.error, Exception):
                raise outcome.error
            if self.apart:
                self._store(run, outcome)
            self.shares.learn(run, flight.gpus, outcome.memory, outcome.state == "memory")
            self._settle(run, outcome)

    def _lose(self, run: Run, error: Exception) -> None:
        """Send a run again whose worker was lost, unless it has cost too many."""
        from ray import exceptions

        self._take_checkpoints()
        # a result that was lost on its way was lost with its node
        node = isinstance(error, exceptions.NodeDiedError | exceptions.ObjectLostError)
        what, most = ("node", LOST_NODES) if node else ("worker", LOST_WORKERS)
        if self.reached[run.key] > self.lost_at[run.key]:  # it gets on, so it is not what kills them
            self.lost[run.key, "node"] = self.lost[run.key, "worker"] = 0
        self.lost_at[run.key] = self.reached[run.key]
        self.lost[run.key, what] += 1
        log.info("%s: its %s was lost (%s)", run, what, type(error).__name__)
        if self.lost[run.key, what] < most:
            self.pending.appendleft(run)
            return
        why = "lost with their machines" if node else "killed, or out of memory"
        trace = (
            f"{most} {what}s in a row were lost while they trained it, and it came no further: {why}. "
            f"The last: {_first_line(error)}"
        )
        self.store.record_failure(run, trace)
        self._settle(run, Outcome("failed", trace))

    def _store(self, run: Run, outcome: Outcome) -> None:
        """Write what came back from a worker that does not see the store."""
        sender = f"node {outcome.node}"
        if outcome.dropped:
            self.store.drop_checkpoint(run, outcome.dropped)
        if outcome.files is not None:
            self.store.adopt(run, outcome.files, sender)
        if outcome.checkpoint is not None:
            self.store.save_checkpoint(run, checkpoint_of(run, outcome.checkpoint))
        if outcome.state == "failed":
            self.store.record_failure(run, outcome.trace)

    def _settle(self, run: Run, outcome: Outcome) -> None:
        """Take note of what has become of a run."""
        state = outcome.state
        self.clock.longest = max(self.clock.longest, outcome.longest)
        if state == "apart":
            self._part()
            self.pending.append(run)
        elif state == "memory":
            self.pending.appendleft(run)
        elif state == "held":
            self.held.append((time.monotonic() + HELD_SECONDS, run))
        elif state == "out_of_time":
            self.done.out_of_time = True
        else:
            if state == "failed":
                self.done.failed[run.key] = outcome.trace
            elif not self.store.finished(run):
                self.unseen.append((time.monotonic(), run))
            self.job.on_event(state, run, outcome.trace)

    def _part(self) -> None:
        """From now on have results sent back: not every node sees the store's folder."""
        if not self.apart:
            log.info("%s is not seen on all nodes: results are sent back", self.store.root)
            self.queues.take_checkpoints()
            self.most_claims = open_files() // 2  # each is an open file here
            self.apart = True

    def _take_events(self) -> None:
        aloft = self._aloft()
        for key, event, node, detail in self.queues.waiting_events():
            if key in aloft:  # else its outcome came first
                self.running[key] = node
                if event == "epoch":
                    self.reached[key] = max(self.reached[key], int(detail["epoch"]))
                    self.job.on_event(event, self.runs[key], detail)
        self._take_checkpoints()

    def _take_checkpoints(self) -> None:
        """Write the checkpoints that have come; the claims of their runs are held here."""
        aloft = self._aloft()
        for key, content in self.queues.waiting_checkpoints().items():
            if key in aloft:
                self.store.save_checkpoint(self.runs[key], checkpoint_of(self.runs[key], content))

    def _aloft(self) -> set[str]:
        return {flight.run.key for flight in self.flying.values()}

    def _show(self) -> None:
        now = time.monotonic()
        tasks, nodes = len(self.running), len(set(self.running.values()))
        self.job.describe(f"{tasks} task{'s'[: tasks != 1]} on {nodes} node{'s'[: nodes != 1]}")
        if tasks or not self.flying:
            self.idle_since = now
        elif now - self.idle_since > PATIENCE:
            self.idle_since = float("inf")  # said once
            wanted = f"{self.job.cluster.cpus:g} CPU" + (f" and {self.gpus:g} GPU" if self.gpus else "")
            log.warning("no node has had %s free for %.0f s: runs wait for one", wanted, PATIENCE)

    def _await_unseen(self) -> None:
        """Wait until results that workers have stored are seen here; a network's folder may take its time."""
        for since, run in self.unseen:
            while not self.store.finished(run):
                if time.monotonic() - since > PATIENCE:
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


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
