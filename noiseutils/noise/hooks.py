"""Forward hooks that call a site: on a module's output, or on the network's input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from noiseutils.errors import UserError
from noiseutils.noise.recomputation import RepeatableSite

# their output is new memory, which neither they nor their backward pass look at again; subclasses may
FRESH = {nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm} | {
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
}


class OutputHook:
    """Noise on the output of a module; a class, not a closure, so that a model with noise can be copied."""

    always = False  # also while the module is in eval mode
    ran = False  # in training mode, since it was attached

    def __init__(self, name: str, site: RepeatableSite) -> None:
        self.name, self.site = name, site

    def __call__(self, module: nn.Module, inputs: object, output: Tensor) -> Tensor | None:
        if not (module.training or self.always):
            return None
        if not isinstance(output, Tensor):
            raise UserError(
                f"noise goes on a tensor; module {self.name!r} returns {type(output).__name__}: "
                "attach after one of its inner modules"
            )
        return _outside_graphs(self, output, _owner(module, output))


class InputHook:
    """Noise on the first argument of a module, as a forward pre-hook."""

    always = False
    ran = False

    def __init__(self, name: str, site: RepeatableSite) -> None:
        self.name, self.site = name, site

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if not (module.training or self.always):
            return None
        if not inputs or not isinstance(inputs[0], Tensor):
            got = type(inputs[0]).__name__ if inputs else "keywords alone"
            raise UserError(f"noise on the input goes on a tensor, the first argument; the network got {got}")
        return (_outside_graphs(self, inputs[0], None), *inputs[1:])


class FirstPassHook:
    """A hook on the whole network that looks at its sites after each pass, until the handle removes it."""

    def __init__(self, check: Callable[[], None] | None = None) -> None:
        self.check = check

    def __call__(self, module: nn.Module, inputs: object, output: object) -> None:
        if self.check is not None and not torch.compiler.is_compiling():
            self.check()

    def __reduce__(self) -> tuple:
        return FirstPassHook, ()  # a copy of the network has no handle to tell


AnyHook = OutputHook | InputHook


def remove_noise(model: nn.Module) -> tuple[str, ...]:
    """Take all noise off a model, or off a copy of one; return the dotted names of its sites.

    A copy made by `copy.deepcopy`, as weight averaging makes one, has the noise of its original, and
    `Handle.remove` does not reach the copy. "input" is the model's own input.
    """
    return remove_hooks(noise_hooks(model))


Place = tuple[str, dict[int, Any], int]  # a module's name, a dict of its hooks, and a key


def noise_hooks(model: nn.Module) -> list[Place]:
    """Return where the hooks of noise are in a model."""
    return [
        (name or "input", hooks, key)
        for name, module in model.named_modules()
        for hooks in (module._forward_pre_hooks, module._forward_hooks)
        for key, hook in hooks.items()
        if isinstance(hook, AnyHook | FirstPassHook)
    ]


def remove_hooks(places: list[Place]) -> tuple[str, ...]:
    """Remove hooks; return the names of the modules that had noise."""
    removed = [(name, hooks.pop(key)) for name, hooks, key in places]
    return tuple(name for name, hook in removed if isinstance(hook, AnyHook))


def _owner(module: nn.Module, output: Tensor) -> nn.Module | None:
    """Return the module if nothing but the hook on it holds its output: noise may be added in place."""
    if torch.compiler.is_compiling() or module._compiled_call_impl is not None:
        return None
    # a hook with the attribute `copies` copies what it sees, and holds nothing
    holding = [hook for hook in module._forward_hooks.values() if not getattr(hook, "copies", False)]
    others = len(holding) > 1 or torch.nn.modules.module._global_forward_hooks
    return module if type(module) in FRESH and type(output) is Tensor and not others else None


def _outside_graphs(hook: AnyHook, x: Tensor, owner: nn.Module | None) -> Tensor:
    """Call a site; a compiled graph breaks here, as draws and memories stay outside of it."""
    return _uncompiled(hook, x, owner) if torch.compiler.is_compiling() else _call(hook, x, owner)


def _call(hook: AnyHook, x: Tensor, owner: nn.Module | None) -> Tensor:
    if torch._C._get_tracing_state() is not None:
        raise UserError(
            f"torch.jit.trace would keep one draw of the noise at {hook.name!r} for ever: trace in eval mode"
        )
    hook.ran = True
    return hook.site(x, owner)


# as torch's own optimisers do it: the compiler is imported at the first compiled call, not here
_uncompiled = torch._disable_dynamo(_call)  # pyright: ignore[reportPrivateImportUsage]
