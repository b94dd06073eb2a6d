"""Every profile of every study: it means one thing, wherever it is read, and says what it is for."""

from pathlib import Path

import pytest
from papermill.iorw import read_yaml_file

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
