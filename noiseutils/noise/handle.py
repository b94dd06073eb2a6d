"""Noise in any network, in two lines, without a change to the network.

    handle = attach(model, NoisyDropout(p=0.25, std=0.08), after=nn.ReLU)
    loss = handle.loss(criterion, x, y)        # instead of criterion(model(x), y)

A site is a module whose output gets noise. Forward hooks add it while the module is in training mode; in
eval mode a forward pass is bitwise the clean model's. Parameters, buffers and the state dict are untouched.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from noiseutils.errors import UserError, clipped
from noiseutils.models.modes import frozen, still_statistics
from noiseutils.noise.first_pass import loss_gradients, underflow_scale, versions_of
from noiseutils.noise.hooks import AnyHook, FirstPassHook, InputHook, OutputHook, noise_hooks, remove_hooks
from noiseutils.noise.recomputation import RepeatableSite
from noiseutils.noise.site import ActivationNoise, Pass
from noiseutils.noise.sites import After, find_sites
from noiseutils.noise.stored import checked_state, stored_state
from noiseutils.noise.wrappers import averaging, first_pass_network, forget_compiled, unwrapped
from noiseutils.rng import SiteStreams

Criterion = Callable[[Any, Any], Tensor]


class Handle:
    """Noise attached to a model. `remove()` takes it off again; a `with` block does so at its end."""

    def __init__(self, network: nn.Module, noise: ActivationNoise, after: After, seed: int) -> None:
        model = unwrapped(network)
        modules = find_sites(model, after)
        self.model, self.network, self.noise = model, network, noise
        self.streams = {name: SiteStreams(seed, name) for name in modules}
        self._modules = modules
        self._pass = Pass()
        self._labels_checked = self._sites_checked = self._wrapper_sought = self._no_gradient_warned = False
        self._sites = {name: noise.site(streams, self._pass) for name, streams in self.streams.items()}
        self._acting: dict[str, AnyHook] = {}
        self._hooks = []
        for name, site in self._sites.items():
            site.name = name
            module, repeatable = modules[name], RepeatableSite(site, self._pass)
            if module is model:
                hook = InputHook(name, repeatable)
                self._hooks.append(module.register_forward_pre_hook(hook))
            else:
                hook = OutputHook(name, repeatable)
                self._hooks.append(module.register_forward_hook(hook))
            self._acting[name] = hook
        self._after_first = model.register_forward_hook(FirstPassHook(self._after_pass))
        forget_compiled()

    @property
    def sites(self) -> tuple[str, ...]:
        """The dotted names of the modules whose outputs get noise."""
        return tuple(self.streams)

    @property
    def attached(self) -> bool:
        """True until `remove`, or another noise that replaces this one."""
        return any(hook.id in (hook.hooks_dict_ref() or ()) for hook in self._hooks)

    def site(self, name: str) -> Any:
        """Return the `Site` of one of `sites`."""
        return self._sites[name]

    def generators(self) -> list[torch.Generator]:
        """Return the generators used so far; pass each one to `CUDAGraph.register_generator_state`.

        A CUDA graph can capture a step, including `backward()`, after one step outside the graph. This first
        step makes the generators and the memories of CANL and LAT, and checks CANL's labels. Capture LAT
        with the largest batch: for a larger one LAT allocates new memory, which the graph does not use.
        """
        return [source for streams in self.streams.values() for source in streams.generators.values()]

    def forward(
        self, criterion: Criterion, x: Any, y: Any, network: nn.Module | None = None
    ) -> tuple[Tensor, Any]:
        """Return the training loss and the network's output, with the noise in both.

        network: a wrapper around the model, for the pass that `backward()` follows; None: the one that
        noise was attached to, or DistributedDataParallel around it. Raises UserError for DataParallel on
        several devices.
        """
        if network is None:
            network = self._trained()
        else:
            unwrapped(network)  # raises for a wrapper that noise cannot go with
        if not self.attached:
            logits = network(x)
            return criterion(logits, y), logits
        if not self.noise.needs_loss:
            logits = network(x)
            loss = criterion(logits, y)
        else:
            # a look at labels on a GPU waits for it: once there, always where nothing waits
            if not self._labels_checked or not isinstance(y, Tensor) or y.device.type == "cpu":
                self.noise.check_labels(y)
                self._labels_checked = True
            if self.noise.two_passes and any(module.training for module in self._modules.values()):
                self._measure(criterion, x, y, first_pass_network(network))
            with self._inside_pass(y, measuring=False):
                logits = network(x)
                loss = criterion(logits, y)
            self._pass.forget_recorded(loss)
        self._after_pass()
        return loss, logits

    def loss(self, criterion: Criterion, x: Any, y: Any) -> Tensor:
        """Return the training loss with the noise in it.

        criterion: (logits, y) -> scalar.   x: (N, ...) inputs.   y: (N,) targets.   Returns (): call
        `backward()` on it and step the optimiser, as without noise. ANL runs its first pass inside, which
        leaves no gradient on any parameter: forward and criterion run twice, and what they count or queue is
        counted twice. CANL and LAT use what they remember, and renew it during `backward()`.

        Where noise is attached to a module, before or after DistributedDataParallel wraps it, the wrapper
        runs, so that gradients are averaged. Warns, after the first pass, of sites that had no noise. Raises
        UserError for labels that CANL has no class for, and for a first pass that changes x in place.
        """
        return self.forward(criterion, x, y)[0]

    def _trained(self) -> nn.Module:
        """Return what `backward()` goes through: the network, or DistributedDataParallel around it."""
        if not self._wrapper_sought and first_pass_network(self.network) is self.network:
            self.network = averaging(self.model) or self.network
        self._wrapper_sought = True
        return self.network

    def _measure(self, criterion: Criterion, x: Any, y: Any, network: nn.Module) -> None:
        """Run the first of two passes: the loss gradient at every site, at eta = 0."""
        before = versions_of((x, y))
        # with the parameters frozen no weight gradient is computed
        with self._inside_pass(y, measuring=True), torch.enable_grad(), frozen(self.model):
            logits = network(x)
            loss = criterion(logits, y)
            etas = [eta for site in self._sites.values() for eta in site.etas]
            if not etas:
                raise UserError(f"none of the modules that get noise was run: {', '.join(self.sites)}")
            if any(site.half for site in self._sites.values()):
                loss = loss * underflow_scale(loss, logits)
            gradients = iter(loss_gradients(loss, etas))
            self._pass.forget_recorded()
        if before != versions_of((x, y)):
            raise UserError(
                f"{self.noise!r} runs the network twice, and the first time has changed its input in place: "
                "the second pass would see another. Let the network change a copy, as in x = x - mean"
            )
        for site in self._sites.values():
            site.prepare([next(gradients) for _ in site.etas])
        unreached = [name for name, site in self._sites.items() if site.no_gradient]
        if unreached and not self._no_gradient_warned:
            self._no_gradient_warned = True
            warnings.warn(
                f"no loss gradient reaches {', '.join(unreached)}, and no noise acts there: the module runs "
                "under torch.no_grad or in a re-entrant checkpoint (use_reentrant=False has gradients), or "
                "its output does not count in the loss",
                stacklevel=4,
            )

    @contextmanager
    def _inside_pass(self, y: Any, *, measuring: bool) -> Iterator[None]:
        keeps = self.noise.keeps_statistics(measuring=measuring)
        self._pass.begin(y, measuring=measuring, keeps_statistics=keeps)
        try:
            for site in self._sites.values():
                site.begin()
            with still_statistics(self.model) if keeps else nullcontext():
                yield
            for site in self._sites.values():
                site.end()
        except BaseException:
            for site in self._sites.values():
                site.begin()  # what is left of a first pass holds its graph
            raise
        finally:
            self._pass.end()

    def _after_pass(self) -> None:
        """Warn, after the first pass in training mode alone, of sites that had no noise."""
        if self._sites_checked or self._pass.active:  # in the first of two passes no noise is due
            return
        if not any(module.training for module in (self.model, *self._modules.values())):
            return
        self._sites_checked = True
        self._after_first.remove()
        silent = {name for name, hook in self._acting.items() if not hook.ran}
        evaluating = [name for name in silent if not self._modules[name].training]
        missed = [name for name in silent if self._modules[name].training]
        said = [
            f"{reason}: {', '.join(name for name in self.sites if name in names)}"
            for names, reason in (
                (evaluating, "in eval mode, in which noise never acts, while the network trains"),
                (
                    missed,
                    "not run in this pass: another module does their work, or a branch went around them",
                ),
            )
            if names
        ]
        if said:
            warnings.warn(
                f"{len(silent)} of the {len(self.sites)} modules that noise is attached to had none in the "
                f"first training pass; {'; '.join(said)}",
                stacklevel=3,
            )

    def change(self, noise: ActivationNoise) -> None:
        """Use other values of the same noise from the next step on; its draws and memories go on.

        A step that was recorded in a CUDA graph keeps the old values. Raises UserError for another kind.
        """
        self.noise = self.noise.changed_to(noise)
        for site in self._sites.values():
            site.spec = self.noise

    def forget(self) -> None:
        """Forget the gradients that CANL and LAT remember, as after a change of the images' size."""
        for site in self._sites.values():
            site.forget()

    def state(self) -> dict[str, Tensor]:
        """Return the positions of the noise generators and the sites' memories, for a checkpoint.

        Of several processes that train together each has its own.
        """
        return stored_state(self.noise.kind, self.streams, self._sites)

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue the noise from what `state` returned, on the model's device.

        Raises UserError, and changes nothing, for a state that is incomplete, of another kind of noise, of
        other sites or other shapes.
        """
        device = next((p.device for p in self.model.parameters()), torch.device("cpu"))
        positions, memories = checked_state(self.noise.kind, state, self._sites, device)
        for name, purposes in positions.items():
            for purpose, position in purposes.items():
                self.streams[name].get(purpose, device).set_state(position)
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
        """Take the noise off: the model is as it was before `attach`. Twice does no harm.

        Copies of the model keep their noise, see `remove_noise`.
        """
        for hook in (*self._hooks, self._after_first):
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


def attach(
    model: nn.Module,
    noise: ActivationNoise,
    after: After = nn.BatchNorm2d,
    seed: int = 0,
    *,
    replace: bool = False,
) -> Handle:
    """Put noise on the outputs of some modules of any network, in training mode only.

    model: the network, or DistributedDataParallel or torch.compile around it; names are those of the network.
    noise: a value such as `NoisyDropout(p=0.25, std=0.08)`.
    after: a module type, a module's dotted name or type name, several of these, or a predicate
    (name, module) -> bool; "input", alone or among several, is the network's own input (site 0).
    seed: each site derives generators of its own from it, on the device of its activations; where several
    processes train together, each draws other noise.
    replace: take off all noise that the network has; without, a site that has noise already is warned of.

    Returns a handle: `handle.loss` in place of the criterion, `handle.remove()` to take the noise off.
    Raises UserError when no module matches, or one that never runs as a module does, when noise is not a
    noise, or CANL is not told how many classes.
    """
    if not isinstance(noise, ActivationNoise):
        known = ", ".join(kind.__name__ for kind in ActivationNoise.__subclasses__())
        raise UserError(f"noise must be one of {known}, got {clipped(noise)}")
    if not isinstance(model, nn.Module):
        raise UserError(f"model must be a torch.nn.Module, got {clipped(model)}")
    inner = unwrapped(model)
    before = noise_hooks(inner)
    handle = Handle(model, noise, after, seed)
    if replace:
        remove_hooks(before)
    elif twice := sorted(
        {name for name, hooks, key in before if isinstance(hooks[key], AnyHook)} & {*handle.sites}
    ):
        warnings.warn(
            f"{', '.join(twice)} had noise before, and now has both: attach(..., replace=True) takes the "
            "first off, and so does its handle's remove()",
            stacklevel=2,
        )
    return handle
