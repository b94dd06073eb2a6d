"""Readings of the adaptive noise that the paper leaves open: each does what it says, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from noiseutils import Run, train
from noiseutils.config import AdaptiveNoise, Data, Evaluation, Model, Optimizer, Schedule, ScriptedNoise
from noiseutils.errors import UserError
from noiseutils.noise import adaptive_sigma, attach_to_optimizer, cooldown_epochs, stuck_factor
from noiseutils.noise.adaptive import Adaptive
from noiseutils.noise.parameters import EpochStatistics, ParameterNoise
from noiseutils.rng import generator

SPEC = AdaptiveNoise(
    min_epochs=4, window=4, gradient_plateau=0.1, low_weight_update=0.0, validation_plateau=1e-9,
    overfit_epochs=2, consecutive_trigger=9,
)  # fmt: skip
FALLING = [0.9**i for i in range(9)]


def last(spec, gradient=FALLING, validation=FALLING, training=FALLING):
    """The action after the last epoch of a history."""
    machine = Adaptive(spec, 40)
    rows = zip(gradient, validation, training, strict=True)
    return [machine.observe(EpochStatistics(g, 1.0, v, t)) for g, v, t in rows][-1]


def test_a_rate_of_change_is_by_the_epoch_or_over_the_whole_window():
    fall = 1 - 0.9**4
    by_epoch, whole = last(SPEC), last(SPEC.replace(rate_of_change="window"))
    assert by_epoch.gradient_improvement == pytest.approx(fall / 4)
    assert whole.gradient_improvement == pytest.approx(fall)
    assert by_epoch.gradient_flag, "0.086 is below 0.1"
    assert not whole.gradient_flag


def test_one_flag_alone_is_heeded_where_asked_for():
    flat = [1.0] * 9
    both = last(SPEC, gradient=flat, validation=flat)
    assert both.gradient > 0 < both.weight
    for target, other in (("gradient", "weight"), ("weight", "gradient")):
        one = last(SPEC.replace(targets=target), gradient=flat, validation=flat)
        assert getattr(one, target) == getattr(both, target)
        assert getattr(one, other) == 0
        assert not getattr(one, f"{other}_flag")
    quiet = last(SPEC.replace(targets="weight", gradient_plateau=1.0, validation_plateau=1e-9))
    assert not quiet.noisy


def test_the_validation_plateau_is_relative_or_in_nats():
    losses = [8 - 0.5 * i for i in range(9)]
    relative = last(SPEC, validation=losses).validation_improvement
    absolute = last(SPEC.replace(validation_change="absolute"), validation=losses)
    assert relative == pytest.approx((6 - 4) / 6 / 4)
    assert absolute.validation_improvement == pytest.approx(0.5)
    assert not absolute.weight_flag
    high = SPEC.replace(validation_change="absolute", validation_plateau=0.6)
    assert last(high, validation=losses).weight_flag


@pytest.mark.parametrize(
    ("validation", "training", "raised"),
    [
        ([9, 8, 7, 6, 5, 4, 3, 3.1, 3.2], [9, 8, 7, 6, 5, 4, 3, 3.1, 3.2], {"row", "both", "counted"}),
        ([9, 8, 7, 6, 5, 4, 3, 3.1, 3.2], [9, 8, 7, 6, 5, 4, 3, 2, 1], {"row", "counted"}),
        ([9, 8, 7, 6, 5, 4, 4.1, 3, 3.2], [9, 8, 7, 6, 5, 4, 4.1, 3, 3.2], {"counted"}),
        ([9, 8, 8.1, 8.2, 7, 6, 5, 4, 3], [9, 8, 7, 6, 5, 4, 3, 2, 1], set()),
    ],
)
def test_the_overfit_flag_has_three_readings(validation, training, raised):
    for reading in ("row", "both", "counted"):
        spec = SPEC.replace(overfit=reading)
        action = last(spec, validation=list(map(float, validation)), training=list(map(float, training)))
        assert action.validation_improvement > spec.validation_plateau, "no plateau: the other flag"
        assert action.weight_flag == (reading in raised), reading


def test_f_stuck_shifted_is_one_half_at_the_threshold():
    for found, delta in ((0.025, 0.025), (0.01, 0.025), (-1e-4, 1e-4)):
        by_hand = 1 - 1 / (1 + np.exp(-(2 / delta) * (found - delta)))
        assert stuck_factor(found, delta, "shifted") == pytest.approx(by_hand)
    assert stuck_factor(0.025, 0.025, "shifted") == 0.5
    assert round(stuck_factor(0.025, 0.025), 2) == 0.12
    assert adaptive_sigma(0.025, 0.025, 0, 300, argument="shifted") == pytest.approx(0.03)
    assert cooldown_epochs(0.025, 0.025, 2, 10, "shifted") == 6
    assert cooldown_epochs(0.025, 0.025, 2, 10) == 3


def test_the_scheduler_scales_noise_and_cooldown_by_its_reading_of_f_stuck():
    spec = SPEC.replace(stuck_argument="shifted", consecutive_trigger=1, cooldown_min=2, cooldown_max=10)
    machine = Adaptive(spec, 40)
    actions = [machine.observe(EpochStatistics(g, 1.0, g, g)) for g in FALLING]
    noisy, paused = [a for a in actions if a.gradient], [a for a in actions if a.cooldown]
    fall = (1 - 0.9**4) / 4
    assert noisy[0].gradient == pytest.approx(adaptive_sigma(fall, 0.1, 5, 40, argument="shifted"))
    assert paused[0].cooldown == cooldown_epochs(fall, 0.1, 2, 10, "shifted")
    assert paused[0].cooldown != cooldown_epochs(fall, 0.1, 2, 10)


# --- where noise goes


def net_with_noise(spec, epochs=2):
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(108, 4))
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    return net, ParameterNoise(spec, epochs, net.parameters(), generator(1, "parameters", "cpu"))


def test_norms_and_biases_are_spared():
    script = ScriptedNoise(gradient=(0.5, 0), weight=(0.5, 0), spared="norms_and_biases")
    net, noise = net_with_noise(script)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    noise.begin_epoch()
    noise.add_to_gradients()
    changed = {name for name, p in net.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {name for name, p in net.named_parameters() if p.grad.any()} == {"0.weight", "3.weight"}
    with pytest.raises(UserError, match="no parameter gets noise"):
        ParameterNoise(script, 2, [net[0].bias], generator(1, "parameters", "cpu"))


def test_noise_on_a_step_is_taken_back_bit_for_bit():
    script = ScriptedNoise(gradient=(0.5, 0), weight=(0.25, 0), weight_every="step_restored")
    net, noise = net_with_noise(script)
    start = [p.detach().clone() for p in net.parameters()]
    noise.begin_epoch()
    for _ in range(2):
        noise.begin_step()
        moved = torch.cat([(p - s).flatten() for p, s in zip(net.parameters(), start, strict=True)])
        assert moved.std().item() == pytest.approx(0.25, rel=0.1)
        noise.end_backward()
        noise.add_to_gradients()  # its draw goes over the other: the weights are kept apart
        noise.add_to_weights()
        assert all(torch.equal(p, s) for p, s in zip(net.parameters(), start, strict=True))


RUN = Run(
    data=Data(train_size=64, test_size=20), model=Model(name="tinycnn", width=0.25),
    optimizer=Optimizer(momentum=0.9), schedule=Schedule(learning_rate=0.02), epochs=4, batch_size=16,
    evaluation=Evaluation(),
)  # fmt: skip


def test_a_training_with_restored_noise_takes_its_gradients_at_the_noisy_weights():
    rate, std = 0.1, 0.3
    run = RUN.replace(
        optimizer=Optimizer(), schedule=Schedule(learning_rate=rate), epochs=1, batch_size=64,
        parameter_noise=ScriptedNoise(gradient=(0,), weight=(std,), weight_every="step_restored"),
    )  # fmt: skip
    noisy, clean = train(run), train(run.replace(parameter_noise=None))
    assert noisy.history.train_loss.item() != clean.history.train_loss.item(), "the forward pass has noise"
    # one step of plain descent moves the weights by the rate times the gradient, and by no noise
    moved = noisy.history.update_norm.item()
    assert moved == pytest.approx(rate * noisy.history.gradient_norm.item(), rel=1e-4)


READINGS = AdaptiveNoise(
    min_epochs=1, window=1, gradient_plateau=10.0, validation_plateau=10.0, consecutive_trigger=9,
    rate_of_change="window", overfit="both", stuck_argument="shifted", validation_change="absolute",
    spared="norms_and_biases", weight_every="step_restored",
)  # fmt: skip


def test_a_resumed_training_in_every_other_reading_equals_an_uninterrupted_one():
    run, stops = RUN.replace(parameter_noise=READINGS), []
    whole = train(run, on_epoch=lambda row, checkpoint: stops.append(checkpoint()))
    again = train(run, resume=stops[2])  # in the middle of noise
    assert (whole.history.weight_noise > 0).sum() == 2
    columns = [name for name in whole.history if name != "seconds"]
    assert whole.history[columns].equals(again.history[columns])
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name])


def test_the_defaults_leave_the_key_of_a_run_as_it_was():
    stored = RUN.replace(parameter_noise=AdaptiveNoise())
    same = AdaptiveNoise(rate_of_change="epoch", overfit="row", spared="none", stuck_argument="printed")
    assert RUN.replace(parameter_noise=same).key == stored.key
    for change in ({"overfit": "both"}, {"spared": "norms_and_biases"}, {"rate_of_change": "window"}):
        assert RUN.replace(parameter_noise=AdaptiveNoise(**change)).key != stored.key


# --- in a training loop of one's own


def foreign(spec):
    net = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    noise = attach_to_optimizer(optimizer, spec, epochs=4)
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    return net, optimizer, noise


def test_a_foreign_loop_gives_the_training_loss_where_the_flag_needs_it():
    spec = AdaptiveNoise(min_epochs=1, window=1, overfit="both", overfit_epochs=1, validation_plateau=1e-9)
    _, optimizer, noise = foreign(spec)
    optimizer.step()
    with pytest.raises(UserError, match="depends on the training loss"):
        noise.end_epoch(1.0)
    noise.end_epoch(1.0, train_loss=1.0)
    optimizer.step()
    assert noise.end_epoch(1.1, train_loss=1.1).weight_flag


def test_a_foreign_loop_spares_what_it_is_told_to():
    spec = ScriptedNoise(gradient=(0,) * 4, weight=(0.5, 0, 0, 0), spared="norms_and_biases")
    torch.manual_seed(0)
    clean = nn.Linear(4, 3)
    torch.manual_seed(0)
    net, _, _ = foreign(spec)
    assert torch.equal(net.bias, clean.bias)
    assert not torch.equal(net.weight, clean.weight)


def test_a_foreign_loop_cannot_take_noise_back():
    with pytest.raises(UserError, match="before the forward pass"):
        foreign(READINGS)


def test_an_epochs_statistics_read_the_training_loss():
    row = {"gradient_norm": 1, "update_norm": 2, "test_loss": 3, "train_loss": 4}
    assert EpochStatistics.of(row) == EpochStatistics(1.0, 2.0, 3.0, 4.0)
    assert math.isnan(EpochStatistics.of({k: v for k, v in row.items() if k != "train_loss"}).train_loss)
