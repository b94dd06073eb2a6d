"""What may stand in the place of a stored file, and a guard against waiting for a FIFO."""

import os
import signal
from pathlib import Path

import pytest


def loop_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def full_folder(path: Path) -> None:
    path.mkdir()
    (path / "something").write_text("in it")


# what stands in the place of a file, given its path, which is free, and its content
ODD = {
    "a folder": lambda path, content: path.mkdir(),
    "a full folder": lambda path, content: full_folder(path),
    "a link to itself": lambda path, content: loop_to_itself(path),
    "a link to nothing": lambda path, content: path.symlink_to("nothing"),
    "a link to a device": lambda path, content: path.symlink_to("/dev/zero"),
    "a FIFO": lambda path, content: os.mkfifo(path),
    "nothing in it": lambda path, content: path.write_bytes(b""),
    "not UTF-8": lambda path, content: path.write_bytes(b"\xff\xfe\x00" + content),
    "brackets": lambda path, content: path.write_bytes(b"[" * 100_000),
    "a huge number": lambda path, content: path.write_bytes(b'{"key": ' + b"9" * 10_000 + b"}"),
    "null": lambda path, content: path.write_bytes(b"null"),
    "half of it": lambda path, content: path.write_bytes(content[: len(content) // 2]),
    "a flipped bit": lambda path, content: path.write_bytes(
        content[:20] + bytes([content[20] ^ 1]) + content[21:]
    ),
    "a terabyte": lambda path, content: sparse(path, 1 << 40),
}


def sparse(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)


def put(path: Path, odd: str) -> None:
    content = path.read_bytes()
    path.unlink()
    ODD[odd](path, content)


@pytest.fixture(autouse=True)
def no_waiting():
    """End a test that waits for a FIFO."""

    def late(*_):
        raise TimeoutError("a file was waited for")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(240)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
