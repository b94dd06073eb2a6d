"""The one exception that means: what was asked for cannot be done, and here is what would be."""


class UserError(ValueError):
    """Bad input, in one screen: what is wrong, where, and what is allowed.

    The command line prints it without a traceback and exits with 2; Jupyter shows the sentence alone.
    """

    def _render_traceback_(self) -> list[str]:
        """Show the sentence alone in a notebook (IPython's hook)."""
        return [f"{type(self).__name__}: {self}"]


def one_of(what: str, got: object, allowed) -> UserError:
    """Return the error for a name that is not in a list: it has the name and lists the right ones."""
    return UserError(f"{what} {got!r} is not known; allowed: {', '.join(map(str, allowed))}")
