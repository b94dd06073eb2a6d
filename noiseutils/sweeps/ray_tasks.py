"""Train one run as a task of a Ray cluster: the driver sends a `Task`, the worker returns an `Outcome`.

A worker that sees the store's folder claims, resumes and writes the run itself, as every other executor does.
A worker that does not see the folder gets the checkpoint with the task and sends back all files; the driver
writes them.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from noiseutils.config import Run
from noiseutils.errors import UserError, portable
from noiseutils.files import Unusable
from noiseutils.provenance import versions
from noiseutils.sweeps.budget import Clock
from noiseutils.sweeps.execution import attempt
from noiseutils.sweeps.jobs import Job, Sweep, on_cuda
from noiseutils.sweeps.ray_images import unpacked_once
from noiseutils.sweeps.ray_queues import asked
from noiseutils.sweeps.records import checkpoint_content, checkpoint_of, files_of
from noiseutils.sweeps.store import Store
from noiseutils.training.checkpoint import Checkpoint
from noiseutils.training.loop import Result

EVENT_SECONDS = 0.5  # between two messages on the epochs of a run
MATCHING_VERSIONS = (
    "noiseutils",
    "torch",
    "numpy",
)  # versions that the driver and its workers must have in common


@dataclass(frozen=True)
class Task:
    """Run to train, and all that a worker needs to train the run.

    token: names a file in the store's folder; a worker that finds this file sees the folder.
    apart: whether results are sent back to the driver.   checkpoint: bytes to resume from, if `apart`.
    deadline: of the wall clock, as monotonic clocks differ between machines.   longest: see `Clock`.
    images: a list with one reference to a packed data set; Ray does not fetch references inside a list, so
    the worker does.
    events, checkpoints: queues to the driver; checkpoints is None unless `apart`.   shared: see `Job`.
    """

    run: Run
    store: Store
    token: str
    apart: bool
    checkpoint: bytes | None
    deadline: float | None
    longest: float
    device: str | None
    threads: int
    fingerprint: str
    images: list[Any]
    events: Any
    checkpoints: Any
    versions: dict[str, str]
    shared: bool = False


@dataclass(frozen=True)
class Outcome:
    """Outcome of a run in a worker.

    state: of `attempt`; or "apart" if the worker does not see the store, and has done nothing; or "error"
    if the sweep must end with `error`.   trace: of a failure.   files: of a result that is sent back.
    checkpoint: the last one, of a run that the deadline has interrupted.   dropped: why the training could
    not resume from its checkpoint.   longest: seconds, see `Clock`.   memory: the largest share of the GPU's
    memory that the run had reserved.
    """

    state: str
    trace: str = ""
    files: dict[str, bytes] | None = None
    checkpoint: bytes | None = None
    dropped: str = ""
    longest: float = 0.0
    error: Exception | None = None
    node: str = ""
    memory: float = 0.0


class InMemoryStore(Store):
    """Store of one run, in the memory of a worker that does not see the folder; sent back to the driver.

    offer: called with the bytes of each checkpoint.
    """

    def __init__(self, checkpoint: bytes | None, offer: Callable[[bytes], None]) -> None:
        super().__init__(Path("a worker's memory"))
        self.checkpoint, self.offer = checkpoint, offer
        self.files: dict[str, bytes] | None = None
        self.dropped = ""

    def finished(self, run: Run) -> bool:
        """Return False: the driver has looked."""
        return False

    def failure(self, run: Run) -> str | None:
        """Return None: the driver has looked."""
        return None

    @contextlib.contextmanager
    def claim(self, run: Run, owner: str = "") -> Iterator[bool]:
        """Yield True: the driver has claimed the run."""
        yield True

    def save(self, result: Result) -> None:
        """Keep the files of a result."""
        self.files = files_of(result)

    def record_failure(self, run: Run, trace: str) -> None:
        """Do nothing: the driver writes the failure that the task ends with."""

    def load_checkpoint(self, run: Run) -> Checkpoint | None:
        """Return the state that the driver has sent, None where it has sent none."""
        if self.checkpoint is None:
            return None
        try:
            return checkpoint_of(run, self.checkpoint)
        except Unusable as damage:
            self.drop_checkpoint(run, str(damage))
            return None

    def drop_checkpoint(self, run: Run, why: str) -> None:
        """Take note that the state cannot be resumed from; the run starts anew."""
        self.checkpoint, self.dropped = None, why

    def save_checkpoint(self, run: Run, checkpoint: Checkpoint) -> None:
        """Keep the state of the run and offer it to the driver."""
        self.checkpoint = checkpoint_content(run, checkpoint)
        self.offer(self.checkpoint)


def train_task(task: Task) -> Outcome:
    """Train a run in a worker of Ray; whatever goes wrong is part of the outcome."""
    import ray

    node = ray.get_runtime_context().get_node_id()
    place = f"node {ray.util.get_node_ip_address()}"
    try:
        return replace(_train(task, node, place), node=node)
    except Exception as error:
        return Outcome("error", error=portable(error, f"on {place}"), node=node)


def _train(task: Task, node: str, place: str) -> Outcome:
    import ray
    from ray.exceptions import GetTimeoutError, RayActorError

    check_versions(task.versions, place)
    if not task.apart and not task.store.sees_token(task.token):
        return Outcome("apart")
    run, last = task.run, 0.0

    def on_event(event: str, run: Run, detail: Any) -> None:
        nonlocal last
        if event == "claimed" or (event == "epoch" and time.monotonic() - last > EVENT_SECONDS):
            last = time.monotonic()
            task.events.actor.put_nowait.remote((run.key, event, node, detail))

    def offer(checkpoint: bytes) -> None:
        # a driver that is behind takes none; the next is newer
        with contextlib.suppress(asyncio.QueueFull, RayActorError, GetTimeoutError):
            if not asked(task.checkpoints, "full"):
                asked(task.checkpoints, "put_nowait", (run.key, checkpoint))

    store = InMemoryStore(task.checkpoint, offer) if task.apart else task.store
    deadline = None if task.deadline is None else time.monotonic() + task.deadline - time.time()
    clock, done = Clock(deadline, task.longest), Sweep([run], store)
    images = unpacked_once(run.data, task.fingerprint, lambda: ray.get(task.images[0]))
    sets = dict.fromkeys([run.data], images)
    torch.set_num_threads(task.threads)
    job = Job([run], sets, done, on_event, deadline, task.device, shared=task.shared)
    state = attempt(run, job, clock)
    trace = done.failed.get(run.key, "")
    outcome = Outcome(state, trace, longest=clock.longest, memory=_reserved(task.device))
    if not isinstance(store, InMemoryStore):
        return outcome
    checkpoint = store.checkpoint if state == "out_of_time" else None
    return replace(outcome, files=store.files, checkpoint=checkpoint, dropped=store.dropped)


def _reserved(device: str | None) -> float:
    """Return the largest share of its GPU's memory that this process had reserved; 0 without one."""
    if not on_cuda(device):
        return 0.0
    _, total = torch.cuda.mem_get_info()
    return torch.cuda.max_memory_reserved() / total


def check_versions(wanted: dict[str, str], place: str) -> None:
    """Raise UserError where this machine would compute other numbers than the driver's."""
    found = versions()
    for name in MATCHING_VERSIONS:
        if found[name] != wanted[name]:
            raise UserError(
                f"{place} has {name} {found[name]}, the driver {wanted[name]}: results would differ. All "
                "machines of the cluster need the same environment"
            )
