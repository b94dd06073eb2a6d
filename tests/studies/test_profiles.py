"""Every profile of every study: it means one thing, wherever it is read, and says what it is for."""

from pathlib import Path

import pytest
from papermill.iorw import read_yaml_file

from noiseutils.errors import UserError
from noiseutils.studies import RENDERED, STUDIES
from noiseutils.studies.profiles import read_profile

ROOT = Path(__file__).resolve().parents[2]
PROFILES = [
    pytest.param(study, path, id=f"{study}-{path.stem}")
    for study in RENDERED
    for path in sorted((ROOT / "params" / study).glob("*.yaml"))
]


@pytest.mark.parametrize(("study", "path"), PROFILES)
def test_a_profile_means_the_same_to_papermill_and_to_the_command_line(study, path, notebook_parameters):
    """papermill has its own YAML reader, and fills what a file leaves out with the notebook's defaults."""
    passed, defaults = read_yaml_file(str(path)), notebook_parameters(study)
    assert list(passed) == list(defaults)
    assert path.read_text().startswith("# "), "a profile opens with what it reproduces"
    expected = read_profile(RENDERED[study].Params, study, path.stem)
    assert RENDERED[study].Params.from_notebook(defaults | passed) == expected
    assert expected.profile == path.stem
    assert RENDERED[study].runs(expected)


@pytest.mark.parametrize("study", RENDERED)
def test_the_notebooks_parameters_are_the_studys_and_its_defaults_the_smoke_profile(
    study, notebook_parameters
):
    defaults, params = notebook_parameters(study), RENDERED[study].Params
    assert list(defaults) == list(params.model_fields)
    assert params.read(defaults, "notebook") == read_profile(params, study, "smoke")


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_has_its_four_profiles(study):
    assert {"smoke", "quick", "cifar10", "paper"} <= {
        path.stem for path in (ROOT / "params" / study).iterdir()
    }


@pytest.mark.parametrize(
    ("text", "base"),
    [("010", 8), ("-0_7", 8), ("1:30", 60), ("1:30.5", 60), ("[3, 0010]", 8), ("{a: 2:00}", 60)],
)
def test_a_number_that_yaml_reads_in_another_base_is_refused_on_the_command_line_and_in_a_file(
    text, base, tmp_path
):
    params = RENDERED["noisy_dropout"].Params
    said = f"is a number in base {base} in YAML: write a number in base 10"
    with pytest.raises(UserError, match=said):
        read_profile(params, "noisy_dropout", "smoke", [f"seeds={text}"])
    file = tmp_path / "mine.yaml"
    file.write_text(f"seeds: {text}\n")
    with pytest.raises(UserError, match=rf"mine\.yaml.*line 1.*{said}"):
        read_profile(params, "noisy_dropout", str(file))


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("seeds", "10", 10),
        ("seeds", "1_0", 10),
        ("seeds", "0xA", 10),
        ("learning_rate", "0.5", 0.5),
        ("learning_rate", "00.5", 0.5),
        ("learning_rate", "1e-3", 1e-3),
        ("learning_rate", "05e-1", 0.5),
        ("momentum", "0", 0),
        ("data", "'./1:30'", "./1:30"),
    ],
)
def test_other_numbers_are_read_as_they_are_written(key, text, value):
    params = read_profile(RENDERED["noisy_dropout"].Params, "noisy_dropout", "smoke", [f"{key}={text}"])
    assert getattr(params, key) == value


def test_an_unknown_parameter_gets_the_one_that_was_meant():
    with pytest.raises(UserError, match=r"--set sedes=3:\s+sedes: unknown key; did you mean 'seeds'"):
        read_profile(RENDERED["noisy_dropout"].Params, "noisy_dropout", "smoke", ["sedes=3"])
