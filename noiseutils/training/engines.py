"""Run a training step by an engine: call by call, compiled, or recorded as a CUDA graph and replayed.

An engine changes the speed and the rounding of a step, never what the step computes. A step is a function of
a few tensors. All results of a step stay in tensors that exist after the step (weights, optimiser state,
metrics).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from noiseutils.data import AnyImages, Images, assemble, batches, draws
from noiseutils.errors import one_of
from noiseutils.models.modes import overwriting
from noiseutils.models.plain import PlainCnn
from noiseutils.noise import Handle
from noiseutils.training.distributed import world

WARM_UP_CALLS = 3  # before a recording: by then libraries have chosen kernels, optimisers made their state

ENGINES = {
    "auto": "the first of graphed, blocked and eager that the device, the network and the noise allow",
    "eager": "call by call",
    "blocked": "on CPU, a plain chain of layers without noise in oneDNN's layout; others eager",
    "compiled": "by torch.compile, which takes half a minute or more; on CUDA recorded, too",
    "graphed": "on CUDA, recorded as one graph and replayed; elsewhere eager",
}

Work = Callable[..., None]  # some tensors -> nothing
Record = Callable[[Callable[[], None]], Callable[[], None]]  # work on fixed tensors -> its replay

_one_recording = threading.Lock()  # a recording stops the device: side by side they would meet


class Engine:
    """Engine of one training, by a name from `ENGINES`; "auto" is replaced by the engine chosen."""

    def __init__(
        self,
        name: str,
        device: torch.device,
        net: nn.Module,
        handle: Handle | None,
        sources: Sequence[torch.Generator] = (),
    ) -> None:
        """Choose the engine.

        handle: of noise on activations.   sources: generators of other noise that a step draws from."""
        if name not in ENGINES:
            raise one_of("engine", name, ENGINES)
        on_cuda = device.type == "cuda"
        recordable = on_cuda and world() == 1
        blocked = not on_cuda and handle is None and isinstance(net, PlainCnn)
        if name == "auto":
            name = "graphed" if recordable else "blocked" if blocked else "eager"
        elif (name == "graphed" and not recordable) or (name == "blocked" and not blocked):
            name = "eager"
        self.name = name
        self.records = recordable and name in ("graphed", "compiled")
        self.device, self.net, self.handle, self.sources = device, net, handle, sources
        self._graph: Graphed | None = None
        self._compiled: Any = None

    @property
    def description(self) -> str:
        """Engine name recorded in the result, with the reason where a recording failed."""
        trouble = self._graph.trouble if self._graph else ""
        return f"{self.name}, not recorded: {trouble}" if trouble else self.name

    def batches(
        self,
        images: AnyImages,
        batch_size: int,
        *,
        order: torch.Generator | None,
        augmentation: torch.Generator | None,
        shard: tuple[int, int] = (0, 1),
        normalise: Callable[[Tensor], Tensor] | None = None,
    ) -> Iterator[tuple[Tensor, ...]]:
        """Return an epoch's batches, in the form in which the step of `steps` takes them.

        Recorded steps take image numbers, crops and flips and assemble the images on the device; other steps
        take images and labels.   normalise: applied to several batches at once, in the blocked engine's
        layout.   The other arguments are those of `noiseutils.data.batches`.
        """
        if self.records and isinstance(images, Images):
            return draws(images, batch_size, order=order, augmentation=augmentation)
        layout: dict[str, Any] = {}
        if normalise is not None:
            layout = {"memory_format": torch.contiguous_format, "prepare": normalise}
        return batches(images, batch_size, order=order, augmentation=augmentation, shard=shard, **layout)

    def steps(self, work: Work, images: AnyImages | None = None) -> Work:
        """Return the step `work(x, y)` as this engine runs it, on the batches that `batches` gives."""
        if not self.records:
            return work
        recorded = work
        if isinstance(images, Images):
            held = images

            def recorded(*drawn: Tensor) -> None:
                work(*assemble(held, *drawn))

        self._graph = Graphed(recorded, cuda_record(self.handle, self.sources))
        return self._graph

    def forget(self) -> None:
        """Record anew at the next step, as noise was added, changed or removed."""
        if self._graph:
            self._graph.forget()

    @contextmanager
    def training(self) -> Iterator[None]:
        """Use the engine's forward passes inside the block, with ReLUs that overwrite their input.

        The trained network is evaluated without either.
        """
        if self.name == "compiled" and self._compiled is None:
            self.net.compile(dynamic=False)
            self._compiled = self.net._compiled_call_impl
        self.net._compiled_call_impl = self._compiled
        if isinstance(self.net, PlainCnn):
            self.net.blocked = self.name == "blocked"
        try:
            with overwriting(self.net):
                yield
        finally:
            self.net._compiled_call_impl = None
            if isinstance(self.net, PlainCnn):
                self.net.blocked = False

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Send CUDA work inside the block to a stream of its own, for recordings and trainings in threads."""
        if self.device.type != "cuda":
            yield
            return
        outer, own = torch.cuda.current_stream(self.device), torch.cuda.Stream(self.device)
        own.wait_stream(outer)
        try:
            with torch.cuda.stream(own):
                yield
        finally:
            outer.wait_stream(own)


class Graphed:
    """Work that is called a few times as it is, then recorded, then replayed: one launch for all its kernels.

    Inputs are copied into tensors of their own, whose shapes are those of the first call; a call with other
    shapes, such as an epoch's last batch, runs as it is. The first calls are steps like all others, so
    nothing has to be put back after them. What cannot be recorded goes on as it is, and `trouble` says why.
    """

    def __init__(self, work: Work, record: Record) -> None:
        self.work, self.record = work, record
        self.trouble = ""
        self._inputs: tuple[Tensor, ...] | None = None
        self._calls = 0
        self._replay: Callable[[], None] | None = None

    def __call__(self, *inputs: Tensor) -> None:
        if self._inputs is None:
            self._inputs = tuple(torch.empty_like(tensor) for tensor in inputs)
        if self.trouble or any(a.shape != b.shape for a, b in zip(inputs, self._inputs, strict=True)):
            self.work(*inputs)
            return
        for fixed, given in zip(self._inputs, inputs, strict=True):
            fixed.copy_(given)
        if self._replay is None and self._calls >= WARM_UP_CALLS:
            self._replay = self._recorded(self._inputs)
        self._calls += 1
        if self._replay is None:
            self.work(*self._inputs)
        else:
            self._replay()

    def forget(self) -> None:
        """Record anew: the work has changed."""
        self._replay = None

    def _recorded(self, inputs: tuple[Tensor, ...]) -> Callable[[], None] | None:
        try:
            return self.record(lambda: self.work(*inputs))
        except RuntimeError as error:
            self.trouble = str(error).strip().splitlines()[0]
            return None


def cuda_record(handle: Handle | None, sources: Sequence[torch.Generator] = ()) -> Record:
    """Return a recorder on the current stream, not the default one; replays draw the noise on."""

    def record(work: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        for source in (*sources, *(handle.generators() if handle else ())):
            graph.register_generator_state(source)
        # other threads may train on other streams meanwhile, and allocate
        with (
            _one_recording,
            torch.cuda.graph(graph, stream=torch.cuda.current_stream(), capture_error_mode="thread_local"),
        ):
            work()
        return graph.replay

    return record
