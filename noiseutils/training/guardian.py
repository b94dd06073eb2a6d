"""Kill the child processes of an ended process: `orphans.Guardian` runs this file as a separate process.

The guardian reads process ids from standard input, one a line; a minus before an id removes the id. The pipe
closes when the writing process has ended, by whatever means. The guardian then kills the listed processes.
The first argument, if given, is a mark: processes with this mark in their environment are killed, too, with
all processes that they have started (Linux).
"""

import contextlib
import os
import select
import signal
import sys
import time

LOOK_SECONDS = 1.0  # between two looks at the processes with a mark
LAST_LOOKS = 5  # as a process that is about to be killed may be starting another
Known = tuple[int, bytes]  # a process's id, and when it started: the id alone may be another's later


def parents() -> dict[Known, int]:
    """Return every process's parent."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()  # a name may hold blanks and brackets
        except OSError:
            continue
        found[int(name), fields[19]] = int(fields[1])
    return found


def has(mark: bytes, process: int) -> bool:
    try:
        with open(f"/proc/{process}/environ", "rb") as file:
            return mark in file.read()
    except OSError:
        return False


def grown(family: set[Known], mark: bytes) -> set[Known]:
    """Return those of a family that live, with all that joined it.

    A process may write a title over its environment, and lose its parent: it is known from an earlier look.
    """
    living = parents()
    family = {known for known in living if known in family or has(mark, known[0])}
    while born := {known for known, parent in living.items() if parent in dict(family)} - family:
        family |= born
    return family


def kill(process: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(process, signal.SIGKILL)


def main() -> None:
    mark = sys.argv[1].encode() if sys.argv[1:] else None
    wards: set[int] = set()
    family: set[Known] = set()
    text = b""
    while True:
        told, _, _ = select.select([0], [], [], None if mark is None else LOOK_SECONDS)
        if told:
            content = os.read(0, 65536)
            if not content:
                break
            *lines, text = (text + content).split(b"\n")
            for number in map(int, lines):
                wards.add(number) if number > 0 else wards.discard(-number)
        elif mark is not None:
            family = grown(family, mark)
    for ward in wards:
        kill(ward)
    if mark is None:
        return
    for _ in range(LAST_LOOKS):
        family = grown(family, mark)
        for process, _start in family:
            kill(process)
        time.sleep(0.1)


if __name__ == "__main__":
    main()
