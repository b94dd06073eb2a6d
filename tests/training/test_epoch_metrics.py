import pytest
import torch
from torch import nn

from noiseutils.training.epoch_metrics import KEPT_STEPS, EpochMetrics


@pytest.mark.parametrize("deferred", [True, False])
def test_sums_are_those_of_the_steps_one_by_one(deferred):
    metrics = EpochMetrics(torch.device("cpu"))
    metrics.deferred = deferred
    loss = correct = norm = 0.0
    for step in range(2 * KEPT_STEPS + 3):
        logits, y = torch.randn(7 - step % 2, 10), torch.randint(10, (7 - step % 2,))
        gradients = [torch.randn(3, 4), torch.randn(5)]
        value = torch.rand(())
        metrics.add_outputs(value, logits, y)
        metrics.add_gradient(gradients)
        loss += value.item() * len(y)
        correct += (logits.argmax(1) == y).sum().item()
        norm += nn.utils.get_total_norm(gradients).item()
    assert metrics.totals().tolist() == pytest.approx([loss, correct, norm], rel=1e-6)


def test_a_new_epoch_begins_at_zero_in_the_same_tensor():
    metrics = EpochMetrics(torch.device("cpu"))
    metrics.add_gradient([torch.ones(4)])
    before = metrics.totals().data_ptr()
    metrics.clear()
    assert metrics.totals().tolist() == [0, 0, 0]
    assert metrics.sums.data_ptr() == before


def test_a_parameter_that_is_sometimes_without_gradient_is_no_trouble():
    metrics = EpochMetrics(torch.device("cpu"))
    for gradients in ([torch.ones(4)], [torch.ones(4), torch.ones(12)], []):
        metrics.add_gradient(gradients)
    assert metrics.totals().tolist() == pytest.approx([0, 0, 2 + 4])
