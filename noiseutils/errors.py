"""Raise UserError for bad input: one exception, which names what is wrong and what is allowed."""

from __future__ import annotations

import difflib
import reprlib
import traceback
from collections.abc import Iterable

# a list of lists, each the same one a thousand times, is small, and all of its text does not fit in memory
BRIEF = reprlib.Repr()
BRIEF.maxlevel = 3
BRIEF.maxlist = BRIEF.maxtuple = BRIEF.maxdict = BRIEF.maxset = BRIEF.maxfrozenset = 30
BRIEF.maxstring = BRIEF.maxlong = BRIEF.maxother = 1_000_000  # cut by `clipped`


class UserError(ValueError):
    """Bad input, in one screen: what is wrong, where, and what is allowed.

    The command line prints the message without a traceback and exits with 2; Jupyter shows the message alone.
    """

    def _render_traceback_(self) -> list[str]:
        """Show the sentence alone in a notebook (IPython's hook)."""
        return [f"{type(self).__name__}: {self}"]


def one_of(what: str, got: object, allowed: Iterable[object]) -> UserError:
    """Return the error for a name that is not in a list; the error lists the allowed names."""
    names = list(map(str, allowed))
    return UserError(f"{what} {clipped(got)} is not known; allowed: {', '.join(names)}{meant(got, names)}")


def clipped(value: object, width: int = 80) -> str:
    """Return the repr of a value from outside, which has no line break, cut to `width` characters."""
    try:
        text = BRIEF.repr(value) if isinstance(value, list | tuple | dict | set | frozenset) else repr(value)
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= width else text[: width - 1] + "…"


def one_line(text: object, width: int = 80) -> str:
    """Return a text from outside as it is, or its repr, cut to `width` characters, if it is long or odd."""
    text = str(text)
    return text if len(text) <= width and text.isprintable() else clipped(text, width)


def meant(got: object, allowed: Iterable[str]) -> str:
    """Return "; did you mean 'NAME'?" with the name most like the one that was written, "" if none is."""
    word = got[:200] if isinstance(got, str) else clipped(got)
    close = difflib.get_close_matches(word, list(allowed), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def portable(error: Exception, where: str) -> Exception:
    """Return an exception to send to another process: the package's own, or else a RuntimeError.

    Its traceback is in a note, headed by `where` it was raised.
    """
    if type(error).__module__.startswith("noiseutils."):
        copy = type(error)(*error.args)
    else:  # another's arguments may not travel, nor make it again
        copy = RuntimeError(f"{type(error).__name__}: {error}")
    copy.add_note(f"{where}:\n{''.join(traceback.format_exception(error)).rstrip()}")
    return copy
