"""Markdown that commands write into the README: tables and lists, between two marks of their own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from noiseutils.errors import UserError


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of texts."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def markdown_list(items: Iterable[str]) -> str:
    """Return a list of texts."""
    return "\n".join(f"- {item}" for item in items)


def marks(command: str) -> tuple[str, str]:
    """Return the marks before and behind what a command writes, such as `bench`."""
    return f"<!-- noiseutils {command}: begin -->", f"<!-- noiseutils {command}: end -->"


def between_marks(text: str, command: str) -> str:
    """Return what a command wrote into a text."""
    begin, end = marks(command)
    return text.partition(begin)[2].partition(end)[0].strip()


def write_between_marks(file: Path, command: str, text: str) -> None:
    """Replace what a command wrote into a file. Raises UserError without the file or the marks."""
    begin, end = marks(command)
    try:
        before, _, rest = file.read_text(encoding="utf-8").partition(begin)
    except OSError as error:
        raise UserError(f"{file}: {error}") from error
    _, found, after = rest.partition(end)
    if not found:
        raise UserError(f"{file}: expected the lines {begin} and {end}")
    file.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")
