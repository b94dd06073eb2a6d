"""Sites: the modules of a network whose outputs get noise, by a type, a name or a predicate."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn

from noiseutils.errors import UserError, clipped, one_line

After = type[nn.Module] | str | Iterable[type[nn.Module] | str] | Callable[[str, nn.Module], bool]
INPUT = "input"  # site 0: the network's own input


def find_sites(model: nn.Module, after: After) -> dict[str, nn.Module]:
    """Return the modules of `model` that `after` names, by their dotted names, in the model's order.

    after: a module type, a module's dotted name or type name, several of these, or a predicate
    (name, module) -> bool; the name "input" is the model itself, for the network's input. Raises UserError
    when a name, or the whole, matches nothing.
    """
    modules = {name: module for name, module in model.named_modules() if name}
    silent = _silent(model)
    if isinstance(after, (str, type)):
        after = (after,)
    if isinstance(after, dict) or not (callable(after) or isinstance(after, Iterable)):
        raise _unfit(after)
    if not isinstance(after, Iterable):
        found = {n: module for n, module in modules.items() if n not in silent and after(n, module)}
        return found or _nothing(model, modules, "the predicate")
    wanted = list(after)
    if unfit := [each for each in wanted if not isinstance(each, (str, type))]:
        raise _unfit(unfit[0])
    found = {}
    if INPUT in wanted and INPUT not in modules:
        wanted.remove(INPUT)
        found[INPUT] = model
    for want in wanted:
        if not any(_matches(want, name, module) for name, module in modules.items()):
            _nothing(model, modules, one_line(want if isinstance(want, str) else want.__name__))
    if not wanted and not found:
        _nothing(model, modules, "an empty list")
    found |= {
        name: module
        for name, module in modules.items()
        if any(_matches(want, name, module) for want in wanted)
    }
    if never := [name for name in found if name in silent]:
        raise UserError(f"no place for noise: {never[0]!r} {silent[never[0]]}")
    return found


def _unfit(after: object) -> UserError:
    return UserError(
        f"no place for noise: `after` is {clipped(after)}; allowed: a module type, the name of a module or "
        "of a type, several of these, or a function of name and module"
    )


def _matches(want: type[nn.Module] | str, name: str, module: nn.Module) -> bool:
    if isinstance(want, str):
        # a wrapped type keeps the name of its own: FSDPConv2d and ParametrizedConv2d are Conv2d
        own = type(module).__name__
        return want in (name, own, own.removeprefix("FSDP"), own.removeprefix("Parametrized"))
    return isinstance(module, want)


def _silent(model: nn.Module) -> dict[str, str]:
    """Return the modules whose hooks never run, by name, with the reason."""
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)):
            found[name] = f"is a {type(module).__name__}, which has no output: name the modules in it"
        if isinstance(module, torch.jit.ScriptModule):
            inner = [f"{name}.{each}" if name else each for each, _ in module.named_modules() if each]
            found |= dict.fromkeys(inner, "lies in a TorchScript module, which calls no hooks of its parts")
    return found


def _nothing(model: nn.Module, modules: dict[str, nn.Module], what: str) -> dict[str, nn.Module]:
    names = ", ".join(list(modules)[:12]) + (", …" if len(modules) > 12 else "")
    types = ", ".join(sorted({type(module).__name__ for module in modules.values()}))
    raise UserError(
        f"no place for noise: {what} matches no module of {type(model).__name__}; "
        f"its modules: {names}; their types: {types}"
    )
