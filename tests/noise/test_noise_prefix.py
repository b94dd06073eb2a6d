"""ANL's two rounds share what comes before the first site, and the steps are those of two whole rounds."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode
from torch.utils._python_dispatch import TorchDispatchMode

from noiseutils.noise import AdversarialNoise, attach, sites

NOISE = AdversarialNoise(epsilon=0.3)


class Convolutions(TorchDispatchMode):
    """How many convolutions were computed."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func in (torch.ops.aten.convolution.default, torch.ops.aten.mkldnn_convolution.default)
        return func(*args, **(kwargs or {}))


class Net(nn.Module):
    """Three convolutions; `between` comes behind the first, the noise behind `last`."""

    def __init__(self, between=lambda h: h) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.pool, self.relu = nn.MaxPool2d(2), nn.ReLU()
        self.last, self.head = nn.Conv2d(4, 5, 3), nn.Linear(5 * 4, 4)
        self.between = copy.deepcopy(between)

    def forward(self, x: Tensor) -> Tensor:
        x = (x - 0.5) / 0.25
        h = self.between(self.conv1(x))
        h = self.pool(self.relu(self.conv2(h) + h))
        return self.head(F.relu(self.last(h)).flatten(1))


def normalised(h: Tensor) -> Tensor:
    return F.batch_norm(h, torch.zeros(4), torch.ones(4), training=True)


def doubled_behind_autograd(h: Tensor) -> Tensor:
    h.data.mul_(2)
    return h


def with_a_tenth_of_the_gradient(h: Tensor) -> Tensor:
    if h.requires_grad:
        h.register_hook(lambda gradient: gradient / 10)
    return h


def with_a_node_hook(h: Tensor) -> Tensor:
    if h.grad_fn is not None:
        h.grad_fn.register_prehook(lambda gradients: (gradients[0] / 10,))
    return h


class Counting(nn.Module):
    """A layer that is another one in each of its passes."""

    passes: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, h: Tensor) -> Tensor:
        self.passes.add_(1)
        return h * self.passes


def branches(h: Tensor) -> Tensor:
    a, b = h * 2, h * 2
    return a + b.mul_(3)


# what stands behind conv1, and how many of the three convolutions it leaves to be shared
BETWEEN = {
    "nothing": (lambda h: h, 3),
    "relu": (F.relu, 3),
    "relu in place": (lambda h: F.relu(h, inplace=True), 0),
    "two of the same, one changed": (branches, 1),
    "a buffer that moves": (Counting(), 1),
    "dropout": (lambda h: F.dropout(h, 0.5), 1),
    "normalised": (normalised, 1),
    "doubled behind autograd": (doubled_behind_autograd, 0),
    "a hook on the gradient": (with_a_tenth_of_the_gradient, 0),
    "a hook on the node": (with_a_node_hook, 0),
    "numpy": (lambda h: h + torch.from_numpy(h.detach().numpy() * 2), 0),
    "no grad": (lambda h: h.detach(), 1),
}


def steps(between, noise=NOISE, after="last") -> tuple[list[Tensor], int]:
    """Losses and gradients of three steps, and the convolutions computed in the third's forward passes."""
    torch.manual_seed(0)
    model = Net(between)
    handle = attach(model, noise, after=after, seed=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    found, count = [], 0
    for _ in range(3):
        x, y = torch.rand(6, 3, 12, 12)[..., :8, :8], torch.arange(6) % 4
        with Convolutions() as seen:
            loss = handle.loss(F.cross_entropy, x, y)
        count = seen.count
        optimizer.zero_grad()
        loss.backward()
        found += [loss.detach(), *[p.grad.clone() for p in model.parameters() if p.grad is not None]]
        optimizer.step()
    return found, count


@pytest.mark.parametrize("name", BETWEEN)
def test_sharing_the_prefix_changes_no_bit_of_the_steps(name, monkeypatch):
    between, shared = BETWEEN[name]
    found, count = steps(between)
    with monkeypatch.context() as patch:
        patch.setattr(sites, "sharing", lambda model: None)
        expected, whole = steps(between)
    assert whole == 6
    assert count == whole - shared
    assert len(found) == len(expected)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("after", ["input", ("input", "last"), ("conv1", "last"), "relu", "head"])
@pytest.mark.parametrize("batchnorm", ["both", "clean", "noisy"])
def test_wherever_the_first_site_is(after, batchnorm, monkeypatch):
    noise = NOISE.replace(batchnorm=batchnorm)
    found, _ = steps(F.relu, noise, after)
    monkeypatch.setattr(sites, "sharing", lambda model: None)
    expected, _ = steps(F.relu, noise, after)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_batchnorm_before_the_first_site_moves_its_statistics_in_both_rounds():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 4))
    attach(model, NOISE, after="2").loss(F.cross_entropy, torch.rand(6, 3, 8, 8), torch.arange(6) % 4)
    assert int(model[1].num_batches_tracked) == 2


def test_frozen_layers_are_shared_and_stay_frozen():
    model = Net()
    for p in model.conv1.parameters():
        p.requires_grad_(False)
    handle = attach(model, NOISE, after="last")
    for _ in range(2):
        with Convolutions() as seen:
            loss = handle.loss(F.cross_entropy, torch.rand(6, 3, 8, 8), torch.arange(6) % 4)
        assert seen.count == 3
        loss.backward()
    assert [p.grad is None for p in model.parameters()] == [True] * 2 + [False] * 6


def test_an_error_in_a_round_leaves_torch_and_the_network_as_they_were():
    def broken(h: Tensor) -> Tensor:
        raise RuntimeError("stop")

    model, (x, y) = Net(broken), (torch.rand(2, 3, 8, 8), torch.arange(2))
    for after in ("conv1", "last"):
        with attach(model, NOISE, after=after) as handle, pytest.raises(RuntimeError, match="stop"):
            handle.loss(F.cross_entropy, x, y)
        assert _get_current_function_mode() is None
        assert all(p.requires_grad for p in model.parameters())


def test_under_a_mode_of_the_networks_own_the_steps_are_the_same():
    class Inside(Net):
        def forward(self, x: Tensor) -> Tensor:
            with torch.device("cpu"):  # a mode on top of ours while the first site is reached
                return super().forward(x)

    losses = []
    for kind in (Net, Inside):
        torch.manual_seed(0)
        handle = attach(kind(F.relu), NOISE, after="last", seed=1)
        losses.append(handle.loss(F.cross_entropy, torch.rand(6, 3, 8, 8), torch.arange(6) % 4))
        assert _get_current_function_mode() is None
    assert torch.equal(*losses)


@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_a_compiled_function_in_the_prefix_takes_the_same_steps():
    compiled = torch.compile(lambda h: h * torch.sigmoid(h), backend="aot_eager")
    found, expected = steps(compiled)[0], steps(lambda h: h * torch.sigmoid(h))[0]
    torch.testing.assert_close(found, expected)
