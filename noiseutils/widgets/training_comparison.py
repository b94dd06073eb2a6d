"""Buttons that add noises to the training lab's comparison, and clear it."""

from __future__ import annotations

from collections.abc import Callable

from noiseutils.errors import UserError
from noiseutils.studies.live_lab import Params
from noiseutils.widgets.view import View, button, shows_errors

MOST_COMPARED = 2


class TrainingComparison:
    """Two buttons: add the chosen noise to the next comparison, and clear the comparison.

    view: shows messages.   now: returns the lab's parameters.   change: sets their `beside`.
    """

    def __init__(
        self, view: View, now: Callable[[], Params], change: Callable[[tuple[str, ...]], None]
    ) -> None:
        self._view, self._now, self._change, self.message = view, now, change, view.message
        self.add = button("Add to comparison", "train this noise alongside the next training, too", self._add)
        self.clear = button("Clear comparison", "compare with no other noise", self._clear)
        self.buttons = (self.add, self.clear)

    @shows_errors
    def _add(self) -> None:
        now = self._now()
        if now.noise == "none":
            raise UserError("the noise-free baseline has its own checkbox: choose a noise to add")
        added = f"{now.noise} {now.strength:g}"
        if added in now.beside or len(now.beside) == MOST_COMPARED:
            raise UserError(f"already compared: {', '.join(now.beside)}; allowed: two, each once")
        self._change((*now.beside, added))
        others = ", ".join(self._now().beside)
        self._view.show_message(
            f"The next training is compared with {others}. Choose another noise, and Start."
        )

    @shows_errors
    def _clear(self) -> None:
        self._change(())
        self._view.show_message("Compared with no other noise.")
