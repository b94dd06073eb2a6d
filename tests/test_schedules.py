import pytest
import torch

from noiseutils.config import Schedule
from noiseutils.schedules import ANL_IMAGENET, ANL_TABLE_2, ANL_TABLE_3, learning_rate


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


def rates(schedule: Schedule, losses: list[float], epochs: int) -> list[float]:
    """The rate of each epoch, every loss known only when its epoch is over."""
    return [learning_rate(schedule, 10 * epoch, 10, losses[:epoch]) for epoch in range(epochs)]


def test_table_2_divides_by_five_every_fifty_of_300_epochs():
    found = rates(ANL_TABLE_2, [], 300)
    assert [found[i] for i in (0, 49, 50, 100, 250, 299)] == pytest.approx(
        [0.1, 0.1, 0.02, 0.004, 0.1 / 5**5, 0.1 / 5**5]
    )


def test_imagenets_rate_falls_by_ten_every_thirty_of_90_epochs():
    found = rates(ANL_IMAGENET, [], 90)
    assert [found[i] for i in (0, 29, 30, 60, 89)] == pytest.approx([0.01, 0.01, 1e-3, 1e-4, 1e-4])


def test_table_3_keeps_the_rate_while_the_last_five_epochs_beat_the_best():
    falling = [1 / (epoch + 1) for epoch in range(40)]
    assert set(rates(ANL_TABLE_3, falling, 40)) == {0.1}


def test_table_3_halves_a_rate_that_no_longer_helps_after_at_least_five_epochs():
    losses = [1.0, 0.5, *[0.6] * 60]
    found = rates(ANL_TABLE_3, losses, 60)
    # after epoch 5 the first five have beaten "ever before"; by the seventh the best one is six epochs old
    assert found[:7] == [0.1] * 7
    assert [found[7], found[11], found[12], found[17]] == pytest.approx([0.05, 0.05, 0.025, 0.0125])
    assert found[-1] == 1e-3, "and no lower"


def test_table_3_with_noise_stays_at_the_least_rate_from_epoch_100_on():
    falling = [1 / (epoch + 1) for epoch in range(200)]
    found = rates(ANL_TABLE_3.replace(switch=100), falling, 200)
    assert set(found[:100]) == {0.1}
    assert set(found[100:]) == {1e-3}


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "plateau"},
        {"kind": "constant", "every": 5},
        {"kind": "step", "every": 5, "minimum": 1e-3},
        {"kind": "plateau", "every": 5, "minimum": 1.0},
        {"kind": "plateau", "every": 5, "switch": 10},
    ],
)
def test_a_schedule_whose_fields_disagree_is_refused(change):
    with pytest.raises(ValueError, match="Schedule"):
        Schedule(learning_rate=0.1, **change)
