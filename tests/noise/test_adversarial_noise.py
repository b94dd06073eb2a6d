"""ANL, CANL and LAT: their equations, and their algorithms against slow ones written out here."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from noiseutils.errors import UserError
from noiseutils.noise import (
    AdversarialNoise,
    ClassAdversarialNoise,
    GaussianNoise,
    LayerwiseAdversarialNoise,
    adversarial_noise,
    attach,
    lat_noise,
    noise_magnitude,
)
from noiseutils.noise.arithmetic import activation_std
from noiseutils.noise.canl import one_of_each_class
from noiseutils.noise.site import one_hot
from noiseutils.rng import SiteStreams

ROOT = np.random.default_rng(0)
GRAD = ROOT.normal(size=(5, 3, 4, 4)).astype(np.float32) * 1e-4
Z = ROOT.normal(size=(1000,)).astype(np.float32)
CLASSES = 4
KINDS = [
    AdversarialNoise(epsilon=0.3),
    AdversarialNoise(epsilon=-0.3),
    AdversarialNoise(epsilon=0.3, scaled=False),
    AdversarialNoise(epsilon=0.3, variant="released"),
    ClassAdversarialNoise(epsilon=0.3, num_classes=CLASSES),
    ClassAdversarialNoise(epsilon=0.3, num_classes=CLASSES, variant="released"),
    LayerwiseAdversarialNoise(epsilon=0.1),
]
IDS = [f"{kind.kind}-{i}" for i, kind in enumerate(KINDS)]


def net(inplace: bool = False, seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3),
            nn.BatchNorm2d(6),
            nn.ReLU(inplace=inplace),
            nn.Conv2d(6, 5, 3),
            nn.BatchNorm2d(5),
            nn.ReLU(inplace=inplace),
            nn.Flatten(),
            nn.Linear(5 * 16, CLASSES),
        )


def batch(n: int = 12, seed: int = 0) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(seed)
    return torch.rand(n, 3, 8, 8, generator=source), torch.randint(CLASSES, (n,), generator=source)


def reference(model: nn.Sequential, x: Tensor, noise: Callable[[str, Tensor], Tensor]) -> Tensor:
    """The forward pass with `noise(site, h)` added behind every BatchNorm."""
    for name, module in model.named_children():
        x = module(x)
        if isinstance(module, nn.BatchNorm2d):
            x = x + noise(name, x)
    return x


def test_noise_magnitude_is_equation_2():
    expected = np.clip(0.05 / 2 + 0.05 / 4 * Z, 0, 0.05)
    found = noise_magnitude(torch.from_numpy(Z), 0.05)
    assert np.allclose(found, expected, atol=1e-8)
    assert found.min() == 0
    assert found.max() == np.float32(0.05)


def test_negative_epsilon_flips_the_noise():
    z = torch.from_numpy(Z)
    assert torch.equal(noise_magnitude(z, -0.05), -noise_magnitude(z, 0.05))


def test_adversarial_noise_is_equation_4_with_the_maximum_over_each_sample():
    r = ROOT.uniform(0, 0.05, size=(5, 1, 1, 1)).astype(np.float32)
    expected = r * 1.7 * GRAD / np.abs(GRAD).max(axis=(1, 2, 3), keepdims=True)
    found = adversarial_noise(torch.from_numpy(GRAD), torch.tensor(1.7), torch.from_numpy(r))
    assert np.allclose(found, expected, rtol=1e-5, atol=0)
    assert torch.allclose(found.abs().amax((1, 2, 3)), 1.7 * torch.from_numpy(r).flatten())


def test_a_sample_without_gradient_gets_no_noise():
    grad = torch.from_numpy(GRAD).clone()
    grad[1], grad[2] = 0.0, grad[2] * 1e-36
    found = adversarial_noise(grad, torch.tensor(1.0), torch.tensor(0.05))
    assert not found[1].any()
    assert found.isfinite().all()


def test_the_noise_of_a_half_precision_gradient_is_taken_in_float32():
    grad = torch.from_numpy(GRAD).bfloat16()
    found = adversarial_noise(grad, torch.tensor(1.0), torch.tensor(0.05))
    assert found.dtype == torch.float32
    assert torch.equal(found, adversarial_noise(grad.float(), torch.tensor(1.0), torch.tensor(0.05)))


def test_lat_noise_is_equation_7():
    assert np.array_equal(lat_noise(torch.from_numpy(GRAD), 0.1), np.float32(0.1) * np.sign(GRAD))


def test_anl_equals_algorithm_1_written_out_for_five_steps():
    ours, slow = net(inplace=True), net()
    handle = attach(ours, AdversarialNoise(epsilon=0.3), seed=5)
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9) for m in (ours, slow)]
    streams = {name: SiteStreams(5, name) for name in handle.sites}
    for step in range(5):
        x, y = batch(seed=step)
        loss = handle.loss(F.cross_entropy, x, y)
        etas, stds, noise = {}, {}, {}

        def measure(name: str, h: Tensor) -> Tensor:
            stds[name] = h.std().detach()  # noqa: B023
            etas[name] = torch.zeros_like(h, requires_grad=True)  # noqa: B023
            return etas[name]  # noqa: B023

        clean = F.cross_entropy(reference(slow, x, measure), y)
        gradients = torch.autograd.grad(clean, list(etas.values()))
        for (name, std), gradient in zip(stds.items(), gradients, strict=True):
            z = torch.empty(len(x), 1, 1, 1).normal_(generator=streams[name].get("noise", x.device))
            noise[name] = adversarial_noise(gradient, std, noise_magnitude(z, 0.3))
        expected = F.cross_entropy(reference(slow, x, lambda name, h: noise[name]), y)  # noqa: B023
        torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
        for optimizer, value in zip(optimizers, (loss, expected), strict=True):
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
    for a, b in zip(ours.state_dict().values(), slow.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_canl_equals_algorithm_2_written_out_for_five_steps():
    ours, slow = net(inplace=True), net()
    handle = attach(ours, ClassAdversarialNoise(epsilon=0.3, num_classes=CLASSES), seed=5)
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.1) for m in (ours, slow)]
    streams = {name: SiteStreams(5, name) for name in handle.sites}
    cache: dict[str, dict[int, Tensor]] = {name: {} for name in handle.sites}
    for step in range(5):
        x, y = batch(n=5, seed=step)  # of four classes: some step has not seen them all
        loss = handle.loss(F.cross_entropy, x, y)
        activations: dict[str, Tensor] = {}

        def cached(name: str, h: Tensor) -> Tensor:
            z = torch.empty(len(h), 1, 1, 1).normal_(generator=streams[name].get("noise", h.device))
            kept = [cache[name].get(int(c), torch.zeros_like(h[0])) for c in y]  # noqa: B023
            return adversarial_noise(torch.stack(kept), h.std().detach(), noise_magnitude(z, 0.3))

        def noisy(name: str, h: Tensor) -> Tensor:
            activations[name] = h  # noqa: B023
            h.retain_grad()
            return cached(name, h)

        expected = F.cross_entropy(reference(slow, x, noisy), y)
        torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
        for optimizer, value in zip(optimizers, (loss, expected), strict=True):
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        for name, h in activations.items():
            seen, sample = one_of_each_class(one_hot(y, CLASSES), streams[name].get("sample", x.device))
            for c in seen.nonzero().flatten().tolist():
                cache[name][c] = h.grad[sample[c]].clone()
    for a, b in zip(ours.state_dict().values(), slow.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_lat_adds_the_sign_of_the_last_batchs_gradient_even_when_batches_differ_in_size():
    ours, slow = net(inplace=True), net()
    handle = attach(ours, LayerwiseAdversarialNoise(epsilon=0.1))
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.1) for m in (ours, slow)]
    last: dict[str, Tensor] = {}
    for step, n in enumerate((6, 6, 4, 8, 8)):
        x, y = batch(n, seed=step)
        loss = handle.loss(F.cross_entropy, x, y)
        activations: dict[str, Tensor] = {}

        def noisy(name: str, h: Tensor) -> Tensor:
            activations[name] = h  # noqa: B023
            h.retain_grad()
            noise, before = torch.zeros_like(h), last.get(name, h[:0])  # noqa: B023
            m = min(len(h), len(before))
            noise[:m] = 0.1 * before[:m].sign()
            return noise

        expected = F.cross_entropy(reference(slow, x, noisy), y)
        torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
        for optimizer, value in zip(optimizers, (loss, expected), strict=True):
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        last = {name: h.grad.clone() for name, h in activations.items()}


def test_the_released_rule_divides_by_the_signed_maximum_and_averages_s_from_zero():
    model = net()
    handle = attach(model, AdversarialNoise(epsilon=0.3, variant="released"), after="4", seed=2)
    clean = net()
    x, y = batch()
    first = handle.loss(F.cross_entropy, x, y)
    assert torch.equal(first, F.cross_entropy(clean(x), y)), "s starts at 0: the first step has no noise"
    h = net()[:5](x).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(net()[5:](h), y), h)
    site = SiteStreams(2, "4")
    site.get("noise", x.device).set_state(attached_stream(handle, "4").get_state())
    second = handle.loss(F.cross_entropy, x, y)
    z = torch.empty(len(x), 1, 1, 1).normal_(generator=site.get("noise", x.device))
    r = noise_magnitude(z, 0.3)
    s = 0.1 * h.detach().std()
    eta = r * s * gradient / (gradient.amax((1, 2, 3), keepdim=True) + 1e-6)
    torch.testing.assert_close(second, F.cross_entropy(net()[5:](h + eta), y))
    smaller = handle.loss(F.cross_entropy, x[:7], y[:7])
    assert torch.equal(smaller, F.cross_entropy(net()(x[:7]), y[:7])), "a last, smaller batch gets no noise"


def attached_stream(handle, site: str) -> torch.Generator:
    return handle.streams[site].get("noise", torch.device("cpu"))


def test_along_the_gradient_the_loss_rises_and_against_it_it_falls():
    x, y = batch(64)
    clean = F.cross_entropy(net()(x), y)
    up, down = (
        attach(net(), AdversarialNoise(epsilon=e), seed=1).loss(F.cross_entropy, x, y) for e in (0.3, -0.3)
    )
    assert down < clean < up


def test_without_scaling_the_noise_forgets_the_activations_std():
    model, x, y = net(), *batch()
    with torch.no_grad():
        model[4].weight.mul_(10)
    losses = [
        attach(copy.deepcopy(model), AdversarialNoise(epsilon=0.1, scaled=s), after="4").loss(
            F.cross_entropy, x, y
        )
        for s in (True, False)
    ]
    clean = F.cross_entropy(copy.deepcopy(model)(x), y)
    assert losses[0] - clean > 5 * (losses[1] - clean) > 0


class ConvolutionGradients(TorchDispatchMode):
    """Which gradients convolutions were asked for: (input, weight, bias) a backward call."""

    def __init__(self) -> None:
        super().__init__()
        self.masks: list[list[bool]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.convolution_backward.default:
            self.masks.append(list(args[-1]))
        return func(*args, **(kwargs or {}))


def test_round_one_computes_no_weight_gradient():
    model, (x, y) = net(), batch()
    handle = attach(model, AdversarialNoise(epsilon=0.3))
    with ConvolutionGradients() as seen:
        loss = handle.loss(F.cross_entropy, x, y)
    assert seen.masks == [[True, False, False]], "one convolution lies above the first site"
    assert all(p.grad is None for p in model.parameters())
    assert all(p.requires_grad for p in model.parameters())
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_the_profiler_sees_no_weight_gradient_in_round_one():
    model, (x, y) = net(), batch()
    handle = attach(model, AdversarialNoise(epsilon=0.3))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        loss = handle.loss(F.cross_entropy, x, y)
    calls = {event.key: event.count for event in profile.key_averages()}
    assert calls["aten::convolution_backward"] == 1, "below the first site nothing is gone through"
    assert "torch::autograd::AccumulateGrad" not in calls, "nothing reaches a parameter"
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        loss.backward()
    calls = {event.key: event.count for event in profile.key_averages()}
    assert calls["aten::convolution_backward"] == 2
    assert calls["torch::autograd::AccumulateGrad"] == len(list(model.parameters()))


@pytest.mark.parametrize(("which", "moves"), [("both", 2), ("clean", 1), ("noisy", 1)])
def test_batchnorm_statistics_move_in_the_rounds_that_are_said(which, moves):
    model, (x, y) = net(), batch()
    attach(model, AdversarialNoise(epsilon=0.3, batchnorm=which)).loss(F.cross_entropy, x, y)
    assert [int(m.num_batches_tracked) for m in model if isinstance(m, nn.BatchNorm2d)] == [moves] * 2
    once = net()
    once(x)
    noisy = not torch.equal(model[4].running_mean, once[4].running_mean)
    assert noisy == (which != "clean")


@pytest.mark.parametrize("noise", KINDS, ids=IDS)
def test_eval_mode_is_bitwise_clean_and_removing_leaves_no_trace(noise):
    model, (x, y) = net(), batch()
    handle = attach(model, noise)
    for step in range(3):
        handle.loss(F.cross_entropy, *batch(seed=step)).backward()
    clean = net()
    clean.load_state_dict(model.state_dict())
    assert list(model.state_dict()) == list(clean.state_dict())
    assert torch.equal(model.eval()(x), clean.eval()(x))
    assert torch.equal(handle.loss(F.cross_entropy, x, y), F.cross_entropy(clean(x), y)), "in eval mode"
    handle.remove()
    model.train()
    clean.train()
    assert torch.equal(handle.loss(F.cross_entropy, x, y), F.cross_entropy(clean(x), y))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("noise", KINDS, ids=IDS)
def test_noise_is_not_at_home_outside_the_loss_and_says_so_once(noise):
    model, (x, _) = net(), batch()
    attach(model, noise)
    with pytest.warns(UserWarning, match=r"outside handle\.loss gets no adversarial noise"):
        logits = model(x)
    assert torch.equal(logits, net()(x))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(x)


@pytest.mark.parametrize("noise", KINDS, ids=IDS)
def test_noise_on_the_input_is_site_0(noise):
    model, (x, y) = net(), batch()
    handle = attach(model, noise, after=("input", nn.BatchNorm2d))
    assert handle.sites == ("input", "1", "4")
    seen = []
    model[0].register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0].detach().clone()))
    before = x.clone()
    for _ in range(3):
        handle.loss(F.cross_entropy, x, y).backward()
    assert not torch.equal(seen[-1], x)
    assert torch.equal(x, before)
    assert not x.requires_grad
    handle.remove()
    assert not model._forward_pre_hooks


@pytest.mark.parametrize("noise", KINDS, ids=IDS)
def test_noise_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(noise):
    whole, parts = net(), net()
    a = attach(whole, noise, seed=4)
    for step in range(4):
        a.loss(F.cross_entropy, *batch(seed=step)).backward()
    b = attach(parts, noise, seed=4)
    for step in range(2):
        b.loss(F.cross_entropy, *batch(seed=step)).backward()
    resumed = net()
    resumed.load_state_dict(parts.state_dict())
    for p, q in zip(resumed.parameters(), parts.parameters(), strict=True):
        p.grad = q.grad.clone()
    c = attach(resumed, noise, seed=4)
    c.restore({k: v.clone() for k, v in b.state().items()})
    for step in (2, 3):
        c.loss(F.cross_entropy, *batch(seed=step)).backward()
    for p, q in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad)


@pytest.mark.parametrize("noise", KINDS, ids=IDS)
def test_a_model_with_noise_can_be_copied(noise):
    model, (x, y) = net(), batch()
    attach(model, noise).loss(F.cross_entropy, x, y).backward()
    assert torch.equal(copy.deepcopy(model).eval()(x), model.eval()(x))


def test_epsilon_zero_is_the_clean_loss():
    x, y = batch()
    for noise in (AdversarialNoise(epsilon=0.0), ClassAdversarialNoise(epsilon=0.0, num_classes=CLASSES)):
        model, clean = net(), net()
        handle = attach(model, noise)
        for _ in range(2):
            assert torch.equal(handle.loss(F.cross_entropy, x, y), F.cross_entropy(clean(x), y))
            handle.loss(F.cross_entropy, x, y).backward()


def test_one_of_each_class_takes_every_sample_of_a_class_equally_often():
    y = torch.tensor([0, 2, 2, 0, 2, 0])
    source = torch.Generator().manual_seed(0)
    draws = [one_of_each_class(one_hot(y, CLASSES), source) for _ in range(3000)]
    assert all(seen.tolist() == [True, False, True, False] for seen, _ in draws)
    for c in (0, 2):
        taken = torch.bincount(torch.stack([sample[c] for _, sample in draws]), minlength=len(y))
        assert (taken[y != c] == 0).all()
        assert (taken[y == c] - 1000).abs().max() < 110, "four standard deviations"


def test_a_gradient_that_overflowed_is_not_remembered():
    model, (x, y) = net(), batch()
    handle = attach(model, ClassAdversarialNoise(epsilon=0.3, num_classes=CLASSES))
    handle.loss(F.cross_entropy, x, y).backward()
    (handle.loss(F.cross_entropy, x, y) * torch.inf).backward()
    assert all(value.isfinite().all() for key, value in handle.state().items() if "memory" in key)


def test_frozen_parameters_stay_frozen_and_a_frozen_stem_does_no_harm():
    model, (x, y) = net(), batch()
    for p in model[:2].parameters():
        p.requires_grad_(False)
    for noise in KINDS:
        handle = attach(model, noise)
        for _ in range(2):
            handle.loss(F.cross_entropy, x, y).backward()
        handle.remove()
    assert [p.requires_grad for p in model.parameters()] == [False] * 4 + [True] * 6


def test_under_no_grad_the_loss_has_its_noise_and_nothing_is_remembered():
    model, (x, y) = net(), batch()
    with torch.no_grad():
        assert not attach(model, AdversarialNoise(epsilon=0.3)).loss(F.cross_entropy, x, y).requires_grad
        handle = attach(net(), LayerwiseAdversarialNoise(epsilon=0.3))
        handle.loss(F.cross_entropy, x, y)
    assert handle.state().keys() == {"noise"}


def test_a_shared_module_has_a_memory_for_each_of_its_runs():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.relu = nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(inplace=True)
            self.head = nn.Linear(3 * 64, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.relu(self.conv(self.relu(self.conv(x)))).flatten(1))

    x, y = batch()
    for noise in KINDS:
        model = Twice()
        handle = attach(model, noise, after="relu")
        for _ in range(3):
            handle.loss(F.cross_entropy, x, y).backward()
        if not isinstance(noise, AdversarialNoise):
            assert {"relu/memory/memory.0", "relu/memory/memory.1"} <= set(handle.state())


@pytest.mark.parametrize(
    ("noise", "y", "said"),
    [
        (ClassAdversarialNoise(epsilon=0.1), None, "needs num_classes"),
        (ClassAdversarialNoise(epsilon=0.1, num_classes=2), torch.tensor([0, 2]), "from 0 to 2.*is 2"),
        (ClassAdversarialNoise(epsilon=0.1, num_classes=4), torch.rand(2, 4), r"\(N,\) int64"),
    ],
)
def test_labels_that_have_no_class_are_a_clear_error(noise, y, said):
    with pytest.raises(UserError, match=said):
        attach(net(), noise).loss(F.cross_entropy, torch.rand(2, 3, 8, 8), y)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "0.1"])
def test_an_epsilon_that_is_no_number_is_refused(value):
    for kind in (AdversarialNoise, LayerwiseAdversarialNoise):
        with pytest.raises(ValueError, match="epsilon"):
            kind(epsilon=value)


def trained(model: nn.Module, handle, size: int = 32) -> None:
    x, y = torch.rand(4, 3, size, size), torch.arange(4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        handle.loss(F.cross_entropy, x, y).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        optimizer.step()


def strangers() -> dict[str, nn.Module]:
    """Networks nobody here wrote."""
    import timm
    from torchvision.models import densenet121, mobilenet_v2

    return {
        "densenet121": densenet121(num_classes=4),
        "mobilenet_v2": mobilenet_v2(num_classes=4),
        "timm resnet10t": timm.create_model("resnet10t", num_classes=4),
    }


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("name", ["densenet121", "mobilenet_v2", "timm resnet10t"])
def test_strangers_train_evaluate_clean_and_lose_the_noise_without_trace(name):
    model = strangers()[name]
    x = torch.rand(2, 3, 32, 32)
    for noise in (
        AdversarialNoise(epsilon=0.05),
        ClassAdversarialNoise(epsilon=0.05, num_classes=4),
        LayerwiseAdversarialNoise(epsilon=0.01),
        GaussianNoise(std=0.01),
    ):
        handle = attach(model.train(), noise)
        trained(model, handle)
        bare = copy.deepcopy(model)
        handle.remove()
        assert torch.equal(bare.eval()(x), model.eval()(x))
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.filterwarnings("ignore")  # the compiler's own
@pytest.mark.parametrize("noise", [KINDS[0], KINDS[4], KINDS[6], GaussianNoise(std=0.1)])
def test_a_compiled_model_takes_the_same_steps(noise):
    eager, compiled = net(), net()
    handles = [attach(eager, noise, seed=3), attach(compiled, noise, seed=3)]
    compiled.compile(backend="aot_eager")
    for step in range(3):
        x, y = batch(seed=step)
        losses = [handle.loss(F.cross_entropy, x, y) for handle in handles]
        torch.testing.assert_close(*losses)
        for model, loss in zip((eager, compiled), losses, strict=True):
            model.zero_grad()
            loss.backward()
        for p, q in zip(eager.parameters(), compiled.parameters(), strict=True):
            torch.testing.assert_close(p.grad, q.grad)


@pytest.mark.parametrize("shift", [0.0, 3.0, 1e4])
def test_the_activations_std_is_exact_wherever_their_mean_lies(shift):
    x = torch.randn(8, 5, 9, 9, generator=torch.Generator().manual_seed(0)) + shift
    assert activation_std(x).item() == pytest.approx(x.double().std().item(), rel=1e-4)
    assert activation_std(torch.full((4, 3), 7.0)) == activation_std(torch.ones(1, 1)) == 0
    channels_last = x.contiguous(memory_format=torch.channels_last)
    assert activation_std(channels_last).item() == pytest.approx(activation_std(x).item(), rel=1e-5)


def test_a_first_round_that_was_interrupted_leaves_nothing_to_the_next():
    torch.manual_seed(0)
    net, x, y = (
        nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3)),
        torch.randn(4, 5),
        torch.arange(4) % 3,
    )
    losses = []
    for interrupted in (False, True):
        with attach(net, AdversarialNoise(epsilon=2.0), after="0", seed=1) as handle:
            if interrupted:
                with pytest.raises(KeyboardInterrupt):
                    handle.loss(stopped, x, y)
            losses.append(handle.loss(F.cross_entropy, x, y).item())
    assert losses[0] == losses[1]


def stopped(logits: Tensor, y: Tensor) -> Tensor:
    raise KeyboardInterrupt
