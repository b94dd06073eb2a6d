"""The package as others get it: built, checked, and used beside its core dependencies, without a checkout."""

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from email import message_from_bytes
from email.message import Message
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import noiseutils
from noiseutils import provenance
from noiseutils.studies import STUDIES

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOT_BUILT = shutil.ignore_patterns(".*", "outputs", "build", "dist", "*.egg-info", "__pycache__")
NOTEBOOKS = "pip install 'noiseutils[notebooks]'"
EXAMPLE = """
from noiseutils.noise import NoisyDropout, attach
import torch
from torchvision.models import resnet18

model = resnet18(num_classes=10)
images, labels = torch.rand(4, 3, 32, 32), torch.arange(4)
with attach(model, NoisyDropout(p=0.25, std=0.08), after="ReLU") as handle:
    loss = handle.loss(torch.nn.functional.cross_entropy, images, labels)
loss.backward()
print(bool(loss.isfinite()), all(p.grad is not None for p in model.parameters()))
"""
EVERY_MODULE = """
import importlib, pkgutil
import noiseutils

for module in pkgutil.walk_packages(noiseutils.__path__, "noiseutils.", onerror=lambda name: None):
    if not module.name.endswith("__main__"):
        try:
            importlib.import_module(module.name)
        except Exception as error:
            print(f"{module.name}: {type(error).__name__}: {error}")
"""


def core() -> dict[str, Distribution]:
    """Return the core dependencies and everything that these depend on, as installed here."""
    todo, found = [Requirement(text) for text in PYPROJECT["dependencies"]], {}
    while todo:
        needed = todo.pop()
        name = canonicalize_name(needed.name)
        if name in found or (needed.marker and not needed.marker.evaluate({"extra": ""})):
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:  # libraries of CUDA, beside a CPU build of torch
            continue
        todo += map(Requirement, found[name].requires or ())
    return found


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """A folder with the sdist, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("built")
    source, dist = folder / "source", folder / "dist"
    shutil.copytree(ROOT, source, ignore=NOT_BUILT)
    code = f"from setuptools import build_meta; build_meta.build_sdist({str(dist)!r})"
    dist.mkdir()
    built([sys.executable, "-c", code], source)
    [sdist] = dist.glob("*.tar.gz")
    options = ("--no-build-isolation", "--no-deps", "--disable-pip-version-check")
    built([sys.executable, "-m", "pip", "wheel", *options, "-w", str(dist), str(sdist)], folder)
    return dist


def built(command: list[str], cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(dist):
    [path] = dist.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


@pytest.fixture(scope="module")
def installed(dist, tmp_path_factory):
    """The programs of an environment that holds the wheel and its core dependencies, nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder / "env", with_pip=False, symlinks=True)
    packages = folder / "core"
    packages.mkdir()
    for found in core().values():
        for top in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            if not (packages / top).exists():
                (packages / top).symlink_to(Path(str(found.locate_file(top))))
    programs = folder / "env" / "bin"
    [site] = (folder / "env" / "lib").glob("python*/site-packages")
    (site / "core.pth").write_text(str(packages))
    [path] = dist.glob("*.whl")
    command = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(programs / "python"),
        "--disable-pip-version-check",
    ]
    built([*command, "install", "--no-index", "--no-deps", str(path)], folder)
    return programs


@pytest.fixture
def call(installed, tmp_path):
    """Run a program of that environment in an empty folder: exit code, standard output, standard error."""

    def call(program: str, *words: str) -> tuple[int, str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        done = subprocess.run(
            [installed / program, *words], cwd=tmp_path, env=kept | {"OMP_NUM_THREADS": "1"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    return call


def metadata(wheel: zipfile.ZipFile) -> Message:
    [name] = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return message_from_bytes(wheel.read(name))


@pytest.mark.slow
def test_the_wheel_holds_the_package_its_profiles_and_its_notebooks(wheel):
    wanted = {path.relative_to(ROOT).as_posix() for path in (ROOT / "noiseutils").rglob("*.py")}
    wanted |= {path.relative_to(ROOT).as_posix() for path in (ROOT / "noiseutils").rglob("*.csv")}
    wanted |= {f"noiseutils/params/{p.parent.name}/{p.name}" for p in (ROOT / "params").glob("*/*.yaml")}
    parts = (("notebooks", "*.ipynb"), ("notebooks", "solutions/*.ipynb"), ("docs", "**/*.md"))
    for folder, pattern in parts:
        wanted |= {f"noiseutils/{path.relative_to(ROOT)}" for path in (ROOT / folder).glob(pattern)}
    wanted |= {f"noiseutils/docs/{name}" for name in ("conf.py", "_ext/book_extension.py")}
    wanted |= {f"noiseutils/docs/_static/book.{kind}" for kind in ("css", "js")}
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == wanted | {"noiseutils/py.typed"}


@pytest.mark.slow
def test_the_sdist_holds_what_a_wheel_is_built_from(dist):
    [path] = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"setup.py", "pyproject.toml", "LICENSE", "CHANGELOG.md", "CITATION.cff", "pins.txt"} <= names
    assert {f"params/{name}/smoke.yaml" for name in STUDIES} <= names
    assert not [name for name in names if name.startswith(("outputs", "tests", "build"))]


@pytest.mark.slow
def test_the_metadata_has_the_readme_and_the_extras(wheel):
    """What `twine check --strict` asks for, and what an index shows."""
    found = metadata(wheel)
    assert found["Description-Content-Type"] == "text/markdown"
    assert "Four papers add noise" in str(found.get_payload())
    assert set(found.get_all("Provides-Extra") or ()) == set(PYPROJECT["optional-dependencies"])
    assert (found["License-Expression"], found["Version"]) == ("MIT", noiseutils.__version__)
    assert "Typing :: Typed" in (found.get_all("Classifier") or ())


@pytest.mark.slow
def test_the_core_environment_has_none_of_the_extras(call):
    extras = ("IPython", "papermill", "nbconvert", "ipywidgets", "foolbox", "pyautoattack", "pytest")
    code = f"from importlib.util import find_spec; print([n for n in {extras} if find_spec(n)])"
    assert call("python", "-c", code) == (0, "[]\n", "")


@pytest.mark.slow
def test_the_two_lines_work_on_torchvisions_resnet18(call):
    code, out, err = call("python", "-c", EXAMPLE)
    assert (code, out) == (0, "True True\n"), err


@pytest.mark.slow
def test_only_the_live_views_need_more_than_the_core_and_they_say_what(call):
    code, out, err = call("python", "-c", EVERY_MODULE)
    assert code == 0, err
    assert out.splitlines()
    for line in out.splitlines():
        assert line.startswith("noiseutils.widgets")
        assert f"UserError: rendering a notebook needs the notebooks extra: {NOTEBOOKS}" in line


@pytest.mark.slow
def test_what_displays_a_figure_says_that_ipython_is_missing(call):
    code, _, err = call("python", "-c", "from noiseutils.studies.output import display; display(1)")
    assert code == 1
    assert f"figures and tables are displayed by IPython: {NOTEBOOKS}" in err.splitlines()[-1]


@pytest.mark.slow
def test_a_sweep_of_a_profile_writes_to_outputs_of_the_current_folder(call, tmp_path):
    words = ("noisy_dropout", "--profile", "smoke")
    code, out, err = call("noiseutils", "sweep", *words, "--executor", "inline")
    assert (code, "30 of 30 runs stored; done." in out) == (0, True), out + err
    assert len(list(tmp_path.glob("outputs/runs/*/run.json"))) == 30
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]
    code, out, err = call("noiseutils", "status", *words)
    assert (code, "finished     30" in out) == (0, True), out + err


@pytest.mark.slow
@pytest.mark.parametrize("study", STUDIES)
def test_the_newcomers_profile_starts(call, study):
    code, out, err = call("noiseutils", "status", study)
    assert (code, f"{study}, quick: " in out) == (0, True), out + err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "nonsense"), "study 'nonsense' is not known; allowed: noisy_dropout, adaptive_noise"),
        (("run", "noisy_dropout", "--profile", "nosuch"), "profiles of noisy_dropout: cifar10, overnight"),
        (("run", "noisy_dropout"), NOTEBOOKS),
        (("run", "all"), NOTEBOOKS),
        (("book",), "pip install 'noiseutils[notebooks,docs]'"),
        (("publish", "noisy_dropout"), NOTEBOOKS),
        (("sweep", "training_data_variation"), "pip install 'noiseutils[attacks]'"),
    ],
)
def test_what_an_extra_is_needed_for_names_it_and_trains_nothing(call, tmp_path, words, said):
    code, out, err = call("noiseutils", *words)
    assert (code, out) == (2, "")
    assert err.startswith("noiseutils: ")
    assert said in err
    assert len(err.splitlines()) <= 3
    assert not list(tmp_path.glob("outputs/runs/*"))


@pytest.mark.slow
def test_claims_without_committed_results_say_so(call):
    code, out, err = call("noiseutils", "claims", "noisy_dropout")
    assert code == 0
    assert "no committed results in outputs/reference" in err
    assert "replicated" in out


@pytest.mark.slow
def test_the_data_sets_that_the_package_brings_along_are_there(call):
    assert call("noiseutils", "data", "check", "digits")[0] == 0
    assert call("noiseutils", "data", "check", "shapes")[0] == 0


def test_a_checkout_uses_its_own_folders():
    assert provenance.in_checkout()
    assert provenance.shipped("params") == ROOT / "params"
    assert provenance.reference_root() == ROOT / "outputs" / "reference"


def test_an_installed_package_uses_its_own_profiles_and_the_current_folder(tmp_path, monkeypatch):
    """A pyproject.toml that another package left in site-packages does not make that a checkout."""
    monkeypatch.delenv("NOISEUTILS_OUTPUTS", raising=False)
    site, here = tmp_path / "site-packages", tmp_path / "here"
    (site / "noiseutils" / "params").mkdir(parents=True)
    (site / "pyproject.toml").touch()
    here.mkdir()
    monkeypatch.setattr(provenance, "PACKAGE", site / "noiseutils")
    monkeypatch.setattr(provenance, "CHECKOUT", site)
    monkeypatch.chdir(here)
    assert provenance.shipped("params") == site / "noiseutils" / "params"
    assert provenance.outputs_root() == here / "outputs"
    assert provenance.reference_root() == here / "outputs" / "reference"


def test_the_citation_has_this_version_and_the_four_papers():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (cited["cff-version"], cited["title"], cited["license"]) == ("1.2.0", "noiseutils", "MIT")
    assert cited["version"] == noiseutils.__version__
    assert cited["authors"] == PYPROJECT["authors"]
    papers = {study.paper[1]: study.paper[0] for study in STUDIES.values() if study.paper[0]}
    assert {reference["title"] for reference in cited["references"]} == papers.keys()
    for reference in cited["references"]:
        assert papers[reference["title"]].startswith(reference["authors"][0]["family-names"])


def test_the_changelog_begins_with_this_version():
    headings = [line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## ")]
    assert headings[0] == f"## {noiseutils.__version__}"


def test_a_release_is_tested_on_every_python_it_names_and_keeps_no_secret():
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text()
    jobs = yaml.safe_load(text)["jobs"]
    named = [words.split(" :: ")[-1] for words in PYPROJECT["classifiers"] if ":: Python :: 3." in words]
    assert jobs["tests"]["strategy"]["matrix"]["python"] == named == ["3.11", "3.12", "3.13"]
    assert set(jobs["publish"]["needs"]) == {"tests", "build"}
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert "secrets." not in text
