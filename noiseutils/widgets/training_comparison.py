"""Other noises that the lab trains beside the chosen one, added and cleared by two buttons."""

from __future__ import annotations

from collections.abc import Callable

from noiseutils.errors import UserError
from noiseutils.studies.live_lab import Params
from noiseutils.widgets.view import View, button, shows_errors

MOST = 2


class TrainingComparison:
    """Buttons that keep the present noise for a training beside the next, or forget all that were kept.

    view: shows what happened.   now: returns the lab's parameters.   change: gives them another `beside`.
    """

    def __init__(
        self, view: View, now: Callable[[], Params], change: Callable[[tuple[str, ...]], None]
    ) -> None:
        self._view, self._now, self._change, self.message = view, now, change, view.message
        self.add = button("Add to comparison", "train this noise beside the next, too", self._add)
        self.clear = button("Clear comparison", "compare with no other noise", self._clear)
        self.buttons = (self.add, self.clear)

    @shows_errors
    def _add(self) -> None:
        now = self._now()
        if now.noise == "none":
            raise UserError("no noise is compared with by its own box: choose a noise to add")
        added = f"{now.noise} {now.strength:g}"
        if added in now.beside or len(now.beside) == MOST:
            raise UserError(f"beside are {', '.join(now.beside)}; allowed: two, each once")
        self._change((*now.beside, added))
        others = ", ".join(self._now().beside)
        self._view.show_message(f"Beside the next training: {others}. Choose another noise, and Start.")

    @shows_errors
    def _clear(self) -> None:
        self._change(())
        self._view.show_message("Compared with no other noise.")
