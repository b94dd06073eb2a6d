import json
import subprocess
import sys

import pytest
from pydantic import ValidationError

from noiseutils.config import (
    SCHEMA,
    AdaptiveNoise,
    AdversarialNoise,
    AdversarialTraining,
    ClassAdversarialNoise,
    Corruption,
    Data,
    Evaluation,
    GaussianNoise,
    LayerwiseAdversarialNoise,
    NoisyDropout,
    Optimizer,
    Run,
    Schedule,
)
from noiseutils.errors import UserError
from noiseutils.models import build_model
from noiseutils.spec import identity

NOISY = Run(noise=NoisyDropout(p=0.25, std=0.08), after=("relu",))


@pytest.mark.slow
def test_run_key_is_the_same_in_another_process():
    code = "from noiseutils import Run; print(Run(seed=3, epochs=2).key)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == Run(seed=3, epochs=2).key


def test_run_key_changes_with_every_part_that_determines_the_result():
    variants = [
        Run(),
        Run(seed=1),
        Run(epochs=6),
        Run(augment=True),
        Run(data=Data(name="digits")),
        Run(data=Data(train_size=100)),
        Run(optimizer=Optimizer(momentum=0.8)),
        Run(schedule=Schedule(learning_rate=0.01)),
        NOISY,
        NOISY.replace(after=("conv1",)),
        NOISY.replace(noise=NoisyDropout(p=0.25, std=0.08, where="all")),
        NOISY.replace(noise=NoisyDropout(p=0.25, std=0.08, rescale=False)),
        NOISY.replace(noise=GaussianNoise(std=0.08)),
        Run(label_smoothing=0.1),
        Run(mixup=0.2),
        Run(cutout=8),
        Run(evaluation=Evaluation(training_images=100)),
    ]
    assert len({run.key for run in variants}) == len(variants)


def test_run_key_ignores_where_the_data_lies_but_not_what_it_is():
    here, there = Data(name="folder", root="/a/cats"), Data(name="folder", root="/b/cats")
    dogs = Data(name="folder", root="/a/dogs")
    assert here.label == "cats"
    assert Run(data=here).key == Run(data=there).key != Run(data=dogs).key


def test_run_key_sees_through_int_and_float():
    assert Run(schedule=Schedule(learning_rate=1)).key == Run(schedule=Schedule(learning_rate=1.0)).key


def test_results_from_before_a_field_was_there_do_not_pass_for_its_default():
    run = Run(parameter_noise=AdaptiveNoise())  # had noise on weights after every step
    assert identity(run)["parameter_noise"] == {"kind": "adaptive_noise", "weight_every": "epoch"}


def test_an_attack_in_training_takes_no_corrupted_images():
    with pytest.raises(UserError, match="no `corruption` with `adversarial_training`"):
        Run(
            corruption=Corruption(kind="gaussian_noise", sigma=0.1),
            adversarial_training=AdversarialTraining(delta=0.1),
        )


def test_schema_is_raised_for_scaled_adversarial_noise_after_batchnorm_alone():
    place = {"after": ("BatchNorm2d",)}
    changed = [AdversarialNoise(epsilon=0.1), ClassAdversarialNoise(epsilon=0.1)]
    assert [Run(noise=noise, **place).schema for noise in changed] == [SCHEMA + 1] * 2
    kept = [noise.replace(scaled=False) for noise in changed] + [LayerwiseAdversarialNoise(epsilon=0.1)]
    assert {Run(noise=noise, **place).schema for noise in kept} == {SCHEMA}
    assert Run(noise=changed[0], after=("conv1",)).schema == SCHEMA


def test_defaults_have_not_changed_under_this_schema():
    """Keys leave defaults out: a changed default needs another SCHEMA, or old results pass for new ones."""
    assert SCHEMA == 1
    defaults = json.loads(Run().model_dump_json())
    assert defaults == {
        "data": {
            "name": "shapes",
            "label": "shapes",
            "root": None,
            "train_size": None,
            "test_size": None,
            "image_size": None,
            "streamed": False,
        },
        "model": {"name": "tinycnn", "width": 1.0},
        "noise": None,
        "after": [],
        "noise_epochs": None,
        "corruption": None,
        "adversarial_training": None,
        "parameter_noise": None,
        "loss": "cross_entropy",
        "optimizer": {"name": "sgd", "momentum": 0.9, "nesterov": False, "weight_decay": 0.0},
        "schedule": {
            "kind": "constant",
            "learning_rate": 0.05,
            "factor": 1.0,
            "every": None,
            "minimum": 0.0,
            "switch": None,
            "last": None,
            "t_mult": 1.0,
        },
        "epochs": 5,
        "batch_size": 128,
        "augment": False,
        "label_smoothing": 0.0,
        "mixup": 0.0,
        "cutout": 0,
        "validation_size": 0,
        "evaluation": {
            "noise": [],
            "blur": [],
            "fgsm": [],
            "recalibrate": True,
            "similarity": [],
            "feature_maps": 0,
            "training_images": 0,
        },
        "seed": 0,
    }


def test_a_run_survives_json():
    assert Run.model_validate_json(NOISY.model_dump_json()) == NOISY


def test_a_run_is_frozen_and_hashable():
    with pytest.raises(ValidationError):
        NOISY.seed = 2
    assert len(dict.fromkeys([NOISY, NOISY.replace(seed=0), NOISY.replace(seed=1)])) == 2


@pytest.mark.parametrize(
    "make",
    [
        lambda: Run(epoch=3),
        lambda: Run(epochs="3"),
        lambda: Run(epochs=0),
        lambda: Run(seed=-1),
        lambda: Run(noise=GaussianNoise(std=0.1)),
        lambda: Run(after=("relu",)),
        lambda: NoisyDropout(p=1.0),
        lambda: NoisyDropout(p=0.2, std=-0.1),
        lambda: NoisyDropout(p=0.2, std=float("nan")),
        lambda: NoisyDropout(p=0.2, where="some"),
        lambda: Optimizer(name="adam", momentum=0.9),
        lambda: Optimizer(nesterov=True),
        lambda: AdversarialTraining(delta=8),
        lambda: AdversarialTraining(delta=float("inf")),
        lambda: Evaluation(fgsm=(0.1, 8.0)),
        lambda: Schedule(kind="step"),
        lambda: Schedule(every=3),
        lambda: Schedule(learning_rate=float("inf")),
    ],
)
def test_bad_values_are_refused(make):
    with pytest.raises(ValueError, match=r".+"):
        make()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: NoisyDropout(p=1.5), "NoisyDropout:\n  p: Input should be less than 1 (got 1.5)"),
        (lambda: NoisyDropout(p=0.2, sdt=0.1), "NoisyDropout:\n  sdt: unknown key; did you mean 'std'?"),
        (lambda: GaussianNoise(), "GaussianNoise:\n  std: Field required"),
        (lambda: GaussianNoise(std=0.1).replace(std=-1), "  std: Input should be greater than or equal to 0"),
        (lambda: Run(sedes=3), "Run:\n  sedes: unknown key; did you mean 'seed'?"),
        (lambda: Run(xyz=3), "  xyz: unknown key; allowed: data, model, noise, "),
        (lambda: Run(data={"rot": "here"}), "  data.rot: unknown key; did you mean 'root'?"),
        (
            lambda: Run(noise={"kind": "gaussian_noise", "std": 0.1, "sd": 1}, after=("relu",)),
            "  noise.gaussian_noise.sd: unknown key; did you mean 'std'?",
        ),
        (
            lambda: Run(noise={"kind": "gaussian_noise", "std": 0.1, "epsilonn": 1}, after=("relu",)),
            "  noise.gaussian_noise.epsilonn: unknown key; allowed: kind, std",
        ),
        (lambda: Data.parse("cifar10", train_size=0), "Data:\n  train_size: Input should be greater than"),
    ],
)
def test_a_value_that_cannot_be_names_key_value_and_what_is_allowed_or_was_meant(make, said):
    with pytest.raises(UserError) as caught:
        make()
    assert said in str(caught.value)
    assert "pydantic" not in str(caught.value)
    assert caught.value.__suppress_context__, "the sentence alone, not pydantic's page before it"


def test_an_unknown_name_gets_the_one_that_was_meant():
    with pytest.raises(
        UserError, match=r"'resnet19' is not known; allowed: lenet5.*; did you mean 'resnet18'\?$"
    ):
        build_model("resnet19")


def test_an_unknown_data_set_lists_the_known_ones():
    said = r"'cifra10' is not known; allowed: shapes, digits, cifar10.* did you mean 'cifar10'\?$"
    with pytest.raises(UserError, match=said):
        Data.parse("cifra10")


def test_a_path_is_a_folder_data_set_labelled_by_its_name():
    data = Data.parse("some/where/cifar10-jpeg", train_size=10)
    assert (data.name, data.label, data.train_size) == ("folder", "cifar10-jpeg", 10)


def test_a_derived_label_follows_name_and_root_and_a_given_one_stays():
    assert Data().replace(name="digits").label == "digits"
    assert Data.parse("a/cats").replace(root="b/dogs").label == "dogs"
    assert (
        Data(name="fashion_mnist", label="fashion-mnist-subset").replace(root="x").label
        == "fashion-mnist-subset"
    )


def test_where_an_official_set_lies_is_no_part_of_the_key():
    assert Run(data=Data(root="/elsewhere")).key == Run().key
