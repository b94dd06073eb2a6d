"""Do the latest request of a control in a thread, and drop requests that came before."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

import torch

R = TypeVar("R")


class Latest(Generic[R]):
    """Call `work` with the newest request; earlier requests that were not begun are dropped.

    The thread lives while there is a request.
    """

    def __init__(self, work: Callable[[R], None], name: str) -> None:
        self.work, self.name = work, name
        self._lock = threading.Lock()
        self._waiting: list[R] = []
        self._thread: threading.Thread | None = None

    def ask(self, request: R) -> None:
        """Queue a request as the next one, and return at once."""
        with self._lock:
            self._waiting = [request]
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
                self._thread.start()

    def _run(self) -> None:
        torch.set_num_threads(1)  # of this thread: one image does not keep two cores busy
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
                    self._thread = None  # the next request starts a thread
                raise
