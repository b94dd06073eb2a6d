"""The executor of a Ray cluster: each run is a task, which Ray places where there is room for it.

Images go into the object store once, and from there to each node once. See `noiseutils.sweeps.ray_tasks` for
what a task does. The tasks in Ray's queue are a few more than fit at the same time, so that a driver's memory
does not grow with the sweep, and a cluster that grows with its queue does.

A task whose worker or node was lost is sent again and goes on from its last checkpoint.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import time
from collections import deque
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
from noiseutils.sweeps.ray_delivery import Delivery
from noiseutils.sweeps.ray_images import packed
from noiseutils.sweeps.ray_losses import Losses
from noiseutils.sweeps.ray_queues import Queues
from noiseutils.sweeps.ray_tasks import Outcome, Task, train_task

log = logging.getLogger("noiseutils")

TASKS_AHEAD = 16  # in Ray's queue beyond twice as many as fit: a growing cluster sees that more is wanted
POLL_SECONDS = 0.2  # between two looks at events
LOOK_SECONDS = 5.0  # between two looks at the cluster's size
HELD_SECONDS = 1.0  # before a run that another sweep holds is tried again
IDLE_WARNING_SECONDS = 30.0  # without a running task, before a warning


@dataclass
class SubmittedTask:
    """Task in Ray's hands.   claim: held by the driver while results come back to it.   gpus: its share."""

    run: Run
    claim: ExitStack
    gpus: float


def on_ray(job: Job) -> None:
    """Train on `job.cluster`; a run that costs it three workers is recorded as failed.

    Without Ray, or where the cluster cannot be reached, raises UserError.
    """
    token = secrets.token_hex(8)
    with connected(job.cluster), job.done.store.shared_token(token), _Driver(job, token) as driver:
        driver.run_all()


class _Driver:
    """A sweep's tasks: sent, waited for, sent again."""

    def __init__(self, job: Job, token: str) -> None:
        import ray

        self.job, self.done, self.store = job, job.done, job.done.store
        self.clock = Clock(job.deadline)
        self.pending = deque(job.todo)
        self.held: deque[tuple[float, Run]] = deque()  # by another sweep; when to look again
        self.submitted: dict[Any, SubmittedTask] = {}  # by the reference to the task's outcome
        self.running: dict[str, str] = {}  # node by run key, of tasks that have begun
        self.losses = Losses()
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
        self.delivery = Delivery(self.store, self.queues)

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
            for reference in self.submitted:
                ray.cancel(reference, force=True)
            self.queues.shut_down()
        for task in self.submitted.values():
            task.claim.close()

    def run_all(self) -> None:
        """Send tasks and take their outcomes until all runs are done, failed, or out of time."""
        import ray

        while self.submitted or not (self.done.out_of_time or self._all_submitted()):
            self._fill_queue()
            ready = []
            if self.submitted:
                references = list(self.submitted)
                ready, _ = ray.wait(references, num_returns=1, timeout=POLL_SECONDS)
                if ready:  # perhaps not alone
                    ready, _ = ray.wait(references, num_returns=len(references), timeout=0)
            elif not self._all_submitted():  # all that is left is held by others
                time.sleep(POLL_SECONDS)
            self._take_events()
            for reference in ready:
                self._receive(self.submitted.pop(reference), reference)
            self._show()
            if self.job.deadline is not None and time.monotonic() > self.job.deadline:
                self.done.out_of_time |= bool(self.submitted) or not self._all_submitted()
                break  # what still runs has a checkpoint, and is cancelled
        self.delivery.await_all()

    def _all_submitted(self) -> bool:
        return not (self.pending or self.held)

    def _fill_queue(self) -> None:
        """Submit tasks until Ray's queue is full."""
        now = time.monotonic()
        if now - self.looked > LOOK_SECONDS:
            self.looked, self.slots = now, self._slots()
        while self.held and self.held[0][0] < now:
            self.pending.append(self.held.popleft()[1])
        most = min(self.job.workers or 2 * self.slots + TASKS_AHEAD, self.delivery.most_claims)
        while self.pending and len(self.submitted) < most and not self.done.out_of_time:
            if self.clock.over():
                self.done.out_of_time = True
                return
            self._submit(self.pending.popleft())

    def _slots(self) -> int:
        """Return how many runs fit the cluster at the same time."""
        import ray

        has = ray.cluster_resources()
        fits = has.get("CPU", 0) / self.job.cluster.cpus
        return int(min(fits, has.get("GPU", 0) / self.gpus) if self.gpus else fits)

    def _submit(self, run: Run) -> None:
        claim, checkpoint = ExitStack(), None
        if self.delivery.apart:
            with ExitStack() as claiming:
                state, trace = claim_run(run, self.job, claiming)
                if state != "claimed":
                    self._settle(run, Outcome(state, trace))
                    return
                checkpoint = self.delivery.checkpoint(run)
                claim = claiming.pop_all()
        deadline, share = self.job.deadline, self.shares.of(run)
        task = Task(
            run=run,
            store=self.store,
            token=self.token,
            apart=self.delivery.apart,
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
        self.submitted[reference] = SubmittedTask(run, claim, share)

    def _images(self, run: Run) -> Any:
        import ray

        if run.data not in self.images:
            self.images[run.data] = ray.put(packed(self.job.sets[run.data]))
        return self.images[run.data]

    def _receive(self, task: SubmittedTask, reference: Any) -> None:
        """Take the outcome of a task that has ended."""
        import ray
        from ray import exceptions

        run = task.run
        self.running.pop(run.key, None)
        with task.claim:
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
            self.delivery.take(run, outcome)
            self.shares.learn(run, task.gpus, outcome.memory, outcome.state == "memory")
            self._settle(run, outcome)

    def _lose(self, run: Run, error: Exception) -> None:
        """Send a run again whose worker was lost, unless it has cost too many."""
        self.delivery.take_checkpoints(self._submitted_runs() | {run.key: run})
        trace = self.losses.count(run.key, error)
        log.info("%s: its worker or node was lost (%s)", run, type(error).__name__)
        if not trace:
            self.pending.appendleft(run)
            return
        self.store.record_failure(run, trace)
        self._settle(run, Outcome("failed", trace))

    def _settle(self, run: Run, outcome: Outcome) -> None:
        """Take note of what has become of a run."""
        state = outcome.state
        self.clock.longest = max(self.clock.longest, outcome.longest)
        if state == "apart":
            self.delivery.send_back()
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
            else:
                self.delivery.expect(run)
            self.job.on_event(state, run, outcome.trace)

    def _take_events(self) -> None:
        runs = self._submitted_runs()
        for key, event, node, detail in self.queues.waiting_events():
            if key in runs:  # else its outcome came first
                self.running[key] = node
                if event == "epoch":
                    self.losses.reach(key, int(detail["epoch"]))
                    self.job.on_event(event, runs[key], detail)
        self.delivery.take_checkpoints(runs)

    def _submitted_runs(self) -> dict[str, Run]:
        return {task.run.key: task.run for task in self.submitted.values()}

    def _show(self) -> None:
        now = time.monotonic()
        tasks, nodes = len(self.running), len(set(self.running.values()))
        self.job.describe(f"{tasks} task{'s'[: tasks != 1]} on {nodes} node{'s'[: nodes != 1]}")
        if tasks or not self.submitted:
            self.idle_since = now
        elif now - self.idle_since > IDLE_WARNING_SECONDS:
            self.idle_since = float("inf")  # said once
            wanted = f"{self.job.cluster.cpus:g} CPU" + (f" and {self.gpus:g} GPU" if self.gpus else "")
            log.warning("runs wait: for %.0f s no node has had %s free", IDLE_WARNING_SECONDS, wanted)
