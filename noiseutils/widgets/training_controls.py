"""Controls that say which training the lab begins next: made, filled with parameters, read as parameters."""

from __future__ import annotations

from functools import cache
from typing import Any

import ipywidgets as widgets

from noiseutils.config import EMBEDDED
from noiseutils.evaluation.inspection import convolutions
from noiseutils.models import MODELS, build_model
from noiseutils.studies.lab_noises import KINDS
from noiseutils.studies.live_lab import Params, choices, usual_places
from noiseutils.widgets.view import dropdown, numbers, slider, value_of

LEARNING_RATES = (*(round(digit * 10.0**power, 4) for power in range(-4, 0) for digit in (1, 2, 5)), 1.0)
DATA_SETS = (*EMBEDDED, "mnist", "fashion_mnist", "cifar10", "cifar100")
FIRST_CONVOLUTION = ""  # the convolution whose maps are shown, unless another is chosen


class TrainingControls:
    """Data, network, noise, its places and strength, learning rate, and what is shown.

    first: parameters that the controls can say, whatever else they offer.
    """

    def __init__(self, first: Params) -> None:
        sets = [*DATA_SETS, *([first.data] if first.data not in DATA_SETS else [])]
        rates = sorted({*LEARNING_RATES, first.learning_rate})
        near_label: dict[str, Any] = {"style": {"description_width": "initial"}}
        self.data = widgets.Combobox(description="data", options=sets, value=first.data, **near_label)
        self.model = dropdown("network", list(MODELS), first.model)
        self.noise = dropdown("noise", [(kind.title, name) for name, kind in KINDS.items()], first.noise)
        hint = "the layers whose outputs get the noise; Ctrl or Shift chooses several"
        self.after = widgets.SelectMultiple(description="insert after", rows=3, tooltip=hint, **near_label)
        self.seed = widgets.BoundedIntText(description="seed", value=first.seed, max=2**31 - 1, **near_label)
        hint = "such as 3, 14, 15; empty: two"
        self.images = widgets.Text(
            description="test images", placeholder=hint, continuous_update=False, **near_label
        )
        self.maps_of = dropdown("feature maps of", [], None, "the convolution whose output is shown")
        self.pause_after = widgets.BoundedIntText(
            description="pause after epoch", tooltip="0: do not pause", max=10**6, **near_label
        )
        self.compare = widgets.Checkbox(
            description="compare with no noise", value=first.compare, indent=False
        )
        self.rate = widgets.SelectionSlider(
            description="learning rate", options=rates, value=first.learning_rate, **near_label
        )
        self.strength = widgets.FloatSlider()
        self.strength_place = widgets.HBox([self.strength])
        self._filled: Params | None = None  # values that the controls were set to last

    @property
    def choice(self) -> tuple[widgets.Widget, ...]:
        """Return the controls of values that need a new training."""
        return self.data, self.model, self.noise, self.after, self.seed, self.compare

    @property
    def tuned(self) -> dict[str, float]:
        """Return the values that count from the next step on."""
        return {"strength": value_of(self.strength), "learning_rate": float(self.rate.value)}

    def forget(self) -> None:
        """Make places and the strength's slider anew when the controls are filled next."""
        self._filled = None

    def fill(self, params: Params) -> bool:
        """Show these values; return whether the strength's slider is another one.

        Places and the slider are made anew only for another network or noise: a control made anew loses the
        focus on a page, where a slider does not take over another range whole.
        """
        if self._filled is None or self._filled.model != params.model:
            known = choices(params.model)
            self.after.options = (*known, *(name for name in params.after if name not in known))
            layers = layers_with_maps(params.model)
            self.maps_of.options = [
                (f"{layers[0]}, the first", FIRST_CONVOLUTION),
                *((n, n) for n in layers[1:]),
            ]
            self.maps_of.value = FIRST_CONVOLUTION
        anew = self._filled is None or self._filled.noise != params.noise
        if anew:
            self._make_strength(params)
        self.data.value, self.model.value, self.noise.value = params.data, params.model, params.noise
        self.seed.value, self.compare.value = params.seed, params.compare
        self.images.value = ", ".join(map(str, params.shown))
        sites = params.kind.sites
        self.after.value = (params.after or usual_places(params.model)) if sites else ()
        self.after.disabled, self.compare.disabled = not sites, params.noise == "none"
        self.strength.value, self.rate.value = params.strength, params.learning_rate
        self._filled = params
        return anew

    def _make_strength(self, params: Params) -> None:
        kind = params.kind
        self.strength.close()
        self.strength = slider(
            f"strength {kind.symbol}".strip(),
            params.strength,
            low=-kind.most if kind.symbol == "ε" else 0.0,  # ANL may go against the gradient
            most=kind.most,
            hint=kind.unit,
        )
        self.strength.disabled = not kind.symbol
        self.strength_place.children = [self.strength]

    def read(self, first: Params, now: Params, **changes: Any) -> Params:
        """Return the controls as parameters. Raises UserError for a value that is not allowed.

        first: gives what has no control.   now: parameters that the controls were last set to.
        """
        after = tuple(self.after.value)
        if self.after.disabled:  # the noise before had no places, and shows none
            after = now.after
        elif set(after) == set(usual_places(now.model)):
            after = ()
        values = {
            "data": self.data.value,
            "model": self.model.value,
            "noise": self.noise.value,
            "after": after,
            "compare": self.compare.value,
            "beside": now.beside,
            "seed": self.seed.value,
            "shown": numbers(self.images.value),
            **self.tuned,
        }
        if values["model"] != first.model:
            values["width"] = 1.0
        return Params.read({**dict(first), **values, **changes}, "the lab's controls")


@cache
def layers_with_maps(model: str) -> list[str]:
    """Name the convolutions of a network of `MODELS`."""
    return convolutions(build_model(model, width=0.05))
