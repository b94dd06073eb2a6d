"""Read and write files that processes share: regular files alone, atomic writes, errors with a remedy.

A path may lead to anything: a folder, a link that leads nowhere or to itself, a FIFO that never answers, an
incomplete or edited file. Functions here read a regular file, or raise an error that says what the path
leads to, so that the caller can report the error and continue with other files.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from noiseutils.errors import UserError

LARGEST_FILE = 1 << 28  # bytes of a file that is no set of weights: far beyond what is written
WRONG_KIND_ERRORS = (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP)
DISK_FULL_ERRORS = (errno.ENOSPC, errno.EDQUOT)
PERMISSION_ERRORS = (errno.EACCES, errno.EPERM, errno.EROFS)
PROCESS_LIMIT_ERRORS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # this process's trouble, not the file's


class Unusable(Exception):
    """Raised for a path that leads to no regular file, or to a file that is not as it was written.

    readable: False if the file cannot be read now, but may be intact.
    """

    def __init__(self, sentence: str, readable: bool = True) -> None:
        super().__init__(sentence)
        self.readable = readable


def read_bytes(path: Path | str, largest: int | None = LARGEST_FILE) -> bytes:
    """Return the content of a regular file.   largest: bytes; None: any size.

    Raises FileNotFoundError where nothing is, Unusable for anything but a regular file that can be read, and
    UserError where this process has no memory or no file handles left.
    """
    try:
        # O_NONBLOCK: else a FIFO would wait for a writer
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise Unusable(f"{path} is {_kind(found.st_mode)}, not a file")
            if largest is not None and found.st_size > largest:
                raise Unusable(f"{path} has {found.st_size:,} bytes; allowed here: up to {largest:,}")
            with open(descriptor, "rb", buffering=0, closefd=False) as file:
                return file.readall()
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _unread(path, error) from error
    except (MemoryError, OverflowError) as error:
        raise Unusable(f"{path} does not fit in memory") from error


def read_json(path: Path | str, largest: int = LARGEST_FILE) -> Any:
    """Return the content of a JSON file; raises as `read_bytes`, and Unusable for a file that is not JSON."""
    content = read_bytes(path, largest)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:  # not UTF-8, or nested without end
        raise Unusable(f"{path} is incomplete or edited: not JSON") from error


def size_of(path: Path | str) -> int | None:
    """Return the bytes of a regular file, None where nothing is. Raises Unusable for anything else."""
    try:
        found = os.stat(path)
    except OSError as error:
        unread = _unread(path, error)
        if isinstance(unread, FileNotFoundError):
            return None
        raise unread from error
    if not stat.S_ISREG(found.st_mode):
        raise Unusable(f"{path} is {_kind(found.st_mode)}, not a file")
    return found.st_size


def _unread(path: Path | str, error: OSError) -> Exception:
    """Return the exception that says why a path cannot be read."""
    if error.errno in PROCESS_LIMIT_ERRORS:
        return UserError(f"{path} cannot be read: {error.strerror}; end other programs, then try again")
    if isinstance(error, FileNotFoundError):
        if not os.path.islink(path):
            return error
        return Unusable(f"{path} is a link to {os.readlink(path)}, which is not there")
    if error.errno == errno.ELOOP:
        return Unusable(f"{path} is a link that leads back to itself")
    if isinstance(error, NotADirectoryError):
        return Unusable(f"{path} cannot be there: {obstacle(path) or 'what is above it'}")
    if error.errno == errno.ENXIO:
        return Unusable(f"{path} is a socket, not a file")
    return Unusable(f"{path} cannot be read: {error.strerror or error}", readable=False)


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFREG: "a file"}
    return kinds.get(stat.S_IFMT(mode), "a device or socket")


def obstacle(path: Path | str) -> str:
    """Say what stands in the way of a file at `path`, its folders first; "" if nothing does."""
    path = Path(path)
    for place in (*reversed(path.parents), path):
        try:
            mode = place.stat().st_mode
        except OSError:
            if place.is_symlink():
                return f"{place} is a link to {os.readlink(place)}, which leads nowhere"
            return ""
        if place == path:
            return f"{place} is {_kind(mode)}" if not stat.S_ISREG(mode) else ""
        if not stat.S_ISDIR(mode):
            return f"{place} is {_kind(mode)}, not a folder"
    return ""


def set_aside(path: Path) -> Path | None:
    """Rename what stands at `path` to `<name>.damaged-<ns>` and return that; None if it is gone already."""
    aside = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
    try:
        path.rename(aside)
    except FileNotFoundError:  # another process was first
        return None
    return aside


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file atomically: a kill at any moment leaves either the old file or the new one, complete.

    A folder in its place is set aside. Raises OSError, see `not_written`.
    """
    descriptor, name = tempfile.mkstemp(prefix=".partial-", dir=path.parent)
    partial = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.chmod(0o644)
        try:
            partial.replace(path)
        except IsADirectoryError:
            set_aside(path)
            partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def not_written(path: Path | str, error: OSError) -> str:
    """Return the sentence for a path that cannot be written: why, and what helps."""
    why = f"cannot write {path}: {error.strerror or error}"
    if error.errno in DISK_FULL_ERRORS:
        with contextlib.suppress(OSError, StopIteration):
            left = shutil.disk_usage(next(p for p in Path(path).absolute().parents if p.exists())).free
            why += f" ({left / 2**20:.0f} MiB left)"
        return f"{why}: make room or name another place for all outputs with NOISEUTILS_OUTPUTS"
    if error.errno in WRONG_KIND_ERRORS:
        found = obstacle(path)
        return f"{why}: {found + '; ' * bool(found)}remove or rename what stands there"
    if error.errno in PERMISSION_ERRORS:
        return f"{why}: allow writing there, or name another place for all outputs with NOISEUTILS_OUTPUTS"
    return f"{why}: name another place for all outputs with NOISEUTILS_OUTPUTS"


@contextlib.contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Raise UserError, with the remedy that fits, for what cannot be written inside the block."""
    try:
        yield
    except OSError as error:
        raise UserError(not_written(error.filename or path, error)) from error
