"""Call a function on a few images at a time: batch sizes by device, for networks that are not in training."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Batch sizes. CPU, as measured on two cores with 32×32 images: larger batches leave the cache (1,000 take
# two to three times as long as 250 on resnet20), smaller ones prepare the weights more often (125 take 1.1
# times as long on vgg16); and the peak of memory stays below that of a training step with 128 images, which
# an attack on 500 exceeds 2.8 times on resnet18. CUDA: not measured; halved where memory does not hold them.
FORWARD = {"cpu": 250, "cuda": 2000}
GRADIENT = {"cpu": 125, "cuda": 1000}  # a gradient keeps the activations of every layer


class BatchedCall:
    """Call a function on `size` images at a time; CUDA halves `size`, for good, where memory runs out."""

    def __init__(self, size: int) -> None:
        self.size = size

    @classmethod
    def of(cls, sizes: dict[str, int], device: torch.device) -> BatchedCall:
        """Take the batch size of a device from `sizes`, which is `FORWARD`, or `GRADIENT` for gradients."""
        return cls(sizes.get(device.type, sizes["cpu"]))

    def __call__(self, function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        """Return function(*tensors), (N, ...), concatenated from batches of the (N, ...) tensors.

        function: no row of the result may depend on other rows; called again for a batch that did not fit.
        """
        results, start = [], 0
        while start < len(tensors[0]):
            try:
                results.append(function(*(tensor[start : start + self.size] for tensor in tensors)))
                start += self.size
                continue
            except torch.cuda.OutOfMemoryError:
                if self.size == 1:
                    raise
            # outside of the handler, whose traceback keeps the tensors that did not fit
            torch.cuda.empty_cache()
            self.size //= 2
        return torch.cat(results)
