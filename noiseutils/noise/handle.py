"""Noise in any network, in two lines, without a change to the network.

    handle = attach(model, NoisyDropout(p=0.25, std=0.08), after=nn.ReLU)
    loss = handle.loss(criterion, x, y)        # instead of criterion(model(x), y)

A site is a module whose output gets noise. Forward hooks add it while the module is in training mode; in
eval mode a forward pass is bitwise the clean model's. Parameters, buffers and the state dict are untouched.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from noiseutils.errors import UserError
from noiseutils.models.modes import frozen, still_statistics
from noiseutils.noise.site import ActivationNoise, Pass, Site
from noiseutils.noise.sites import After, find_sites
from noiseutils.rng import SiteStreams

Criterion = Callable[[Tensor, Tensor], Tensor]

# their output is new memory, which neither they nor their backward pass look at again; subclasses may
FRESH = {nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm} | {
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
}


def _owner(module: nn.Module, output: Tensor) -> nn.Module | None:
    """Return the module if nothing but the hook on it holds its output: noise may be added in place."""
    if torch.compiler.is_compiling() or module._compiled_call_impl is not None:
        return None
    # a hook with the attribute `copies` copies what it sees, and holds nothing
    holding = [hook for hook in module._forward_hooks.values() if not getattr(hook, "copies", False)]
    others = len(holding) > 1 or torch.nn.modules.module._global_forward_hooks
    return module if type(module) in FRESH and type(output) is Tensor and not others else None


class _Hook:
    """A forward hook; a class, not a closure, so that a model with noise can be copied and pickled."""

    always = False  # also while the module is in eval mode

    def __init__(self, name: str, site: Site) -> None:
        self.name, self.site = name, site

    def __call__(self, module: nn.Module, inputs: object, output: Tensor) -> Tensor | None:
        if not (module.training or self.always):
            return None
        if not isinstance(output, Tensor):
            raise UserError(
                f"noise goes on a tensor; module {self.name!r} returns {type(output).__name__}: "
                "attach after one of its inner modules"
            )
        return _outside_graphs(self.site, output, _owner(module, output))


class _InputHook:
    """A forward pre-hook: noise on the first argument of a module."""

    always = False

    def __init__(self, site: Site) -> None:
        self.site = site

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if not (module.training or self.always):
            return None
        return (_outside_graphs(self.site, inputs[0], None), *inputs[1:])


def _outside_graphs(site: Site, x: Tensor, owner: nn.Module | None) -> Tensor:
    """Call a site; a compiled graph breaks here, as draws and memories stay outside of it."""
    return _uncompiled()(site, x, owner) if torch.compiler.is_compiling() else site(x, owner)


@functools.cache
def _uncompiled() -> Any:
    # made when it is needed: importing the compiler takes a second
    return torch.compiler.disable(lambda site, x, owner: site(x, owner))


class Handle:
    """Noise attached to a model. `remove()` takes it off again; a `with` block does so at its end."""

    def __init__(self, model: nn.Module, noise: ActivationNoise, after: After, seed: int) -> None:
        modules = find_sites(model, after)
        self.model, self.noise = model, noise
        self.streams = {name: SiteStreams(seed, name) for name in modules}
        self._modules = modules
        self._pass = Pass()
        self._labels_checked = False
        self._sites = {name: noise.site(streams, self._pass) for name, streams in self.streams.items()}
        self._acting: dict[str, Any] = {
            name: _InputHook(site) if modules[name] is model else _Hook(name, site)
            for name, site in self._sites.items()
        }
        self._hooks = [
            module.register_forward_pre_hook(self._acting[name])
            if module is model
            else module.register_forward_hook(self._acting[name])
            for name, module in modules.items()
        ]

    @property
    def sites(self) -> tuple[str, ...]:
        """The dotted names of the modules whose outputs get noise."""
        return tuple(self.streams)

    def site(self, name: str) -> Any:
        """Return the `Site` of one of `sites`."""
        return self._sites[name]

    def generators(self) -> list[torch.Generator]:
        """Return the generators drawn from so far, each for `CUDAGraph.register_generator_state`.

        Steps can be captured in a CUDA graph, `backward()` too, once one step was made outside: it makes the
        generators and the memories of CANL and LAT, and checks CANL's labels. LAT makes room elsewhere for a
        batch larger than any before, where no graph finds it: capture the largest.
        """
        return [source for streams in self.streams.values() for source in streams.generators.values()]

    def forward(
        self, criterion: Criterion, x: Tensor, y: Tensor, network: nn.Module | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the training loss and its logits, with the noise in both.

        network: a wrapper around the model, such as DistributedDataParallel, for the pass that `backward()`
        follows; None: the model itself. ANL's first pass goes through the model without the wrapper.
        """
        network = self.model if network is None else network
        if not self._hooks or not self.noise.needs_loss:
            logits = network(x)
            return criterion(logits, y), logits
        # a look at the labels waits for the device: once there, always where nothing waits
        if not self._labels_checked or y.device.type == "cpu":
            self.noise.check_labels(y)
            self._labels_checked = True
        if self.noise.two_passes and any(module.training for module in self._modules.values()):
            self._measure(criterion, x, y)
        with self._inside_pass(y, measuring=False):
            logits = network(x)
            return criterion(logits, y), logits

    def loss(self, criterion: Criterion, x: Tensor, y: Tensor) -> Tensor:
        """Return the training loss with the noise in it.

        criterion: (logits, y) -> scalar.   x: (N, ...) inputs.   y: (N,) targets.   Returns (): call
        `backward()` on it and step the optimiser, as without noise. ANL runs its first pass inside, which
        leaves no gradient on any parameter; CANL and LAT use what they remember, and renew it during
        `backward()`. Raises UserError for labels that CANL has no class for.
        """
        return self.forward(criterion, x, y)[0]

    def _measure(self, criterion: Criterion, x: Tensor, y: Tensor) -> None:
        """Run the first of two passes: the loss gradient at every site, at eta = 0."""
        # with the parameters frozen no weight gradient is computed
        with self._inside_pass(y, measuring=True), torch.enable_grad(), frozen(self.model):
            loss = criterion(self.model(x), y)
            etas = [eta for site in self._sites.values() for eta in site.etas]
            if not etas:
                raise UserError(f"none of the modules that get noise was run: {', '.join(self.sites)}")
            gradients = iter(torch.autograd.grad(loss, etas, allow_unused=True))
        for site in self._sites.values():
            site.prepare([next(gradients) for _ in site.etas])

    @contextmanager
    def _inside_pass(self, y: Tensor, *, measuring: bool) -> Iterator[None]:
        keeps = self.noise.keeps_statistics(measuring=measuring)
        self._pass.begin(y, measuring=measuring)
        try:
            for site in self._sites.values():
                site.begin()
            with still_statistics(self.model) if keeps else nullcontext():
                yield
        except BaseException:
            for site in self._sites.values():
                site.begin()  # what is left of a first pass holds its graph
            raise
        finally:
            self._pass.end()

    def change(self, noise: ActivationNoise) -> None:
        """Use other values of the same noise from the next step on; its draws and memories go on.

        A step that was recorded in a CUDA graph keeps the old values. Raises UserError for another kind.
        """
        self.noise = self.noise.changed_to(noise)
        for site in self._sites.values():
            site.spec = self.noise

    def state(self) -> dict[str, Tensor]:
        """Return the positions of the noise generators and the sites' memories, for a checkpoint."""
        found = {
            f"{site}/random/{purpose}": source.get_state()
            for site, streams in self.streams.items()
            for purpose, source in streams.generators.items()
        }
        for name, site in self._sites.items():
            found |= {f"{name}/memory/{key}": value for key, value in site.state().items()}
        return found

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue the noise from what `state` returned, on the model's device."""
        device = next(self.model.parameters()).device
        memories: dict[str, dict[str, Tensor]] = {name: {} for name in self.sites}
        for key, value in state.items():
            site, kind, purpose = key.rsplit("/", 2)
            if kind == "random":
                self.streams[site].get(purpose, device).set_state(value)
            else:
                memories[site][purpose] = value
        for name, memory in memories.items():
            self._sites[name].restore(memory, device)

    @contextmanager
    def left_on(self) -> Iterator[None]:
        """Let the noise act in eval mode, too, inside the block: a layer that ignores the mode.

        The modules themselves stay in the mode that they are in. Raises UserError for noise along the loss
        gradient: at evaluation there is no loss.
        """
        if self.noise.needs_loss:
            raise UserError(f"{self.noise!r} needs the loss of a training step: it cannot be left on")
        for hook in self._acting.values():
            hook.always = True
        try:
            yield
        finally:
            for hook in self._acting.values():
                hook.always = False

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


def attach(model: nn.Module, noise: ActivationNoise, after: After = nn.BatchNorm2d, seed: int = 0) -> Handle:
    """Put noise on the outputs of some modules of any network, in training mode only.

    noise: a value such as `NoisyDropout(p=0.25, std=0.08)`.
    after: a module type, a module's dotted name or type name, several of these, or a predicate
    (name, module) -> bool; "input", alone or among several, is the network's own input (site 0).
    seed: each site derives generators of its own from it, on the device of its activations.

    Returns a handle: `handle.loss` in place of the criterion, `handle.remove()` to take the noise off.
    Raises UserError when no module matches, noise is not a noise, or CANL is not told how many classes.
    """
    if not isinstance(noise, ActivationNoise):
        known = ", ".join(kind.__name__ for kind in ActivationNoise.__subclasses__())
        raise UserError(f"noise must be one of {known}, got {noise!r}")
    return Handle(model, noise, after, seed)
