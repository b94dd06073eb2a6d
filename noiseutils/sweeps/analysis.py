"""What is asked of trained networks once the sweep is over: each finding kept in the store, beside its run.

That needs the weights and takes longer than many a training; what a GPU machine found is shown where there
are neither weights nor time.
"""

from __future__ import annotations

import math
import multiprocessing
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import TypeVar

import torch
from tqdm import tqdm

from noiseutils.errors import UserError
from noiseutils.sweeps.jobs import cores

Job = TypeVar("Job")


def work_off(jobs: Sequence[Job], keep: Callable[[Job], None], what: str, budget: float | None) -> None:
    """Call `keep` on every job; it stores what it finds.

    On CPU a core each, as small networks gain nothing from several; not under a budget (seconds): then one
    after the other, and none is begun that would end after it if it took as long as the longest so far.
    keep: at the top level of a module; it and its jobs go to other processes.   what: of the progress bar.
    Raises UserError if a process was killed; what was kept stays.
    """
    workers = min(cores(), len(jobs))
    bar = partial(tqdm, total=len(jobs), desc=what, disable=None if jobs else True)
    if torch.cuda.is_available() or budget is not None or workers < 2:
        deadline = math.inf if budget is None else time.monotonic() + budget
        longest = 0.0
        for job in bar(jobs):
            started = time.monotonic()
            if started + longest > deadline:
                return
            keep(job)
            longest = max(longest, time.monotonic() - started)
        return
    context = multiprocessing.get_context("spawn")  # a forked child inherits torch's threads broken
    with ProcessPoolExecutor(workers, context, _start_worker, (max(1, cores() // workers),)) as pool:
        try:
            for made in bar(as_completed([pool.submit(keep, job) for job in jobs])):
                made.result()
        except BrokenProcessPool:
            raise UserError(
                f"a process of the {what} was killed, perhaps for memory; what was found is kept, and the "
                "same command goes on; a profile with no images to attack leaves them out"
            ) from None


def _start_worker(threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it at once, and without a traceback
    torch.set_num_threads(threads)
