"""The command line: bad parameter files end in one clear screen, good ones in results."""

import os
import subprocess
import sys

import pytest
import torch

from noiseutils import cli
from noiseutils.provenance import VERSION
from noiseutils.studies import STUDIES
from noiseutils.sweeps.jobs import Sweep
from noiseutils.sweeps.store import Store

SMALL = """
study: noisy_dropout
profile: tiny
data: shapes
train_size: 64
test_size: 50
width: 0.1
probabilities: [0.25]
noise_levels: [0.5]
readings: [dropped]
unscaled_levels: []
epochs: 1
batch_size: 32
input_noise: []
fgsm_255: []
seeds: 1
"""

# the file's text, and what its error must say
BAD_FILES = {
    "unknown key": ("epoch: 3", ["epoch", "unknown key"]),
    "misspelt key among good ones": (SMALL + "lerning_rate: 0.1", ["lerning_rate", "unknown key"]),
    "word for a number": ("epochs: many", ["epochs", "integer", "'many'"]),
    "quoted number": ('seeds: "3"', ["seeds", "integer", "'3'"]),
    "fraction for a count": ("batch_size: 12.5", ["batch_size", "integer", "12.5"]),
    "zero epochs": ("epochs: 0", ["epochs", "greater than or equal to 1", "0"]),
    "negative seeds": ("seeds: -2", ["seeds", "-2"]),
    "negative rate": ("learning_rate: -0.1", ["learning_rate", "greater than 0", "-0.1"]),
    "infinite rate": ("learning_rate: .inf", ["learning_rate", "finite"]),
    "nan rate": ("learning_rate: .nan", ["learning_rate"]),
    "yes for a number": ("width: yes", ["width", "number", "True"]),
    "number for yes or no": ("augment: 1", ["augment", "boolean", "1"]),
    "certain drop": ("probabilities: [0.2, 1.0]", ["probabilities.1", "less than 1", "1.0"]),
    "no probabilities": ("probabilities: []", ["probabilities", "at least 1"]),
    "scalar for a list": ("probabilities: 0.25", ["probabilities", "0.25"]),
    "negative noise": ("noise_levels: [-0.5]", ["noise_levels.0", "greater than 0"]),
    "unknown reading": ("readings: [dropped, some]", ["readings.1", "'dropped' or 'all'", "'some'"]),
    "unknown optimizer": ("optimizer: lion", ["optimizer", "'sgd' or 'adam'", "'lion'"]),
    "unknown loss": ("loss: mse", ["loss", "'sigmoid_bce'", "'mse'"]),
    "unknown model": ("model: alexnet2", ["model", "'alexnet2' is not known", "cifar10net"]),
    "unknown data": ("data: cifra10", ["data", "'cifra10' is not known", "cifar10"]),
    "null where a value is due": ("epochs: null", ["epochs", "integer"]),
    "profile that is a path": ("profile: ../../etc", ["profile", "pattern"]),
    "wrong study": ("study: adaptive_noise\nepochs: 3", ["adaptive_noise", "noisy_dropout"]),
    "a list, not keys": ("- epochs\n- seeds", ["key: value", "list"]),
    "a bare word": ("quick", ["key: value", "str"]),
    "empty": ("", ["empty"]),
    "only comments": ("# nothing\n", ["empty"]),
    "unclosed bracket": ("noise_levels: [0.1, 0.5", ["not valid YAML", "line"]),
    "tabs": ("epochs:\t3\n\tseeds: 2", ["not valid YAML", "line 1"]),
    "repeated key": ("epochs: 3\nepochs: 4", ["epochs", "twice", "line 2"]),
    "python object": ("data: !!python/object/apply:os.getcwd []", ["not valid YAML"]),
    "adam with momentum": ("optimizer: adam\nmomentum: 0.9", ["adam takes no momentum", "0.9"]),
    "a date that is none": ("epochs: 2020-13-45", ["not valid YAML"]),
    "a list as a key": ("? [a, b]\n: 1", ["not valid YAML", "a key must be a word"]),
    "endless brackets": ("epochs: " + "[" * 3000, ["not valid YAML"]),
    "far too wide": ("width: 4000.0", ["width", "less than or equal to 16"]),
    "a folder upwards": ("profile: ..", ["profile", "pattern"]),
    "not text": (b"\xff\xfe\x00epochs", ["UTF-8"]),
    "number as a key": ("3: epochs", ["keys must be words", "3"]),
}
# errors that only looking can find: the file is good, what it names is not there
BAD_PLACES = {
    "folder that is not there": ("data: ./no/such/images", ["no/such/images", "train"]),
    "place that the network lacks": ("after: [relu9]", ["relu9", "matches no module", "relu3"]),
    "more images than there are": ("data: digits\ntrain_size: 5000", ["train_size", "5,000"]),
}


def call(monkeypatch, capsys, *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["noiseutils", *words])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    out, err = capsys.readouterr()
    return int(exit_.value.code or 0), out, err


def write(path, content: str | bytes) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


@pytest.fixture(autouse=True)
def outputs(tmp_path, monkeypatch):
    monkeypatch.setenv("NOISEUTILS_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "outputs"


@pytest.mark.parametrize("name", [*BAD_FILES, *BAD_PLACES])
@pytest.mark.parametrize("command", ["sweep", "run"])
def test_a_bad_parameter_file_is_one_clear_screen_and_computes_nothing(
    tmp_path, monkeypatch, capsys, outputs, name, command
):
    if name in BAD_FILES:
        content, said = BAD_FILES[name]
    else:
        change, said = BAD_PLACES[name]
        keys = {line.split(":")[0] for line in change.splitlines()}
        content = (
            "\n".join(line for line in SMALL.splitlines() if line.split(":")[0] not in keys) + "\n" + change
        )
    code, out, err = call(
        monkeypatch, capsys, command, "noisy_dropout", "--profile", write(tmp_path / "bad.yaml", content)
    )
    assert code == 2, (out, err)
    assert "Traceback" not in err + out
    assert len(err.splitlines()) <= 24
    if name in BAD_FILES:
        assert "bad.yaml" in err
    for part in said:
        assert part in err
    assert not list(outputs.glob("runs/*/*"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "nosuch"], "study 'nosuch' is not known; allowed: noisy_dropout"),
        (
            ["sweep", "noisy_dropout", "--profile", "fast"],
            "profiles of noisy_dropout: cifar10, overnight, paper, quick, smoke",
        ),
        (["sweep", "noisy_dropout", "--profile", "there/is/none.yaml"], "none.yaml"),
        (["sweep", "noisy_dropout", "--set", "seeds"], "KEY=VALUE"),
        (["sweep", "noisy_dropout", "--set", "seeds=[1"], "not YAML"),
        (["sweep", "noisy_dropout", "--set", "seeds=none"], "seeds"),
        (["sweep", "noisy_dropout", "--budget", "soon"], "90s, 9m or 1.5h"),
        (
            ["sweep", "noisy_dropout", "--profile", "smoke", "--executor", "cloud"],
            "allowed: auto, inline, local",
        ),
        (["data", "check", "cifra10"], "allowed: shapes, digits, cifar10"),
        (["bench", "everything"], "allowed: babycnn_epoch"),
        (["bench", "augmentation", "--json", "no/such/folder/x.json"], "no such folder"),
        (["report"], "`noiseutils report` is now `noiseutils book`"),
        (["sweep"], "Missing argument"),
        (["sweep", "noisy_dropout", "--nosuch"], "No such option"),
    ],
)
def test_bad_words_are_a_clear_error(monkeypatch, capsys, words, said):
    code, out, err = call(monkeypatch, capsys, *words)
    assert code == 2
    assert said in err + out
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_sweep_needs_none_of_the_extras(tmp_path):
    extras = ("IPython", "ipywidgets", "nbformat", "papermill", "foolbox", "ray")
    code = f"import sys; sys.modules |= dict.fromkeys({extras}); from noiseutils.cli import main; main()"
    words = [
        "sweep",
        "noisy_dropout",
        "--profile",
        write(tmp_path / "tiny.yaml", SMALL),
        "--executor",
        "inline",
    ]
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        env=os.environ | {"NOISEUTILS_OUTPUTS": str(tmp_path / "outputs")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "2 of 2 runs stored" in done.stdout, done.stderr


def test_sweep_then_status_then_nothing_left_to_do(tmp_path, monkeypatch, capsys, outputs):
    file = write(tmp_path / "tiny.yaml", SMALL)
    code, out, _ = call(monkeypatch, capsys, "status", "noisy_dropout", "--profile", file)
    assert code == 0
    assert "missing      2" in out
    words = ("sweep", "noisy_dropout", "--profile", file, "--executor", "inline")
    code, out, _ = call(monkeypatch, capsys, *words)
    assert code == 0
    assert "2 of 2 runs stored" in out
    times = {path: path.stat().st_mtime_ns for path in outputs.glob("runs/*/run.json")}
    assert len(times) == 2
    code, out, _ = call(monkeypatch, capsys, *words)
    assert "2 of 2 runs stored" in out
    assert times == {path: path.stat().st_mtime_ns for path in outputs.glob("runs/*/run.json")}
    _, out, _ = call(monkeypatch, capsys, "status", "noisy_dropout", "--profile", file)
    assert "finished     2" in out


@pytest.mark.parametrize(
    ("failed", "missing", "out_of_time", "said"),
    [
        ({}, 0, False, "done"),
        ({"a": "trace"}, 1, False, "1 failed"),
        ({"a": "trace"}, 3, False, "1 failed, 2 missing"),
        ({}, 2, True, "the budget is used up, the same command resumes"),
    ],
)
def test_a_sweep_says_done_only_when_every_run_is_stored(failed, missing, out_of_time, said):
    done = Sweep([], Store("nowhere"), failed, out_of_time)
    assert cli._end_of(done, missing) == said


def test_numbers_are_read_as_people_write_them(tmp_path):
    from noiseutils.studies.profiles import read_yaml

    path = tmp_path / "numbers.yaml"
    path.write_text("a: 1e-3\nb: 1E5\nc: 2.5e-2\nd: 3\ne: -1e-3\nf: e3\n")
    assert read_yaml(path) == {"a": 1e-3, "b": 1e5, "c": 2.5e-2, "d": 3, "e": -1e-3, "f": "e3"}


def test_two_files_that_mean_the_same_give_the_same_keys(tmp_path):
    from noiseutils.studies.noisy_dropout import STUDY
    from noiseutils.studies.profiles import read_profile

    lines = SMALL.strip().splitlines()
    a, b = tmp_path / "a.yaml", tmp_path / "b.yaml"
    a.write_text("\n".join(lines))
    b.write_text("\n".join(reversed(lines)).replace("0.25", "2.5e-1").replace("[0.5]", "\n- 5e-1"))
    keys = [
        [run.key for run in STUDY.runs(read_profile(STUDY.Params, "noisy_dropout", str(path)))]
        for path in (a, b)
    ]
    assert keys[0] == keys[1]


@pytest.mark.slow
def test_the_module_is_the_command_line():
    done = subprocess.run(
        [sys.executable, "-m", "noiseutils", "data", "list"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "shapes" in done.stdout


def test_claims_are_listed_apart_from_their_controls_and_no_two_lines_are_alike(monkeypatch, capsys):
    claims = STUDIES["adaptive_noise"].claims
    counted = sum(claim.counted for claim in claims)
    _, of_the_paper, _ = call(monkeypatch, capsys, "claims", "adaptive_noise")
    _, controls, _ = call(monkeypatch, capsys, "claims", "adaptive_noise", "--controls")
    rows, others = ([x for x in out.splitlines() if x.startswith("  [")] for out in (of_the_paper, controls))
    assert len(set(rows)) == len(rows) == counted
    assert len(set(others)) == len(others) == len(claims) - counted
    assert f"{len(others)} other readings and controls (--controls)" in of_the_paper
    assert "adversarial_noise_layer" not in of_the_paper, "a study is listed alone"


def test_a_study_of_no_paper_has_no_claims_and_says_so(monkeypatch, capsys):
    code, out, _ = call(monkeypatch, capsys, "claims", "head_to_head")
    assert code == 0
    assert "belongs to no paper" in out


def test_the_versions_that_results_depend_on_are_told(monkeypatch, capsys):
    code, out, err = call(monkeypatch, capsys, "--version")
    assert (code, err) == (0, "")
    assert f"noiseutils {VERSION}; " in out
    assert f"torch {torch.__version__}; " in out
    assert " ; " not in out, "what is not known is left out"
