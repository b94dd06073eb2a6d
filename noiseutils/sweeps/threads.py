"""The executor of several threads that share a GPU: each trains runs of its own, on a CUDA stream of its own.

A small network leaves most of a GPU idle, even replayed as a graph; several at once fill it. On CPU, where
threads would take turns, processes do better: see `noiseutils.sweeps.local`.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

from noiseutils.config import Run
from noiseutils.sweeps.execution import execute
from noiseutils.sweeps.jobs import Job

WORKERS = 8  # threads by default


def threads(job: Job) -> None:
    """Train in `job.workers` threads side by side; what ends one of them ends all, and is raised here."""
    lock, stop = threading.Lock(), threading.Event()
    troubles: list[BaseException] = []

    def on_event(event: str, run: Run, detail: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        with lock:
            job.on_event(event, run, detail)

    mine = replace(job, on_event=on_event)

    def work() -> None:
        try:
            execute(mine)
        except BaseException as error:
            if not stop.is_set():
                troubles.append(error)
            stop.set()

    running = [threading.Thread(target=work) for _ in range(min(job.workers or WORKERS, len(job.todo)))]
    for thread in running:
        thread.start()
    try:
        for thread in running:
            thread.join()
    except BaseException:
        stop.set()  # each ends at its next epoch; what it has done since the last checkpoint is lost
        for thread in running:
            thread.join()
        raise
    if troubles:
        raise troubles[0]
