"""Noise on parameters: when gradients and weights get noise, how strong, and the noise itself."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import pytest
import torch
from torch import nn

from noiseutils import Run, train
from noiseutils.config import AdaptiveNoise, Data, Evaluation, Model, Optimizer, Schedule, ScriptedNoise
from noiseutils.errors import UserError
from noiseutils.noise import adaptive_sigma, cooldown_epochs, stuck_factor
from noiseutils.noise.adaptive import Adaptive, improvement
from noiseutils.noise.parameters import Action, EpochStatistics, ParameterNoise
from noiseutils.noise.scripted import Scripted
from noiseutils.rng import generator

# --- the formulas, by hand


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize("threshold", [0.025, 1e-4])
@pytest.mark.parametrize("found", [-0.5, -0.01, 0.0, 1e-5, 0.01, 0.2])
def test_stuck_factor_is_the_printed_formula(found, threshold):
    k = 2 / threshold
    if abs(k * found) < 500:
        assert stuck_factor(found, threshold) == pytest.approx(
            1 - sigmoid(k * found - threshold), rel=1e-6, abs=1e-15
        )
    assert 0 <= stuck_factor(found, threshold) <= 1


def test_stuck_factor_falls_with_improvement_and_never_overflows():
    values = [stuck_factor(x, 1e-4) for x in (-math.inf, -1e9, -1.0, 0.0, 1.0, 1e9, math.inf)]
    assert values == sorted(values, reverse=True)
    assert values[0] == 1
    assert values[-1] == 0
    assert stuck_factor(0.0, 0.025) == pytest.approx(1 - sigmoid(-0.025))


@pytest.mark.parametrize("threshold", [0.0, -1.0, math.nan])
def test_a_threshold_must_be_above_zero(threshold):
    with pytest.raises(UserError, match="threshold of a plateau must be above 0"):
        stuck_factor(0.1, threshold)


def test_sigma_by_hand():
    stuck = stuck_factor(0.01, 0.025)
    assert adaptive_sigma(0.01, 0.025, 0, 300) == pytest.approx(0.01 + stuck * 0.04)
    assert adaptive_sigma(0.01, 0.025, 150, 300) == pytest.approx((0.01 + stuck * 0.04) / 2)
    assert adaptive_sigma(0.01, 0.025, 300, 300) == pytest.approx(0, abs=1e-12)
    assert adaptive_sigma(-9.0, 0.025, 0, 300, 0.2, 0.6) == pytest.approx(0.6)
    assert adaptive_sigma(9.0, 0.025, 0, 300, 0.2, 0.6) == pytest.approx(0.2)


def test_cooldown_by_hand():
    assert cooldown_epochs(-9.0, 0.025) == 10
    assert cooldown_epochs(9.0, 0.025) == 3
    assert cooldown_epochs(0.0, 0.025) == round(3 + (1 - sigmoid(-0.025)) * 7)
    assert isinstance(cooldown_epochs(0.0, 0.025, 1, 2), int)


def test_improvement_is_relative_and_by_the_epoch():
    assert improvement(2.0, 1.0, 10) == pytest.approx(0.05)
    assert improvement(1.0, 2.0, 10) == pytest.approx(-0.1)
    assert improvement(0.0, 2.0, 10) == 0


# --- the state machine, on made-up histories

SPEC = AdaptiveNoise(
    min_epochs=4,
    window=2,
    gradient_plateau=0.1,
    low_weight_update=0.5,
    validation_plateau=0.01,
    overfit_epochs=3,
    consecutive_trigger=3,
    cooldown_min=2,
    cooldown_max=4,
)
EPOCHS = 40


def play(machine, gradient, validation, updates=None):
    """The actions after each epoch of a history."""
    updates = [1.0] * len(gradient) if updates is None else updates
    rows = zip(gradient, updates, validation, strict=True)
    return [machine.observe(EpochStatistics(*values)) for values in rows]


def falling(n, rate=0.5):
    return [rate**i for i in range(n)]


def kinds(actions):
    """One letter an epoch: g, w, b(oth), c(ooldown), - quiet."""
    letters = {(False, False): "-", (True, False): "g", (False, True): "w", (True, True): "b"}
    return "".join("c" if a.cooldown else letters[a.gradient > 0, a.weight > 0] for a in actions)


def test_quiet_while_all_goes_well():
    assert kinds(play(Adaptive(SPEC, EPOCHS), falling(12), falling(12))) == "-" * 12


def test_nothing_before_min_epochs_are_done_however_flat_all_is():
    actions = play(Adaptive(SPEC, EPOCHS), [1.0] * 6, [1.0] * 6)
    assert kinds(actions) == "---bbb"


def test_nothing_before_the_window_is_full():
    spec = SPEC.replace(min_epochs=1, window=5, consecutive_trigger=9)
    assert kinds(play(Adaptive(spec, EPOCHS), [1.0] * 8, [1.0] * 8)) == "-----bbb"


def test_a_flat_gradient_norm_raises_the_gradient_flag_alone():
    norms = [*falling(5), *[2.0**-4] * 3]
    actions = play(Adaptive(SPEC, EPOCHS), norms, falling(8))
    # after epoch 6 the window still holds one fall by half: 25 % an epoch, above the threshold of 10 %
    assert kinds(actions) == "------gg"
    assert actions[-1].gradient == pytest.approx(adaptive_sigma(0.0, 0.1, 8, EPOCHS))
    assert actions[-1].gradient_flag
    assert not actions[-1].weight_flag


def test_small_updates_raise_the_gradient_flag():
    actions = play(Adaptive(SPEC, EPOCHS), falling(8), falling(8), [1.0] * 5 + [0.0] * 3)
    assert kinds(actions) == "------gg"
    # its strength goes by the gradient norm, which still falls by a quarter an epoch over the window
    assert actions[-1].gradient == pytest.approx(adaptive_sigma(0.375, 0.1, 8, EPOCHS))


def test_a_flat_validation_loss_raises_the_weight_flag_alone():
    actions = play(Adaptive(SPEC, EPOCHS), falling(8), [*falling(5), *[2.0**-4] * 3])
    assert kinds(actions) == "------ww"
    assert actions[-1].weight == pytest.approx(adaptive_sigma(0.0, 0.01, 8, EPOCHS))


def test_so_many_epochs_of_rising_validation_loss_raise_the_weight_flag():
    spec = SPEC.replace(validation_plateau=1e-9, window=4)
    # from 16 to 1 to 1.3: over four epochs still an improvement, but three in a row it rises
    losses = [16.0, 8, 4, 2, 1, 1.1, 1.2, 1.3]
    actions = play(Adaptive(spec, EPOCHS), falling(8), losses)
    assert kinds(actions) == "-------w"
    assert actions[-1].validation_improvement > 0


def test_every_transition_of_a_whole_training():
    # by epochs: both fall; the gradient is flat at 7 and 8, the validation loss from 8 to 10, the gradient at
    # 10 and 11; both fall; from 15 on both are flat
    gradient = [2.0**-i for i in (0, 1, 2, 3, 4, 5, 5, 5, 6, 6, 6, 7, 8, 9, 9, 9, 9, 9, 9, 9)]
    validation = [2.0**-i for i in (0, 1, 2, 3, 4, 5, 6, 6, 6, 6, 7, 8, 9, 10, 10, 10, 10, 10, 10, 10)]
    actions = play(Adaptive(SPEC, 20), gradient, validation)
    assert kinds(actions) == "-------gwwccc--bbbc-"
    on_gradient = {8: 0.0, 16: 0.0, 17: 0.0, 18: 0.0}  # after which epoch: the improvement it goes by
    on_weights = {9: 0.0, 10: 0.0, 16: 0.0, 17: 0.0, 18: 0.0}
    for epoch, action in enumerate(actions, 1):
        sigmas = [
            adaptive_sigma(found[epoch], threshold, epoch, 20) if epoch in found else 0
            for found, threshold in ((on_gradient, 0.1), (on_weights, 0.01))
        ]
        assert [action.gradient, action.weight] == pytest.approx(sigmas), epoch
    assert [a.cooldown for a in actions[10:13]] == [3, 2, 1]


def test_after_a_row_of_noisy_epochs_a_cooldown_and_then_noise_again():
    actions = play(Adaptive(SPEC, EPOCHS), [1.0] * 16, [1.0] * 16)
    cooldown = cooldown_epochs(0.0, 0.1, 2, 4)
    assert cooldown == 3
    assert kinds(actions) == "---bbbcccbbbcccb"
    assert [a.cooldown for a in actions[6:9]] == [3, 2, 1]
    assert all(a.gradient == a.weight == 0 for a in actions[6:9])
    assert all(a.gradient_flag and a.weight_flag for a in actions[3:])


def test_a_quiet_epoch_ends_the_row_that_a_cooldown_follows():
    norms = [1.0, 1, 1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.1]
    actions = play(Adaptive(SPEC.replace(consecutive_trigger=3), EPOCHS), norms, falling(10))
    assert kinds(actions) == "---gg--ggg"


def test_a_cooldown_ends_quietly_where_nothing_stagnates_any_more():
    actions = play(Adaptive(SPEC, EPOCHS), [1.0] * 7 + falling(7)[1:], falling(13))
    assert kinds(actions) == "---gggccc----"


def test_nothing_follows_the_last_epoch_and_the_noise_fades_towards_it():
    actions = play(Adaptive(SPEC.replace(consecutive_trigger=99), 8), [1.0] * 8, [1.0] * 8)
    assert kinds(actions) == "---bbbb-"
    strengths = [a.gradient for a in actions[3:7]]
    assert strengths == sorted(strengths, reverse=True)
    assert strengths[-1] == pytest.approx(adaptive_sigma(0.0, 0.1, 7, 8))


def test_a_script_is_followed_whatever_happens():
    machine = Scripted(ScriptedNoise(gradient=(0.0, 0.3, 0.0), weight=(0.1, 0.0, 0.0)))
    assert machine.begin() == Action(weight=0.1)
    assert play(machine, [1.0] * 4, [1.0] * 4) == [Action(gradient=0.3), Action(), Action(), Action()]


# --- the noise


def net_with_noise(spec, *, device="cpu", seed=0):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 36, 50)).to(
        memory_format=torch.channels_last
    )
    parameters = list(net.parameters())
    for p in parameters:
        p.grad = torch.zeros_like(p)
    return net, ParameterNoise(spec, 2, parameters, generator(seed, "test", device))


def flat(tensors):
    return torch.cat([t.detach().reshape(-1) for t in tensors])


@pytest.mark.parametrize("distribution", ["gaussian", "uniform"])
def test_noise_has_the_std_and_shape_that_its_distribution_says(distribution):
    script = ScriptedNoise(
        distribution=distribution, gradient=(0.5, 0), weight=(0.25, 0), weight_every="step"
    )
    net, noise = net_with_noise(script)
    before = flat(net.parameters()).clone()
    noise.add_to_gradients()
    noise.add_to_weights()
    on_gradient = flat(p.grad for p in net.parameters())
    on_weight = flat(net.parameters()) - before
    for found, std in ((on_gradient, 0.5), (on_weight, 0.25)):
        assert found.std().item() == pytest.approx(std, rel=0.03)
        assert abs(found.mean().item()) < 0.02
        largest = found.abs().max().item() / std
        assert largest <= math.sqrt(3) + 1e-5 if distribution == "uniform" else largest > 3
    assert abs(torch.corrcoef(torch.stack((on_gradient, on_weight)))[0, 1]) < 0.03


def test_every_parameter_gets_noise_of_its_own_in_its_own_layout():
    net, noise = net_with_noise(ScriptedNoise(gradient=(1.0, 0), weight=(0, 0)))
    noise.add_to_gradients()
    row = torch.empty(sum(p.numel() for p in net.parameters())).normal_(generator=generator(0, "test"))
    start = 0
    for p in net.parameters():
        part = row[start : start + p.numel()]
        lying = p.grad.permute(0, 2, 3, 1) if p.dim() == 4 else p.grad
        assert torch.equal(lying.reshape(-1), part)
        start += p.numel()


def test_without_a_flag_nothing_is_drawn_and_nothing_changes():
    net, noise = net_with_noise(AdaptiveNoise())
    state, before = noise.source.get_state(), flat(net.parameters()).clone()
    noise.add_to_gradients()
    noise.add_to_weights()
    assert torch.equal(flat(net.parameters()), before)
    assert not flat(p.grad for p in net.parameters()).any()
    assert torch.equal(noise.source.get_state(), state)


def test_weights_get_their_noise_after_every_step_or_once_an_epoch():
    for every, begun, stepped in (("step", 0.0, 3.0), ("epoch", 1.0, 0.0)):
        script = ScriptedNoise(gradient=(0, 0), weight=(0.25, 0), weight_every=every)
        net, noise = net_with_noise(script)
        start = flat(net.parameters()).clone()
        noise.begin_epoch()
        middle = flat(net.parameters()).clone()
        for _ in range(3):
            noise.add_to_weights()
        end = flat(net.parameters())
        assert (middle - start).std().item() == pytest.approx(0.25 * begun, rel=0.03)
        assert (end - middle).std().item() == pytest.approx(0.25 * math.sqrt(stepped), rel=0.03)


def test_a_step_is_recorded_anew_only_when_what_it_does_changes():
    row = {"gradient_norm": 1.0, "update_norm": 1.0, "test_loss": 1.0}
    for every, changed in (("step", [True, True]), ("epoch", [False, False])):
        _, noise = net_with_noise(ScriptedNoise(gradient=(0, 0, 0), weight=(0, 0.25, 0), weight_every=every))
        assert [noise.observe(row), noise.observe(row)] == changed


def test_a_missing_gradient_is_an_error_not_a_shift():
    net, noise = net_with_noise(ScriptedNoise(gradient=(1.0, 0), weight=(0, 0)))
    net[0].bias.grad = None
    with pytest.raises(RuntimeError, match="gradients of all parameters"):
        noise.add_to_gradients()


# --- in training

RUN = Run(
    data=Data(train_size=64, test_size=20),
    model=Model(name="tinycnn", width=0.25),
    optimizer=Optimizer(momentum=0.9),
    schedule=Schedule(learning_rate=0.02),
    epochs=6,
    batch_size=16,
    evaluation=Evaluation(),
)
EAGER_FLAGS = AdaptiveNoise(
    min_epochs=1, window=1, gradient_plateau=10.0, consecutive_trigger=2, cooldown_min=1, cooldown_max=1
)


def test_a_run_with_a_script_of_zeros_is_the_clean_run():
    clean = train(RUN)
    silent = train(RUN.replace(parameter_noise=ScriptedNoise(gradient=(0.0,) * 6, weight=(0.0,) * 6)))
    assert clean.history.train_loss.equals(silent.history.train_loss)
    for p, q in zip(clean.model.parameters(), silent.model.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("where", ["gradient", "weight"])
def test_noise_is_where_the_script_says_and_from_that_epoch_on(where):
    script = {"gradient": [0.0] * 6, "weight": [0.0] * 6}
    script[where][2] = 0.1
    noisy = train(RUN.replace(parameter_noise=ScriptedNoise(**{k: tuple(v) for k, v in script.items()})))
    clean = train(RUN)
    losses = noisy.history.train_loss - clean.history.train_loss
    assert (losses[:2] == 0).all()
    assert (losses[3:] != 0).all()
    assert noisy.history[f"{where}_noise"].tolist() == [0, 0, 0.1, 0, 0, 0]


def test_a_flag_raises_noise_and_the_history_says_why():
    history = train(RUN.replace(parameter_noise=EAGER_FLAGS)).history
    assert history.gradient_flag.tolist() == [0, 0, 1, 1, 1, 1]
    assert (history.gradient_noise > 0).tolist() == [False, False, True, True, False, True]
    assert history.cooldown.tolist() == [0, 0, 0, 0, 1, 0]


def test_gaussian_and_uniform_runs_differ_in_the_noise_alone():
    script = {"gradient": (0.0, 0.1, 0, 0, 0, 0), "weight": (0.0,) * 6}
    a, b = (
        train(RUN.replace(parameter_noise=ScriptedNoise(distribution=name, **script)))
        for name in ("gaussian", "uniform")
    )
    assert a.history.train_loss[0] == b.history.train_loss[0]
    assert a.history.train_loss[2] != b.history.train_loss[2]
    assert a.run.key != b.run.key


def test_a_script_must_have_as_many_epochs_as_the_run():
    with pytest.raises(ValueError, match="3 epochs, not 6"):
        RUN.replace(parameter_noise=ScriptedNoise(gradient=(0.1,) * 3, weight=(0.0,) * 3))
    with pytest.raises(ValueError, match="gradient has 2 epochs, weight 3"):
        ScriptedNoise(gradient=(0.1,) * 2, weight=(0.0,) * 3)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"sigma_min": 0.2}, "sigma_min 0.2 is above sigma_max"),
        ({"cooldown_min": 11}, "cooldown_min 11 is above cooldown_max"),
        ({"gradient_plateau": 0.0}, "greater than 0"),
        ({"window": 0}, "greater than or equal to 1"),
    ],
)
def test_what_cannot_be_is_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        AdaptiveNoise(**fields)


def test_the_defaults_are_table_v():
    table = {
        "min_epochs": 70, "window": 10, "validation_plateau": 1e-4, "overfit_epochs": 3,
        "gradient_plateau": 0.025, "low_weight_update": 5e-4, "sigma_min": 0.01, "sigma_max": 0.05,
        "consecutive_trigger": 10, "cooldown_min": 3, "cooldown_max": 10,
    }  # fmt: skip
    assert {name: getattr(AdaptiveNoise(), name) for name in table} == table


def test_an_action_is_plain_numbers():
    assert json.loads(json.dumps(asdict(Action(gradient=0.1, weight_flag=True))))["weight_flag"] is True
