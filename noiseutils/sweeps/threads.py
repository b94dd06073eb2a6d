"""The executor of several threads that share a GPU: each trains runs of its own, on a CUDA stream of its own.

A small network leaves most of a GPU idle, even replayed as a graph; several at once fill it. On CPU, where
threads would take turns, processes do better: see `noiseutils.sweeps.local`.
"""

from __future__ import annotations

import ctypes
import threading
from contextlib import suppress
from dataclasses import replace
from typing import Any

from noiseutils.config import Run
from noiseutils.sweeps.execution import execute
from noiseutils.sweeps.jobs import Job

DEFAULT_WORKERS = 8  # threads by default
LOOK_SECONDS = 0.1  # between two looks at the threads
RETRY_SECONDS = 1.0  # seconds that an interrupted thread has before it is interrupted again


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
        with suppress(KeyboardInterrupt):  # one that comes while it notes the first
            try:
                execute(mine)
            except BaseException as error:
                if not stop.is_set():
                    troubles.append(error)
                stop.set()

    running = [
        threading.Thread(target=work) for _ in range(min(job.workers or DEFAULT_WORKERS, len(job.todo)))
    ]
    try:
        for thread in running:
            thread.start()
        while any(thread.is_alive() for thread in running) and not stop.wait(LOOK_SECONDS):
            pass
    finally:
        stop.set()  # what a thread has done since its last checkpoint is lost
        for thread in running:
            _interrupt(thread)
        for thread in running:
            while thread.is_alive():
                thread.join(RETRY_SECONDS)
                _interrupt(thread)
    if troubles:
        raise troubles[0]


def _interrupt(thread: threading.Thread) -> None:
    """Raise KeyboardInterrupt in a living thread, before its next line of Python: not an epoch later."""
    if thread.is_alive():
        interrupt, ident = ctypes.pythonapi.PyThreadState_SetAsyncExc, ctypes.c_ulong(thread.ident or 0)
        interrupt(ident, ctypes.py_object(KeyboardInterrupt))
