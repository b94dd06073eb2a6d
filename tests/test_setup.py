"""Set-up: the dependency files agree, torchvision imports beside any torch, and make does nothing twice."""

import copy
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import noiseutils

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())
TARGETS = ("figures", "docs", "test", "quicktest", "lab", "classroom", "clean", "help")

# Before the code under test, in a fresh process: what the compiled library does when torch loads it.
WITH_A_LIBRARY_THAT = """
import torch

calls = []
def load(path):
    calls.append(path)
    {outcome}
torch.ops.load_library = load
"""
REPORT = """
from noiseutils import _torchvision_shim as shim
found = [name.split("::") for name in torch._C._dispatch_get_all_op_names()]
print(len(calls), shim.LIBRARY is not None, *sorted(name for space, name in found if space == "torchvision"))
"""

# Stands in for Python: writes down what make asks for, installs in no time, fails while `offline` exists.
INTERPRETER = """#!/bin/sh
case "$*" in
  "-m venv --clear .venv") echo venv >>log; rm -rf .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
  "-m pip install "*" -c pins.txt -e .[notebooks,attacks,ray,dev,frameworks,docs]")
    echo pip >>log; [ ! -e offline ] ;;
  "-c "*) ;;
  *) exit 1 ;;
esac
"""


def python(code: str) -> str:
    """What a fresh interpreter prints, warnings being errors."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One call of make, by itself even when make runs these tests."""
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "PYTHON")}
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=env, capture_output=True, text=True, check=False
    )


def pins() -> dict[str, Version]:
    lines = [line for line in (ROOT / "pins.txt").read_text().splitlines() if not line.startswith("#")]
    pairs = [re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9][0-9a-z.]*)", line) for line in lines]
    assert all(pairs), "pins.txt holds NAME==VERSION alone: no local tag, no hash, no option"
    return {canonicalize_name(pair[1]): Version(pair[2]) for pair in pairs if pair}


def requirements() -> list[Requirement]:
    extras = PYPROJECT["optional-dependencies"]
    texts = [
        *PYPROJECT["dependencies"],
        *(text for name in ("notebooks", "ray", "dev", "frameworks", "docs") for text in extras[name]),
    ]
    return [Requirement(text) for text in texts]


@pytest.fixture
def checkout(tmp_path):
    """The files that make reads, and a stand-in for Python."""
    for name in ("Makefile", "pyproject.toml", "pins.txt"):
        shutil.copy(ROOT / name, tmp_path)
    interpreter = tmp_path / "python"
    interpreter.write_text(INTERPRETER)
    interpreter.chmod(0o755)
    return tmp_path


def steps(folder: Path) -> list[str]:
    """What make has had the stand-in do since the last call."""
    log = folder / "log"
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return lines


# --- dependencies


def test_every_dependency_is_pinned_inside_its_range():
    wanted, pinned = requirements(), pins()
    assert len(wanted) > 20
    for requirement in wanted:
        name = canonicalize_name(requirement.name)
        assert requirement.specifier, f"{name} has no range"
        assert name in pinned, f"{name} is not in pins.txt"
        assert requirement.specifier.contains(pinned[name]), f"{name} {pinned[name]} is outside its range"


def test_torch_and_torchvision_are_the_tested_pair():
    pinned, ranges = pins(), {r.name: r.specifier for r in requirements()}
    assert (str(pinned["torch"]), str(pinned["torchvision"])) == ("2.13.0", "0.28.0")
    assert ranges["torch"].contains("2.11.0")
    assert ranges["torchvision"].contains("0.26.0")


def test_conda_installs_this_project_with_the_same_pins():
    conda = [item for item in ENVIRONMENT["dependencies"] if isinstance(item, str)]
    [by_pip] = [item["pip"] for item in ENVIRONMENT["dependencies"] if isinstance(item, dict)]
    extras = ",".join(PYPROJECT["optional-dependencies"])
    assert ENVIRONMENT["name"] == PYPROJECT["name"]
    assert ENVIRONMENT["channels"] == ["conda-forge", "nodefaults"]
    assert [re.split(r"[<>= ]", item)[0] for item in conda] == ["python", "pip"]
    assert by_pip == ["-c pins.txt", f"-e .[{extras}]"]
    assert f"-c pins.txt -e '.[{extras}]'" in (ROOT / "Makefile").read_text()


def test_conda_and_pyproject_agree_on_python():
    [python_range] = [str(item) for item in ENVIRONMENT["dependencies"] if str(item).startswith("python")]
    conda, project = (
        SpecifierSet(python_range.removeprefix("python")),
        SpecifierSet(PYPROJECT["requires-python"]),
    )
    minors = [f"3.{minor}" for minor in range(8, 20)]
    assert [v for v in minors if conda.contains(v)] == ["3.11", "3.12", "3.13"]
    assert next(v for v in minors if project.contains(v)) == "3.11"


def test_package_is_named_and_licensed():
    assert PYPROJECT["name"] == "noiseutils"
    assert noiseutils.__version__ == "0.1.0"
    text = (ROOT / "LICENSE").read_text()
    assert text.startswith("MIT License")
    assert "The noiseutils authors" in text
    assert PYPROJECT["license"] == "MIT"


# --- torchvision beside any torch


@pytest.mark.slow
def test_torchvision_works_beside_the_installed_torch():
    code = """
import noiseutils, torchvision, torch
from torchvision import datasets, transforms
print(tuple(torchvision.models.resnet18(num_classes=10)(torch.zeros(2, 3, 32, 32)).shape))
"""
    assert python(code) == "(2, 10)"


@pytest.mark.slow
def test_nothing_is_declared_when_the_compiled_library_loads():
    calls, declared, *names = python(WITH_A_LIBRARY_THAT.format(outcome="pass") + REPORT).split()
    assert (calls, declared, names) == ("1", "False", [])


@pytest.mark.slow
def test_exactly_nms_and_qnms_are_declared_when_it_cannot_load():
    outcome = 'raise OSError("libcudart.so.13: cannot open shared object file")'
    calls, declared, *names = python(WITH_A_LIBRARY_THAT.format(outcome=outcome) + REPORT).split()
    assert (calls, declared, names) == ("1", "True", ["nms", "qnms"])


@pytest.mark.slow
def test_operators_that_exist_are_left_alone():
    code = WITH_A_LIBRARY_THAT.format(outcome="pass") + (
        'held = torch.library.Library("torchvision", "DEF")\n'
        'held.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")\n'
    )
    calls, declared, *names = python(code + REPORT).split()
    assert (calls, declared, names) == ("0", "False", ["nms"])


@pytest.mark.slow
def test_nothing_is_declared_without_torchvision():
    code = "import importlib.util as u; u.find_spec = lambda name: None\n"
    calls, declared, *names = python(code + WITH_A_LIBRARY_THAT.format(outcome="pass") + REPORT).split()
    assert (calls, declared, names) == ("0", "False", [])


@pytest.mark.slow
def test_importing_the_package_imports_nothing_heavy():
    heavy = ("torchvision", "matplotlib", "sklearn", "scipy", "IPython", "papermill", "ipywidgets", "foolbox")
    code = f"import sys, noiseutils; print('torch' in sys.modules, *[m for m in {heavy} if m in sys.modules])"
    assert python(code) == "True"


# --- make


@pytest.mark.parametrize("target", TARGETS)
def test_make_knows_its_targets(checkout, target):
    done = make(checkout, "-n", target)
    assert done.returncode == 0, done.stderr
    expected = {
        "figures": ".venv/bin/noiseutils run all --profile quick",
        "docs": ".venv/bin/noiseutils book",
        "test": ".venv/bin/python -m pytest",
        "quicktest": '-m "not slow" tests',
        "lab": "--ip=127.0.0.1",
        "classroom": "--Voila.ip=127.0.0.1 --token",
        "clean": "rm -rf .venv",
        "help": "awk",
    }
    assert expected[target] in done.stdout


def test_plain_make_lists_the_targets(checkout):
    listed = [line.split()[1] for line in make(checkout).stdout.splitlines() if line.startswith("make ")]
    assert listed == list(TARGETS)


def test_make_test_ends_with_one_pytest_over_tests_and_every_notebook(checkout):
    (checkout / "notebooks").mkdir()
    names = ["notebooks/00_a.ipynb", "notebooks/01_b.ipynb"]
    for name in names:
        (checkout / name).touch()
    lines = make(checkout, "-n", "test").stdout.splitlines()
    tools = [Path(line.split()[0]).name for line in lines if line.startswith(".venv/bin/")]
    assert tools == ["python", "ruff", "ruff", "pyright", "python"]
    assert {"--nbval-lax", "tests", *names} <= set(lines[-1].split())


def test_make_quicktest_checks_the_lines_and_runs_the_tests_that_start_no_processes(checkout):
    lines = make(checkout, "-n", "quicktest").stdout.splitlines()
    tools = [Path(line.split()[0]).name for line in lines if line.startswith(".venv/bin/")]
    assert tools == ["python", "ruff", "ruff", "python"]
    assert "ipynb" not in lines[-1]
    assert lines[-1].endswith('-m "not slow" tests')


def test_make_lab_saves_the_projects_notebooks_without_outputs(capsys):
    """Else a lesson that was run would be a change that git shows."""

    class Settings:
        FileContentsManager = type("Manager", (), {})

    names = {"get_config": Settings, "__file__": str(ROOT / ".jupyter" / "jupyter_server_config.py")}
    exec((ROOT / ".jupyter" / "jupyter_server_config.py").read_text(), names)
    strip = Settings.FileContentsManager.pre_save_hook
    assert "not saved" in capsys.readouterr().out
    cell = {"cell_type": "code", "source": "1", "execution_count": 3, "outputs": [{}]}
    cell["metadata"] = {"tags": ["parameters"], "execution": {}, "scrolled": True}
    ran = {"cells": [cell], "metadata": {"kernelspec": {}, "language_info": {"version": "3"}, "widgets": {}}}
    for path, stripped in (("notebooks/00_start_here.ipynb", True), ("notebooks/mine.ipynb", False)):
        content = copy.deepcopy(ran)
        strip(model={"type": "notebook", "content": content}, path=path, contents_manager=None)
        if not stripped:
            assert content == ran, "a notebook of one's own keeps its outputs"
            continue
        assert content["metadata"] == {"kernelspec": {}, "language_info": {"name": "python"}}
        assert content["cells"][0] == cell | {
            "execution_count": None,
            "outputs": [],
            "metadata": {"tags": ["parameters"]},
        }


def test_the_environment_is_built_once_and_updated_when_pins_change(checkout):
    fake = f"PYTHON={checkout}/python"
    assert make(checkout, ".venv/.complete", fake).returncode == 0
    assert steps(checkout) == ["venv", "pip"]
    make(checkout, ".venv/.complete", fake)
    assert steps(checkout) == []
    newer = (checkout / ".venv/.complete").stat().st_mtime + 10
    os.utime(checkout / "pins.txt", (newer, newer))
    make(checkout, ".venv/.complete", fake)
    assert steps(checkout) == ["pip"]


def test_an_interrupted_install_is_mended_by_the_next_call(checkout):
    fake = f"PYTHON={checkout}/python"
    (checkout / "offline").touch()
    assert make(checkout, ".venv/.complete", fake).returncode != 0
    assert (checkout / ".venv/bin/python").exists()
    assert steps(checkout) == ["venv", "pip"]
    (checkout / "offline").unlink()
    assert make(checkout, ".venv/.complete", fake).returncode == 0
    assert steps(checkout) == ["venv", "pip"]


def test_an_interrupted_update_is_mended_by_the_next_call(checkout):
    fake = f"PYTHON={checkout}/python"
    make(checkout, ".venv/.complete", fake)
    newer = (checkout / ".venv/.complete").stat().st_mtime + 10
    os.utime(checkout / "pins.txt", (newer, newer))
    (checkout / "offline").touch()
    assert make(checkout, ".venv/.complete", fake).returncode != 0
    steps(checkout)
    (checkout / "offline").unlink()
    assert make(checkout, ".venv/.complete", fake).returncode == 0
    assert steps(checkout) == ["venv", "pip"]


@pytest.mark.parametrize("missing", [False, True], ids=["too old", "not there"])
def test_an_unfit_python_is_named_with_what_is_needed(checkout, missing):
    interpreter = checkout / "python2"
    if not missing:
        interpreter.write_text("#!/bin/sh\nexit 1\n")
        interpreter.chmod(0o755)
    done = make(checkout, "figures", f"PYTHON={interpreter}")
    assert done.returncode != 0
    assert "Python 3.11 or later is needed" in done.stderr
    assert str(interpreter) in done.stderr
    assert not (checkout / ".venv").exists()


def test_clean_keeps_trained_and_reference_results(checkout):
    kept = ["outputs/runs/key/weights", "outputs/reference/table.csv", "noiseutils/a.py", "tests/b.py"]
    lost = [".venv/bin/python", "outputs/noisy_dropout/quick/figure.png", "noiseutils/__pycache__/a.pyc"]
    for name in (*kept, *lost):
        path = checkout / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    done = make(checkout, "clean")
    assert done.returncode == 0, done.stderr
    assert [name for name in (*kept, *lost) if (checkout / name).exists()] == kept


def test_ci_runs_make_test_and_stops_at_the_first_error():
    script = ROOT / ".ci/run"
    lines = script.read_text().splitlines()
    assert os.access(script, os.X_OK)
    assert lines[0].endswith("bash")
    assert "set -euo pipefail" in lines
    assert lines[-1] == "make test"
