import copy
import logging
import math
import os
import sys
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import DELTA, QUICK, data, net
from torch import nn

from noiseutils.errors import UserError
from noiseutils.evaluation.attack_report import attack_report
from noiseutils.evaluation.attacks import (
    autoattack,
    dlr_loss,
    fgsm,
    fgsm_of,
    input_gradient,
    pgd,
    uniform_noise,
)
from noiseutils.evaluation.batched_call import BatchedCall
from noiseutils.rng import generator


class Scarce(nn.Module):
    """A network on a device whose memory holds `room` images."""

    def __init__(self, inner: nn.Module, room: int) -> None:
        super().__init__()
        self.inner, self.room, self.sizes = inner, room, []

    def forward(self, x):
        self.sizes.append(len(x))
        if len(x) > self.room:
            raise torch.cuda.OutOfMemoryError("no room")
        return self.inner(x)


@pytest.mark.parametrize("delta", [1 / 255, 8 / 255, 0.3])
def test_fgsm_equals_its_equation_bitwise(delta):
    x, y = data(40)
    for network in (net(), net().eval()):
        leaf = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(network(leaf), y), leaf)
        expected = (x + delta * gradient.sign()).clamp(0, 1)
        given = {"delta": delta, "training": network.training}
        assert torch.equal(fgsm(network, x, y, **given), expected)
        assert torch.equal(pgd(network, x, y, steps=1, step_size=delta, **given), expected)


def test_one_gradient_gives_fgsm_of_every_size_bitwise(model):
    x, y = data(40)
    direction = input_gradient(model, x, y, F.cross_entropy).sign()
    for delta in (1 / 255, 8 / 255, 0.3):
        assert torch.equal(fgsm_of(x, direction, delta), fgsm(model, x, y, delta=delta))
    assert fgsm_of(x, direction, 0) is x


def test_batches_are_halved_for_good_where_memory_runs_out(model):
    x, _ = data(20)
    scarce, batched = Scarce(model, room=3), BatchedCall(8)
    with torch.no_grad():
        assert torch.allclose(batched(scarce, x), model(x), atol=1e-6)
        assert scarce.sizes == [8, 4, *[2] * 10]
        batched(scarce, x)
        assert scarce.sizes[12:] == [2] * 10
        with pytest.raises(torch.cuda.OutOfMemoryError):
            BatchedCall(8)(Scarce(model, room=0), x)


def test_batch_size_suits_the_device():
    sizes = {"cpu": 3, "cuda": 7}
    for device, size in (("cpu", 3), ("cuda", 7), ("meta", 3)):
        assert BatchedCall.of(sizes, torch.device(device)).size == size


def test_pgd_default_step_of_a_single_step_is_cut_to_fgsm():
    x, y = data(20)
    assert torch.equal(pgd(net().eval(), x, y, delta=0.1, steps=1), fgsm(net().eval(), x, y, delta=0.1))


def test_fgsm_is_bit_identical_with_foolbox(model):
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # foolbox imports GitPython, which looks for git
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of foolbox's own imports and of its bounds check, not ours
        foolbox = pytest.importorskip("foolbox")
        x, y = data(64)
        attack = foolbox.attacks.LinfFastGradientAttack()
        own = copy.deepcopy(model)  # the library leaves gradients in the parameters
        wrapped = foolbox.PyTorchModel(own, bounds=(0, 1), device="cpu")
        raw, _, _ = attack(wrapped, x, y, epsilons=8 / 255)
    ours = fgsm(model, x, y, delta=8 / 255)
    assert torch.equal(ours, raw)
    assert not torch.equal(ours, x)


@pytest.mark.parametrize("start", [None, 0])
def test_pgd_follows_its_equation_step_by_step(model, start):
    x, y = data(20)
    source = None if start is None else generator(start, "test")
    found = pgd(model, x, y, delta=0.05, steps=4, step_size=0.02, random_start=source)
    expected = x if start is None else uniform_noise(x, 0.05, generator(start, "test"))
    for _ in range(4):
        gradient = input_gradient(model, expected, y, F.cross_entropy)
        moved = expected + 0.02 * gradient.sign()
        expected = (x + (moved - x).clamp(-0.05, 0.05)).clamp(0, 1)
    assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("criterion", [F.cross_entropy, dlr_loss])
def test_pgd_stays_within_its_bounds_and_leaves_the_network_alone(criterion):
    x, y = data(30)
    network = net().train()
    network[1].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    network[0].weight.requires_grad_(False)
    source = generator(0, "test")
    found = pgd(network, x, y, delta=0.2, steps=5, random_start=source, criterion=criterion, training=True)
    assert (found - x).abs().max() <= 0.2 + 1e-6
    assert 0 <= found.min() <= found.max() <= 1
    assert not found.requires_grad
    assert all(p.grad is None for p in network.parameters())
    assert [p.requires_grad for p in network.parameters()] == [False] + [True] * 7
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(network.state_dict()[name], value) for name, value in before.items())


def test_pgd_repeats_with_its_generator_and_differs_without(model):
    x, y = data(20)
    first, again, other = (
        pgd(model, x, y, delta=0.05, steps=2, random_start=generator(seed, "test")) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert pgd(model, x, y, delta=0, steps=2) is x


def test_pgd_is_stronger_than_fgsm(model):
    x, y = data(200)
    strong, weak = pgd(model, x, y, delta=DELTA, steps=20), fgsm(model, x, y, delta=DELTA)
    assert F.cross_entropy(model(strong), y) > F.cross_entropy(model(weak), y)
    clean, fast, slow = ((model(z).argmax(1) == y).double().mean() for z in (x, weak, strong))
    assert clean > 0.95
    assert clean > fast > slow


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"delta": -0.1}, "got -0.1"),
        ({"delta": math.nan}, "got nan"),
        ({"delta": 8}, "at most 1, the pixel range, got 8: write 8 / 255"),
        ({"step_size": 2}, "step_size must be at least 0 and at most 1, the pixel range, got 2"),
        ({"steps": 0}, "at least 1, got 0"),
        ({"step_size": 0}, "above 0, got 0"),
        ({"x": torch.full((2, 3, 8, 8), 1.5)}, r"pixels in \[0, 1\], got values from 1.5"),
    ],
)
def test_pgd_refuses_bad_arguments(arguments, said):
    given = {"x": torch.rand(2, 3, 8, 8), "delta": 0.1, "steps": 2} | arguments
    with pytest.raises(UserError, match=said):
        pgd(net(), y=torch.zeros(2, dtype=torch.long), **given)


@pytest.mark.parametrize("delta", [-1, 0, 2])
def test_other_attacks_refuse_sizes_outside_the_pixel_range(delta):
    x, y = data(4)
    with pytest.raises(UserError, match=f"delta must be .* got {delta}"):
        autoattack(net().eval(), x, y, delta=delta, seed=0)
    if delta:
        with pytest.raises(UserError, match=f"got {delta}"):
            uniform_noise(x, delta, generator(0, "test"))


ATTACKS = {
    "fgsm": lambda *given, **named: fgsm(*given, delta=DELTA, **named),
    "pgd": lambda *given, **named: pgd(*given, delta=DELTA, steps=2, **named),
    "gradient": lambda *given, **named: input_gradient(*given, F.cross_entropy),
    "autoattack": lambda *given, **named: autoattack(*given, delta=DELTA, seed=0, queries=10),
}


@pytest.mark.parametrize(
    "name", ["fgsm", "pgd", "gradient", pytest.param("autoattack", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("norm", [nn.BatchNorm2d, nn.SyncBatchNorm, type("Own", (nn.BatchNorm2d,), {})])
def test_an_attack_in_training_mode_is_warned_of_and_moves_no_statistics(name, norm):
    x, y = data(6)
    network = net().train()
    network[1] = norm(8) if norm is not nn.SyncBatchNorm else nn.BatchNorm2d(8)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    if name == "gradient":
        ATTACKS[name](network, x, y)
    else:
        with pytest.warns(UserWarning, match=r"in training mode.*model\.eval\(\) first.*training=True"):
            ATTACKS[name](network, x, y)
    assert network[1].track_running_stats
    assert network[1].training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_adversarial_training_attacks_in_training_mode_without_a_warning():
    x, y = data(20)
    network = net().train()
    before = network[1].running_mean.clone()
    for attack in (ATTACKS["fgsm"], ATTACKS["pgd"]):
        assert not torch.equal(attack(network, x, y, training=True), x)
    assert torch.equal(network[1].running_mean, before)
    network(x)
    assert not torch.equal(network[1].running_mean, before), "its own passes move them"


def test_probabilities_under_cross_entropy_are_warned_of(model):
    x, y = data(20)
    ended = nn.Sequential(model, nn.Softmax(1)).eval()
    with pytest.warns(UserWarning, match="returns probabilities, and cross-entropy takes logits") as caught:
        fgsm(ended, x, y, delta=DELTA)
    assert len(caught) == 1
    found = fgsm(ended, x, y, delta=DELTA, criterion=lambda p, y: F.nll_loss(p.log(), y))
    same = found == fgsm(model, x, y, delta=DELTA)
    assert same.float().mean() > 0.99, "a criterion that suits, and no warning"


def test_a_wrapper_in_training_mode_around_a_network_in_eval_mode_is_no_reason_to_warn(model):
    x, y = data(4)
    assert torch.equal(fgsm(nn.Sequential(model), x, y, delta=DELTA), fgsm(model, x, y, delta=DELTA))
    with pytest.warns(UserWarning, match="in training mode"):
        fgsm(nn.Sequential(model, nn.Dropout(0.5)), x, y, delta=DELTA)


def test_dlr_loss_equals_its_equation():
    z, y = np.random.default_rng(0).normal(size=(50, 6)), np.arange(50) % 6
    losses = []
    for row, label in zip(z, y, strict=True):
        ranked = np.sort(row)[::-1]
        losses.append(-(row[label] - np.delete(row, label).max()) / (ranked[0] - ranked[2]))
    found = dlr_loss(torch.tensor(z), torch.tensor(y))
    assert found.item() == pytest.approx(np.mean(losses), rel=1e-12)
    assert dlr_loss(1000 * torch.tensor(z) + 7, torch.tensor(y)).item() == pytest.approx(found.item())


def test_dlr_loss_does_not_mix_samples_and_survives_ties():
    z, y = torch.randn(4, 5, requires_grad=True), torch.arange(4)
    (whole,) = torch.autograd.grad(dlr_loss(z, y), z)
    (single,) = torch.autograd.grad(dlr_loss(z[:1], y[:1]), z)
    assert torch.allclose(4 * whole[0], single[0])
    tied = torch.zeros(2, 5, requires_grad=True)
    (gradient,) = torch.autograd.grad(dlr_loss(tied, y[:2]), tied)
    assert gradient.isfinite().all()
    with pytest.raises(UserError, match="at least 3 classes, got 2"):
        dlr_loss(torch.zeros(1, 2), y[:1])


def test_uniform_noise_stays_within_delta_and_fills_it():
    x = torch.rand(50, 3, 8, 8).to(memory_format=torch.channels_last)
    noisy = uniform_noise(x, 0.1, generator(0, "test"))
    assert (noisy - x).abs().max() <= 0.1 + 1e-6
    assert 0 <= noisy.min() <= noisy.max() <= 1
    inner = (x > 0.1) & (x < 0.9)
    assert (noisy - x)[inner].std().item() == pytest.approx(0.1 / math.sqrt(3), rel=0.03)


@pytest.mark.slow
def test_autoattack_leaves_no_trace(model, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x, y = data(10)
    x = x.to(memory_format=torch.channels_last)
    position, tracer = torch.get_rng_state(), sys.gettrace()

    def watch(*_):
        return None

    sys.settrace(watch)
    try:
        first, warned = autoattack(model, x, y, delta=DELTA, seed=0, queries=10)
        kept = sys.gettrace()
    finally:
        sys.settrace(tracer)
    assert kept is watch
    again, _ = autoattack(model, x, y, delta=DELTA, seed=0, queries=10)
    assert torch.equal(first, again)
    assert warned == []
    assert torch.equal(torch.get_rng_state(), position)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    _, warned = autoattack(nn.Sequential(model, nn.Softmax(1)), x, y, delta=DELTA, seed=0, queries=10)
    assert "probability distribution" in "".join(warned)
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())
    assert not logging.getLogger("auto-attack").handlers


def test_autoattack_says_what_it_cannot_do(monkeypatch):
    x, y = data(4, classes=3)
    with pytest.raises(UserError, match="at least 4 classes, got 3"):
        autoattack(net(3).eval(), x, y, delta=DELTA, seed=0)
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    with pytest.raises(UserError, match=r"pip install 'noiseutils\[attacks\]'"):
        attack_report(net(), x, y, deltas=[DELTA], effort=QUICK)
    assert (
        "autoattack" in attack_report(net(), x, y, deltas=[DELTA], effort=QUICK, autoattack=False)["skipped"]
    )


@pytest.mark.slow
def test_autoattack_begins_again_with_smaller_batches_where_memory_runs_out(model):
    x, y = data(10)
    scarce = Scarce(model, room=4)
    expected, _ = autoattack(model, x, y, delta=DELTA, seed=0, queries=10, batch_size=4)
    found, _ = autoattack(scarce, x, y, delta=DELTA, seed=0, queries=10, batch_size=8)
    assert torch.equal(found, expected)
    assert scarce.sizes.count(8) == 1
