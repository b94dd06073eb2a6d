import pytest
import torch

from noiseutils.config import Schedule
from noiseutils.schedules import (
    ADAPTIVE_NOISE,
    ANL_IMAGENET,
    ANL_TABLE_2,
    ANL_TABLE_3,
    cosine_decaying_restarts,
    learning_rate,
)


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


# --- cosine annealing with decaying restarts   (Logean & Feillard, II-C1)

TABLE_IV = {"eta_max": 1e-3, "eta_final_max": 1e-5, "eta_min": 1e-6, "epochs": 300, "restart_epochs": 50}
STEPS = 391  # an epoch of CIFAR-10 in batches of 128


def cosine(step: int, **changes: float) -> float:
    return cosine_decaying_restarts(step, **{**TABLE_IV, "steps_per_epoch": STEPS, **changes})


def test_table_ivs_schedule_passes_the_points_that_the_text_names():
    assert cosine(0) == pytest.approx(1e-3)
    assert cosine(50 * STEPS - 1) == pytest.approx(1e-6, rel=1e-3)
    assert cosine(250 * STEPS) == pytest.approx(1e-5)
    assert cosine(300 * STEPS - 1) == pytest.approx(1e-6, rel=1e-3)
    assert cosine(300 * STEPS) == pytest.approx(1e-6)


def test_each_restart_begins_lower_than_the_one_before():
    starts = [cosine(epoch * STEPS) for epoch in range(0, 300, 50)]
    assert starts == sorted(starts, reverse=True)
    assert starts == pytest.approx([1e-3 - i / 5 * (1e-3 - 1e-5) for i in range(6)])
    for epoch in range(50, 300, 50):
        assert cosine(epoch * STEPS - 1) < 2e-6 < cosine(epoch * STEPS)


def test_without_decay_it_is_torchs_cosine_annealing_with_warm_restarts():
    for t_mult in (1, 2):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
        reference = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(
            optimizer, T_0=20, T_mult=t_mult, eta_min=1e-3
        )
        for step in range(139):
            found = cosine_decaying_restarts(
                step, eta_max=0.1, eta_final_max=0.1, eta_min=1e-3, epochs=14, restart_epochs=2,
                steps_per_epoch=10, t_mult=t_mult,
            )  # fmt: skip
            assert found == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9), (t_mult, step)
            optimizer.step()
            reference.step()


def test_within_the_first_cycle_it_is_torchs_cosine_of_a_maximum_that_falls_linearly():
    def made(scheduler, **options):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        return optimizer, scheduler(optimizer, **options)

    # the maximum: torch's LinearLR from 1 to a tenth; the share of it: torch's cosine from 1 to 0
    linear = made(torch.optim.lr_scheduler.LinearLR, start_factor=1.0, end_factor=0.1, total_iters=80)
    cosines = made(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=20)
    for step in range(20):
        highest, share = (optimizer.param_groups[0]["lr"] for optimizer, _ in (linear, cosines))
        found = cosine_decaying_restarts(
            step, eta_max=1.0, eta_final_max=0.1, eta_min=0.0, epochs=10, restart_epochs=2, steps_per_epoch=10
        )
        assert found == pytest.approx(highest * share, rel=1e-6), step
        for optimizer, scheduler in (linear, cosines):
            optimizer.step()
            scheduler.step()


@pytest.mark.parametrize("t_mult", [1.0, 1.5, 2.0, 3.0])
def test_cycles_begin_where_the_printed_formula_says(t_mult):
    start, length = 0.0, 7 * STEPS
    for _ in range(4):
        before, at = cosine(round(start) - 1, restart_epochs=7, t_mult=t_mult), round(start + 0.5)
        if start:
            assert before < cosine(at, restart_epochs=7, t_mult=t_mult)
        start, length = start + length, length * t_mult


def test_one_cycle_alone_is_a_plain_cosine():
    found = [cosine(step, restart_epochs=300) for step in (0, 150 * STEPS, 300 * STEPS)]
    assert found == pytest.approx([1e-3, (1e-3 + 1e-6) / 2, 1e-6])


def test_a_runs_schedule_gives_the_same_rates():
    schedule = ADAPTIVE_NOISE.replace(learning_rate=1e-3)
    for step in (0, 1, 12_345, 250 * STEPS, 300 * STEPS - 1):
        assert learning_rate(schedule, step, STEPS, epochs=300) == cosine(step)
    with pytest.raises(ValueError, match="give `epochs`"):
        learning_rate(schedule, 0, STEPS)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"last": None}, "needs `last`"),
        ({"last": 1.0}, "last is 1.0; allowed: from minimum, 1e-06, to learning_rate, 0.1"),
        ({"factor": 0.5}, "takes no `factor`"),
        ({"every": None}, "needs `every`"),
        ({"kind": "step", "minimum": 0.0}, "other schedules take no `last`"),
        ({"t_mult": 0.5}, "greater than or equal to 1"),
    ],
)
def test_a_cosine_schedule_is_checked(changes, words):
    with pytest.raises(ValueError, match=words):
        ADAPTIVE_NOISE.replace(**changes)
