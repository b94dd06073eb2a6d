"""Where noise goes, and `attach`: noise in any network, in two lines, without a change to the network.

    handle = attach(model, NoisyDropout(p=0.25, std=0.08), after=nn.ReLU)
    loss = handle.loss(criterion, x, y)        # instead of criterion(model(x), y)

A site is a module whose output gets noise. Forward hooks add it while the module is in training mode; in
eval mode a forward pass is bitwise the clean model's. Parameters, buffers and the state dict are untouched.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from noiseutils.config import (
    AdversarialNoise,
    ClassAdversarialNoise,
    GaussianNoise,
    LayerwiseAdversarialNoise,
    NoisyDropout,
)
from noiseutils.errors import UserError
from noiseutils.models.modes import frozen, still_statistics
from noiseutils.noise.activation import GaussianNoiseSite
from noiseutils.noise.adversarial import AdversarialSite, ClassSite, LayerwiseSite, Pass, check_labels
from noiseutils.noise.dropout import NoisyDropoutSite
from noiseutils.noise.places import After, find_sites
from noiseutils.rng import SiteStreams

Noise = NoisyDropout | GaussianNoise | AdversarialNoise | ClassAdversarialNoise | LayerwiseAdversarialNoise
Criterion = Callable[[Tensor, Tensor], Tensor]
Perturb = Callable[[Tensor, nn.Module | None], Tensor]

# noise that is drawn whatever the loss, and noise that `Handle.loss` makes from it
DRAWN: dict[type, Callable[..., Any]] = {NoisyDropout: NoisyDropoutSite, GaussianNoise: GaussianNoiseSite}
ADVERSARIAL: dict[type, Callable[..., Any]] = {
    AdversarialNoise: AdversarialSite,
    ClassAdversarialNoise: ClassSite,
    LayerwiseAdversarialNoise: LayerwiseSite,
}

# their output is new memory, which neither they nor their backward pass look at again; subclasses may
FRESH = {nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm} | {
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
}


def _owner(module: nn.Module, output: Tensor) -> nn.Module | None:
    """The module, if nothing but the hook on it holds its output, so that noise may be added in place."""
    if torch.compiler.is_compiling() or module._compiled_call_impl is not None:
        return None
    # a hook that copies what it sees, and says so, holds nothing
    holding = [hook for hook in module._forward_hooks.values() if not getattr(hook, "copies", False)]
    others = len(holding) > 1 or torch.nn.modules.module._global_forward_hooks
    return module if type(module) in FRESH and type(output) is Tensor and not others else None


class _Hook:
    """A forward hook; a class, not a closure, so that a model with noise can be copied and pickled."""

    def __init__(self, name: str, perturb: Perturb) -> None:
        self.name, self.perturb = name, perturb

    def __call__(self, module: nn.Module, inputs: object, output: Tensor) -> Tensor | None:
        if not module.training:
            return None
        if not isinstance(output, Tensor):
            raise UserError(
                f"noise goes on a tensor; module {self.name!r} returns {type(output).__name__}: "
                "attach after one of its inner modules"
            )
        return _outside_graphs(self.perturb, output, _owner(module, output))


class _InputHook:
    """The same before a module, on the first thing that it is given."""

    def __init__(self, perturb: Perturb) -> None:
        self.perturb = perturb

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if not module.training:
            return None
        return (_outside_graphs(self.perturb, inputs[0], None), *inputs[1:])


def _outside_graphs(perturb: Perturb, x: Tensor, owner: nn.Module | None) -> Tensor:
    """Draws and memories stay outside a compiled graph, which breaks here."""
    return _uncompiled()(perturb, x, owner) if torch.compiler.is_compiling() else perturb(x, owner)


@functools.cache
def _uncompiled() -> Any:
    # made when it is needed: importing the compiler takes a second
    return torch.compiler.disable(lambda perturb, x, owner: perturb(x, owner))


class Handle:
    """Noise attached to a model. `remove()` takes it off again; a `with` block does so at its end."""

    def __init__(self, model: nn.Module, noise: Noise, sites: dict[str, nn.Module], seed: int) -> None:
        self.model, self.noise = model, noise
        self.streams = {name: SiteStreams(seed, name) for name in sites}
        self._modules = sites
        self._pass = Pass()
        self._labels_checked = False
        shared = (self._pass,) if type(noise) in ADVERSARIAL else ()
        make = (DRAWN | ADVERSARIAL)[type(noise)]
        self._perturb = {name: make(noise, self.streams[name], *shared) for name in sites}
        self._hooks = [
            module.register_forward_pre_hook(_InputHook(self._perturb[name]))
            if module is model
            else module.register_forward_hook(_Hook(name, self._perturb[name]))
            for name, module in sites.items()
        ]

    @property
    def sites(self) -> tuple[str, ...]:
        """The dotted names of the modules whose outputs get noise."""
        return tuple(self.streams)

    def site(self, name: str) -> Any:
        """What makes the noise of one of `sites`."""
        return self._perturb[name]

    @property
    def capturable(self) -> bool:
        """Whether steps can be captured in a CUDA graph, `backward()` too: true of every noise there is.

        One step is to be made outside first. It makes what a capture must find made: the generators (see
        `generators`) and the memories of CANL and LAT, which from then on lie where they are; and CANL looks
        at the labels in it. LAT makes room for a batch larger than any before elsewhere, where no graph
        finds it: capture the largest.
        """
        return True

    def generators(self) -> list[torch.Generator]:
        """Those that noise has been drawn from so far, each for `CUDAGraph.register_generator_state`."""
        return [source for streams in self.streams.values() for source in streams.generators.values()]

    def forward(
        self, criterion: Criterion, x: Tensor, y: Tensor, network: nn.Module | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the training loss and its logits, with the noise in both.

        network: a wrapper around the model, such as DistributedDataParallel, for the pass that `backward()`
        follows; None: the model itself. ANL's first pass goes through the model without the wrapper.
        """
        network = self.model if network is None else network
        if not self._hooks or type(self.noise) in DRAWN:
            logits = network(x)
            return criterion(logits, y), logits
        self._check_labels(y)
        moving = nullcontext()
        if isinstance(self.noise, AdversarialNoise):
            if any(module.training for module in self._modules.values()):
                self._measure(self.noise, criterion, x, y)
            if self.noise.batchnorm == "clean":
                moving = still_statistics(self.model)
        with self._making_noise(y), moving:
            logits = network(x)
            return criterion(logits, y), logits

    def loss(self, criterion: Criterion, x: Tensor, y: Tensor) -> Tensor:
        """The training loss with the noise in it.

        criterion: (logits, y) -> scalar.   x: (N, ...) inputs.   y: (N,) targets.   Returns (): call
        `backward()` on it and step the optimiser, as without noise. ANL runs its first round inside, which
        leaves no gradient on any parameter; CANL and LAT use what they remember, and renew it during
        `backward()`. Raises UserError for labels that CANL has no class for.
        """
        return self.forward(criterion, x, y)[0]

    def _measure(self, noise: AdversarialNoise, criterion: Criterion, x: Tensor, y: Tensor) -> None:
        """Run ANL's first pass: the gradient at every site, at eta = 0, and the activations' std."""
        with self._making_noise(y, measuring=True), ExitStack() as stack:
            if noise.batchnorm == "noisy":
                stack.enter_context(still_statistics(self.model))
            stack.enter_context(torch.enable_grad())
            stack.enter_context(frozen(self.model))  # no weight gradient is computed
            loss = criterion(self.model(x), y)
            etas = [eta for site in self._perturb.values() for eta in site.etas]
            if not etas:
                raise UserError(f"none of the places for noise was run: {', '.join(self.sites)}")
            gradients = iter(torch.autograd.grad(loss, etas, allow_unused=True))
        for site in self._perturb.values():
            site.prepare([next(gradients) for _ in site.etas])

    @contextmanager
    def _making_noise(self, y: Tensor, *, measuring: bool = False) -> Iterator[None]:
        self._pass.begin(y, measuring=measuring)
        try:
            for site in self._perturb.values():
                site.begin()
            yield
        except BaseException:
            for site in self._perturb.values():
                site.begin()  # what is left of a first round holds its graph
            raise
        finally:
            self._pass.end()

    def _check_labels(self, y: Tensor) -> None:
        if not isinstance(self.noise, ClassAdversarialNoise):
            return
        # a look at the labels waits for the device: once there, always where nothing waits
        if not self._labels_checked or y.device.type == "cpu":
            assert self.noise.num_classes is not None
            check_labels(y, self.noise.num_classes)
            self._labels_checked = True

    def change(self, noise: Noise) -> None:
        """Other values of the same noise from the next step on; what it draws and remembers goes on.

        A step that was recorded in a CUDA graph has the old ones in it. Raises UserError for another kind.
        """
        if type(noise) is not type(self.noise):
            raise UserError(f"the noise here is {self.noise!r}; {noise!r} is another kind: attach it anew")
        if isinstance(self.noise, ClassAdversarialNoise) and isinstance(noise, ClassAdversarialNoise):
            if noise.num_classes not in (None, self.noise.num_classes):
                raise UserError(f"num_classes is {self.noise.num_classes} and stays, got {noise.num_classes}")
            noise = noise.replace(num_classes=self.noise.num_classes)
        self.noise = noise
        for site in self._perturb.values():
            site.spec = noise

    def state(self) -> dict[str, Tensor]:
        """The positions of the noise generators, and what the sites remember, for a checkpoint."""
        found = {
            f"{site}/random/{purpose}": source.get_state()
            for site, streams in self.streams.items()
            for purpose, source in streams.generators.items()
        }
        if type(self.noise) in ADVERSARIAL:
            for name, site in self._perturb.items():
                found |= {f"{name}/memory/{key}": value for key, value in site.state().items()}
        return found

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue the noise from what `state` gave, on the model's device."""
        device = next(self.model.parameters()).device
        memories: dict[str, dict[str, Tensor]] = {name: {} for name in self.sites}
        for key, value in state.items():
            site, kind, purpose = key.rsplit("/", 2)
            if kind == "random":
                self.streams[site].get(purpose, device).set_state(value)
            else:
                memories[site][purpose] = value
        if type(self.noise) in ADVERSARIAL:
            for name, memory in memories.items():
                self._perturb[name].restore(memory, device)

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
    (name, module) -> bool; "input", alone or among several, is the network's own input (site 0).
    seed: each site derives generators of its own from it, on the device of its activations.

    Returns a handle: `handle.loss` in place of the criterion, `handle.remove()` to take the noise off.
    Raises UserError when no module matches, noise is not a noise, or CANL is not told how many classes.
    """
    if type(noise) not in DRAWN | ADVERSARIAL:
        known = ", ".join(kind.__name__ for kind in DRAWN | ADVERSARIAL)
        raise UserError(f"noise must be one of {known}, got {noise!r}")
    if isinstance(noise, ClassAdversarialNoise) and noise.num_classes is None:
        raise UserError("ClassAdversarialNoise needs num_classes: how many classes the labels have")
    return Handle(model, noise, find_sites(model, after), seed)
