"""Questions to trained networks, asked after the sweep; each answer is kept in the store, beside its run.

That needs the weights and takes longer than many a training; what a GPU machine found is shown where there
are neither weights nor time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

from tqdm import tqdm

from noiseutils.errors import UserError
from noiseutils.sweeps.budget import Clock
from noiseutils.sweeps.jobs import cores, on_cuda, one_thread
from noiseutils.sweeps.processes import SPAWN, Ended, Processes, Send

Job = TypeVar("Job")


def work_off(jobs: Sequence[Job], keep: Callable[[Job], None], what: str, budget: float | None) -> None:
    """Call `keep` on every job; it stores what it finds.

    On CPU a core and a thread each, as small networks gain nothing from several; not under a budget
    (seconds): then one after the other, and none is begun that would end after it if it took as long as the
    longest so far. A job has one thread in any case, so what is left to do does not change what is found.
    keep: at the top level of a module; it and its jobs go to other processes.   what: of the progress bar.
    Raises UserError if a process was killed; what was kept stays.
    """
    count, gpu = min(cores(), len(jobs)), on_cuda(None)
    with tqdm(total=len(jobs), desc=what, disable=None if jobs else True) as bar:
        if gpu or budget is not None or count < 2:
            clock = Clock(None if budget is None else time.monotonic() + budget)
            for job in jobs:
                if clock.over():
                    return
                clock.start()
                with nullcontext() if gpu else one_thread():
                    keep(job)
                clock.lap()
                bar.update()
            return
        with Processes() as workers:
            taken = SPAWN.Value("i", 0)
            for _ in range(count):
                workers.start(_work, jobs, keep, shared=(taken,))
            for _, message in workers.messages():
                if not isinstance(message, Ended):
                    bar.update()
                elif message.code:
                    raise UserError(
                        f"a process of the {what} was killed, perhaps for memory; finished jobs are kept, "
                        "the same command resumes; a profile with no images to attack leaves these jobs out"
                    )


def _work(send: Send, jobs: Sequence[Job], keep: Callable[[Job], None], taken: Any) -> None:
    """Take one job after the other.   taken: number of jobs taken by all processes."""
    while True:
        with taken.get_lock():
            number = taken.value
            taken.value += 1
        if number >= len(jobs):
            return
        keep(jobs[number])
        send(number)
