"""Build the book as a site with Sphinx, from docs/: results, chapters, how-to guides and the API.

No page loads anything from the network, and links are relative, so the folder can be moved or sent. Sphinx
works on a copy of docs/, see `noiseutils.book.staging`; only changed pages are built again. A new site
replaces the old site once the new site is complete.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from filelock import FileLock, Timeout
from typer import Typer

from noiseutils.book.extras import require_docs
from noiseutils.book.renderings import renderings
from noiseutils.book.stage import Stage
from noiseutils.book.staging import stage_all
from noiseutils.errors import UserError
from noiseutils.files import Unusable, not_written, read_json
from noiseutils.provenance import PACKAGE, outputs_root, reference_root, shipped

LOCK_TIMEOUT = 60  # seconds to wait for another process that builds the same site


@dataclass(frozen=True)
class Book:
    """A built site: its first page, how many pages, whether nothing had changed, and what is damaged."""

    index: Path
    pages: int
    already: bool
    problems: list[str]


def book(program: Typer, say: Callable[[str], Any] = lambda _: None) -> Book:
    """Build the site of outputs/ and outputs/reference/ in outputs/book/; nothing is done twice.

    program: the command line, for its page.   say: gets a line about each stage. Raises UserError without the
    extra `docs`, for a warning of Sphinx, for a link that leads nowhere, and where nothing can be written; an
    earlier site then stays as it was.
    """
    return build(outputs_root(), reference_root(), program, say)


def build(outputs: Path, reference: Path, program: Typer, say: Callable[[str], Any] = lambda _: None) -> Book:
    """Build the site of what is rendered below `outputs` and committed below `reference`; see `book`."""
    require_docs()
    site, work = outputs / "book", outputs / ".book"
    try:
        work.mkdir(parents=True, exist_ok=True)
        with FileLock(work / "lock", timeout=LOCK_TIMEOUT):
            return _build(outputs, reference, program, site, work, say)
    except Timeout:
        raise UserError(
            f"{site}: another process has been building this site for {LOCK_TIMEOUT} s; try again"
        ) from None
    except OSError as error:
        raise UserError(not_written(error.filename or site, error)) from None


def _build(
    outputs: Path, reference: Path, program: Typer, site: Path, work: Path, say: Callable[[str], Any]
) -> Book:
    mark, stamp = work / "made-of.json", _made_of(outputs, reference)
    try:
        before = read_json(mark)
        already = before["stamp"] == stamp and (site / "index.html").is_file()
        pages, problems = int(before["pages"]), list(map(str, before["problems"]))
    except (FileNotFoundError, Unusable, KeyError, TypeError, ValueError):  # then it is built again
        already, pages, problems = False, 0, []
    if already:
        return Book(site / "index.html", pages, True, problems)
    say("gathering what was found")
    stage = Stage(work / "source")
    problems = stage_all(stage, outputs, reference, program)
    if stage.tidy():  # Sphinx leaves the pages of what is gone
        shutil.rmtree(work / "html", ignore_errors=True)
        shutil.rmtree(work / "doctrees", ignore_errors=True)
    (stage.root / "_extra").mkdir(exist_ok=True)
    say("building the pages")
    if mark.is_dir():
        shutil.rmtree(mark)
    mark.unlink(missing_ok=True)
    _sphinx(stage.root, work)
    if broken := list(broken_links(work / "html")):
        raise UserError(f"{site}: links that lead nowhere:\n  " + "\n  ".join(broken[:20]))
    partial, old = work / "partial", work / "old"
    for left in (partial, old):
        shutil.rmtree(left, ignore_errors=True)
    shutil.copytree(work / "html", partial)
    if site.is_symlink() or site.is_file():
        site.unlink()
    if site.exists():  # a folder cannot be renamed over a full one
        site.rename(old)
    partial.rename(site)
    shutil.rmtree(old, ignore_errors=True)
    pages = len(list(site.rglob("*.html")))
    mark.write_text(json.dumps({"stamp": stamp, "pages": pages, "problems": problems}), encoding="utf-8")
    return Book(site / "index.html", pages, False, problems)


def _made_of(outputs: Path, reference: Path) -> str:
    """Return a digest of the site's sources, by size and time: package, docs, notebooks and results."""
    folders = {PACKAGE: "*.py", shipped("docs"): "*", shipped("notebooks"): "*.ipynb", reference: "*"}
    digest = hashlib.sha256(" ".join(version(name) for name in ("sphinx", "myst-nb")).encode())
    paths = [path for folder, pattern in folders.items() for path in sorted(folder.rglob(pattern))]
    for rendering in renderings(outputs)[0]:
        paths += [rendering.notebook, *sorted(rendering.folder.glob("*/*"))]
    for path in paths:
        if path.is_file() and "__pycache__" not in path.parts:
            stat = path.stat()
            digest.update(f"{path} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _sphinx(source: Path, work: Path) -> None:
    """Run Sphinx; a warning is an error. Raises UserError with all of them."""
    from sphinx.application import Sphinx
    from sphinx.errors import SphinxError
    from sphinx.util.docutils import docutils_namespace, patch_docutils

    said_to = io.StringIO()
    try:
        with patch_docutils(source), docutils_namespace(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's, on how extensions call Sphinx
            app = Sphinx(
                source, source, work / "html", work / "doctrees", "html", status=None, warning=said_to
            )
            app.build()
        said = re.sub(r"\x1b\[[0-9;]*m", "", said_to.getvalue()).strip()
    except SphinxError as error:
        said = f"{said_to.getvalue()}{error}"
    if said:
        shutil.rmtree(work / "doctrees", ignore_errors=True)  # else the next build would not warn again
        raise UserError(f"the book could not be built:\n{said.replace(f'{source}/', '')}")


class _Links(HTMLParser):
    """Collects what a page links to and the anchors that it has."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: set[str] = set()
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        self.anchors |= {str(told[name]) for name in ("id", "name") if told.get(name)}
        if tag in ("a", "img", "link", "script", "source"):
            self.targets |= {str(told[name]) for name in ("href", "src") if told.get(name)}


def broken_links(site: Path) -> Iterator[str]:
    """Yield each link of a site that leads nowhere, and each thing that a page would fetch from elsewhere."""
    pages = {}
    for path in sorted(set(site.rglob("*.html")) - set(site.glob("_static/**/*"))):
        pages[path] = links = _Links()
        links.feed(path.read_text(encoding="utf-8"))
    for path, links in pages.items():
        for target in sorted(links.targets):
            if re.match(r"(https?|mailto|data):", target):
                continue
            name, _, anchor = unquote(target).partition("#")
            file = (path.parent / name.partition("?")[0]).resolve() if name else path
            if (
                not file.is_file()
                or not file.is_relative_to(site.resolve())
                or (anchor and file in pages and anchor not in pages[file].anchors)
            ):
                yield f"{path.relative_to(site)}: {target}"
