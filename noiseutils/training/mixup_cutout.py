"""Apply cutout and mixup to training batches; draws depend on the seed and the epoch's number alone."""

from __future__ import annotations

import torch
from torch import Tensor

from noiseutils.config import Run
from noiseutils.data.mixup_cutout import cutout, draw_centres, mixup_ratios
from noiseutils.rng import derived_seed, generator


class MixupCutout:
    """Squares to erase and ratios to mix at, of one training. Draws of other purposes stay as they are.

    As each epoch's draws follow from its number, a resumed training needs no state of theirs. A recorded step
    replays them: the generator of squares is registered with the recording, and ratios are read from a tensor
    at a place that the step itself moves on.
    """

    def __init__(self, run: Run, seed: int, steps: int, fill: Tensor, device: torch.device) -> None:
        """Draw nothing yet.   seed: of the run's noise.   steps: an epoch's.   fill: (1, C, 1, 1) pixels."""
        self.run, self.seed, self.steps, self.fill = run, seed, steps, fill
        self.squares = generator(seed, "cutout", device)
        self.ratios = torch.ones(steps if run.mixup else 0, device=device)
        self.place = torch.zeros(1, dtype=torch.int64, device=device)  # of the next step's ratio

    @property
    def sources(self) -> list[torch.Generator]:
        """Generators that a step draws from."""
        return [self.squares] if self.run.cutout else []

    def begin_epoch(self, epoch: int) -> None:
        """Draw what an epoch mixes at, and begin its squares.   epoch: from 1."""
        if self.run.cutout:
            self.squares.manual_seed(derived_seed(self.seed, f"cutout/{epoch}"))
        if self.run.mixup:
            seed = derived_seed(self.seed, f"mixup/{epoch}")
            self.ratios.copy_(mixup_ratios(self.steps, self.run.mixup, seed))
            self.place.zero_()

    def erase(self, x: Tensor) -> Tensor:
        """Return (B, C, H, W) pixels with a square of each image erased, where the run asks for it."""
        if not self.run.cutout:
            return x
        return cutout(x, draw_centres(x, self.squares), self.run.cutout, self.fill)

    def next_ratio(self) -> Tensor:
        """Return the step's mixing ratio, (), and move on."""
        ratio = self.ratios.index_select(0, self.place).squeeze(0)
        self.place.add_(1)
        return ratio
