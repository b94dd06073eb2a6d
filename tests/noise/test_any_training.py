"""The two lines in trainings unlike a plain loop: right, or an error or a warning says why not."""

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noiseutils.errors import UserError
from noiseutils.noise import (
    AdversarialNoise,
    ClassAdversarialNoise,
    GaussianNoise,
    LayerwiseAdversarialNoise,
    NoisyDropout,
    attach,
    remove_noise,
)

CLASSES = 4
ANL, LAT = AdversarialNoise(epsilon=2.0), LayerwiseAdversarialNoise(epsilon=0.3)
CANL = ClassAdversarialNoise(epsilon=2.0, num_classes=CLASSES)
GAUSSIAN = GaussianNoise(std=1.0)
KINDS = [GAUSSIAN, NoisyDropout(p=0.3, std=0.5), ANL, CANL, LAT]
IDS = [noise.kind for noise in KINDS]


def net() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, CLASSES)
        )


def batch(seed: int = 0, n: int = 8) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(seed)
    return torch.rand(n, 3, 8, 8, generator=source), torch.arange(n) % CLASSES


# no noise, unsaid


def test_batchnorm_in_eval_mode_inside_a_training_network_is_said_once():
    model = net()
    model[1].eval()
    handle = attach(model, GAUSSIAN)
    with pytest.warns(UserWarning, match=r"1 of the 1 modules .* had none .* in eval mode.*: 1"):
        handle.loss(F.cross_entropy, *batch())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        handle.loss(F.cross_entropy, *batch())


class Bypassed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(192, 8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.stem(x.flatten(1)), self.head.weight, self.head.bias)


@pytest.mark.parametrize("noise", KINDS, ids=IDS)
def test_a_module_whose_forward_is_bypassed_is_named(noise):
    handle = attach(Bypassed(), noise, after=nn.Linear)
    with pytest.warns(UserWarning, match=r"1 of the 2 modules .* not run in this pass: .*: head$"):
        handle.loss(F.cross_entropy, *batch())


def test_a_bypassed_module_is_named_in_a_loop_without_handle_loss():
    model = Bypassed()
    attach(model, GAUSSIAN, after="head")
    model.eval()
    model(batch()[0])
    model.train()
    with pytest.warns(UserWarning, match="not run in this pass"):
        model(batch()[0])
    assert not model._forward_hooks


def test_a_network_in_eval_mode_is_nothing_to_warn_of():
    handle = attach(net().eval(), ANL)
    handle.loss(F.cross_entropy, *batch())


class FrozenStem(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.relu, self.head = nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.stem(x.flatten(1))
        return self.head(self.relu(x))


@pytest.mark.parametrize(("noise", "after"), [(ANL, 1), (CANL, 3), (LAT, 3)], ids=["anl", "canl", "lat"])
def test_an_activation_that_no_gradient_reaches_is_named_once(noise, after):
    handle = attach(FrozenStem(), noise, after=("stem", "relu"))
    for step in range(1, 6):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            handle.loss(F.cross_entropy, *batch()).backward()
        assert len(said) == (step == after)
        assert all("no loss gradient" in str(w.message) and "stem" in str(w.message) for w in said)


def test_gaussian_noise_needs_no_gradient():
    attach(FrozenStem(), GAUSSIAN, after=("stem", "relu")).loss(F.cross_entropy, *batch()).backward()


@pytest.mark.filterwarnings("ignore")  # the compiler's own
@pytest.mark.parametrize("whole", [False, True])
def test_noise_attached_after_the_first_compiled_call_acts(whole):
    model, (x, _) = net(), batch()
    compiled = torch.compile(model, backend="aot_eager")
    clean = compiled(x)
    handle = attach(compiled if whole else model, GAUSSIAN)
    assert handle.sites == ("1",)
    assert not torch.allclose(compiled(x), clean)
    handle.remove()
    torch.testing.assert_close(compiled(x), clean)


def test_modules_that_can_never_fire_are_refused_and_no_predicate_lists_them():
    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleList([nn.Linear(192, CLASSES)])

        def forward(self, x: Tensor) -> Tensor:
            return self.parts[0](x.flatten(1))

    with pytest.raises(UserError, match="'parts' is a ModuleList, which has no output"):
        attach(Listed(), GAUSSIAN, after="parts")
    with pytest.raises(UserError, match="ModuleList"):
        attach(Listed(), GAUSSIAN, after=nn.ModuleList)
    assert attach(Listed(), GAUSSIAN, after=lambda name, module: True).sites == ("parts.0",)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_parts_of_a_traced_module_are_refused_and_the_whole_of_it_fires():
    part = net()[:3]
    traced = torch.jit.trace(part, batch()[0])
    model = nn.Sequential(traced, nn.Flatten(), nn.Linear(6 * 36, CLASSES))
    with pytest.raises(UserError, match=r"'0\.1' lies in a TorchScript module"):
        attach(model, GAUSSIAN, after="0.1")
    x, _ = batch()
    clean = model(x)
    attach(model, GAUSSIAN, after="0")
    assert not torch.equal(model(x), clean)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_tracing_a_network_while_it_draws_noise_is_refused():
    model = net()
    attach(model, GAUSSIAN)
    with pytest.raises(UserError, match="trace in eval mode"):
        torch.jit.trace(model, batch()[0])
    torch.jit.trace(model.eval(), batch()[0])


# twice


def test_a_second_attach_on_one_module_is_said_and_both_act():
    model = net()
    attach(model, GAUSSIAN, after=("1", "2"))
    with pytest.warns(UserWarning, match=r"^2 had noise before, and now has both.*replace=True"):
        attach(model, GAUSSIAN, after=("2", "3"))


def test_replace_takes_the_first_noise_off():
    model, (x, y) = net(), batch()
    first = attach(model, ANL, after=nn.ReLU)
    second = attach(model, GaussianNoise(std=0.0), after="3", replace=True)
    assert (first.attached, second.attached) == (False, True)
    clean = F.cross_entropy(net()(x), y)
    assert torch.equal(first.loss(F.cross_entropy, x, y), clean)
    first.remove()
    assert second.attached
    second.remove()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_refused_replacement_leaves_the_noise_where_it_is():
    model = net()
    first = attach(model, GAUSSIAN)
    with pytest.raises(UserError, match="matches no module"):
        attach(model, GAUSSIAN, after="nowhere", replace=True)
    with pytest.raises(UserError, match="num_classes"):
        attach(model, ClassAdversarialNoise(epsilon=1.0), replace=True)
    assert first.attached


# two rounds are two calls


def test_an_input_that_the_first_pass_changes_in_place_is_refused():
    class Normalising(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net()

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x.sub_(0.5))

    with pytest.raises(UserError, match="changed its input in place"):
        attach(Normalising(), ANL).loss(F.cross_entropy, *batch())
    attach(Normalising(), CANL).loss(F.cross_entropy, *batch())


# memory by order of calls


class Repeats(nn.Module):
    """A module that runs as often as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu, self.head = nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(), nn.Linear(3, CLASSES)
        self.times = [1]

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.times.pop(0)):
            x = self.relu(self.conv(x))
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize("noise", [CANL, LAT], ids=["canl", "lat"])
def test_a_module_that_runs_more_often_than_before_is_named(noise):
    model = Repeats()
    handle = attach(model, noise, after="relu")
    model.times = [2, 3]
    handle.loss(F.cross_entropy, *batch()).backward()
    with pytest.raises(UserError, match=r"'relu' ran 3 times in this forward pass and 2 in the pass before"):
        handle.loss(F.cross_entropy, *batch())


def test_a_module_that_runs_more_often_in_the_second_pass_is_named():
    model = Repeats()
    handle = attach(model, ANL, after="relu")
    model.times = [1, 2]
    with pytest.raises(UserError, match=r"'relu' ran 2 times .* and 1 in the first of its two passes"):
        handle.loss(F.cross_entropy, *batch())


@pytest.mark.parametrize("noise", KINDS[2:], ids=IDS[2:])
def test_a_module_that_is_skipped_at_random_trains_on(noise):
    model = Repeats()
    handle = attach(model, noise, after=("relu", "head"))
    for times in ([1, 1], [0, 0], [1, 0], [0, 1], [1, 1]):
        model.times = list(times)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            handle.loss(F.cross_entropy, *batch()).backward()


@pytest.mark.parametrize("noise", [CANL, LAT], ids=["canl", "lat"])
def test_a_changed_image_size_is_said_by_the_sites_name_and_can_be_forgotten(noise):
    model = Repeats()
    handle = attach(model, noise, after="relu")
    for size in (8, 12):
        x = torch.rand(4, 3, size, size)
        model.times = [1]
        if size == 12:
            with pytest.raises(UserError, match=r"'relu' puts out \(4, 3, 12, 12\).*\(3, 8, 8\).*forget"):
                handle.loss(F.cross_entropy, x, torch.arange(4))
            handle.forget()
            model.times = [1]
        handle.loss(F.cross_entropy, x, torch.arange(4)).backward()


def test_canl_refuses_activations_whose_first_dimension_is_not_the_batch():
    class TimeFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.step, self.head = nn.Linear(24, 8), nn.Linear(8, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(
                self.step(x.flatten(2).permute(1, 0, 2).reshape(3, len(x), -1)[..., :24]).mean(0)
            )

    handle = attach(TimeFirst(), CANL, after="step")
    with pytest.raises(UserError, match=r"'step' puts out \(3, 8, 8\) for 8 labels.*batch in dimension 0"):
        handle.loss(F.cross_entropy, *batch())


# targets


@pytest.mark.parametrize(
    ("y", "got"),
    [
        ((torch.arange(8) % 4, torch.arange(8) % 4, 0.3), "tuple"),
        ({"labels": torch.arange(8) % 4}, "dict"),
        (None, "NoneType"),
        (torch.full((8, 4), 0.25), r"\(8, 4\) torch.float32"),
    ],
)
def test_canl_says_which_targets_it_needs(y, got):
    handle = attach(net(), CANL)
    for _ in range(2):
        with pytest.raises(UserError, match=rf"needs class labels, \(N,\) int64, got {got}"):
            handle.loss(lambda logits, y: logits.sum(), batch()[0], y)


@pytest.mark.parametrize("noise", [ANL, LAT], ids=["anl", "lat"])
@pytest.mark.parametrize("y", [(1, 2), {"labels": torch.arange(8)}, None, torch.full((8, 4), 0.25)])
def test_anl_and_lat_take_any_targets(noise, y):
    model, (x, _) = net(), batch()
    handle = attach(model, noise)
    handle.loss(lambda logits, y: logits.square().mean(), x, y).backward()
    again = handle.loss(lambda logits, y: logits.square().mean(), x, y)
    assert not torch.equal(again, net()(x).square().mean())


# underflow


def test_noise_of_a_confident_network_survives_float16():
    class Confident(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net()

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x) + 11 * F.one_hot(torch.arange(len(x)) % CLASSES, CLASSES)

    found = {}
    for dtype in (torch.float32, torch.float16):
        model = Confident()
        with torch.autocast("cpu", torch.float16, enabled=dtype == torch.float16):
            x, y = batch()
            clean = F.cross_entropy(model(x), y)
            handle = attach(model, AdversarialNoise(epsilon=4.0), after="net.2", seed=1)
            loss = handle.loss(F.cross_entropy, x, y)
        found[dtype] = (loss - clean).item()
    assert found[torch.float32] > 0
    assert found[torch.float16] == pytest.approx(found[torch.float32], rel=0.1)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("size", [1, 8])
@pytest.mark.parametrize("weight", [1, 50])
def test_a_loss_whose_scaled_gradient_would_overflow_float16_keeps_its_noise(reduction, size, weight):
    def wrong(logits: Tensor, y: Tensor) -> Tensor:  # the largest gradient that a sample can have
        return weight * F.cross_entropy(logits - 30 * F.one_hot(y, CLASSES), y, reduction=reduction)

    model, (x, y) = net()[:1].append(nn.Flatten()).append(nn.Linear(6 * 36, CLASSES)), batch(n=size)
    with torch.autocast("cpu", torch.float16):
        clean = wrong(model(x), y)
        loss = attach(model, AdversarialNoise(epsilon=4.0), after="0", seed=1).loss(wrong, x, y)
    assert loss > clean


# state


@pytest.mark.parametrize("noise", KINDS, ids=IDS)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(noise):
    model, (x, y) = net(), batch()
    handle = attach(model, noise, seed=1)
    for _ in range(2):
        handle.loss(F.cross_entropy, x, y).backward()
    good = handle.state()
    entry = next(key for key in good if key != "noise")
    other = next(kind for kind in KINDS if kind.kind != noise.kind)
    elsewhere = attach(net(), noise, after="2")
    elsewhere.loss(F.cross_entropy, x, y)
    foreign = attach(net(), other)
    foreign.loss(F.cross_entropy, x, y)
    bad = {
        "no state of attached noise": {},
        r"'noise'": {"model": torch.zeros(3)},
        "the state is of noise": foreign.state(),
        "after 2; this noise: after 1": elsewhere.state(),
        "is not there and was": {key: value for key, value in good.items() if key != entry},
        "was not there": good | {"1/memory/more": torch.zeros(2)},
        "and was of shape": good | {entry: torch.zeros(1, dtype=torch.uint8)},
    }
    for said, state in bad.items():
        with pytest.raises(UserError, match=said):
            handle.restore(state)
    assert all(torch.equal(value, good[key]) for key, value in handle.state().items())
    handle.restore(good)


def test_a_state_of_another_number_of_classes_is_refused():
    handle = attach(net(), CANL)
    handle.loss(F.cross_entropy, *batch()).backward()
    other = attach(net(), ClassAdversarialNoise(epsilon=2.0, num_classes=7))
    with pytest.raises(UserError, match=r"4 classes at '1', num_classes is 7"):
        other.restore(handle.state())


# copies


@pytest.mark.parametrize("noise", [GAUSSIAN, LAT], ids=["gaussian", "lat"])
def test_a_copy_keeps_its_noise_until_remove_noise_takes_it_off(noise):
    model, (x, y) = net(), batch()
    handle = attach(model, noise, after=("input", nn.ReLU))
    handle.loss(F.cross_entropy, x, y).backward()
    averaged = torch.optim.swa_utils.AveragedModel(model)
    twin = copy.deepcopy(model)
    handle.remove()
    assert torch.equal(averaged.eval()(x), twin.eval()(x)), "in eval mode nothing differs"
    assert remove_noise(averaged) == ("module", "module.2")
    assert remove_noise(twin) == ("input", "2")
    assert remove_noise(twin) == ()
    assert not any(m._forward_hooks or m._forward_pre_hooks for c in (averaged, twin) for m in c.modules())
    assert torch.equal(twin.train()(x), model(x))
