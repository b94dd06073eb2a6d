"""The networks: the papers' parameter counts, shapes, names, and weights that come from the seed alone."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor, nn

from noiseutils.errors import UserError
from noiseutils.models import MODELS, build_model
from noiseutils.models.modes import overwriting
from noiseutils.models.modules import MODULES
from noiseutils.models.sizes import scaled

# the large networks at full size would take most of the file's time
QUICK = {
    "simplecnn": 0.125,
    "resnet18": 0.125,
    "resnet34": 0.125,
    "resnet20": 0.5,
    "resnet56": 0.5,
    "vgg11": 0.125,
    "vgg16": 0.125,
    "mobilenet": 0.125,
    "mobilenet_v2": 0.125,
    "pyramidnet48": 0.25,
    "pyramidnet270": 0.0625,
    "alexnet": 0.25,
    "module_resnet": 0.125,
    "module_inception": 0.125,
    "module_resnext": 0.125,
}
SMALLEST = {
    "lenet5": 16,
    "alexnet": 15,
    "cifar10net": 8,
    "babycnn": 2,
    "tinycnn": 4,
    "simplecnn": 8,
    "vgg11": 32,
    "vgg16": 32,
    "module_resnet": 8,
    "module_inception": 8,
    "module_resnext": 8,
}


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def images(n: int, channels: int = 3, size: int = 32) -> Tensor:
    return torch.randn(n, channels, size, size, generator=torch.Generator().manual_seed(1))


def equal_weights(a: nn.Module, b: nn.Module) -> list[bool]:
    return [torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True)]


def test_babycnn_has_the_papers_20714_parameters():
    assert parameters(build_model("babycnn")) == 20_714


def test_tinycnn_has_the_papers_545098_parameters():
    assert parameters(build_model("tinycnn")) == 545_098


def test_simplecnn_has_the_papers_22954506_parameters():
    assert parameters(build_model("simplecnn")) == 22_954_506


def test_resnet18_has_the_papers_11173962_parameters():
    assert parameters(build_model("resnet18")) == 11_173_962


@pytest.mark.parametrize("size", [28, 32])
def test_lenet5_has_the_classic_61706_parameters(size):
    assert parameters(build_model("lenet5", in_channels=1, image_size=size)) == 61_706


@pytest.mark.parametrize(("name", "count"), [("alexnet", 4_560_714), ("cifar10net", 818_890)])
def test_chosen_widths_give_the_documented_count(name, count):
    assert parameters(build_model(name)) == count


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("vgg16", 14_728_266),  # You et al.: 14.7 million
        ("mobilenet_v2", 2_296_922),  # You et al.: 2.3 million
        ("resnet20", 269_722),  # He et al., Table 6: 0.27 million
        ("resnet56", 853_018),  # the same: 0.85 million
        ("pyramidnet48", 1_739_730),  # Han et al., alpha = 48: 1.7 million
        ("pyramidnet270", 28_485_477),  # the same, alpha = 270: 28.3 million
        # no paper gives these; test_models_against_others.py has torchvision's and timm's
        ("vgg11", 9_231_114),
        ("resnet34", 21_282_122),
        ("mobilenet", 3_217_226),
        ("module_resnet", 992_330),
        ("module_inception", 1_361_546),
        ("module_resnext", 994_634),
    ],
)
def test_the_adversarial_noise_layers_networks_have_the_documented_count(name, count):
    with torch.device("meta"):
        assert parameters(build_model(name)) == count


@pytest.mark.parametrize(
    ("name", "weights"), [("resnet", 69_632), ("inception", 192_512), ("resnext", 70_144)]
)
def test_a_module_has_the_papers_convolution_weights_and_keeps_the_shape(name, weights):
    module = MODULES[name](256)
    convolutions = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
    assert sum(m.weight.numel() for m in convolutions) == weights
    assert all(m.bias is None for m in convolutions)
    x = images(2, 256, 4)
    assert module(x).shape == x.shape


def test_an_inception_module_needs_a_map_for_each_path():
    with pytest.raises(UserError, match="of 3 maps has none for each of its 4 paths"):
        MODULES["inception"](3)


def test_a_module_is_the_sum_of_its_input_and_its_branch():
    for make in MODULES.values():
        module, x = make(32).eval(), images(2, 32, 4)
        for p in module.parameters():
            p.data.zero_()
        assert torch.equal(module(x), x)


def test_resnext_is_32_bottlenecks_side_by_side():
    module, x = MODULES["resnext"](256).eval(), images(2, 256, 4)
    narrow, middle, wide = (m.weight for m in module.modules() if isinstance(m, nn.Conv2d))
    assert narrow.shape[0] == middle.shape[0] == 32 * 4
    paths = 0
    for path in range(32):
        maps = slice(4 * path, 4 * path + 4)
        h = nn.functional.conv2d(x, narrow[maps]).relu()
        h = nn.functional.conv2d(h / (1 + 1e-5) ** 0.5, middle[maps], padding=1).relu()
        paths = paths + nn.functional.conv2d(h / (1 + 1e-5) ** 0.5, wide[:, maps])
    torch.testing.assert_close(module(x), x + paths.relu() / (1 + 1e-5) ** 0.5, rtol=1e-4, atol=1e-4)


def test_alexnet_for_large_images_has_the_one_column_versions_61100840_parameters():
    with torch.device("meta"):
        counts = {parameters(build_model("alexnet", 1000, image_size=size)) for size in (63, 224)}
    assert counts == {61_100_840}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("name", "size"), [(name, size) for name in MODELS for size in (28, 32) if size >= SMALLEST.get(name, 1)]
)
def test_output_is_one_logit_a_class(name, size, channels):
    model = build_model(name, 7, channels, size, QUICK.get(name, 1.0))
    logits = model(images(2, channels, size))
    assert logits.shape == (2, 7)
    assert logits.dtype == torch.float32
    assert (logits < 0).any()  # logits, not probabilities and not rectified


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_gets_a_gradient(name):
    model = build_model(name, width=QUICK.get(name, 1.0))
    loss = nn.functional.cross_entropy(model(images(16)), torch.arange(16) % 10)
    loss.backward()
    # what a bias adds before a BatchNorm is taken away again: its gradient is zero but for rounding
    normed = any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    idle = {f"{key}.bias" for key, m in model.named_modules() if normed and isinstance(m, nn.Conv2d)}
    silent = [
        key
        for key, p in model.named_parameters()
        if p.grad is None or not (p.grad.any() or key in idle) or not p.grad.isfinite().all()
    ]
    assert silent == []


@pytest.mark.parametrize("name", MODELS)
def test_half_the_width_halves_every_hidden_layer(name):
    with torch.device("meta"):
        whole, half = (dict(build_model(name, width=w).named_modules()) for w in (1.0, 0.5))
    assert whole.keys() == half.keys()
    last = [key for key, module in whole.items() if isinstance(module, nn.Linear)][-1]
    checked = 0
    for key, module in whole.items():
        if isinstance(module, nn.Conv2d | nn.Linear):
            size = module.weight.shape[0]
            assert half[key].weight.shape[0] == (size if key == last else scaled(size, 0.5)), key
            checked += 1
    assert checked >= 2


def test_width_rounds_to_the_nearest_with_halves_up_and_never_below_one():
    assert [scaled(6, w) for w in (1.0, 0.7, 0.75, 0.6, 0.01)] == [6, 4, 5, 4, 1]


@pytest.mark.parametrize("name", MODELS)
def test_a_vanishing_width_leaves_one_channel_everywhere(name):
    model = build_model(name, width=1e-6)
    if not name.startswith("module_"):  # a module's paths keep a map each
        assert {m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d)} == {1}
    assert model(images(2)).shape == (2, 10)


@pytest.mark.parametrize("name", MODELS)
def test_seed_alone_decides_the_weights(name):
    first, again, other = (build_model(name, width=0.25, seed=seed) for seed in (5, 5, 6))
    assert all(equal_weights(first, again))
    # BatchNorm starts at one and zero whatever the seed; every product must differ
    for (key, a), b in zip(first.named_parameters(), other.parameters(), strict=True):
        assert a.dim() == 1 or not torch.equal(a, b), key


@pytest.mark.parametrize("name", MODELS)
def test_building_leaves_global_random_state_untouched_and_unused(name):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = build_model(name, width=0.25, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert all(equal_weights(first, build_model(name, width=0.25, seed=3)))


@pytest.mark.parametrize("name", MODELS)
def test_channels_last_gives_the_same_logits(name):
    model, x = build_model(name, width=0.25).eval(), images(2)
    expected = model(x)
    got = model.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_every_named_place_runs_exactly_once_in_a_forward_pass(name):
    model, runs = build_model(name, width=0.125), Counter()
    for key, module in model.named_modules():
        module.register_forward_hook(lambda *_, key=key: runs.update([key]))
    model(images(2))
    assert runs == Counter(dict.fromkeys(dict(model.named_modules()), 1))


@pytest.mark.parametrize("name", MODELS)
def test_no_model_holds_noise_or_works_in_place(name):
    modules = list(build_model(name, width=0.125).modules())
    relus = [module for module in modules if isinstance(module, nn.ReLU)]
    assert relus
    assert not any(relu.inplace for relu in relus)
    assert not any("dropout" in type(module).__name__.lower() for module in modules)


@pytest.mark.parametrize("name", MODELS)
def test_gradients_of_the_narrowest_networks_are_right_in_the_layout_they_are_trained_in(name):
    """A oneDNN kernel for few channels writes beyond its memory: the process dies, or computes nonsense."""
    model = build_model(name, width=1 / 16)
    exact = build_model(name, width=1 / 16).double()
    for dropout in (m for net in (model, exact) for m in net.modules() if isinstance(m, nn.Dropout)):
        dropout.p = 0.0
    model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    x, y = images(20), torch.arange(20) % 10
    for _ in range(3):
        model.zero_grad()
        nn.functional.cross_entropy(model(x.to(memory_format=torch.channels_last)), y).backward()
    nn.functional.cross_entropy(exact(x.double()), y).backward()
    found, wanted = (
        torch.cat([p.grad.flatten().double() for p in net.parameters() if p.grad is not None])
        for net in (model, exact)
    )
    # a ReLU that rounding switches moves the gradient of so narrow a network by some hundredths
    assert (found - wanted).norm() < 0.2 * wanted.norm()


def loss_gradients_and_buffers(model: nn.Module) -> list[Tensor]:
    loss = model(images(4)).square().mean()
    return [loss, *torch.autograd.grad(loss, list(model.parameters())), *model.buffers()]


@pytest.mark.parametrize("name", MODELS)
def test_every_relu_could_work_in_place_bit_for_bit(name):
    model, twin = (build_model(name, width=0.125) for _ in range(2))
    plainly = loss_gradients_and_buffers(model)
    with overwriting(twin):
        assert all(relu.inplace for relu in twin.modules() if isinstance(relu, nn.ReLU))
        overwritten = loss_gradients_and_buffers(twin)
    for a, b in zip(plainly, overwritten, strict=True):
        assert torch.equal(a, b)
    assert not any(relu.inplace for relu in twin.modules() if isinstance(relu, nn.ReLU))


def test_cifar10net_is_flat_and_named_as_the_paper_names_it():
    places = " ".join(key for key, _ in build_model("cifar10net").named_children())
    assert places == (
        "conv1 relu1 pool1 conv2 relu2 pool2 conv3 relu3 pool3 conv4 relu4 flatten fc1 relu5 fc2 relu6 fc3"
    )
    convs = [m for m in build_model("cifar10net").modules() if isinstance(m, nn.Conv2d)]
    assert {conv.kernel_size for conv in convs} == {(5, 5)}
    depths = [conv.out_channels for conv in convs]
    assert depths == sorted(set(depths))  # "increased filter depth"


def test_lenet5_follows_the_order_of_the_papers_footnote():
    kinds = [type(module) for module in build_model("lenet5").children()]
    stage = [nn.Conv2d, nn.ReLU, nn.MaxPool2d]
    dense = [nn.Linear, nn.ReLU]
    assert kinds == [*stage, *stage, nn.Flatten, *dense, *dense, nn.Linear]


def test_unknown_model_error_lists_the_known_ones():
    with pytest.raises(UserError, match="'resnet81'") as caught:
        build_model("resnet81")
    assert all(name in str(caught.value) for name in MODELS)


@pytest.mark.parametrize(("name", "smallest"), SMALLEST.items())
def test_too_small_an_image_names_the_smallest_allowed(name, smallest):
    quick = QUICK.get(name, 1.0)
    model = build_model(name, image_size=smallest, width=quick)
    assert model(images(2, size=smallest)).shape == (2, 10)
    with pytest.raises(
        UserError, match=rf"{smallest - 1} is too small for {name}.* at least {smallest} pixels"
    ):
        build_model(name, image_size=smallest - 1, width=quick)


@pytest.mark.parametrize("size", [1, 7])
@pytest.mark.parametrize("name", [name for name in MODELS if name not in SMALLEST])
def test_a_network_without_a_smallest_image_takes_one_pixel_and_odd_sizes(name, size):
    assert build_model(name, image_size=size, width=0.125)(images(2, size=size)).shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "size"), [("vgg11", 33), ("vgg16", 64), ("vgg16", 100), ("alexnet", 62), ("alexnet", 63)]
)
def test_larger_images_than_cifars_are_taken_too(name, size):
    model = build_model(name, image_size=size, width=0.125)
    assert model(images(2, size=size)).shape == (2, 10)


def test_alexnet_is_the_small_one_below_63_pixels():
    with torch.device("meta"):
        small, large = (build_model("alexnet", image_size=size) for size in (62, 63))
    assert (small.conv1.kernel_size, large.conv1.kernel_size) == ((5, 5), (11, 11))
    assert (small.fc2.out_features, large.fc2.out_features) == (1024, 4096)
    extra = dict(large.named_children()).keys() - dict(small.named_children()).keys()
    assert extra == {"avgpool"}


def test_vgg16_is_flat_and_has_noise_sites_named_by_number():
    with torch.device("meta"):
        places = [key for key, _ in build_model("vgg16").named_children()]
    assert places[:8] == ["conv1", "bn1", "relu1", "conv2", "bn2", "relu2", "pool1", "conv3"]
    assert places[-7:] == ["conv13", "bn13", "relu13", "pool5", "avgpool", "flatten", "fc"]
    assert sum(place.startswith("bn") for place in places) == 13


@pytest.mark.parametrize("what", ["num_classes", "in_channels", "image_size"])
def test_a_size_below_one_is_refused(what):
    with pytest.raises(UserError, match=f"{what} 0 .* at least 1"):
        build_model("babycnn", **{what: 0})


@pytest.mark.parametrize("width", [0.0, -1.0, float("nan"), float("inf")])
def test_a_width_that_is_not_positive_and_finite_is_refused(width):
    with pytest.raises(UserError, match=r"width .* positive and finite"):
        build_model("babycnn", width=width)
