"""Import the extras that notebooks and the book need; raise an error that says how to install them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from noiseutils.errors import UserError


@contextmanager
def notebooks_extra() -> Iterator[None]:
    """Around imports of the Jupyter stack: without it, an error that says how to get it."""
    # jsonschema checks IRIs with its help if it is there. No notebook has any, and it compiles 38 grammars as
    # it is imported: over a second, four fifths of what importing the stack takes
    hidden = "rfc3987_syntax" not in sys.modules
    if hidden:
        sys.modules["rfc3987_syntax"] = None  # pyright: ignore[reportArgumentType]
    try:
        yield
    except ImportError as error:
        raise UserError(
            f"rendering a notebook needs the notebooks extra: pip install 'noiseutils[notebooks]' ({error})"
        ) from None
    finally:
        if hidden:
            sys.modules.pop("rfc3987_syntax", None)


@contextmanager
def docs_extra() -> Iterator[None]:
    """Around imports of Sphinx and its extensions: without them, an error that says how to get them."""
    try:
        with notebooks_extra():
            yield
    except UserError as error:
        raise UserError(
            "the book needs the extras notebooks and docs: pip install 'noiseutils[notebooks,docs]' "
            f"({error.__cause__ or error})"
        ) from None


def require_docs() -> None:
    """Raise a UserError without the extras that the book needs: better before training than after."""
    with docs_extra():
        import myst_nb  # noqa: F401
        import sphinx_book_theme  # noqa: F401
