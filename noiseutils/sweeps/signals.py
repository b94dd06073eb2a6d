"""Stop a command on Ctrl-C, on SIGTERM, and when the terminal closes."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn

from noiseutils.training.distributed import is_main_process

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
EXIT_TIMEOUT = 2.0  # seconds from a signal until the process is ended, whatever its main thread is doing


class Stop:
    """First signal that asked the process to stop.

    message: printed when the process stops, also if the process has to be ended.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.message = "stopped"
        self._handled: list[int] = []

    @property
    def code(self) -> int:
        """Return the exit code that shells give to a process ended by the signal; 130 without one."""
        return 128 + (self.number or signal.SIGINT)

    @contextlib.contextmanager
    def handling(self) -> Iterator[None]:
        """Raise KeyboardInterrupt in the main thread, inside the block, at the first of `SIGNALS`.

        Later signals are ignored. `EXIT_TIMEOUT` seconds after the first the process is ended, even if the
        main thread is inside a long call of C++, or has left the block and waits for other threads.
        A signal that is already ignored, as under nohup, stays ignored.
        """
        usual: dict[int, Any] = dict.fromkeys(SIGNALS, signal.SIG_DFL)
        usual[signal.SIGINT] = signal.default_int_handler
        self._handled = [number for number in SIGNALS if signal.getsignal(number) is usual[number]]
        for number in self._handled:
            signal.signal(number, self._interrupt)
        read, write = os.pipe()
        os.set_blocking(write, False)
        before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        threading.Thread(target=self._end, args=(read,), name="noiseutils-stop", daemon=True).start()
        try:
            yield
        finally:
            if self.number is None:
                for number in self._handled:
                    signal.signal(number, usual[number])
            signal.set_wakeup_fd(before)
            os.close(write)

    def _interrupt(self, number: int, frame: FrameType | None) -> NoReturn:
        self.number = number
        for each in self._handled:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    def _end(self, read: int) -> None:
        number = None
        while number not in self._handled:  # a signal with another handler wakes this thread, too
            if not (byte := os.read(read, 1)):
                os.close(read)
                return
            number = byte[0]
        time.sleep(EXIT_TIMEOUT)
        self.number = number
        self.print_message()
        os._exit(self.code)

    def print_message(self) -> None:
        """Print the message to standard error if that is still open; under torchrun on rank 0 alone."""
        if is_main_process():
            with contextlib.suppress(OSError):
                print(f"\nnoiseutils: {self.message}", file=sys.stderr, flush=True)
