"""Where noise goes, and `attach`: noise in any network, in two lines, without a change to the network.

    handle = attach(model, NoisyDropout(p=0.25, std=0.08), after=nn.ReLU)
    loss = handle.loss(criterion, x, y)        # instead of criterion(model(x), y)

A site is a module whose output gets noise. Forward hooks add it while the module is in training mode; in
eval mode a forward pass is bitwise the clean model's. Parameters, buffers and the state dict are untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from torch import Tensor, nn

from noiseutils.config import GaussianNoise, NoisyDropout
from noiseutils.errors import UserError
from noiseutils.noise.activation import GaussianNoiseSite
from noiseutils.noise.dropout import NoisyDropoutSite
from noiseutils.rng import SiteStreams

After = type[nn.Module] | str | Iterable[type[nn.Module] | str] | Callable[[str, nn.Module], bool]
Noise = NoisyDropout | GaussianNoise
Criterion = Callable[[Tensor, Tensor], Tensor]

SITES: dict[type, Callable[..., Callable[[Tensor], Tensor]]] = {
    NoisyDropout: NoisyDropoutSite,
    GaussianNoise: GaussianNoiseSite,
}


class _Hook:
    """A forward hook; a class, not a closure, so that a model with noise can be copied and pickled."""

    def __init__(self, name: str, perturb: Callable[[Tensor], Tensor]) -> None:
        self.name, self.perturb = name, perturb

    def __call__(self, module: nn.Module, inputs: object, output: Tensor) -> Tensor | None:
        if not module.training:
            return None
        if not isinstance(output, Tensor):
            raise UserError(
                f"noise goes on a tensor; module {self.name!r} returns {type(output).__name__}: "
                "attach after one of its inner modules"
            )
        return self.perturb(output)


class Handle:
    """Noise attached to a model. `remove()` takes it off again; a `with` block does so at its end."""

    def __init__(self, model: nn.Module, noise: Noise, sites: dict[str, nn.Module], seed: int) -> None:
        self.model, self.noise = model, noise
        self.streams = {name: SiteStreams(seed, name) for name in sites}
        make = SITES[type(noise)]
        self._hooks = [
            module.register_forward_hook(_Hook(name, make(noise, self.streams[name])))
            for name, module in sites.items()
        ]

    @property
    def sites(self) -> tuple[str, ...]:
        """The dotted names of the modules whose outputs get noise."""
        return tuple(self.streams)

    def forward(self, criterion: Criterion, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The training loss, and the logits it came from, with the noise in them."""
        logits = self.model(x)
        return criterion(logits, y), logits

    def loss(self, criterion: Criterion, x: Tensor, y: Tensor) -> Tensor:
        """The training loss with the noise in it.

        criterion: (logits, y) -> scalar.   x: (N, ...) inputs.   y: (N,) targets.   Returns (): call
        `backward()` on it and step the optimiser, as without noise.
        """
        return self.forward(criterion, x, y)[0]

    def state(self) -> dict[str, Tensor]:
        """The positions of the noise generators, for a checkpoint."""
        return {
            f"{site}/{purpose}": source.get_state()
            for site, streams in self.streams.items()
            for purpose, source in streams.generators.items()
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue the noise from positions that `state` gave, on the model's device."""
        device = next(self.model.parameters()).device
        for key, value in state.items():
            site, purpose = key.rsplit("/", 1)
            self.streams[site].get(purpose, device).set_state(value)

    def remove(self) -> None:
        """Take the noise off: the model is as it was before `attach`. Twice does no harm."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def __repr__(self) -> str:
        return f"{self.noise!r} after {', '.join(self.sites)}"


def attach(model: nn.Module, noise: Noise, after: After = nn.BatchNorm2d, seed: int = 0) -> Handle:
    """Put noise on the outputs of some modules of any network, in training mode only.

    noise: a value such as `NoisyDropout(p=0.25, std=0.08)`.
    after: a module type, a module's dotted name or type name, several of these, or a predicate
    (name, module) -> bool.
    seed: each site derives generators of its own from it, on the device of its activations.

    Returns a handle: `handle.loss` in place of the criterion, `handle.remove()` to take the noise off.
    Raises UserError when no module matches, or noise is not a noise.
    """
    if type(noise) not in SITES:
        known = ", ".join(kind.__name__ for kind in SITES)
        raise UserError(f"noise must be one of {known}, got {noise!r}")
    return Handle(model, noise, find_sites(model, after), seed)


def find_sites(model: nn.Module, after: After) -> dict[str, nn.Module]:
    """The modules of `model` that `after` names, by their dotted names, in the model's order.

    after: a module type, a module's dotted name or type name, several of these, or a predicate
    (name, module) -> bool. Raises UserError when a name, or the whole, matches nothing.
    """
    modules = {name: module for name, module in model.named_modules() if name}
    if isinstance(after, (str, type)):
        after = (after,)
    if not isinstance(after, Iterable):
        found = {name: module for name, module in modules.items() if after(name, module)}
        return found or _nothing(model, modules, "the predicate")
    wanted = list(after)
    for want in wanted:
        if not any(_matches(want, name, module) for name, module in modules.items()):
            _nothing(model, modules, want if isinstance(want, str) else want.__name__)
    if not wanted:
        _nothing(model, modules, "an empty list")
    return {
        name: module
        for name, module in modules.items()
        if any(_matches(want, name, module) for want in wanted)
    }


def _matches(want: type[nn.Module] | str, name: str, module: nn.Module) -> bool:
    if isinstance(want, str):
        return want in (name, type(module).__name__)
    return isinstance(module, want)


def _nothing(model: nn.Module, modules: dict[str, nn.Module], what: str) -> dict[str, nn.Module]:
    names = ", ".join(list(modules)[:12]) + (", …" if len(modules) > 12 else "")
    types = ", ".join(sorted({type(module).__name__ for module in modules.values()}))
    raise UserError(
        f"no place for noise: {what} matches no module of {type(model).__name__}; "
        f"its modules: {names}; their types: {types}"
    )
