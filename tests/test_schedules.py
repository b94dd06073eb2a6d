import pytest
import torch

from noiseutils.config import Schedule
from noiseutils.schedules import learning_rate


def test_constant_rate_is_constant():
    schedule = Schedule(learning_rate=0.3)
    assert {learning_rate(schedule, step, 10) for step in range(0, 100, 7)} == {0.3}


def test_step_decay_equals_torchs_step_lr():
    schedule = Schedule(kind="step", learning_rate=0.1, factor=0.2, every=3)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    reference = torch.optim.lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.2)
    for epoch in range(10):
        for step in range(epoch * 5, epoch * 5 + 5):
            assert learning_rate(schedule, step, 5) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
