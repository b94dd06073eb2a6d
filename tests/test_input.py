"""Input from outside: what is odd, huge or hostile is one screen that says what is allowed, at once."""

import math
import re
import sys
import time
import timeit

import pytest
import torch
import yaml
from torch import nn

from noiseutils import Run, cli
from noiseutils.config import Corruption, Data, Evaluation, Model
from noiseutils.corruptions import gaussian_blur
from noiseutils.errors import UserError
from noiseutils.models import MODELS, MOST_WEIGHTS, USUAL_SIZES, build_model
from noiseutils.noise import GaussianNoise, attach
from noiseutils.provenance import outputs_root
from noiseutils.schedules import Schedule, cosine_decaying_restarts
from noiseutils.studies import RENDERED
from noiseutils.studies.evidence import read_yaml
from noiseutils.studies.profiles import read_profile, seconds, study_params

BOMB = "\n".join(
    ["a0: &a0 [x, x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9))]
)
MERGES = "a: &a {x: 1}\n" + "\n".join(
    f"{'b' * i}: &{'b' * i} {{<<: [{', '.join(['*a' if i == 1 else '*' + 'b' * (i - 1)] * 9)}]}}"
    for i in range(1, 9)
)


def refusal(study, *changes, profile="smoke"):
    """Return the error of a profile with changes; it is there within seconds and fits one screen."""
    begun = time.process_time()
    with pytest.raises(UserError) as error:
        read_profile(RENDERED[study].Params, study, profile, changes)
    assert time.process_time() - begun < 5
    said = str(error.value)
    assert len(said.splitlines()) <= 14
    assert max(map(len, said.splitlines())) < 1500
    return said


@pytest.mark.parametrize("text", [BOMB, MERGES], ids=["aliases", "merges"])
def test_yaml_that_unfolds_to_gigabytes_is_refused_at_once_in_every_reader(text, tmp_path):
    file = tmp_path / "bomb.yaml"
    file.write_text(text)
    assert "may not contain the anchor &a" in refusal("noisy_dropout", profile=str(file))
    with pytest.raises(UserError, match="may not contain the anchor"):  # the reader of committed results
        read_yaml(file)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("&a 1", "may not contain the anchor &a: leave it out"),
        ("*a", "may not contain the alias *a: write the value itself"),
        ("{<<: {a: 1}}", "may not contain the merge <<: write its keys out"),
        *(
            (f"!!{tag} {text}", f"may not contain the tag tag:yaml.org,2002:{tag}")
            for tag in ("int", "float", "bool", "null", "timestamp", "binary", "str", "set", "omap", "pairs")
            for text in ("''", "x", "[1, 2]", "{a: 1}")
        ),
        ("!mine 1", "may not contain the tag !mine"),
        ("! 1", "may not contain the tag !"),
        ("[" * 900 + "]" * 900, "nested too deeply"),
        ("9" * 5000, "not YAML"),
        ("0x" + "f" * 9000, "less than or equal to 1000 (got a number of thousands of digits)"),
        ("2020-99-99", "not YAML"),
        ("x" * 100_001, "100,001 characters; allowed: up to 100,000"),
    ],
)
def test_set_takes_plain_yaml_alone(value, said):
    assert said in refusal("noisy_dropout", f"seeds={value}")


def test_what_the_package_writes_as_yaml_has_no_alias():
    values = study_params("adaptive_noise", "smoke").model_dump(mode="json")
    assert "&" not in yaml.safe_dump(values)


def test_digits_of_other_scripts_are_no_numbers():
    assert "valid integer" in refusal("noisy_dropout", "seeds=\u0661")
    assert "valid number" in refusal("noisy_dropout", "learning_rate=\u0661e1")
    with pytest.raises(UserError, match="is not a time"):
        seconds("\u0669m")


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "1e3", "9 m m", "9" * 400, "99999999h", "inf", "nan", "9m\x00"]
)
def test_a_budget_is_a_time_of_some_length(text):
    with pytest.raises(UserError, match=r"write 90s, 9m or 1\.5h|allowed: up to 10000h"):
        seconds(text)
    assert seconds(" 1.5h ") == 5400


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--budget", ""], "is not a time"),
        (["--workers", "1000000000"], "whole number from 1 to 1,024"),
        (["--workers", "\u0661"], "whole number from 1 to 1,024"),
        (["--workers", "0"], "whole number from 1 to 1,024"),
        (["--profile", "x" * 300], "no profile"),
        (["--profile", "x" * 300 + ".yaml"], "no profile"),
        (["--profile", "~nobody/x.yaml"], "no profile"),
        (["--set", "profile=" + "x" * 300], "profile"),
        (["--set", "a\x1b[31m\nb=1"], "unknown key"),
    ],
)
def test_an_odd_option_is_one_plain_screen(words, said, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("NOISEUTILS_OUTPUTS", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["noiseutils", "sweep", "noisy_dropout", "--profile", "smoke", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    err = capsys.readouterr().err
    assert end.value.code == 2
    assert said in " ".join(err.replace("│", " ").split())
    assert "\x1b[31m" not in err
    assert len(err.splitlines()) <= 14


def test_many_unknown_keys_are_ten_lines_and_a_count(tmp_path):
    file = tmp_path / "many.yaml"
    file.write_text("".join(f"unknown{i}: {i}\n" for i in range(5000)))
    said = refusal("noisy_dropout", profile=str(file))
    assert said.splitlines()[-1] == "  and 4,990 more"
    assert len(said.splitlines()) == 12


HUGE = 10**12
BEYOND = {
    "noisy_dropout": {
        **dict.fromkeys(("noise_levels", "unscaled_levels", "input_noise", "eq2_levels"), "[1e308]"),
        **dict.fromkeys(("learning_rate", "base_std", "width"), "1e308"),
        **dict.fromkeys(("image_size", "epochs", "seeds", "train_size", "batch_size"), HUGE),
    },
    "training_data_variation": {
        "sigmas": "[20000.0]",
        "copy_sigmas": "[1e308]",
        **dict.fromkeys(("change_steps", "change_seeds", "attack_queries", "attack_images"), HUGE),
    },
    "adaptive_noise": {"sigma_max": "1e308", **dict.fromkeys(("window", "epochs", "validation_size"), HUGE)},
    "adversarial_noise_layer": {
        "epsilon": "1e308",
        "timing_batch": 2**63,
        **dict.fromkeys(("imagenet_size", "table3_epochs", "feature_map_seeds", "attack_seeds"), HUGE),
    },
    "live_lab": {
        **dict.fromkeys(("strength", "width", "attack_size"), "1e308"),
        **dict.fromkeys(("epochs", "steps"), HUGE),
    },
}


@pytest.mark.parametrize(
    ("study", "key", "value"),
    [(study, key, value) for study, changes in BEYOND.items() for key, value in changes.items()]
    + [("noisy_dropout", "width", "1e-300")],
)
def test_what_no_machine_could_do_is_refused_with_the_range(study, key, value):
    assert re.search(rf"  {key}\S*: Input should be .* than or equal to", refusal(study, f"{key}={value}"))


def test_a_grid_beyond_all_patience_is_refused_before_it_is_made():
    rates = [float(f"{0.5 + i / 1000:g}") for i in range(100)]
    params = study_params("adaptive_noise", "smoke", [f"learning_rates={rates}", "seeds=1000"])
    with pytest.raises(UserError, match=r"make [\d,]+ trainings.*allowed: up to 50,000"):
        RENDERED["adaptive_noise"].runs(params)


def test_a_grid_of_lists_as_long_as_they_may_be_is_refused_before_it_is_made():
    """A thousand sets times a thousand names of one network were six million cells."""
    networks, sets = ["resnet20"] * 1000, [f"./images{k}" for k in range(100)]
    said = refusal("adversarial_noise_layer", f"table2_models={networks}", f"data={sets * 10}")
    assert "table2_models: the values must differ, and 'resnet20' is there twice" in said
    assert "data: Tuple should have at most 100 items" in said
    params = study_params(
        "adversarial_noise_layer", "smoke", [f"table3_models={list(MODELS)}", f"data={sets}", "seeds=1000"]
    )
    begun = time.process_time()
    with pytest.raises(UserError, match="allowed: up to 50,000"):
        RENDERED["adversarial_noise_layer"].runs(params)
    assert time.process_time() - begun < 5


@pytest.mark.parametrize(
    ("study", "change", "said"),
    [
        ("live_lab", "study=../../etc", "study: Input should be 'live_lab'"),
        ("noisy_dropout", f"study={['x'] * 1000}", "study: Input should be 'noisy_dropout'"),
        ("live_lab", f"beside=[{'x' * 5000}]", "beside 'xxx"),
        ("training_data_variation", f"change_attack={'x' * 5000}", "change_attack 'xxx"),
    ],
)
def test_what_is_odd_is_shown_in_part(study, change, said):
    assert said in refusal(study, change)


@pytest.mark.timeout(60)
def test_a_value_that_unfolds_to_gigabytes_is_shown_in_part():
    value = 1
    for _ in range(6):
        value = [value] * 1000
    with pytest.raises(UserError, match=r"model \[\[\[.* is not known"):
        build_model(value)
    with pytest.raises(UserError, match=r"epochs: .* \(got \{'a': \[\[.*\)"):
        Run(epochs={"a": value})


def test_images_in_the_root_of_all_folders_have_a_label():
    assert Data.parse("/").label == "folder"


def test_a_file_of_another_study_is_refused_on_one_short_line(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(f"study: {['x'] * 1000}")
    assert "these are parameters of the study ['x', 'x'" in refusal("noisy_dropout", profile=str(file))


@pytest.mark.parametrize("name", MODELS)
def test_a_network_of_usual_sizes_is_small_enough_without_being_counted(name):
    with torch.device("meta"):
        made = MODELS[name](**USUAL_SIZES)
    assert sum(weight.numel() for weight in made.parameters()) <= MOST_WEIGHTS


@pytest.mark.parametrize(
    "make",
    [
        lambda: Run(epochs=10**12),
        lambda: Run(batch_size=2**63),
        lambda: Model(width=1e-300),
        lambda: Model(width=1e6),
        lambda: Data(image_size=10**9),
        lambda: Data(train_size=10**12),
        lambda: Data(name="shapes", train_size=10**8),
        lambda: Data(name="folder", root="a\0b"),
        lambda: Data(name="folder", root="a\udcff"),
        lambda: Data(label="a\0b"),
        lambda: Data(label="x" * 1000),
        lambda: Evaluation(noise=(1e308,)),
        lambda: GaussianNoise(std=1e308),
        lambda: Corruption(kind="gaussian_blur", sigma=1e6),
        lambda: Schedule(learning_rate=1e308),
        lambda: Schedule(kind="cosine_decaying_restarts", every=1, last=0.01, t_mult=1e308),
        lambda: build_model("tinycnn", image_size=10**9),
        lambda: build_model("tinycnn", image_size=32.5),
        lambda: build_model("tinycnn", image_size="32"),
        lambda: build_model("tinycnn", num_classes=10**9),
        lambda: build_model("tinycnn", num_classes=True),
        lambda: build_model("tinycnn", in_channels=10**9),
        lambda: build_model("tinycnn", width=1e6),
        lambda: build_model("tinycnn", width=1e-300),
        lambda: build_model("tinycnn", width="1"),
        lambda: build_model("tinycnn", width=math.nan),
        lambda: build_model(["tinycnn"]),
        lambda: build_model(None),
        lambda: build_model("tinycnn", seed="x"),
        lambda: build_model("tinycnn", seed=2**64),
        lambda: build_model("simplecnn", image_size=4096),
        lambda: build_model("pyramidnet270", width=16.0),
        lambda: build_model("babycnn", num_classes=10**6, image_size=224),
        lambda: attach("tinycnn", GaussianNoise(std=0.1)),
        lambda: attach(nn.Sequential(nn.ReLU()), 0.1),
        lambda: attach(nn.Sequential(nn.ReLU()), GaussianNoise(std=0.1), after=5),
        lambda: attach(nn.Sequential(nn.ReLU()), GaussianNoise(std=0.1), after=[5]),
        lambda: attach(nn.Sequential(nn.ReLU()), GaussianNoise(std=0.1), after={"0": 1}),
        lambda: attach(nn.Sequential(nn.ReLU()), GaussianNoise(std=0.1), after="x" * 10_000),
        lambda: attach(nn.Sequential(nn.ReLU()), GaussianNoise(std=0.1), after=nn.ReLU, seed=1.5),
        lambda: gaussian_blur(torch.zeros(1, 1, 8, 8), 1e300),
        lambda: gaussian_blur(torch.zeros(1, 1, 8, 8), math.inf),
        lambda: restarts(restart_epochs=0),
        lambda: restarts(restart_epochs=-1),
        lambda: restarts(restart_epochs=1e-300),
        lambda: restarts(t_mult=0.5),
        lambda: restarts(t_mult=1e308),
        lambda: restarts(step=math.inf),
        lambda: restarts(steps_per_epoch=0),
    ],
)
def test_a_call_with_what_cannot_be_is_refused_at_once(make):
    begun = time.process_time()
    with pytest.raises(UserError) as error:
        make()
    assert time.process_time() - begun < 5
    assert len(str(error.value)) < 1500


def restarts(**changes):
    usual = {"step": 5, "eta_max": 0.1, "eta_final_max": 0.01, "eta_min": 0.001, "epochs": 10}
    return cosine_decaying_restarts(**{**usual, "restart_epochs": 2, "steps_per_epoch": 3, **changes})


def test_the_checks_of_a_schedule_cost_less_than_a_hundredth_of_the_smallest_step():
    assert min(timeit.repeat(restarts, timer=time.process_time, number=1000, repeat=3)) / 1000 < 1e-4


def test_the_outputs_folder_of_an_unknown_user_is_a_name_like_any_other(monkeypatch):
    monkeypatch.setenv("NOISEUTILS_OUTPUTS", "~nobody-here/x")
    assert outputs_root().name == "x"
