"""A step's loss is the equation it stands for."""

import torch
import torch.nn.functional as F
from torch import nn

from noiseutils.evaluation.attacks import fgsm
from noiseutils.training.steps import AdversarialTrainingStep


def net() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)
        )


def test_adversarial_training_is_goodfellows_mixed_loss():
    source = torch.Generator().manual_seed(0)
    x, y = torch.rand(6, 3, 8, 8, generator=source), torch.arange(6) % 5
    model = net()
    loss, logits = AdversarialTrainingStep(model, model, F.cross_entropy, delta=0.05, weight=0.5)(x, y)
    slow = net()
    attacked = fgsm(slow, x, y, delta=0.05, training=True)
    clean = slow(x)
    expected = 0.5 * F.cross_entropy(clean, y) + 0.5 * F.cross_entropy(slow(attacked), y)
    assert torch.equal(loss, expected)
    assert torch.equal(logits, clean)
    assert int(model[1].num_batches_tracked) == 2, "both losses move the statistics, the attack does not"
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_without_weight_or_size_it_is_the_clean_loss():
    x, y = torch.rand(6, 3, 8, 8), torch.arange(6) % 5
    clean = F.cross_entropy(net()(x), y)
    for delta, weight in ((0.05, 0.0), (0.0, 0.5)):
        model = net()
        loss, _ = AdversarialTrainingStep(model, model, F.cross_entropy, delta, weight)(x, y)
        torch.testing.assert_close(loss, clean)
