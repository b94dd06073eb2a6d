"""Noise goes into the memory of activations that nothing else holds, and of no others."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noiseutils.noise import (
    AdversarialNoise,
    ClassAdversarialNoise,
    GaussianNoise,
    LayerwiseAdversarialNoise,
    attach,
)

CLASSES = 4
KINDS = {
    "anl": AdversarialNoise(epsilon=0.3),
    "canl": ClassAdversarialNoise(epsilon=0.3, num_classes=CLASSES),
    "lat": LayerwiseAdversarialNoise(epsilon=0.1),
    "gaussian": GaussianNoise(std=0.1),
}


class Net(nn.Module):
    """Every sort of place for noise: conv, norm, in-place and plain activation, identity, view, residual."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv1, self.conv2 = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3, padding=1)
            self.norm1, self.norm2 = nn.BatchNorm2d(6), nn.BatchNorm2d(6)
            self.inplace, self.relu, self.sigmoid = nn.ReLU(inplace=True), nn.ReLU(), nn.Sigmoid()
            self.same, self.flatten, self.head = nn.Identity(), nn.Flatten(), nn.Linear(6 * 36, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.inplace(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(h))
        out += h
        out = self.relu(out)
        out = self.same(out) + out
        return self.head(self.flatten(self.sigmoid(out)))


PLACES = ["conv1", "norm1", "norm2", "inplace", "relu", "sigmoid", "same", "flatten", "head"]


def batch(seed: int, n: int) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(seed)
    return torch.rand(n, 3, 8, 8, generator=source), torch.randint(CLASSES, (n,), generator=source)


def steps(kind: str, after) -> list[Tensor]:
    model = Net().to(memory_format=torch.channels_last)
    handle = attach(model, KINDS[kind], after=after, seed=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    found = []
    for step, n in enumerate((6, 6, 4, 8)):
        optimizer.zero_grad()
        loss = handle.loss(F.cross_entropy, *batch(step, n))
        loss.backward()
        found += [loss.detach(), *[p.grad.clone() for p in model.parameters()]]
        optimizer.step()
    return found


@pytest.mark.parametrize("after", [*PLACES, nn.BatchNorm2d, tuple(PLACES), ("input", *PLACES)])
@pytest.mark.parametrize("kind", KINDS)
def test_steps_with_noise_in_place_equal_those_with_sums(kind, after, monkeypatch):
    found = steps(kind, after)
    monkeypatch.setattr("noiseutils.noise.hooks._owner", lambda module, output: None)
    torch.testing.assert_close(found, steps(kind, after), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_what_another_hook_has_seen_is_not_written_to(kind):
    model, seen = Net(), []
    model.norm1.register_forward_hook(lambda m, inputs, output: seen.append((output, output.clone())))
    handle = attach(model, KINDS[kind], after="norm1")
    for step in range(2):
        handle.loss(F.cross_entropy, *batch(step, 6)).backward()
    # the network's own in-place ReLU comes behind: only round two's noise must not reach what was seen
    model.inplace.inplace = False
    seen.clear()
    handle.loss(F.cross_entropy, *batch(2, 6)).backward()
    assert seen
    assert all(torch.equal(output, before) for output, before in seen)


def test_two_kinds_of_noise_on_one_module_do_not_disturb_each_other():
    model = Net()
    a = attach(model, KINDS["lat"], after="norm1")
    with pytest.warns(UserWarning, match="norm1 had noise before"):
        b = attach(model, KINDS["gaussian"], after="norm1")
    for step in range(3):
        a.loss(F.cross_entropy, *batch(step, 6)).backward()
    b.remove()
    a.loss(F.cross_entropy, *batch(3, 6)).backward()


def test_a_draw_goes_on_from_a_stored_state():
    model = nn.Sequential(nn.PReLU())
    x = torch.zeros(2, 2**17)
    with attach(model, GaussianNoise(std=1.0), after="0") as handle:
        first = model(x)
        state = handle.state()
        second = model(x)
    assert not torch.equal(first, second)
    with attach(model, GaussianNoise(std=1.0), after="0") as again:
        again.restore(state)
        assert torch.equal(model(x), second)
