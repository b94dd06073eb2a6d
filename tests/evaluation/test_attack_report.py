"""The attack report does no work twice. What it finds is tested in test_attacks.py."""

from collections import Counter

import torch
from torch import nn

from noiseutils.evaluation.attack_report import CROSS_ENTROPY, Effort, Target, attack_report


def test_no_attack_is_made_twice(monkeypatch):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 5))
    images, labels = torch.rand(6, 3, 4, 4), torch.arange(6) % 5
    effort = Effort(steps=(2, 3), noise_draws=1, curve=(0.02, 0.1, 0.3))
    made, attack = Counter(), Target.under_pgd

    def noted(self, delta, steps, criterion=CROSS_ENTROPY, on=None):
        made[delta, steps, criterion] += 1
        return attack(self, delta, steps, criterion, on)

    monkeypatch.setattr(Target, "under_pgd", noted)
    report = attack_report(network, images, labels, deltas=(0.1,), autoattack=False, effort=effort)
    assert set(made.values()) == {1}
    curve = dict(zip(report["curve"]["deltas"], report["curve"]["accuracies"], strict=True))
    assert curve.get(0.1, 0.0) == report["deltas"][0]["attacks"]["pgd2"]["accuracy"]
