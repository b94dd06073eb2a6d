"""Minimal change: the least changes that mislead, against exact ones, and checked apart."""

import math
import sys

import numpy as np
import pytest
import torch
from networks import CLASSES, data, net, trained
from torch import nn

from noiseutils.errors import UserError
from noiseutils.evaluation.minimal_change import ATTACKS, minimal_change, shortened


@pytest.fixture(scope="module")
def model() -> nn.Sequential:
    return trained(steps=40, data_seed=2)


def linear() -> tuple[nn.Sequential, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    x = torch.rand(40, 3, 4, 4)
    return network, x, network(x).argmax(1)


def margins(network, x, y) -> tuple[np.ndarray, np.ndarray]:
    """Of a linear network: by how much each image is right, and the direction that takes it down."""
    layer = network[1]
    weight = (layer.weight[0] - layer.weight[1]).detach().double().numpy()
    bias = (layer.bias[0] - layer.bias[1]).item()
    signs = 1 - 2 * y.numpy()
    return signs * (x.flatten(1).double().numpy() @ weight + bias), signs[:, None] * weight


def least_change(x: np.ndarray, weight: np.ndarray, margin: float) -> float:
    """The least sum of |change| within [0, 1] that takes weight @ x down by margin: dearest pixels last."""
    total = 0.0
    for i in np.argsort(-np.abs(weight)):
        room, slope = float(x[i] if weight[i] > 0 else 1 - x[i]), float(abs(weight[i]))
        if slope * room >= margin:
            return total + margin / slope
        margin, total = margin - slope * room, total + room
    return math.inf


def test_fmn_finds_the_least_mean_change_of_a_linear_network():
    network, x, y = linear()
    found = minimal_change(network, x, y, attack="fmn_l1")
    rows = x.flatten(1).double().numpy()
    least = [
        255 / 48 * least_change(row, weight, margin)
        for row, margin, weight in zip(rows, *margins(network, x, y), strict=True)
    ]
    ratios = found.size.numpy() / np.array(least)
    assert ratios.min() > 1 - 1e-3
    assert ratios.max() < 1.05


@pytest.mark.parametrize("attack", ["ddn", "carlini_wagner", "deepfool"])
def test_the_others_find_the_least_l2_norm_of_a_linear_network(attack):
    network, x, y = linear()
    x = 0.4 + 0.2 * x  # far from the bounds: the least change is the way to the plane
    y = network(x).argmax(1)
    found = minimal_change(network, x, y, attack=attack, steps=200)
    margin, weight = margins(network, x, y)
    ratios = found.l2.numpy() / (margin / np.linalg.norm(weight, axis=1))
    assert ratios.min() > 1 - 1e-3
    # foolbox overshoots by 2 % in DeepFool, and Carlini & Wagner's search is a coarse one
    assert np.median(ratios) < 1.05


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_is_reported_is_true_of_the_changed_images(attack, model):
    x, y = data(12)
    found = minimal_change(model, x, y, attack=attack, steps=30, keep=True)
    for image in found.found.nonzero().squeeze(1):
        changed = found.images[image]
        change = changed - x[image]
        misled = [
            bool(model(shown[None]).argmax() != y[image])
            for shown in (changed, x[image] + change / 2, (255 * changed).round() / 255)
        ]
        assert misled == [True, found.half[image], found.rounded[image]]
        assert changed.min() >= 0
        assert changed.max() <= 1
        assert found.size[image] == pytest.approx(255 * change.abs().mean().item(), rel=1e-4)
        assert found.l2[image] == pytest.approx(change.norm().item(), rel=1e-4)
        assert found.linf[image] == pytest.approx(change.abs().max().item(), rel=1e-4)
    right = model(x).argmax(1) == y
    assert (~found.wrong == right).all()
    assert torch.equal(found.predicted, model(x).argmax(1))
    assert found.found.sum() >= 10
    kept = found.found
    assert found.half[kept].float().mean() < 0.5, "half of a least change does not usually mislead"
    assert found.seconds > 0


def test_the_best_attack_finds_the_least_change_of_a_linear_network_exactly():
    network, x, _ = linear()
    x = 0.4 + 0.2 * x  # far from the bounds: the least change is the way to the plane
    y = network(x).argmax(1)
    found = minimal_change(network, x, y)
    margin, weight = margins(network, x, y)
    size = 255 * margin * np.abs(weight).mean(1) / (weight**2).sum(1)
    np.testing.assert_allclose(found.size, size, rtol=0.01)
    assert (found.size.numpy() >= size * (1 - 1e-4)).all()
    assert not found.half.any()


def test_the_best_attack_is_no_worse_than_its_parts_and_half_of_its_changes_is_too_little(model):
    x, y = data(40)
    best = minimal_change(model, x, y, steps=30)
    for name in ("ddn", "deepfool"):
        alone = minimal_change(model, x, y, attack=name, steps=30)
        assert (best.size[best.found] <= alone.size[best.found] * (1 + 1e-4)).all()
        assert (alone.found <= best.found).all()
    assert not best.half[best.found].any()


def test_bisection_shortens_a_change_until_half_of_it_no_longer_misleads():
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[0.0] * 4, [1.0] * 4]))
        network[1].bias.copy_(torch.tensor([0.01, 0.0]))
    x = torch.zeros(1, 1, 2, 2)
    # errs as soon as the sum of the pixels is above 0.01; a change of 4 is 400 times that
    short = shortened(lambda images: network(images).argmax(1) == 1, x, torch.ones_like(x))
    assert 0.01 < short.sum() < 0.0101


def test_without_labels_the_predicted_class_is_changed_whatever_it_is(model):
    x, y = data(12)
    y[:4] = (y[:4] + 1) % CLASSES
    labelled, own = (minimal_change(model, x, labels, steps=30) for labels in (y, None))
    assert labelled.wrong.any()
    assert own.found.all()
    right = labelled.found
    assert torch.allclose(own.size[right], labelled.size[right], rtol=0.05)


def test_an_attack_that_lies_is_found_out(model, monkeypatch):
    class Liar:
        def run(self, wrapped, x, criterion):
            return x + 1e-9

    monkeypatch.setitem(ATTACKS, "liar", [lambda foolbox, steps: Liar()])
    x, y = data(12)
    found = minimal_change(model, x, y, attack="liar")
    assert not found.found.any()
    assert (found.failed | found.wrong).all()


def test_a_black_image_is_no_answer_of_carlini_and_wagner(model):
    x, y = data(12)
    found = minimal_change(model, x, y, attack="carlini_wagner", steps=1)
    assert found.failed.any()
    assert not found.found.any() or found.linf[found.found].max() < 0.5


def test_changes_are_cut_to_the_range_of_pixels(model, monkeypatch):
    class Wild:
        def run(self, wrapped, x, criterion):
            return x + 5

    monkeypatch.setitem(ATTACKS, "wild", [lambda foolbox, steps: Wild()])
    x, y = data(12)
    found = minimal_change(model, x, y, attack="wild")
    assert found.linf[found.found].max() <= 1


@pytest.mark.parametrize("attack", ATTACKS)
def test_0_for_an_error_and_inf_where_nothing_misleads(attack):
    x, y = data(6)
    constant = nn.Sequential(nn.Flatten(), nn.Linear(192, CLASSES))
    nn.init.zeros_(constant[1].weight)
    with torch.no_grad():
        constant[1].bias.copy_(torch.arange(CLASSES))
    found = minimal_change(constant, x, y, attack=attack, steps=3)
    expected = [math.inf if label == CLASSES - 1 else 0 for label in y]
    for norm in (found.size, found.l2, found.linf):
        assert norm.tolist() == expected
    assert not found.half.any()


@pytest.mark.parametrize("attack", ["best", "ddn", "fmn_l1"])
def test_it_hardly_depends_on_its_batches(attack, model):
    x, y = data(12)
    whole = minimal_change(model, x, y, attack=attack, steps=30).size
    assert whole.shape == (12,)
    assert whole.dtype == torch.float32
    parts = minimal_change(model, x, y, attack=attack, steps=30, batch_size=5).size
    assert torch.allclose(parts, whole, rtol=0.05)
    channels_last = x.to(memory_format=torch.channels_last)
    other = minimal_change(model, channels_last, y, attack=attack, steps=30).size
    assert torch.allclose(other, whole, rtol=0.05)


def test_it_leaves_no_trace():
    network = net().train()
    network[1].eval()
    network[0].weight.requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    x, y = data(10)
    images, position = x.clone(), torch.get_rng_state()
    found = minimal_change(network, x, y, steps=5)
    assert [module.training for module in network.modules()] == [True, True, False] + [True] * 5
    assert [p.requires_grad for p in network.parameters()] == [False] + [True] * 7
    assert all(p.grad is None for p in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), position)
    assert torch.equal(x, images)
    assert not found.size.requires_grad
    assert torch.equal(found.size, minimal_change(network.eval(), x, y, steps=5).size)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"steps": 0}, "at least 1, got 0"),
        ({"attack": "fgsm"}, "fgsm.*best, ddn, carlini_wagner, deepfool, fmn_l1"),
        ({"x": torch.full((2, 3, 8, 8), 1.5)}, r"pixels in \[0, 1\], got values from 1.5"),
        ({"x": torch.full((2, 3, 8, 8), -0.5)}, r"pixels in \[0, 1\], got values from -0.5"),
        ({"x": torch.full((2, 3, 8, 8), math.nan)}, r"pixels in \[0, 1\], got values from nan"),
    ],
)
def test_bad_arguments_are_refused(arguments, said):
    given = {"x": torch.rand(2, 3, 8, 8), "steps": 2} | arguments
    with pytest.raises(UserError, match=said):
        minimal_change(net(), y=torch.zeros(2, dtype=torch.long), **given)


def test_it_says_that_its_library_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "foolbox", None)
    with pytest.raises(UserError, match=r"pip install 'noiseutils\[attacks\]'"):
        minimal_change(net(), *data(2))


def test_changed_images_are_kept_on_request_and_mislead():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 5))
    x = torch.rand(6, 3, 8, 8)
    y = net(x).argmax(1)
    found = minimal_change(net, x, y, keep=True)
    assert minimal_change(net, x, y).images is None
    assert found.images is not None
    assert found.images.shape == x.shape
    assert (net(found.images).argmax(1) != y)[found.found].all()
    sizes = 255 * (found.images - x).abs().flatten(1).mean(1)
    torch.testing.assert_close(sizes[found.found], found.size[found.found])
    wrong = minimal_change(net, x, (y + 1) % 5, keep=True)
    assert torch.equal(wrong.images, x), "what is wrong as it is, is left as it is"
