"""What of a run may change between two of its steps: how strong its noise is, and its learning rate."""

from __future__ import annotations

from noiseutils.config import Run
from noiseutils.errors import UserError
from noiseutils.noise import Handle
from noiseutils.noise.parameters import ParameterNoise

TUNABLE = ("noise", "corruption", "adversarial_training", "parameter_noise", "schedule")


def tuned(run: Run, wish: Run, handle: Handle | None, shaken: ParameterNoise | None) -> Run:
    """`wish`, once the noise of a training has taken its values over; from the next step on they count.

    handle, shaken: noise on activations, and on gradients and weights, of the training of `run`.
    Raises UserError, and changes nothing, where `wish` differs from `run` in anything but `TUNABLE`, or has
    another kind of noise, or noise where there was none, or none where there was some.
    """
    fixed = [name for name in Run.model_fields if name not in TUNABLE]
    if other := [name for name in fixed if getattr(wish, name) != getattr(run, name)]:
        raise UserError(
            f"{', '.join(other)} cannot change while a training runs; allowed: {', '.join(TUNABLE)}"
        )
    for name in TUNABLE:
        old, new = getattr(run, name), getattr(wish, name)
        if _kind(old) != _kind(new):
            raise UserError(f"{name} cannot change from {old!r} to {new!r} while a training runs")
    shaking = wish.parameter_noise
    if shaken is not None and shaking is not None and shaking != run.parameter_noise:
        shaken.change(shaking)
    if handle is not None and wish.noise is not None:
        handle.change(wish.noise)
    return wish


def _kind(part: object) -> object:
    return getattr(part, "kind", type(part))
