"""A site of results: everything rendered and everything committed, as pages that read from disk.

No page fetches anything from elsewhere; links between them are relative, so the folder can be moved or sent.
The site is built beside the old one and takes its place when it is whole.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from noiseutils.book.pipeline import render_start_here
from noiseutils.book.report.index import index_html
from noiseutils.book.report.pages import pathless, write_bench, write_page
from noiseutils.book.report.sets import find, missing, private_paths
from noiseutils.errors import UserError
from noiseutils.provenance import outputs_root, reference_root

PATIENCE = 60  # seconds to wait for another process that builds the same report


@dataclass(frozen=True)
class Report:
    """What was built: its index, how many pages, and a sentence on each thing that is damaged or missing."""

    index: Path
    pages: int
    problems: list[str]


def report() -> Report:
    """Everything in outputs/ and outputs/reference/ as a site in outputs/report/; the start page, too.

    Raises UserError when there is nothing to report, or nothing can be written.
    """
    problems = []
    try:
        render_start_here()
    except (UserError, OSError) as error:
        problems.append(f"start_here: {error}")
    return build(outputs_root(), reference_root(), problems)


def build(outputs: Path, reference: Path, problems: list[str] | None = None) -> Report:
    """The site of what is rendered below `outputs` and committed below `reference`, in outputs/report/.

    problems: what is known to be wrong already, to be said on the index. Raises UserError as `report`; an
    earlier site then stays as it was.
    """
    site = outputs / "report"
    try:
        outputs.mkdir(parents=True, exist_ok=True)
        with FileLock(outputs / ".report.lock", timeout=PATIENCE):
            _tidy(outputs, site)
            partial = outputs / f"report.partial{os.getpid()}"
            try:
                made = _build(outputs, reference, partial, problems or [])
                _replace(site, partial)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except Timeout:
        raise UserError(f"{site}: another process has been building it for {PATIENCE} s; try again") from None
    except OSError as error:
        raise UserError(
            f"{site}: cannot be written: {error.strerror or error}; make room, or name another place for all "
            "outputs with NOISEUTILS_OUTPUTS"
        ) from None
    return Report(site / "index.html", *made)


def _build(outputs: Path, reference: Path, root: Path, problems: list[str]) -> tuple[int, list[str]]:
    sets, unread = find(outputs, reference)
    problems = [*problems, *unread]
    if not sets:
        raise UserError(
            f"nothing to report: no rendered notebook in {outputs}/<study>/<profile>/, no figure or table in "
            f"{reference}/<study>/<profile>/; `noiseutils run STUDY` renders one"
            + "".join(f"\n  {problem}" for problem in problems)
        )
    root.mkdir()
    notebooks: dict[str, str] = {}
    for found in sets:
        if found.notebook:
            notebooks.setdefault(found.notebook.stem, found.page)
    for found in sets:
        write_page(found, root, notebooks)
    try:
        bench = write_bench(reference, root)
    except UserError as error:
        bench = []
        problems.append(str(error))
    index = index_html(sets, missing(sets), bench, problems)
    (root / "index.html").write_text(pathless(index, private_paths(outputs)), encoding="utf-8")
    damaged = [f"{found.place}/{problem}" for found in sets for problem in found.problems]
    return len(sets) + len(bench) + 1, problems + damaged


def _tidy(outputs: Path, site: Path) -> None:
    """What a process that was killed has left: an old site that had stepped aside comes back."""
    for old in outputs.glob("report.partial*.old"):
        if not site.exists():
            old.rename(site)
    for left in outputs.glob("report.partial*"):
        shutil.rmtree(left)


def _replace(site: Path, partial: Path) -> None:
    """A folder cannot be renamed over a full one: the old site steps aside first."""
    old = site.with_name(f"{partial.name}.old")
    if site.exists():
        site.rename(old)
    try:
        partial.rename(site)
    except OSError:
        if old.exists():
            old.rename(site)
        raise
    shutil.rmtree(old, ignore_errors=True)
