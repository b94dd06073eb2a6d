"""`make lab` and `make classroom` as a person meets them: no question, no way out to other servers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lab_page import PATIENCE, ROOT, free_port

nbformat = pytest.importorskip("nbformat", reason="needs the notebooks extra")
pytestmark = pytest.mark.slow

TINY = "notebooks/06_live_lab.ipynb"  # in the place of the live lab, which others test


@pytest.fixture
def checkout(tmp_path):
    """A repository with what `make lab` reads, and one small notebook that git knows."""
    root = tmp_path / "a checkout"
    shutil.copytree(ROOT / ".jupyter", root / ".jupyter", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Makefile", root)
    (root / "notebooks").mkdir()
    cells = [
        nbformat.v4.new_markdown_cell(
            '# Tiny\n\n<p class="in-jupyterlab">Run it.</p>\n\nSee [the start](00_start_here.ipynb).',
            id="title",
        ),
        nbformat.v4.new_code_cell("import torch\n\nprint('threads:', torch.get_num_threads())", id="threads"),
    ]
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), root / TINY)
    for words in (["init", "-q"], ["add", "notebooks"]):
        subprocess.run(["git", "-C", str(root), *words], check=True)
    return root


@contextmanager
def made(target: str, root: Path, *flags: str) -> Iterator[str]:
    """Start what a target of the Makefile starts, without a browser; yield the address with the token."""
    told = subprocess.run(
        ["make", "-n", "--no-print-directory", target, "-o", ".venv/.complete"],
        cwd=root,
        env={name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")},
        capture_output=True,
        text=True,
    )
    line = told.stdout.strip().splitlines()[-1].replace(".venv/bin", str(ROOT / ".venv/bin"))
    places = {name: str(root / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR")}
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"} | places
    log = root / "server.log"
    command = f"exec env {line} --no-browser --port={free_port()} {' '.join(flags)}"
    with log.open("w") as file:
        server = subprocess.Popen(command, shell=True, cwd=root, env=environment, stdout=file, stderr=file)
        try:
            until = time.monotonic() + PATIENCE
            while not (found := re.search(r"http://127\.0\.0\.1:\S*token=\w+", log.read_text())):
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.2)
            yield found[0]
        finally:
            server.terminate()
            server.wait(PATIENCE)


def test_make_lab_opens_the_lab_asks_nothing_and_leaves_the_notebooks_as_they_were(checkout, opened):
    before = (checkout / TINY).read_bytes()
    with made("lab", checkout, "--allow-root") as address, opened(address) as (page, _):
        page.set_default_timeout(1000 * PATIENCE)
        page.get_by_text("| Idle").wait_for()
        page.wait_for_timeout(2000)
        assert page.get_by_role("button", name="No", exact=True).count() == 0, "no offer of news"
        page.locator('[data-jp-item-name="restart-and-run"]').locator("button, jp-button").first.click()
        page.get_by_text("threads: 1", exact=True).wait_for()  # no question comes first
        page.keyboard.press("Control+s")
        page.wait_for_timeout(3000)
        assert page.get_by_text("threads: 1", exact=True).count() == 1, "on the page the output stays"
    assert (checkout / TINY).read_bytes() == before


def test_the_classroom_app_asks_no_other_server_and_leads_to_no_page_that_it_does_not_serve(checkout, opened):
    with made("classroom", checkout) as address, opened("about:blank") as (page, errors):
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        page.get_by_text("threads: 1", exact=True).wait_for(timeout=1000 * PATIENCE)
        assert page.get_by_text("See the start.").count() == 1
        assert page.locator('a[href*=".ipynb"]').count() == 0
        assert page.get_by_text("Run it.").count() == 0
        own = (address.partition("/?")[0].split("?")[0], "data:", "blob:")
        assert [url for url in asked if not url.startswith(own)] == []
        assert errors == []
