"""Settings of `make lab`: the project's notebooks are saved without outputs, so that git sees none."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHOWN = ("execution", "collapsed", "scrolled", "trusted")  # metadata of a cell that running it leaves


def tracked() -> set[str]:
    """Return the notebooks that git knows, as paths from the root; none outside a checkout."""
    command = ["git", "-C", str(ROOT), "ls-files", "--", "notebooks/*.ipynb"]
    try:
        return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    except (OSError, subprocess.CalledProcessError):
        return set()


def strip_outputs(model, path, **_):
    """Take outputs and what else running leaves out of a tracked notebook that is about to be saved."""
    if model["type"] != "notebook" or path not in NOTEBOOKS:
        return
    content = model["content"]
    content["metadata"].pop("widgets", None)
    content["metadata"]["language_info"] = {"name": "python"}
    for cell in content["cells"]:
        for name in SHOWN:
            cell["metadata"].pop(name, None)
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None


NOTEBOOKS = tracked()
c = get_config()  # noqa: F821  Jupyter gives it to this file
c.FileContentsManager.pre_save_hook = strip_outputs
if NOTEBOOKS:
    print(
        "Outputs stay on the page and are not saved: notebooks that git knows are stripped as they are saved."
    )
