"""Train as a tutorial shows, for comparison.

PIL images, torchvision's transforms, a DataLoader with two workers kept alive, `.item()` for the log. On CUDA
with pinned memory and copies that do not wait, but no autocast, compiler or graph.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from noiseutils.data import AnyImages, Dataset
from noiseutils.models import build_model
from noiseutils.training.orphans import die_with_parent

WORKERS = 2


class PilImages(torch.utils.data.Dataset):
    """Serve arrays as torchvision's CIFAR10 does: from an array to a PIL image to a transform."""

    def __init__(self, images: AnyImages, steps: Sequence[Callable]) -> None:
        from torchvision import transforms

        self.arrays = images.take(len(images)).pixels.cpu().permute(0, 2, 3, 1).contiguous().numpy()
        self.labels = images.labels.tolist()
        self.transform: Callable = transforms.Compose(steps)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.arrays[index])), self.labels[index]


def _end_with(parent: int, worker: int) -> None:
    die_with_parent(parent)


class PlainLoop:
    """Train and test with crop and flip, and SGD with momentum."""

    def __init__(
        self,
        data: Dataset,
        model: str,
        batch_size: int,
        *,
        device: str = "cpu",
        workers: int = WORKERS,
        width: float = 1.0,
    ) -> None:
        from torchvision import transforms

        served = [transforms.ToTensor(), transforms.Normalize(data.mean, data.std)]
        augmented = [transforms.RandomCrop(data.image_size, padding=4), transforms.RandomHorizontalFlip()]
        pinned = device == "cuda"
        self.device = device
        self.training = DataLoader(
            PilImages(data.train, [*augmented, *served]),
            batch_size,
            shuffle=True,
            num_workers=workers,
            worker_init_fn=partial(_end_with, os.getpid()) if workers else None,
            persistent_workers=workers > 0,
            pin_memory=pinned,
        )
        self.test = DataLoader(PilImages(data.test, served), batch_size, pin_memory=pinned)
        self.net = build_model(model, width=width, num_classes=data.num_classes, in_channels=data.channels)
        self.net.to(device)
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.01, momentum=0.9)

    def epoch(self) -> float:
        """Train on every image once; return the seconds."""
        started = time.perf_counter()
        self.net.train()
        total, correct = 0.0, 0
        for x, y in self.training:
            x, y = x.to(self.device, non_blocking=True), y.to(self.device, non_blocking=True)
            self.optimizer.zero_grad()
            logits = self.net(x)
            loss = self.criterion(logits, y)
            loss.backward()
            self.optimizer.step()
            total += loss.item() * len(y)
            correct += (logits.argmax(1) == y).sum().item()
        return time.perf_counter() - started

    def accuracy(self) -> float:
        """Return the accuracy on the test images."""
        self.net.eval()
        correct = 0
        with torch.no_grad():
            for x, y in self.test:
                correct += (self.net(x.to(self.device)).argmax(1) == y.to(self.device)).sum().item()
        return correct / len(self.test.dataset)  # pyright: ignore[reportArgumentType]
