"""What a command does when it is told to end: by Ctrl-C, SIGTERM, or a terminal that closes."""

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

from noiseutils.training.distributed import speaks

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE = 2.0  # seconds that the main thread has, which may be computing, or closing what it has opened


class Stop:
    """First signal that told the process to end.

    word: printed where the process has to be ended before it could say so itself.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.word = "stopped"
        self._heard: list[int] = []

    @property
    def code(self) -> int:
        """Return the exit code that shells give to a process ended by the signal; 130 without one."""
        return 128 + (self.number or signal.SIGINT)

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Raise KeyboardInterrupt in the main thread, inside the block, at the first of `SIGNALS`.

        Later ones are ignored. `PATIENCE` seconds after the first the process is ended, even if the main
        thread is inside a long call of C++, or has left the block and waits for other threads.
        A signal that is ignored now, as under nohup, stays so.
        """
        usual: dict[int, Any] = dict.fromkeys(SIGNALS, signal.SIG_DFL)
        usual[signal.SIGINT] = signal.default_int_handler
        self._heard = [number for number in SIGNALS if signal.getsignal(number) is usual[number]]
        for number in self._heard:
            signal.signal(number, self._interrupt)
        read, write = os.pipe()
        os.set_blocking(write, False)
        before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        threading.Thread(target=self._end, args=(read,), name="noiseutils-stop", daemon=True).start()
        try:
            yield
        finally:
            if self.number is None:
                for number in self._heard:
                    signal.signal(number, usual[number])
            signal.set_wakeup_fd(before)
            os.close(write)

    def _interrupt(self, number: int, frame: FrameType | None) -> NoReturn:
        self.number = number
        for each in self._heard:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    def _end(self, read: int) -> None:
        number = None
        while number not in self._heard:  # others may be handled, too
            if not (byte := os.read(read, 1)):
                os.close(read)
                return
            number = byte[0]
        time.sleep(PATIENCE)
        self.number = number
        self.say()
        os._exit(self.code)

    def say(self) -> None:
        """Print the word to standard error, which may have gone with its terminal; under torchrun once."""
        if speaks():
            with contextlib.suppress(OSError):
                print(f"\nnoiseutils: {self.word}", file=sys.stderr, flush=True)
