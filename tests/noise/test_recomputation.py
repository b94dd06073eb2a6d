"""Activation checkpointing repeats forward passes, and gradients are those of passes that were not."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from noiseutils.errors import UserError
from noiseutils.noise import (
    AdversarialNoise,
    ClassAdversarialNoise,
    GaussianNoise,
    LayerwiseAdversarialNoise,
    NoisyDropout,
    attach,
)

CLASSES = 4
ONE_PASS = {
    "gaussian": GaussianNoise(std=0.5),
    "dropout": NoisyDropout(p=0.3, std=0.5),
    "canl": ClassAdversarialNoise(epsilon=2.0, num_classes=CLASSES),
    "canl released": ClassAdversarialNoise(epsilon=2.0, num_classes=CLASSES, variant="released"),
    "lat": LayerwiseAdversarialNoise(epsilon=0.3),
}
TWO_PASSES = {
    "anl": AdversarialNoise(epsilon=2.0),
    "anl released": AdversarialNoise(epsilon=2.0, variant="released"),
}


class Net(nn.Module):
    """Two checkpointed segments, the first with a module that runs twice."""

    def __init__(self, mode: bool | None, times: int = 1) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv, self.again = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3, padding=1)
            self.relu, self.same = nn.ReLU(), nn.Tanh()
            self.head = nn.Linear(6 * 36, CLASSES)
        self.mode, self.times = mode, times  # use_reentrant; None: no checkpointing

    def first(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv(x))
        for _ in range(self.times):
            x = self.same(self.again(x))
        return x

    def second(self, x: Tensor) -> Tensor:
        return self.relu(self.again(x))

    def forward(self, x: Tensor) -> Tensor:
        for part in (self.first, self.second):
            x = part(x) if self.mode is None else checkpoint(part, x, use_reentrant=self.mode)
        return self.head(x.flatten(1))


def batch(seed: int, n: int = 8) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(seed)
    # a re-entrant segment passes gradients on only from an input that takes one
    return torch.rand(n, 3, 8, 8, generator=source, requires_grad=True), torch.arange(n) % CLASSES


PLACES = ("relu", "conv", "same")


def gradients(
    noise, mode: bool | None, *, times: int = 1, in_loss: bool = True, after=PLACES
) -> list[Tensor]:
    """Return losses, gradients, and the handle's state after three steps on which each noise depends."""
    net = Net(mode, times)
    handle = attach(net, noise, after=after, seed=3)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    found = []
    for step in range(3):
        x, y = batch(step)
        optimizer.zero_grad()
        loss = handle.loss(F.cross_entropy, x, y) if in_loss else F.cross_entropy(net(x), y)
        loss.backward()
        found += [loss.detach(), *(p.grad.clone() for p in net.parameters())]
        optimizer.step()
    return found + list(handle.state().values())


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize(
    ("name", "mode"),
    [(name, mode) for name in ONE_PASS for mode in (True, False)] + [(name, False) for name in TWO_PASSES],
)
def test_gradients_are_those_without_checkpointing(name, mode, times):
    noise = {**ONE_PASS, **TWO_PASSES}[name]
    for kept, repeated in zip(
        gradients(noise, None, times=times), gradients(noise, mode, times=times), strict=True
    ):
        torch.testing.assert_close(repeated, kept)


@pytest.mark.parametrize("after", ["input", "conv", "relu", "again"])
def test_anl_is_repeated_where_its_first_pass_repeats_only_a_part(after):
    kept, repeated = (gradients(TWO_PASSES["anl"], mode, after=after) for mode in (None, False))
    for a, b in zip(kept, repeated, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("name", ["gaussian", "dropout"])
def test_noise_that_needs_no_loss_is_repeated_outside_handle_loss_too(name, mode):
    kept, repeated = (gradients(ONE_PASS[name], m, in_loss=False) for m in (None, mode))
    assert all(torch.equal(a, b) for a, b in zip(kept, repeated, strict=True))


@pytest.mark.parametrize("name", ["gaussian", "canl"])
def test_two_forward_passes_before_one_backward_pass_keep_their_own_noise(name):
    found = []
    for mode in (None, False):
        net = Net(mode)
        handle = attach(net, ONE_PASS[name], after="relu", seed=3)
        handle.loss(F.cross_entropy, *batch(0)).backward()
        (handle.loss(F.cross_entropy, *batch(1)) + handle.loss(F.cross_entropy, *batch(2))).backward()
        found.append([p.grad for p in net.parameters()])
    for kept, repeated in zip(*found, strict=True):
        torch.testing.assert_close(repeated, kept)


def test_one_batch_again_and_again_is_told_apart_by_the_backward_passes_between():
    found = []
    for mode in (None, False):
        net = Net(mode)
        attach(net, GaussianNoise(std=0.5), after="relu", seed=3)
        x, y = batch(0)
        for _ in range(3):
            F.cross_entropy(net(x), y).backward()
        found.append([p.grad for p in net.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_one_input_twice_before_a_backward_pass_cannot_be_told_apart_and_says_so():
    net = Net(False)
    attach(net, GaussianNoise(std=0.5), after="relu")
    x, y = batch(0)
    loss = F.cross_entropy(net(x), y) + F.cross_entropy(net(x), y)
    with pytest.raises(UserError, match=r"'relu' again.*several had the same input"):
        loss.backward()


def test_re_entrant_checkpointing_gives_anl_no_gradient_inside_a_segment_and_says_so():
    handle = attach(Net(True), AdversarialNoise(epsilon=0.5), after=("relu", "head"))
    with pytest.warns(UserWarning, match="no loss gradient reaches relu.*use_reentrant=False"):
        handle.loss(F.cross_entropy, *batch(0)).backward()


def test_re_entrant_checkpointing_passes_no_gradient_to_anl_before_a_segment_and_says_so():
    handle = attach(Net(True), AdversarialNoise(epsilon=0.5), after="input")
    with pytest.raises(UserError, match="use_reentrant=False"):
        handle.loss(F.cross_entropy, *batch(0))


def test_statistics_that_the_second_pass_leaves_alone_would_move_in_its_repetition():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 4))

    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Tensor:
            return checkpoint(self.net, x, use_reentrant=False)

    handle = attach(Checkpointed(), AdversarialNoise(epsilon=0.5, batchnorm="clean"))
    with pytest.raises(UserError, match="use batchnorm='both'"):
        handle.loss(F.cross_entropy, *batch(0))


@pytest.mark.filterwarnings("ignore:no loss gradient came")
def test_calls_that_wait_for_no_backward_pass_are_let_go():
    net = Net(False)
    handle = attach(net, ClassAdversarialNoise(epsilon=0.5, num_classes=CLASSES), after="relu")
    for step in range(40):
        handle.loss(F.cross_entropy, *batch(step))
    with torch.no_grad():
        for step in range(40):
            handle.loss(F.cross_entropy, *batch(step))
    assert len(handle._acting["relu"].site.calls) <= 32, "two calls a pass, of 16 passes"
    for step in range(5):
        handle.loss(F.cross_entropy, *batch(step)).backward()
    assert len(handle._acting["relu"].site.calls) <= 32
