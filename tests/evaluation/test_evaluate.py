import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import classification_report, top_k_accuracy_score
from torch import nn

from noiseutils.config import Evaluation
from noiseutils.corruptions import gaussian_blur, gaussian_noise
from noiseutils.data import Dataset, Images, batches
from noiseutils.errors import UserError
from noiseutils.evaluation.attacks import fgsm
from noiseutils.evaluation.batched_call import FORWARD, GRADIENT
from noiseutils.evaluation.evaluate import (
    BLOCK_IMAGES,
    PROBABILITIES,
    calibration_error,
    eval_mode,
    evaluate,
    measure,
    predict,
    recalibrated,
)
from noiseutils.models.modes import full_float32
from noiseutils.rng import generator
from noiseutils.training.steps import sigmoid_bce

CLASSES = tuple("abcdefg")


def images(n: int = 60, seed: int = 0) -> Images:
    random = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (n, 3, 8, 8), generator=random, dtype=torch.uint8)
    return Images(pixels, torch.arange(n) % len(CLASSES))


def dataset(n: int = 60) -> Dataset:
    return Dataset(images(n, seed=0), images(n, seed=1), CLASSES, "made up", "none")


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(216, len(CLASSES))
    )


def test_errors_and_averages_match_scikit_learn():
    random = np.random.default_rng(0)
    logits = torch.tensor(random.normal(size=(200, 7)))
    labels = torch.tensor(random.integers(0, 7, size=200))
    found = measure(logits, labels, CLASSES, PROBABILITIES["cross_entropy"])
    report = classification_report(labels, logits.argmax(1), output_dict=True)
    assert isinstance(report, dict)
    assert found["top1_error"] == pytest.approx(1 - report["accuracy"])
    assert found["top5_error"] == pytest.approx(1 - top_k_accuracy_score(labels, logits, k=5))
    assert found["weighted_accuracy"] == pytest.approx(report["weighted avg"]["recall"])
    assert found["weighted_precision"] == pytest.approx(report["weighted avg"]["precision"])
    for index, name in enumerate(CLASSES):
        assert found["per_class"][name] == pytest.approx(report[str(index)]["recall"])


def test_calibration_error_of_a_worked_example():
    confidence = torch.tensor([0.95, 0.95, 0.55, 0.55])
    correct = torch.tensor([True, False, True, True])
    assert calibration_error(confidence, correct, bins=10) == pytest.approx(0.5 * 0.45 + 0.5 * 0.45)


def test_perfectly_sure_and_right_is_calibrated():
    assert calibration_error(torch.ones(5), torch.ones(5, dtype=torch.bool)) == 0


def test_sigmoid_bce_matches_its_formula():
    logits, y = torch.randn(5, 7), torch.arange(5)
    s = 1 / (1 + np.exp(-logits.numpy()))
    target = np.eye(7)[y.numpy()]
    expected = -(target * np.log(s) + (1 - target) * np.log(1 - s)).sum(1).mean()
    assert sigmoid_bce(logits, y).item() == pytest.approx(expected, rel=1e-5)


def test_fgsm_matches_its_equation_and_leaves_no_gradient():
    model = net().eval()
    x, y = torch.rand(6, 3, 8, 8), torch.arange(6)
    found = fgsm(model, x, y, delta=8 / 255)
    leaf = x.clone().requires_grad_()
    F.cross_entropy(model(leaf), y).backward()
    assert leaf.grad is not None
    assert torch.equal(found, (x + 8 / 255 * leaf.grad.sign()).clamp(0, 1))
    model.zero_grad()
    fgsm(model, x, y, delta=8 / 255)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_fgsm_raises_the_loss_and_stays_in_range():
    model = net().eval()
    x, y = torch.rand(32, 3, 8, 8), torch.arange(32) % 7
    attacked = fgsm(model, x, y, delta=0.03)
    assert F.cross_entropy(model(attacked), y) > F.cross_entropy(model(x), y)
    assert 0 <= attacked.min() <= attacked.max() <= 1
    assert (attacked - x).abs().max() <= 0.03 + 1e-6
    assert fgsm(model, x, y, delta=0) is x


@pytest.mark.parametrize(
    ("x", "delta", "said"),
    [(torch.rand(2, 3, 8, 8), -0.1, "got -0.1"), (torch.rand(2, 3, 8, 8) * 255, 0.1, r"pixels in \[0, 1\]")],
)
def test_fgsm_refuses_bad_arguments(x, delta, said):
    with pytest.raises(UserError, match=said):
        fgsm(net(), x, torch.zeros(2, dtype=torch.long), delta=delta)


def test_every_condition_is_reported_once_per_kind_of_statistics():
    found = evaluate(net(), dataset(), Evaluation(noise=(0.1,), blur=(0.5,), fgsm=(0.01, 0.02)))
    places = [(r["condition"], r["size"], r["statistics"]) for r in found["conditions"]]
    kinds = [("clean", 0.0), ("gaussian_noise", 0.1), ("gaussian_blur", 0.5), ("fgsm", 0.01), ("fgsm", 0.02)]
    assert places == [(c, s, k) for k in ("trained", "recalibrated") for c, s in kinds]
    assert found["top1_error"] == found["conditions"][0]["top1_error"]


def test_a_network_without_batchnorm_has_nothing_to_recalibrate():
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 7))
    found = evaluate(model, dataset(), Evaluation())
    assert [r["statistics"] for r in found["conditions"]] == ["trained"]


def test_evaluation_repeats_and_leaves_the_model_as_it_was():
    model = net().train()
    model[1].eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    evaluation = Evaluation(noise=(0.2,), fgsm=(0.02,))
    assert evaluate(model, dataset(), evaluation) == evaluate(model, dataset(), evaluation)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert model.training
    assert not model[1].training


def test_recalibrated_statistics_are_those_of_the_clean_data():
    model = net()
    data = images(400)
    with torch.no_grad():
        model[1].running_mean.add_(5)
    fixed = recalibrated(model, data)
    with torch.no_grad(), eval_mode(model):
        outputs = model[0](data.pixels.float() / 255)
    assert torch.allclose(fixed[1].running_mean, outputs.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(fixed[1].running_var, outputs.var((0, 2, 3)), atol=1e-5)
    assert not torch.allclose(model[1].running_mean, fixed[1].running_mean)


def test_predict_keeps_the_order_of_the_images():
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 7))
    data = images(1300)
    logits, labels = predict(model, data)
    assert torch.allclose(logits, model(data.pixels.float() / 255), atol=1e-5)
    assert torch.equal(labels, data.labels)


def test_a_network_is_shown_the_blurred_images():
    model, data = net(), dataset()
    found = evaluate(model, data, Evaluation(blur=(0.8,), recalibrate=False))["conditions"][1]
    with torch.no_grad(), eval_mode(model):
        right = model(gaussian_blur(data.test.pixels / 255, 0.8)).argmax(1) == data.test.labels
    assert found["top1_error"] == pytest.approx(1 - right.double().mean().item())


def one_condition_at_a_time(model: nn.Module, data: Dataset, noise, deltas, seed: int) -> list[dict]:
    """The records of `evaluate`, written out: every condition goes through all images anew."""

    def record(network: nn.Module, perturb) -> dict:
        found = []
        with eval_mode(network), torch.no_grad():
            for x, y in batches(data.test, BLOCK_IMAGES):
                shown = perturb(x, y)
                found += [network(part) for part in shown.split(FORWARD["cpu"])]
        return measure(torch.cat(found), data.test.labels, CLASSES, PROBABILITIES["cross_entropy"])

    def attacked(network: nn.Module, delta: float):
        def perturb(x, y):
            size = GRADIENT["cpu"]
            parts = zip(x.split(size), y.split(size), strict=True)
            return torch.cat([fgsm(network, a, b, delta=delta) for a, b in parts])

        return perturb

    found = []
    for statistics, network in (("trained", model), ("recalibrated", recalibrated(model, data.train))):
        places = [("clean", 0.0, lambda x, y: x)]
        for sigma in noise:
            source = generator(seed, f"evaluation/gaussian_noise/{sigma}")
            places.append(("gaussian_noise", sigma, lambda x, y, s=sigma, g=source: gaussian_noise(x, s, g)))
        places += [("fgsm", delta, attacked(network, delta)) for delta in deltas]
        for condition, size, perturb in places:
            where = {"condition": condition, "size": size, "statistics": statistics}
            found.append(where | record(network, perturb))
    return found


def test_one_pass_for_all_conditions_equals_one_pass_for_each_bitwise():
    noise, deltas = (0.0, 0.1, 0.3, 0.1), (0.02, 0.0, 0.05)
    model, data = net(), dataset(1130)
    found = evaluate(model, data, Evaluation(noise=noise, fgsm=deltas), seed=3)
    assert found["conditions"] == one_condition_at_a_time(model, data, noise, deltas, seed=3)


class Witness(nn.Module):
    """A linear network that keeps what it is shown, with a gradient and without."""

    def __init__(self, values: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Sequential(nn.Flatten(), nn.Linear(values, len(CLASSES)))
        self.shown: dict[bool, list[torch.Tensor]] = {True: [], False: []}

    def forward(self, x):
        self.shown[torch.is_grad_enabled()].append(x.detach())
        return self.inner(x)


def test_noise_and_results_do_not_depend_on_batch_sizes(monkeypatch):
    # 243 values an image: torch then draws other numbers for other parts of the same images
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (700, 3, 9, 9), generator=random, dtype=torch.uint8)
    split = Images(pixels, torch.arange(700) % len(CLASSES))
    data = Dataset(split, split, CLASSES, "made up", "none")
    found, shown = [], []
    for sizes in ((250, 125), (100, 30), (5000, 5000)):
        monkeypatch.setitem(FORWARD, "cpu", sizes[0])
        monkeypatch.setitem(GRADIENT, "cpu", sizes[1])
        witness = Witness(243)
        found.append(evaluate(witness, data, Evaluation(noise=(0.2,), fgsm=(0.02,))))
        # clean, noisy and attacked images of one block after the other
        shown.append(torch.cat(witness.shown[False]))
    assert torch.equal(shown[0], shown[1])
    assert torch.equal(shown[0], shown[2])
    source = generator(0, "evaluation/gaussian_noise/0.2")
    x, _ = next(batches(split, BLOCK_IMAGES))
    assert torch.equal(shown[0][BLOCK_IMAGES : 2 * BLOCK_IMAGES], gaussian_noise(x, 0.2, source))
    for one, other in zip(found[0]["conditions"], found[1]["conditions"], strict=True):
        assert one["top1_error"] == other["top1_error"]
        assert one["calibration_error"] == pytest.approx(other["calibration_error"])


def test_every_size_of_fgsm_shares_one_gradient():
    data, witness = dataset(60), Witness(192)
    evaluate(witness, data, Evaluation(noise=(0.1,), fgsm=(0.0, 0.01, 0.02, 0.03)))
    assert len(witness.shown[True]) == 1
    assert len(witness.shown[False]) == 1 + 1 + 3


def test_blocks_are_whole_in_what_a_device_takes_at_once():
    assert FORWARD["cuda"] % BLOCK_IMAGES == 0, "noise is drawn block by block, and must not be cut elsewhere"
    assert GRADIENT["cpu"] <= FORWARD["cpu"] <= BLOCK_IMAGES


def test_recalibration_is_torchs_own_average():
    model, data = net(), images(1200)
    expected = net()
    expected[1].momentum = None
    order = generator(0, "recalibration")
    with torch.no_grad():
        for x, _ in batches(data, BLOCK_IMAGES, order=order):
            expected.train()(x)
    found = recalibrated(model, data)
    assert torch.equal(found[1].running_mean, expected[1].running_mean)
    assert torch.equal(found[1].running_var, expected[1].running_var)


def test_blocks_of_full_float32_may_overlap():
    products = torch.backends.cuda.matmul
    before = products.allow_tf32
    products.allow_tf32 = True
    try:
        first, second = full_float32(), full_float32()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert not products.allow_tf32, "another block is still open"
        second.__exit__(None, None, None)
        assert products.allow_tf32
    finally:
        products.allow_tf32 = before
