"""Train one network in several processes: `torchrun --nproc-per-node 4 -m noiseutils sweep STUDY`.

Each process trains on its part of every batch. torch's DistributedDataParallel averages the gradients in
`backward()`, so weights stay equal. ANL's first pass, an `autograd.grad` with respect to activations alone,
does not use this wrapper. Each process has its own BatchNorm statistics, ANL's s(h), and memories of CANL and
LAT, as usual.

Without `start()`, or without torchrun, the world size is 1, and every function here does nothing.
All processes must call the same functions in the same order. All GPUs must be of one kind, as each process
draws the batch order on its own.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from noiseutils.errors import UserError, portable
from noiseutils.training.orphans import die_with_parent, starter

T = TypeVar("T")
TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# Other ranks wait in a collective while rank 0 evaluates or decodes a data set; torchrun notices a dead rank.
COLLECTIVE_TIMEOUT = timedelta(days=1)


def launched() -> bool:
    """Return whether torchrun, or what sets its variables, started this process as one of several."""
    return all(name in os.environ for name in TORCHRUN) and int(os.environ["WORLD_SIZE"]) > 1


def is_main_process() -> bool:
    """Return whether this is rank 0, the process that prints; also valid before `start`."""
    return not launched() or os.environ["RANK"] == "0"


def local_world() -> int:
    """Return how many of the processes share this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if launched() else 1


def start() -> None:
    """Join the process group; where there are GPUs, on the GPU with the number LOCAL_RANK.

    A process that torchrun started ends with torchrun, also if torchrun is killed or was killed before.
    """
    if not launched() or _joined():
        return
    if dist.is_torchelastic_launched():
        die_with_parent(starter())
    gpus = torch.cuda.device_count()
    if gpus:
        if local_world() > gpus:
            raise UserError(f"{local_world()} processes do not fit {gpus} GPUs: --nproc-per-node {gpus}")
        torch.cuda.set_device(local_device())
    # gloo beside nccl: what is decided on the CPU waits for no GPU
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo", timeout=COLLECTIVE_TIMEOUT)
    atexit.register(stop)


def stop() -> None:
    """Leave the process group; called at the latest when this process exits."""
    if _joined():
        dist.destroy_process_group()


def exit_process(code: int) -> None:
    """Exit at once if torchrun started this process; do nothing without torchrun.

    The usual exit of Python is not safe: threads of the process group may still run, and C++ then aborts.
    """
    if launched():
        stop()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def rank() -> int:
    """Return this process's number, from 0."""
    return dist.get_rank() if _joined() else 0


def world() -> int:
    """Return how many processes train together."""
    return dist.get_world_size() if _joined() else 1


def local_device() -> torch.device:
    """Return this process's default device."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ["LOCAL_RANK"])) if launched() else torch.device("cuda")


@contextmanager
def raise_on_all() -> Iterator[None]:
    """Raise an exception inside the block on one rank on all: the lowest rank's, see `alike`.

    The block must not wait for other processes, except in a `raise_on_all` of its own.
    """
    if world() == 1:
        yield
        return
    error = None
    try:
        yield
    except Exception as caught:
        error = caught
    first = torch.tensor(world() if error is None else rank())
    dist.all_reduce(first, dist.ReduceOp.MIN)
    source = int(first)
    if source == world():
        return
    told = broadcast_object(
        None if error is None else portable(error, f"on rank {rank()} of {world()}"), source
    )
    raised = told if error is None or source != rank() else error
    assert raised is not None
    vars(raised)["alike"] = True
    raise raised


def alike(error: Exception) -> bool:
    """Return whether an exception was raised on all ranks. If not, the others wait: this process must end."""
    return world() == 1 or "alike" in vars(error)


def each(items: Iterable[T]) -> Iterable[T]:
    """Yield the same items, as many on every rank; an error in making one on one rank is raised on all."""
    return items if world() == 1 else _each(iter(items))


def on_rank0(make: Callable[[], T]) -> T:
    """Call `make` on rank 0 alone and return its value on all ranks."""
    if world() == 1:
        return make()
    made = None
    with raise_on_all():
        if rank() == 0:
            made = make()
    return broadcast_object(made)  # pyright: ignore[reportReturnType]  rank 0's is a T


def in_turn(make: Callable[[], T]) -> T:
    """Call `make` on each rank, on the others when rank 0 is done and has left them its cache."""
    made = []
    for turn in (rank() == 0, rank() > 0):
        with raise_on_all():
            if turn:
                made.append(make())
    return made[0]


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """Replace a tensor, in place, by its sum over all ranks."""
    if world() > 1:
        dist.all_reduce(tensor)
    return tensor


def wrapped(model: nn.Module) -> nn.Module:
    """Return torch's DistributedDataParallel around a model, or the model itself in a world of one.

    The wrapper starts all ranks from rank 0's weights and averages gradients during `backward()`. BatchNorm's
    statistics stay each rank's, see `average_statistics`.
    """
    return model if world() == 1 else DistributedDataParallel(model, broadcast_buffers=False)


def backward(loss: Tensor, images: int, batch: int) -> None:
    """Compute the gradients of the global batch's mean loss, averaged over ranks by the wrapper.

    loss: () mean over the rank's images.   images: of this rank.   batch: images of all ranks.
    """
    share = images * world() / batch
    (loss if share == 1 else loss * share).backward()


def average_statistics(model: nn.Module) -> None:
    """Average BatchNorm's running means and variances over ranks.

    Each rank's are estimates from its own images. Their mean rests on all images, where rank 0's would leave
    the others' unused; what the means differ by between ranks is missing from the variance, and small.
    """
    if world() == 1:
        return
    for norm in model.modules():
        if isinstance(norm, _BatchNorm) and norm.running_mean is not None:
            assert norm.running_var is not None
            assert norm.num_batches_tracked is not None
            both = all_reduce_sum(torch.stack((norm.running_mean, norm.running_var))) / world()
            norm.running_mean.copy_(both[0])
            norm.running_var.copy_(both[1])
            dist.broadcast(norm.num_batches_tracked, 0)


def broadcast_object(value: T, source: int = 0) -> T:
    """Return the value of rank `source`, which is pickled, between processes of one program alone."""
    if world() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, source, device=torch.device("cpu"))
    return box[0]


def gathered(value: T) -> dict[int, T]:
    """Gather every rank's value by rank on rank 0; any other rank gets its own alone."""
    if world() == 1:
        return {0: value}
    values: list[T] | None = [value] * world() if rank() == 0 else None
    dist.gather_object(value, values)
    return {rank(): value} if values is None else dict(enumerate(values))


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized()


def _each(items: Iterator[T]) -> Iterator[T]:
    while True:
        with raise_on_all():
            found = next(items, None)
        if found is None:
            return
        yield found
