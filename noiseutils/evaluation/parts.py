"""How many images a network is given at once where nothing is trained, and a call in parts of that size."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Images at once. CPU, as measured on two cores with 32×32 images: larger batches leave the cache (1,000 take
# two to three times as long as 250 on resnet20), smaller ones prepare the weights more often (125 take 1.1
# times as long on vgg16); and the peak of memory stays below that of a training step with 128 images, which
# an attack on 500 exceeds 2.8 times on resnet18. CUDA: not measured; halved where memory does not hold them.
FORWARD = {"cpu": 250, "cuda": 2000}
GRADIENT = {"cpu": 125, "cuda": 1000}  # what a gradient needs of every layer is kept meanwhile


class Parts:
    """Calls a function on a few images at a time; CUDA: on half as many, for good, where memory runs out.

    size: images at once.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    @classmethod
    def of(cls, sizes: dict[str, int], device: torch.device) -> Parts:
        """As many at once as suits the device: `FORWARD`, or `GRADIENT` where the function takes one."""
        return cls(sizes.get(device.type, sizes["cpu"]))

    def __call__(self, function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        """function(*tensors), (N, ...), put together from its values for some rows of (N, ...) tensors each.

        function: no row of its value depends on other rows. It may be called twice for some.
        """
        found, start = [], 0
        while start < len(tensors[0]):
            try:
                found.append(function(*(tensor[start : start + self.size] for tensor in tensors)))
                start += self.size
                continue
            except torch.cuda.OutOfMemoryError:
                if self.size == 1:
                    raise
            # outside of the handler, whose traceback keeps the tensors that did not fit
            torch.cuda.empty_cache()
            self.size //= 2
        return torch.cat(found)
