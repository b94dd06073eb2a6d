"""Write a folder of sources for Sphinx, changed files alone, and pieces that several pages share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from noiseutils.book.drawings import Drawing
from noiseutils.book.found import escaped


@dataclass
class Stage:
    """A copy of docs/ for Sphinx: files are written only where they differ, and strangers are removed."""

    root: Path
    written: set[Path] = field(default_factory=set)

    def write(self, name: str, content: str | bytes) -> None:
        """Write a file below the root."""
        path = self.root / name
        content = content.encode() if isinstance(content, str) else content
        self.written.add(path)
        if not path.is_file() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def keep(self, docname: str, place: str) -> Callable[[str, bytes], str]:
        """Return a function that stores a file in a folder of the site: name, content -> URL for a page."""

        def store(name: str, content: bytes) -> str:
            self.write(f"_extra/{place}/{name}", content)
            return "../" * docname.count("/") + f"{place}/{name}"

        return store

    def tidy(self) -> bool:
        """Remove what this stage has not written; tell whether there was anything."""
        strangers = [path for path in self.root.rglob("*") if path.is_file() and path not in self.written]
        for path in strangers:
            path.unlink()
        for folder in sorted((path for path in self.root.rglob("*") if path.is_dir()), reverse=True):
            if not any(folder.iterdir()):
                folder.rmdir()
        return any("__pycache__" not in path.parts for path in strangers)


def toctree(caption: str, pages: Iterable[str], hidden: bool = True) -> str:
    """Return pages below this one as Markdown.   hidden: in the contents alone."""
    options = [":hidden:"] * hidden + [f":caption: {caption}"] * bool(caption) + [":maxdepth: 1"]
    return "\n".join(["```{toctree}", *options, "", *pages, "```"])


def problems_box(problems: list[str]) -> str:
    """Return a warning, as Markdown, that lists what is left out; "" without problems."""
    if not problems:
        return ""
    return (
        ":::{warning}\nLeft out, as damaged:\n\n" + "\n".join(f"- {escaped(p)}" for p in problems) + "\n:::"
    )


def keep_drawing(stage: Stage, drawing: Drawing, docname: str, place: str) -> str:
    """Store a figure's files in a folder of the site; return the folder's URL from a page."""
    keep = stage.keep(docname, place)
    urls = [keep(file.name, file.read_bytes()) for file in filter(None, (drawing.png, drawing.svg))]
    return urls[0].rpartition("/")[0]
