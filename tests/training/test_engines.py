"""The engines: the same training by other means. Graphs are recorded by a stand-in that replays Python."""

import copy
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from noiseutils import Run, train
from noiseutils.config import (
    AdversarialNoise,
    ClassAdversarialNoise,
    Data,
    Evaluation,
    GaussianNoise,
    LayerwiseAdversarialNoise,
    Model,
    NoisyDropout,
    Optimizer,
    Schedule,
    ScriptedNoise,
)
from noiseutils.data import load
from noiseutils.errors import UserError
from noiseutils.models import build_model
from noiseutils.models.plain import PlainCnn
from noiseutils.noise import attach
from noiseutils.training import engines
from noiseutils.training.engines import Engine, Graphed

CPU = torch.device("cpu")
RUN = Run(
    data=Data(train_size=70, test_size=20),
    model=Model(name="tinycnn", width=0.25),
    schedule=Schedule(learning_rate=0.05),
    epochs=2,
    batch_size=16,
    augment=True,
)


def steps_of(net, optimizer, seen):
    def work(x, y):
        for p in net.parameters():
            p.grad = None
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        seen.add_(loss.detach())

    return work


def batches(count, size=8):
    random = torch.Generator().manual_seed(1)
    return [
        (torch.rand(size, 3, 32, 32, generator=random), torch.randint(10, (size,), generator=random))
        for _ in range(count)
    ]


def trained(wrap, parts):
    net = build_model("babycnn", width=0.5)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    seen = torch.zeros(())
    take = wrap(steps_of(net, optimizer, seen))
    for part in parts:
        take(*part)
    return [p.detach().clone() for p in net.parameters()], seen.item()


class Recorder:
    """Records as a graph is recorded: the work runs in Python once, but nothing is computed by that."""

    def __init__(self):
        self.recordings = self.replays = 0

    def __call__(self, work):
        self.recordings += 1

        def replay():
            self.replays += 1
            work()

        return replay


def test_a_recorded_step_is_the_step():
    parts, recorder = batches(9), Recorder()
    plain, loss = trained(lambda work: work, parts)
    replayed, same_loss = trained(lambda work: Graphed(work, recorder), parts)
    assert loss == same_loss
    assert all(torch.equal(a, b) for a, b in zip(plain, replayed, strict=True))
    assert (recorder.recordings, recorder.replays) == (1, 9 - engines.WARM_UP_CALLS)


def test_a_recorded_step_reads_its_inputs_from_tensors_that_stay():
    addresses = []
    take = Graphed(lambda x: addresses.append(x.data_ptr()), Recorder())
    for _ in range(6):
        take(torch.rand(3))
    assert len(set(addresses)) == 1


def test_a_batch_of_another_size_runs_as_it_is_and_a_recording_goes_on_after_it():
    parts = [*batches(5), *batches(1, size=3), *batches(2)]
    recorder = Recorder()
    plain, _ = trained(lambda work: work, parts)
    replayed, _ = trained(lambda work: Graphed(work, recorder), parts)
    assert all(torch.equal(a, b) for a, b in zip(plain, replayed, strict=True))
    assert (recorder.recordings, recorder.replays) == (1, 7 - engines.WARM_UP_CALLS)


def test_what_cannot_be_recorded_goes_on_as_it_is_and_says_why():
    def refuse(work):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    seen = []
    take = Graphed(lambda x: seen.append(x.item()), refuse)
    for value in range(6):
        take(torch.tensor(float(value)))
    assert seen == [0, 1, 2, 3, 4, 5]
    assert take.trouble == "operation not permitted when stream is capturing"


def test_a_forgotten_recording_is_made_anew():
    recorder = Recorder()
    take = Graphed(lambda x: None, recorder)
    for _ in range(5):
        take(torch.zeros(1))
    take.forget()
    take(torch.zeros(1))
    assert recorder.recordings == 2


def test_auto_is_blocked_for_a_plain_chain_and_eager_else():
    def name(model, handle=None, asked="auto"):
        return Engine(asked, CPU, build_model(model, width=0.25), handle).name

    assert name("tinycnn") == "blocked"
    assert name("resnet20") == "eager"
    assert name("resnet20", asked="blocked") == "eager"
    assert name("tinycnn", asked="graphed") == "eager"
    net = build_model("tinycnn")
    with attach(net, GaussianNoise(std=0.1), after="relu1") as handle:
        assert Engine("auto", CPU, net, handle).name == "eager"


def test_an_unknown_engine_is_refused():
    with pytest.raises(UserError, match=r"engine.*allowed: auto, eager, blocked, compiled, graphed"):
        train(RUN, engine="steam")


def test_blocked_training_differs_from_eager_by_rounding_alone():
    data = load(RUN.data)
    eager, blocked = (train(RUN, data=data, device="cpu", engine=name) for name in ("eager", "blocked"))
    assert (eager.info["engine"], blocked.info["engine"]) == ("eager", "blocked")
    assert eager.history.train_loss.tolist() == pytest.approx(blocked.history.train_loss.tolist(), rel=1e-4)
    assert eager.history.gradient_norm.tolist() == pytest.approx(
        blocked.history.gradient_norm.tolist(), rel=1e-3
    )
    for a, b in zip(eager.model.parameters(), blocked.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_what_was_trained_blocked_is_evaluated_without_it():
    result = train(RUN.replace(epochs=1), device="cpu", engine="blocked")
    assert not result.model.net.blocked


def test_compiled_training_differs_from_eager_by_rounding_alone(monkeypatch):
    import torch._dynamo

    # the compiler's front end alone: its back end needs a C++ compiler, and half a minute
    ordinary = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self, **how: ordinary(self, backend="aot_eager", **how))
    data = load(RUN.data)
    run = RUN.replace(model=Model(name="babycnn", width=0.25))
    eager, compiled = (train(run, data=data, device="cpu", engine=name) for name in ("eager", "compiled"))
    torch._dynamo.reset()
    assert compiled.info["engine"] == "compiled"
    assert compiled.model.net._compiled_call_impl is None
    assert eager.history.train_loss.tolist() == pytest.approx(compiled.history.train_loss.tolist(), rel=1e-4)


def test_a_training_goes_on_with_the_engine_that_it_began_with():
    data, snapshots = load(RUN.data), []

    def stop(row, snapshot):
        snapshots.append(snapshot())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(RUN, data=data, device="cpu", engine="eager", on_epoch=stop)
    whole = train(RUN, data=data, device="cpu", engine="eager")
    resumed = train(RUN, data=data, device="cpu", engine="auto", resume=snapshots[0])
    assert resumed.info["engine"] == "eager"
    assert all(
        torch.equal(a, b) for a, b in zip(whole.model.parameters(), resumed.model.parameters(), strict=True)
    )


def recorded(monkeypatch) -> Recorder:
    """From here on the engine "graphed" records on CPU, with a stand-in; others are eager."""
    recorder = Recorder()
    ordinary = Engine.__init__

    def recording(self, name, device, net, handle, sources):
        ordinary(self, "eager", device, net, handle, sources)
        self.records = name == "graphed"

    monkeypatch.setattr(engines, "cuda_record", lambda handle, sources: recorder)
    monkeypatch.setattr(Engine, "__init__", recording)
    return recorder


def assert_same_training(a, b) -> None:
    assert torch.equal(*(torch.tensor(result.history.train_loss) for result in (a, b)))
    for p, q in zip(a.model.parameters(), b.model.parameters(), strict=True):
        assert torch.equal(p, q)


# a rate that is the same number in float32, as which a recorded step reads it
EXACT = Schedule(learning_rate=2**-7)


@pytest.mark.parametrize("optimizer", [Optimizer(momentum=0.9), Optimizer(name="adam")])
def test_a_training_in_recorded_steps_is_the_eager_one(monkeypatch, optimizer):
    """All that a graph needs but the graph: the images gathered inside, results in tensors that stay."""
    recorder = recorded(monkeypatch)
    data = load(RUN.data)
    run = RUN.replace(optimizer=optimizer, schedule=EXACT)
    eager, graphed = (train(run, data=data, device="cpu", engine=name) for name in ("eager", "graphed"))
    assert recorder.recordings == 1
    assert recorder.replays == 2 * 4 - engines.WARM_UP_CALLS  # 70 images: four whole batches an epoch
    assert_same_training(eager, graphed)


def test_recorded_steps_draw_squares_and_mixing_ratios_on(monkeypatch):
    recorder = recorded(monkeypatch)
    run = RUN.replace(schedule=EXACT, mixup=0.5, cutout=9, label_smoothing=0.1)
    eager, graphed = (train(run, device="cpu", engine=name) for name in ("eager", "graphed"))
    assert recorder.recordings == 1
    assert_same_training(eager, graphed)


def test_a_step_is_recorded_anew_when_noise_on_parameters_comes_or_goes(monkeypatch):
    recorder = recorded(monkeypatch)
    script = ScriptedNoise(gradient=(0, 0.1, 0.2, 0, 0), weight=(0, 0, 0, 0, 0.01), weight_every="step")
    run = RUN.replace(epochs=5, parameter_noise=script, schedule=EXACT)
    eager, graphed = (train(run, device="cpu", engine=name) for name in ("eager", "graphed"))
    assert recorder.recordings == 4  # none; on gradients, two strengths; none; on weights
    assert_same_training(eager, graphed)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_a_graph_takes_mixup_and_cutout():
    run = RUN.replace(mixup=0.5, cutout=9, label_smoothing=0.1)
    eager, graphed = (train(run, device="cuda", engine=name) for name in ("eager", "graphed"))
    assert graphed.info["engine"] == "graphed"
    assert eager.history.train_loss[0] == pytest.approx(graphed.history.train_loss[0], rel=0.02)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("noise", [None, "anl", "canl", "lat"])
def test_on_cuda_a_graph_begins_as_the_eager_training(noise):
    run = RUN.replace(
        model=Model(name="resnet20", width=0.5),
        noise=NOISE.get(noise),
        after=("BatchNorm2d",) if noise else (),
        evaluation=Evaluation(),
    )
    eager, graphed = (train(run, device="cuda", engine=name) for name in ("eager", "graphed"))
    assert graphed.info["engine"] == "graphed"
    assert eager.history.train_loss[0] == pytest.approx(graphed.history.train_loss[0], rel=0.02)


NOISE = {
    "none": None,
    "gaussian": GaussianNoise(std=0.1),
    "dropout": NoisyDropout(p=0.2, std=0.1),
    "anl": AdversarialNoise(epsilon=0.1),
    "canl": ClassAdversarialNoise(epsilon=0.1),
    "lat": LayerwiseAdversarialNoise(epsilon=0.1),
}


@pytest.mark.parametrize("after", [("BatchNorm2d",), ("ReLU", "Conv2d"), ("BatchNorm2d", "ReLU", "input")])
@pytest.mark.parametrize("noise", NOISE)
def test_a_training_whose_relus_overwrite_is_the_same_bit_for_bit(noise, after, monkeypatch):
    run = RUN.replace(
        data=Data(train_size=24, test_size=10),
        model=Model(name="resnet20", width=0.25),
        noise=NOISE[noise],
        after=after if NOISE[noise] else (),
        epochs=1,
        batch_size=8,
        evaluation=Evaluation(),
    )
    overwritten = train(run, device="cpu")
    monkeypatch.setattr(engines, "overwriting", lambda net: nullcontext())
    plain = train(run, device="cpu")
    a, b = (result.history.drop(columns="seconds") for result in (overwritten, plain))
    assert a.equals(b)
    for p, q in zip(overwritten.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(p, q)
    assert not any(m.inplace for m in overwritten.model.modules() if isinstance(m, nn.ReLU))


def test_a_plain_chain_takes_short_cuts_that_are_the_same_bit_for_bit():
    x = torch.randn(5, 3, 32, 32)
    for name in ("babycnn", "tinycnn", "cifar10net", "lenet5", "alexnet"):
        net = build_model(name, width=0.25)
        twin = copy.deepcopy(net)
        for a in (net, twin):
            loss = F.cross_entropy(a(x) if a is net else nn.Sequential.forward(a, x), torch.arange(5))
            loss.backward()
        for a, b in zip(net.parameters(), twin.parameters(), strict=True):
            assert torch.equal(a.grad, b.grad), name


def test_a_chain_leaves_what_it_is_given_as_it_was():
    chains = ((nn.ReLU(),), (nn.ReLU(), nn.MaxPool2d(2)), (nn.Flatten(), nn.ReLU(), nn.Linear(16, 2)))
    for modules in (*chains, (nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)), (nn.Flatten(), nn.ReLU())):
        x = torch.randn(3, 1, 4, 4)
        before, net = x.clone(), PlainCnn(*modules)
        assert torch.equal(net(x), nn.Sequential.forward(net, x))
        assert torch.equal(x, before)
        net.blocked = True
        assert torch.allclose(net(x), nn.Sequential.forward(net, x), atol=1e-6)


def test_ties_and_negative_windows_go_the_same_way_through_both_orders():
    values = torch.tensor([[-1.0, -1, 2, 2], [-3, -1, 2, 0], [0, 0, -0.0, 5], [0, 0, 5, 5]])
    x = values.expand(1, 1, 4, 4).clone().requires_grad_()
    pool = nn.MaxPool2d(2)
    weights = torch.tensor([[1.0, 2], [3, 4]])
    (first,) = torch.autograd.grad((pool(F.relu(x)) * weights).sum(), x)
    (second,) = torch.autograd.grad((F.relu(pool(x)) * weights).sum(), x)
    assert torch.equal(first, second)


def test_a_hook_sees_every_module_of_a_plain_chain_in_its_place():
    net = build_model("tinycnn", width=0.25)
    seen = {}
    for name, module in net.named_modules():
        if name:
            module.register_forward_hook(lambda m, i, o, name=name: seen.update({name: o}))
    net.blocked = True
    net(torch.randn(2, 3, 32, 32))
    assert list(seen) == [name for name, _ in net.named_modules() if name]
    assert seen["relu1"].shape[-1] == 32
    assert (seen["conv1"] < 0).any()  # no ReLU has overwritten it
