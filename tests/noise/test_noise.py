import copy
import io
from typing import Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from noiseutils.errors import UserError
from noiseutils.noise import (
    AdversarialNoise,
    GaussianNoise,
    NoisyDropout,
    add_gaussian,
    attach,
    noisy_dropout,
)
from noiseutils.noise.site import ActivationNoise, Site

ROOT = np.random.default_rng(0)
X, Z = (torch.tensor(ROOT.normal(size=(3, 4, 5, 5)), dtype=torch.float32) for _ in range(2))
KEEP = torch.tensor(ROOT.random(size=(3, 4, 5, 5)) < 0.7)


def net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(6 * 36, 4)
    )


def batch(n: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(n, 3, 8, 8), torch.arange(n) % 4


def test_noise_in_dropped_neurons_matches_the_text():
    x, keep, z = X.numpy(), KEEP.numpy(), Z.numpy()
    expected = keep * x / (1 - 0.3) + (1 - keep) * 0.08 * z
    assert np.allclose(noisy_dropout(X, KEEP, Z, p=0.3, std=0.08), expected, atol=1e-6)


def test_noise_everywhere_matches_equation_2():
    x, keep, z = X.numpy(), KEEP.numpy(), Z.numpy()
    expected = keep * x / (1 - 0.3) + 0.08 * z
    assert np.allclose(noisy_dropout(X, KEEP, Z, p=0.3, std=0.08, where="all"), expected, atol=1e-6)


def test_without_rescaling_kept_neurons_pass_as_printed():
    found = noisy_dropout(X, KEEP, Z, p=0.3, std=0.08, rescale=False)
    assert torch.equal(found[KEEP], X[KEEP])


def test_no_noise_is_ordinary_dropout():
    assert torch.allclose(
        noisy_dropout(X, KEEP, Z, p=0.3, std=0.0), F.dropout(torch.ones(1), 0.0) * KEEP * X / 0.7
    )


def test_nothing_dropped_and_no_noise_is_the_identity():
    assert torch.equal(noisy_dropout(X, torch.ones_like(KEEP), Z, p=0.0, std=0.0), X)


def test_dropped_neurons_pass_no_gradient_and_kept_ones_are_scaled():
    x = X.clone().requires_grad_()
    noisy_dropout(x, KEEP, Z, p=0.3, std=0.5).sum().backward()
    assert x.grad is not None
    assert torch.allclose(x.grad, KEEP / 0.7)


def test_gaussian_noise_matches_its_formula():
    assert np.allclose(add_gaussian(X, Z, std=0.2), X.numpy() + 0.2 * Z.numpy())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"p": 1.0}, "0 <= p < 1, got 1.0"),
        ({"p": -0.1}, "got -0.1"),
        ({"std": -1.0}, "at least 0, got -1.0"),
        ({"where": "some"}, "'some' is not known; allowed: dropped, all"),
        ({"z": Z[:1]}, "one shape"),
        ({"keep": KEEP.float()}, "bool"),
    ],
)
def test_bad_dropout_arguments_say_what_is_allowed(change, said):
    arguments = {"x": X, "keep": KEEP, "z": Z, "p": 0.3, "std": 0.1} | change
    with pytest.raises(UserError, match=said):
        noisy_dropout(**arguments)


@pytest.mark.parametrize("noise", [NoisyDropout(p=0.3, std=0.5), GaussianNoise(std=0.5)])
def test_eval_mode_is_bitwise_clean(noise):
    model = net().eval()
    x, _ = batch()
    clean = model(x)
    with attach(model, noise):
        assert torch.equal(model(x), clean)


@pytest.mark.parametrize("noise", [NoisyDropout(p=0.3, std=0.5), GaussianNoise(std=0.5)])
def test_training_mode_is_noisy_and_each_pass_is_new(noise):
    model = net()
    x, _ = batch()
    clean = model(x)
    with attach(model, noise):
        first, second = model(x), model(x)
    assert not torch.equal(first, clean)
    assert not torch.equal(first, second)


def test_removing_noise_restores_the_model():
    model = net()
    hooks = [len(m._forward_hooks) for m in model.modules()]
    before = copy.deepcopy(model.state_dict())
    x, _ = batch()
    handle = attach(model, NoisyDropout(p=0.5, std=1.0), after=nn.ReLU)
    assert model.state_dict().keys() == before.keys()
    handle.remove()
    handle.remove()
    assert [len(m._forward_hooks) for m in model.modules()] == hooks
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    model.eval()
    assert torch.equal(model(x), net_like(model)(x))


def net_like(model: nn.Module) -> nn.Module:
    fresh = net()
    fresh.load_state_dict(model.state_dict())
    return fresh.eval()


@pytest.mark.parametrize("where", ["dropped", "all"])
def test_noise_before_an_in_place_relu_trains_as_before_a_copying_one(where):
    gradients = []
    for inplace in (True, False):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=inplace), nn.Flatten(), nn.Linear(144, 4))
        x, y = torch.rand(8, 3, 8, 8), torch.arange(8) % 4
        handle = attach(model, NoisyDropout(p=0.3, std=0.5, where=where), after="0", seed=4)
        handle.loss(F.cross_entropy, x, y).backward()
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_noise_after_an_in_place_relu_works():
    model = net()
    handle = attach(model, NoisyDropout(p=0.3, std=0.5), after=nn.ReLU)
    handle.loss(F.cross_entropy, *batch()).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_the_same_seed_gives_the_same_noise_and_the_global_generator_is_untouched():
    model, (x, y) = net(), batch()
    found = []
    before = torch.get_rng_state()
    for seed in (1, 1, 2):
        with attach(model, GaussianNoise(std=0.3), seed=seed) as handle:
            found.append(handle.loss(F.cross_entropy, x, y).item())
    assert found[0] == found[1] != found[2]
    assert torch.equal(torch.get_rng_state(), before)


def test_noise_level_does_not_change_which_neurons_are_dropped():
    x = torch.ones(2000).view(2, 1000)
    masks = []
    for std in (0.0, 0.5):
        layer = nn.Sequential(nn.Identity())
        with attach(layer, NoisyDropout(p=0.3, std=std), after="0", seed=3):
            masks.append(torch.stack([layer(x) == 1 / 0.7 for _ in range(3)]))
    assert torch.equal(masks[0], masks[1])


def test_empirical_rate_and_noise_of_the_layer():
    layer = nn.Sequential(nn.Identity())
    with attach(layer, NoisyDropout(p=0.25, std=0.5), after="0"):
        y = layer(torch.full((400, 500), 10.0))
    kept = y == torch.tensor(10.0) / 0.75
    assert abs(kept.float().mean().item() - 0.75) < 0.01
    assert abs(y[~kept].std().item() - 0.5) < 0.01


@pytest.mark.parametrize(
    ("after", "sites"),
    [
        (nn.Conv2d, ("0",)),
        ((nn.Conv2d, nn.Linear), ("0", "4")),
        ("4", ("4",)),
        (["0", "Linear"], ("0", "4")),
        (lambda name, m: isinstance(m, nn.Linear), ("4",)),
    ],
    ids=["type", "types", "name", "names", "predicate"],
)
def test_sites_by_type_types_name_type_name_and_predicate(after, sites):
    assert attach(net(), GaussianNoise(std=0.1), after=after).sites == sites


@pytest.mark.parametrize("after", [nn.LSTM, "layer9", (), ["0", "nope"], lambda name, m: False])
def test_a_place_that_is_not_there_is_an_error_that_lists_the_modules(after):
    with pytest.raises(UserError, match=r"matches no module of Sequential; its modules: 0, 1, 2, 3, 4"):
        attach(net(), GaussianNoise(std=0.1), after=after)


def test_something_that_is_no_noise_is_refused():
    with pytest.raises(UserError, match=r"noise must be one of .*NoisyDropout"):
        attach(net(), nn.Dropout())


def test_a_module_without_a_tensor_output_is_named():
    model = nn.Sequential(nn.LSTM(4, 4))
    with (
        attach(model, GaussianNoise(std=0.1), after="0"),
        pytest.raises(UserError, match="module '0' returns tuple"),
    ):
        model(torch.rand(2, 3, 4))


def test_noise_works_on_a_torchvision_model():
    model = torchvision.models.resnet18(num_classes=4)
    x, y = torch.rand(4, 3, 32, 32), torch.arange(4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    handle = attach(model, GaussianNoise(std=0.1))
    assert len(handle.sites) == 20
    for _ in range(2):
        loss = handle.loss(F.cross_entropy, x, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert torch.isfinite(loss)
    handle.remove()
    fresh = torchvision.models.resnet18(num_classes=4)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(model.eval()(x), fresh.eval()(x))


@pytest.mark.parametrize("after", [nn.ReLU, "input"])
def test_noise_left_on_acts_in_eval_mode_inside_the_block_alone(after):
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU()).eval()
    x = torch.ones(5, 4)
    clean, before = model(x), copy.deepcopy(model.state_dict())
    handle = attach(model, GaussianNoise(std=1.0), after=after)
    with handle.left_on():
        assert not torch.equal(model(x), clean)
        assert not any(module.training for module in model.modules())
    assert torch.equal(model(x), clean)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())


def test_noise_along_a_loss_gradient_cannot_be_left_on_and_says_so():
    handle = attach(net(), AdversarialNoise(epsilon=0.1), after=nn.ReLU)
    with pytest.raises(UserError, match="cannot be left on"), handle.left_on():
        pass


def test_a_model_with_noise_can_be_copied_and_pickled():
    model = net()
    attach(model, GaussianNoise(std=0.3))
    x, _ = batch()
    model(x)
    clone = copy.deepcopy(model)
    assert torch.equal(clone(x), model(x)), "the copy goes on from the same generator positions"
    clone.eval()
    assert torch.equal(clone(x), clone(x)), "the copy follows its own mode, not the original's"
    file = io.BytesIO()
    torch.save(model, file)


def test_stored_generator_positions_continue_the_noise():
    model, (x, y) = net(), batch()
    handle = attach(model, NoisyDropout(p=0.3, std=0.5), seed=1)
    handle.loss(F.cross_entropy, x, y)
    state = handle.state()
    expected = handle.loss(F.cross_entropy, x, y)
    handle.remove()
    again = attach(model, NoisyDropout(p=0.3, std=0.5), seed=1)
    again.restore(state)
    assert torch.equal(again.loss(F.cross_entropy, x, y), expected)


class Doubling(ActivationNoise):
    """A noise that the package does not know, as somebody would add one."""

    kind: Literal["doubling"] = "doubling"

    def site(self, streams, shared):
        return DoublingSite(self)


class DoublingSite(Site):
    def __init__(self, spec):
        self.spec = spec

    def __call__(self, x, owner=None):
        return 2 * x


def test_a_new_noise_is_a_spec_and_a_site():
    model, (x, y) = net(), batch()
    clean = model(x)
    with attach(model, Doubling(), after=nn.Linear) as handle:
        assert torch.equal(handle.loss(lambda logits, labels: logits.sum(), x, y), (2 * clean).sum())
        assert handle.state().keys() == {"noise"}
        with pytest.raises(UserError, match="another kind"):
            handle.change(GaussianNoise(std=0.1))
    assert torch.equal(model(x), clean)
