"""Work that a control asks for again before it is done: in a thread, the latest request alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

import torch

R = TypeVar("R")


class Latest(Generic[R]):
    """Calls `work` with the newest request; those that came before it and were not begun are dropped.

    The thread is there while there is something to do.
    """

    def __init__(self, work: Callable[[R], None], name: str) -> None:
        self.work, self.name = work, name
        self._lock = threading.Lock()
        self._waiting: list[R] = []
        self._thread: threading.Thread | None = None

    def ask(self, request: R) -> None:
        """Do this next; returns at once."""
        with self._lock:
            self._waiting = [request]
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
                self._thread.start()

    def _run(self) -> None:
        torch.set_num_threads(1)  # of this thread: one image keeps no two cores busy
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
                request = self._waiting.pop()
            try:
                self.work(request)
            except BaseException:
                with self._lock:
                    self._thread = None  # the next request finds none, and starts one
                raise
