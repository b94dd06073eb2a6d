"""Independent random streams: one generator per purpose, so that noise never moves the batch order.

Two runs with the same seed start from the same weights, see the same batches and the same crops, whether
or not noise is drawn beside them: methods are compared pairwise on equal seeds. Nothing here or elsewhere
in the package touches torch's global generator.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from numbers import Integral

import torch
import torch.distributed as dist
from torch import Tensor

from noiseutils.errors import UserError, clipped

_one_at_a_time = threading.RLock()  # the generator is the process's, and threads may train side by side


def derived_seed(seed: int, purpose: str) -> int:
    """Return a 63-bit seed for one purpose, the same on every machine.

    Raises UserError for a seed that is not a whole number.
    """
    check_seed(seed)
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def check_seed(seed: int) -> None:
    """Raise UserError for a seed that torch does not take."""
    if isinstance(seed, bool) or not isinstance(seed, Integral) or not -(2**63) <= seed < 2**64:
        raise UserError(f"seed {clipped(seed)} is not allowed; it must be a whole number from 0 to 2**63 - 1")


def rank_seed(seed: int) -> int:
    """Return a seed for draws that must differ by process of a group: the given one on rank 0."""
    together = dist.is_available() and dist.is_initialized()
    rank = dist.get_rank() if together else 0
    return seed if rank == 0 else derived_seed(seed, f"rank {rank}")


def generator(seed: int, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a new generator on `device` whose numbers depend on the seed and the purpose alone."""
    return torch.Generator(device=device).manual_seed(derived_seed(seed, purpose))


@dataclass(frozen=True)
class Streams:
    """The generators of one run.

    What derives generators of its own takes its seed from `initial_seed()`: the initial weights from that of
    `init`, every noise site from that of `noise`.
    """

    init: torch.Generator
    data: torch.Generator
    augmentation: torch.Generator
    noise: torch.Generator
    attack: torch.Generator

    def state(self) -> dict[str, Tensor]:
        """Return the generators' positions, to be stored beside a checkpoint."""
        return {field.name: getattr(self, field.name).get_state() for field in fields(self)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from stored positions."""
        for name, value in state.items():
            getattr(self, name).set_state(value)


def streams(seed: int, device: torch.device | str = "cpu") -> Streams:
    """Return one stream per purpose: initial weights, batch order, crops and flips, noise, attacks."""
    return Streams(**{field.name: generator(seed, field.name, device) for field in fields(Streams)})


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global CPU generator inside the block and put it back after the block.

    For library code that takes no generator: the initialisation of torch's own layers. Raises UserError for
    a seed that torch does not take.
    """
    check_seed(seed)
    with _one_at_a_time:
        state = torch.get_rng_state()
        torch.set_rng_state(torch.Generator().manual_seed(seed).get_state())
        try:
            yield
        finally:
            torch.set_rng_state(state)


class SiteStreams:
    """The generators of one site, by purpose, made on the device where they are first asked for.

    Where several processes train together, each draws numbers of its own.
    """

    def __init__(self, seed: int, site: str) -> None:
        check_seed(seed)
        self.seed, self.site = seed, site
        self.generators: dict[str, torch.Generator] = {}

    def get(self, purpose: str, device: torch.device) -> torch.Generator:
        """Return the generator for a purpose. A model moved to another device starts a new one there."""
        found = self.generators.get(purpose)
        if found is None or found.device != device:
            found = generator(rank_seed(self.seed), f"{self.site}/{purpose}", device)
            self.generators[purpose] = found
        return found


def draw_normal(x: Tensor, source: torch.Generator) -> Tensor:
    """Draw numbers from N(0, 1), shaped, typed and laid out in memory as x."""
    # a flat draw takes torch's vectorised path; one in x's own strides is several times slower on CPU
    flat = torch.empty(x.numel(), dtype=x.dtype, device=x.device).normal_(generator=source)
    return view_in_layout_of(x, flat)


def draw_keep(x: Tensor, probability: float, source: torch.Generator) -> Tensor:
    """Draw a bool tensor laid out as x, each element true with the given probability."""
    flat = torch.empty(x.numel(), dtype=torch.bool, device=x.device).bernoulli_(probability, generator=source)
    return view_in_layout_of(x, flat)


def view_in_layout_of(x: Tensor, flat: Tensor) -> Tensor:
    """Return `flat`, one number for each element of x, viewed in the shape and memory order of x."""
    if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        n, c, h, w = x.shape
        return flat.view(n, h, w, c).permute(0, 3, 1, 2)
    return flat.view(x.shape)
