"""Small images and networks for the tests of attacks."""

import torch
import torch.nn.functional as F
from torch import nn

from noiseutils.evaluation.attack_report import Effort

CLASSES = 5
DELTA = 0.03
QUICK = Effort(steps=(3, 6), noise_draws=2, square_queries=20, curve=(DELTA, 0.5))


def data(n: int, seed: int = 2, classes: int = CLASSES) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of one template a class, under noise that leaves the classes easy to tell apart."""
    templates = torch.rand(classes, 3, 8, 8, generator=torch.Generator().manual_seed(99))
    y = torch.arange(n) % classes
    noise = torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return (0.5 + 0.25 * (templates[y] - 0.5) + 0.15 * noise).clamp(0, 1), y


def net(classes: int = CLASSES, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32, classes),
    )


def trained(seed: int = 0, steps: int = 150, data_seed: int = 1) -> nn.Sequential:
    model = net(seed=seed)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    x, y = data(400, seed=data_seed)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    optimizer.zero_grad()
    return model.eval()
