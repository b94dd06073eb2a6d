"""Locate the folders of outputs, and record the versions that made a result."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

VERSION = "0.1.0"
PACKAGE = Path(__file__).resolve().parent
CHECKOUT = PACKAGE.parent  # where the package is not installed from a wheel


def in_checkout() -> bool:
    """Tell whether the package lies in a checkout of the project; if not, it was installed from a wheel."""
    # a wheel's package holds its profiles itself, and other packages leave a pyproject.toml in site-packages
    return (CHECKOUT / "pyproject.toml").exists() and not (PACKAGE / "params").is_dir()


def shipped(name: str) -> Path:
    """Return the folder `params` or `notebooks`: the checkout's, or its copy in the installed package."""
    return (CHECKOUT if in_checkout() else PACKAGE) / name


def project_root() -> Path:
    """Return the checkout, or the current folder where the package is installed without one."""
    return CHECKOUT if in_checkout() else Path.cwd()


def outputs_root() -> Path:
    """Return $NOISEUTILS_OUTPUTS, else outputs/ of the checkout, else of the current folder."""
    if named := os.environ.get("NOISEUTILS_OUTPUTS"):
        return Path(os.path.expanduser(named)).absolute()
    return project_root() / "outputs"


def reference_root() -> Path:
    """Return the folder of committed results, outputs/reference/ of the checkout or of the current folder."""
    return project_root() / "outputs" / "reference"


def data_root(root: str | None = None) -> Path:
    """Return the folder that a data set is looked for in, $NOISEUTILS_DATA or ~/.cache/noiseutils/data.

    root: the set's own, if it has one.
    """
    given = root or os.environ.get("NOISEUTILS_DATA")
    return Path(os.path.expanduser(given)) if given else Path.home() / ".cache" / "noiseutils" / "data"


@functools.cache
def versions() -> dict[str, str]:
    """Return versions that a result depends on, and the commit of the code."""
    packages = ("torch", "torchvision", "numpy")
    return {
        "noiseutils": VERSION,
        "commit": commit(),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "platform": f"{platform.system()} {platform.machine()}",
    }


def commit() -> str:
    """Return the checkout's commit, with `+` behind it when tracked code differs; "" outside a checkout."""
    if not (CHECKOUT / ".git").exists():
        return ""
    try:
        found = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", "noiseutils")
    except (OSError, subprocess.CalledProcessError):
        return ""
    return found + ("+" if changed else "")


def _git(*words: str) -> str:
    done = subprocess.run(["git", "-C", str(CHECKOUT), *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()
