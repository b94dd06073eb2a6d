import math

import pytest
import torch
from torch import nn

from noiseutils.corruptions import gaussian_blur
from noiseutils.data import Images
from noiseutils.errors import UserError
from noiseutils.evaluation.attacks import fgsm, pgd
from noiseutils.live.attacking import ATTACKS, PGD_STEPS, Attacker


class Threshold(nn.Module):
    """Two classes, by whether the mean of the pixels is above one half."""

    def forward(self, x):
        mean = x.flatten(1).mean(1)
        return 20 * torch.stack([0.5 - mean, mean - 0.5], 1)


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5)).eval()


IMAGES = (255 * torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))).round() / 255


def bench_of(networks, pixels: torch.Tensor, labels: torch.Tensor) -> Attacker:
    return Attacker(networks, Images((255 * pixels).round().to(torch.uint8), labels), "abcde")


@pytest.fixture
def bench():
    networks = {"a": network(1), "b": network(2)}
    return bench_of(networks, IMAGES, networks["a"](IMAGES).argmax(1))


def test_fgsm_and_pgd_are_those_of_the_package(bench):
    a, (x, y) = bench.networks["a"], bench.image(1)
    found = bench.answers(1, "fgsm", 10.0)["a"]
    torch.testing.assert_close(found.image, fgsm(a, x, y, delta=10 / 255)[0])
    torch.testing.assert_close(found.change, found.image - x[0])
    found = bench.answers(1, "pgd", 10.0)["a"]
    torch.testing.assert_close(found.image, pgd(a, x, y, delta=10 / 255, steps=PGD_STEPS)[0])


def test_probabilities_are_those_before_and_after(bench):
    found = bench.answers(0, "gaussian_blur", 1.5)["b"]
    blurred = gaussian_blur(IMAGES[:1], 1.5)
    torch.testing.assert_close(found.before, bench.networks["b"](IMAGES[:1]).softmax(1)[0])
    torch.testing.assert_close(found.after, bench.networks["b"](blurred).softmax(1)[0])
    assert found.mean_change == pytest.approx(255 * (blurred - IMAGES[:1]).abs().mean().item(), rel=1e-4)


def test_a_network_flips_where_it_can_be_calculated_to():
    """Pixels at 0.6 over a threshold of 0.5: every one must fall by 0.1, 25.5 of 255."""
    bench = bench_of({"t": Threshold()}, torch.full((1, 1, 8, 8), 0.6), torch.tensor([1]))
    assert bench.answers(0, "fgsm", 1.0)["t"].flips == pytest.approx(25.5, abs=0.1)
    curve = bench.answers(0, "fgsm", 1.0)["t"].curve
    assert [p > 0.5 for size, p in curve] == [size < 25.5 for size, p in curve]
    assert (curve[0][0], curve[-1][0]) == (0.0, ATTACKS["fgsm"].most)
    assert bench.answers(0, "pgd", 1.0)["t"].flips == pytest.approx(25.5, abs=0.1)
    assert bench.answers(0, "gaussian_blur", 1.0)["t"].flips == math.inf


def test_a_network_that_errs_by_itself_flips_at_nothing():
    bench = bench_of({"t": Threshold()}, torch.full((1, 1, 8, 8), 0.6), torch.tensor([0]))
    assert bench.answers(0, "gaussian_noise", 5.0)["t"].flips == 0


def test_all_of_the_minimal_change_misleads_and_most_of_it_does_not():
    bench = bench_of({"t": Threshold()}, torch.full((1, 1, 8, 8), 0.6), torch.tensor([1]))
    whole, part = (bench.answers(0, "minimal_change", share)["t"] for share in (101.0, 80.0))
    assert int(whole.after.argmax()) == 0
    assert int(part.after.argmax()) == 1
    assert 80 < whole.flips <= 101
    assert part.mean_change == pytest.approx(80 / 101 * whole.mean_change, rel=0.01)


def test_a_change_made_against_one_network_is_shown_to_both(bench):
    shared = bench.answers(2, "fgsm", 8.0, against="b")
    assert torch.equal(shared["a"].image, shared["b"].image)
    own = bench.answers(2, "fgsm", 8.0)
    assert not torch.equal(own["a"].image, own["b"].image)


def test_one_draw_of_noise_is_scaled_by_the_slider(bench):
    soft, loud = (bench.answers(0, "gaussian_noise", size)["a"].change for size in (10.0, 20.0))
    torch.testing.assert_close(2 * soft, loud, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_size_is_no_change(bench, attack):
    for answer in bench.answers(0, attack, 0.0).values():
        assert float(answer.change.abs().max()) < 1e-6
        torch.testing.assert_close(answer.before, answer.after)


def test_the_networks_are_left_as_they_were(bench):
    a = bench.networks["a"].train()
    bench.answers(0, "pgd", 8.0)
    assert a.training
    assert all(p.requires_grad and p.grad is None for p in a.parameters())


def test_without_a_network_there_is_nothing_to_attack(bench):
    with pytest.raises(UserError, match="no network"):
        bench_of({}, IMAGES, torch.zeros(3).long())


def test_an_unknown_attack_is_an_error_that_lists_them(bench):
    with pytest.raises(UserError, match="allowed: fgsm, pgd, minimal_change"):
        bench.answers(0, "cw", 1.0)
