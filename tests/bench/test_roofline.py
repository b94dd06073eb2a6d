"""Operations and bytes of a training epoch, against numbers worked out by hand and torch's own formulas."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from noiseutils.bench.roofline import Work, roofline_seconds, step_bytes, work_of, work_of_named
from noiseutils.errors import UserError
from noiseutils.models import MODELS, build_model


def test_babycnn_by_hand():
    work = work_of_named("babycnn")
    convolution, dense = 32 * 32 * 8 * (3 * 3 * 3), 8 * 16 * 16 * 10
    forward = convolution + dense
    assert forward == 241_664
    # both weights' gradients; of the inputs' gradients the dense layer's alone, the images need none
    backward = convolution + 2 * dense
    assert work.operations == 2 * (forward + backward)
    assert work.saved == 3 * 32 * 32 + 8 * 16 * 16, "the images and the pooled maps"
    assert work.parameters == 20_714


def test_cifar10net_takes_13_9_million_multiply_adds_an_image():
    work = work_of_named("cifar10net")
    convolutions = 25 * (32**2 * 3 * 24 + 16**2 * 24 * 32 + 8**2 * 32 * 64 + 4**2 * 64 * 128)
    dense = 128 * 16 * 256 + 256 * 64 + 64 * 10
    forward = convolutions + dense
    assert forward == 13_853_312
    assert work.operations == 2 * (3 * forward - 25 * 32**2 * 3 * 24)


@pytest.mark.parametrize("name", ["lenet5", "cifar10net", "tinycnn", "resnet18", "resnet20", "vgg11"])
def test_operations_without_groups_are_those_that_torch_counts_in_both_passes(name):
    with torch.device("meta"):
        model = build_model(name)
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(2, 3, 32, 32, device="meta")).sum().backward()
    assert work_of_named(name).operations == counter.get_total_flops() / 2


@pytest.mark.parametrize("name", MODELS)
def test_every_network_has_a_roofline(name):
    work = work_of_named(name)
    with torch.device("meta"):
        model = build_model(name)
    # forward alone: torch counts grouped convolutions' backward passes as if they were not grouped
    first = []
    hook = next(m for m in model.modules() if isinstance(m, nn.Conv2d)).register_forward_hook(
        lambda module, inputs, output: first.append(output.numel() * module.weight[0].numel())
    )
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(2, 3, 32, 32, device="meta"))
    hook.remove()
    # each gradient costs as much as the forward pass, and the first layer's input needs none
    assert work.operations == (3 * counter.get_total_flops() - 2 * first[0]) / 2
    assert work.parameters == sum(p.numel() for p in model.parameters())
    assert roofline_seconds(work, 100, 10, rate=1e9, bandwidth=1e9) > 0


def test_batchnorms_inputs_are_saved_and_a_tensor_that_two_layers_read_is_saved_once():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
            self.left, self.right = nn.Conv2d(4, 5, 1), nn.Conv2d(4, 6, 1)

        def forward(self, x):
            x = torch.relu(self.norm(self.first(x)))
            return torch.cat([self.left(x), self.right(x)], dim=1)

    work = work_of(Two().to("meta"), image_size=8)
    assert work.saved == 64 * (3 + 4 + 4), "the images, the norm's input, and the one input of both"
    assert work.operations == 2 * 64 * (2 * 3 * 4 + 3 * (4 * 5 + 4 * 6))


def test_bytes_are_activations_gradients_and_what_is_learned_each_written_and_read():
    work = Work(operations=6, saved=1000, parameters=500)
    # 10 images save 10,000 numbers; 500 gradients; 500 weights with as many of momentum
    assert step_bytes(work, 10) == 2 * 4 * (10_000 + 500 + 1000)
    # of each of the three, what the cache holds stays there
    assert step_bytes(work, 10, cache=2000) == 2 * (40_000 - 2000 + 0 + 4000 - 2000)
    assert step_bytes(work, 10, cache=10**6) == 0


def test_the_roofline_is_the_larger_of_computing_and_moving():
    work = Work(operations=600, saved=1000, parameters=0)
    # 1,000 images: 600,000 operations; 100 steps of 80,000 bytes
    assert roofline_seconds(work, 1000, 10, rate=1e5, bandwidth=1e7) == pytest.approx(6)
    assert roofline_seconds(work, 1000, 10, rate=1e6, bandwidth=1e6) == pytest.approx(8)


def test_a_module_without_a_formula_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.PReLU()).to("meta")
    with pytest.raises(UserError, match=r"no formula for the work of PReLU \(1\)"):
        work_of(model)
