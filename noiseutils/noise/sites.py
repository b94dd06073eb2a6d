"""Sites: the modules of a network whose outputs get noise, by a type, a name or a predicate."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import nn

from noiseutils.errors import UserError

After = type[nn.Module] | str | Iterable[type[nn.Module] | str] | Callable[[str, nn.Module], bool]
INPUT = "input"  # site 0: the network's own input


def find_sites(model: nn.Module, after: After) -> dict[str, nn.Module]:
    """Return the modules of `model` that `after` names, by their dotted names, in the model's order.

    after: a module type, a module's dotted name or type name, several of these, or a predicate
    (name, module) -> bool; the name "input" is the model itself, for the network's input. Raises UserError
    when a name, or the whole, matches nothing.
    """
    modules = {name: module for name, module in model.named_modules() if name}
    if isinstance(after, (str, type)):
        after = (after,)
    if not isinstance(after, Iterable):
        found = {name: module for name, module in modules.items() if after(name, module)}
        return found or _nothing(model, modules, "the predicate")
    wanted = list(after)
    found = {}
    if INPUT in wanted and INPUT not in modules:
        wanted.remove(INPUT)
        found[INPUT] = model
    for want in wanted:
        if not any(_matches(want, name, module) for name, module in modules.items()):
            _nothing(model, modules, want if isinstance(want, str) else want.__name__)
    if not wanted and not found:
        _nothing(model, modules, "an empty list")
    return found | {
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
