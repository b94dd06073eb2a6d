"""What a CUDA graph asks of a step: nothing waits for a value, and what is remembered stays where it is."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from noiseutils.noise import (
    AdversarialNoise,
    ClassAdversarialNoise,
    GaussianNoise,
    Handle,
    LayerwiseAdversarialNoise,
    NoisyDropout,
    anl,
    attach,
    canl,
)

CLASSES = 4
KINDS = {
    "anl": AdversarialNoise(epsilon=0.3),
    "anl released": AdversarialNoise(epsilon=0.3, variant="released"),
    "anl, one round's statistics": AdversarialNoise(epsilon=0.3, batchnorm="clean"),
    "canl": ClassAdversarialNoise(epsilon=0.3, num_classes=CLASSES),
    "canl released": ClassAdversarialNoise(epsilon=0.3, num_classes=CLASSES, variant="released"),
    "lat": LayerwiseAdversarialNoise(epsilon=0.1),
    "gaussian": GaussianNoise(std=0.1),
    "dropout": NoisyDropout(p=0.2, std=0.1),
}
REMEMBERING = ["anl released", "canl", "canl released", "lat"]
AFTER = {"batchnorm": nn.BatchNorm2d, "relu": nn.ReLU, "input": ("input", nn.BatchNorm2d)}


def net(layout: torch.memory_format = torch.contiguous_format) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            *(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 5, 3), nn.BatchNorm2d(5)),
            *(nn.ReLU(), nn.Flatten(), nn.Linear(5 * 16, CLASSES)),
        )
    return model.to(memory_format=layout)


def batch(seed: int, n: int = 12) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(seed)
    return torch.rand(n, 3, 8, 8, generator=source), torch.randint(CLASSES, (n,), generator=source)


class NothingWaits(TorchDispatchMode):
    """Fails on what looks at a value, or has a shape that depends on one."""

    FORBIDDEN = ("_local_scalar_dense", "nonzero", "item", "is_nonzero", "equal", "masked_select", "unique")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert not any(word in name.split(".")[0] for word in self.FORBIDDEN), name
        indices = args[1] if name in ("index", "index_put", "index_put_", "_index_put_impl_") else ()
        assert all(i is None or i.dtype != torch.bool for i in indices), f"{name} by a mask"
        if name == "_to_copy" or name == "copy_":  # a value from the host is one that a replay does not see
            tensors = [a for a in (*args, *(kwargs or {}).values()) if isinstance(a, Tensor)]
            assert len({a.device for a in tensors}) == 1, name
        return func(*args, **(kwargs or {}))


def as_on_a_gpu(monkeypatch) -> None:
    """The one look at the labels, and the look at the variance, are not taken there."""
    monkeypatch.setattr(ClassAdversarialNoise, "check_labels", lambda self, y: None)
    for noise in (anl, canl):
        monkeypatch.setattr(noise, "activation_std", lambda x: x.detach().float().std())


def addresses(handle: Handle) -> dict[str, int]:
    """Where each remembered tensor lies."""
    found = {}
    for name, site in handle._sites.items():
        for i, tensor in enumerate([*getattr(site, "memory", ()), *getattr(site, "averages", ())]):
            found[f"{name}.{i}"] = tensor.data_ptr()
        if getattr(site, "average", None) is not None:
            found[name] = site.average.data_ptr()
    return found


@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize("kind", KINDS)
def test_in_a_steady_step_nothing_waits_for_a_value(kind, after, monkeypatch):
    as_on_a_gpu(monkeypatch)
    model = net(torch.channels_last)
    handle = attach(model, KINDS[kind], after=AFTER[after])
    for step in range(6):
        x, y = batch(step)
        if step < 3:
            handle.loss(F.cross_entropy, x, y).backward()
            continue
        with NothingWaits():
            handle.forward(F.cross_entropy, x, y)[0].backward()


def test_the_check_itself_finds_what_waits():
    x = torch.rand(3)
    for look in (lambda: x.sum().item(), lambda: bool(x.sum() > 0), lambda: x[x > 0.5], lambda: x.nonzero()):
        with pytest.raises(AssertionError), NothingWaits():
            look()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kind", REMEMBERING)
def test_what_is_remembered_stays_where_it_is(kind, layout):
    model = net(layout)
    handle = attach(model, KINDS[kind])
    found, values = [], []
    for step in range(7):
        handle.loss(F.cross_entropy, *batch(step, n=7 if step == 4 else 12)).backward()
        found.append(addresses(handle))
        values.append({name: value for name, value in handle.state().items() if "/memory/" in name})
    assert found[0]
    assert all(later == found[1] for later in found[2:])
    assert all(
        not torch.equal(values[-1][name], values[-2][name]) for name in values[-1] if "batch" not in name
    )


@pytest.mark.parametrize("kind", REMEMBERING)
def test_a_stored_state_comes_back_to_the_places_that_there_are(kind):
    model = net(torch.channels_last)
    handle = attach(model, KINDS[kind], seed=1)
    for step in range(3):
        handle.loss(F.cross_entropy, *batch(step)).backward()
    state, weights = handle.state(), copy.deepcopy(model.state_dict())
    kept = {name: value.clone() for name, value in state.items()}
    places = addresses(handle)
    losses = []
    for _ in range(2):
        model.load_state_dict(weights)
        handle.restore(state)
        assert addresses(handle) == places
        losses.append(handle.loss(F.cross_entropy, *batch(3)))
        losses[-1].backward()
    assert torch.equal(*losses)
    assert all(torch.equal(state[name], kept[name]) for name in kept), "a state is a copy"


@pytest.mark.parametrize("kind", REMEMBERING)
def test_a_state_restored_to_a_new_handle_is_not_written_to(kind):
    handle = attach(net(), KINDS[kind], seed=1)
    for step in range(2):
        handle.loss(F.cross_entropy, *batch(step)).backward()
    state = handle.state()
    kept = {name: value.clone() for name, value in state.items()}
    fresh = attach(net(), KINDS[kind], seed=1)
    fresh.restore(state)
    fresh.loss(F.cross_entropy, *batch(2)).backward()
    assert all(torch.equal(state[name], kept[name]) for name in kept)


def test_a_state_without_memory_makes_a_site_forget():
    handle = attach(net(), KINDS["lat"])
    before = handle.state()
    handle.loss(F.cross_entropy, *batch(0)).backward()
    handle.restore(before)
    x, y = batch(1)
    assert torch.equal(handle.loss(F.cross_entropy, x, y), F.cross_entropy(net()(x), y))


def test_memory_that_is_outgrown_is_kept_for_a_graph_that_writes_there():
    handle = attach(net(), KINDS["lat"], after="1")
    handle.loss(F.cross_entropy, *batch(0, n=5)).backward()
    (small,) = addresses(handle).values()
    handle.loss(F.cross_entropy, *batch(1, n=8)).backward()
    site = handle._sites["1"]
    assert [old.data_ptr() for old in site.outgrown] == [small]
    assert [len(memory) for memory in site.memory] == [8]


@pytest.mark.parametrize("kind", KINDS)
def test_every_generator_is_there_after_a_step_and_moves_the_noise(kind):
    handle = attach(net(), KINDS[kind])
    assert handle.generators() == []
    for step in range(2):
        handle.loss(F.cross_entropy, *batch(step)).backward()
        sources = handle.generators()
        assert sources == [g for streams in handle.streams.values() for g in streams.generators.values()]
        assert len(sources) == {"canl": 4, "canl released": 4, "dropout": 4, "lat": 0}.get(kind, 2)


def test_the_sign_of_a_gradient_that_is_no_number_is_0():
    assert torch.tensor([torch.nan] * 40).sign().count_nonzero() == 0
    handle = attach(net(), KINDS["lat"])
    (handle.loss(F.cross_entropy, *batch(0)) * torch.nan).backward()
    assert all(not value.any() for key, value in handle.state().items() if "memory" in key)
