"""The how-to pages that need torch alone, run as they stand, against plain loops."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from pages import KINDS, ON_OPTIMIZER, assert_same, batches, blocks, net, plain_loop, run
from torch import nn
from torch.optim.swa_utils import update_bn

from noiseutils.noise import attach, attach_to_optimizer


@pytest.mark.parametrize("kind", KINDS)
def test_an_average_without_noise_has_the_batch_statistics_of_a_clean_network(kind):
    page = run(*blocks("averaged-copies"), model=net(), noise=KINDS[kind], loader=batches(2))
    assert_same(page["model"].state_dict(), plain_loop(net(), KINDS[kind], batches(2)))
    clean = net()
    clean.load_state_dict(page["average"].module.state_dict())
    update_bn(batches(2), clean)
    assert_same(page["average"].module.state_dict(), clean.state_dict())


@pytest.mark.filterwarnings("ignore:.torch.jit.trace. is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.torch.jit.trace_method. is deprecated:DeprecationWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_exported_in_eval_mode_is_the_clean_network(kind):
    model, clean = net(), net().eval()
    attach(model, KINDS[kind], after="ReLU")
    model.eval()
    [(x, _)] = batches(1)
    for exported in (torch.export.export(model, (x,)).module(), torch.jit.trace(model, x)):
        assert torch.equal(exported(x), clean(x))


@pytest.mark.parametrize("kind", KINDS)
def test_two_steps_of_a_checkpointed_network_equal_a_plain_loop(kind):
    layers = net()
    page = run(
        *blocks("activation-checkpointing"),
        model=SimpleNamespace(features=layers[:5], head=layers[5:]),
        noise=KINDS[kind],
        loader=batches(2),
    )

    class Whole(nn.Module):
        """The same parts, by the same names, as noise draws by them."""

        def __init__(self):
            super().__init__()
            layers = net()
            self.features, self.head = layers[:5], layers[5:]

        def forward(self, x):
            return self.head(self.features(x))

    expected = plain_loop(Whole(), KINDS[kind], batches(2))
    found = page["network"].state_dict()
    counted = ("running_mean", "running_var", "num_batches_tracked")  # twice, in the repeated pass
    for name in expected:
        if not name.endswith(counted):
            torch.testing.assert_close(found[name], expected[name])


@pytest.mark.parametrize("kind", KINDS)
def test_two_scaled_steps_in_half_precision_come_close_to_a_plain_loop_in_float32(kind):
    page = run(*blocks("mixed-precision"), model=net(), noise=KINDS[kind], loader=batches(4))
    assert page["scaler"].get_scale() == 2.0**16, "no step was skipped"
    start, exact = net().state_dict(), plain_loop(net(), KINDS[kind], batches(4), accumulate=2)
    names = [name for name, _ in net().named_parameters()]
    found = torch.cat([(page["model"].state_dict()[name] - start[name]).flatten() for name in names])
    moved = torch.cat([(exact[name] - start[name]).flatten() for name in names])
    assert (found - moved).norm() < 0.05 * moved.norm()


@pytest.mark.parametrize("on_optimizer", ON_OPTIMIZER)
@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_training_ends_as_an_uninterrupted_one(kind, on_optimizer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, resumed = blocks("resume")

    def train_an_epoch(model, handle, optimizer):
        for x, y in batches(2):
            optimizer.zero_grad()
            handle.loss(F.cross_entropy, x, y).backward()
            optimizer.step()

    names = {
        "noise": KINDS[kind],
        "parameter_noise": ON_OPTIMIZER[on_optimizer],
        "train_an_epoch": train_an_epoch,
        "validate": lambda model: 1.0,
    }
    run(first, model=net(), **names)
    imports = {"torch": torch, "attach": attach, "attach_to_optimizer": attach_to_optimizer}
    found = run(resumed, model=net(), **names, **imports)["model"]

    model = net()
    handle = attach(model, KINDS[kind], after="ReLU")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    noise = attach_to_optimizer(optimizer, ON_OPTIMIZER[on_optimizer], epochs=3)
    for _ in range(3):
        train_an_epoch(model, handle, optimizer)
        noise.end_epoch(1.0)
    assert_same(found.state_dict(), model.state_dict())


def test_noise_that_went_with_a_converted_batchnorm_is_said():
    model = net()
    handle = attach(model, KINDS["GaussianNoise"], after=nn.BatchNorm2d)
    nn.SyncBatchNorm.convert_sync_batchnorm(model)
    with pytest.warns(UserWarning, match="1 of the 1 modules that noise is attached to had none"):
        handle.loss(F.cross_entropy, *batches(1)[0])
