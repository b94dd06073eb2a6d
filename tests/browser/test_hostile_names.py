"""Names that are markup, on every kind of page: executed notebooks, their HTML, the book, live widgets."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from lab_page import PATIENCE, LabPage, jupyterlab
from PIL import Image

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
pytest.importorskip("playwright", reason="needs the dev extra")

ALERT = "<img src=x onerror=alert(1)>"
CLASSES = (
    ALERT,
    "$a$ $b$",
    rf"$\text{{{ALERT}}}$",
    r"$\href{javascript:alert(1)}{x}$",
    "_x_ *a* `c` [l](javascript:alert(1))",
    "50% {} {0} back\\slash",
    "new\nline \u202eabc",
    "x" * 250,
    '"quoted" \'&lt;script&gt;alert(1)&lt;',
)
LABEL = f'script>{ALERT} "$q$ $r$"'
ABOVE = '"above" <'  # the label's folder: their path ends a script, and holds the label after that
# what a name could bring to life: elements with a handler, links that run, scripts
ALIVE = """() => [...document.querySelectorAll('*')].filter(e =>
  e.hasAttribute('onerror') || e.getAttribute('src') === 'x' || String(e.href).startsWith('javascript:')
  || (e.tagName.toLowerCase() === 'script' && /alert\\(1\\)/.test(e.textContent))).map(e => e.outerHTML)"""


def small_tree(root):
    draws = np.random.RandomState(0)
    for split, count in (("train", 8), ("test", 6)):
        for name in CLASSES:
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = draws.randint(0, 256, (32, 32, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")
    return root


def run(outputs, *words):
    done = subprocess.run(
        [sys.executable, "-m", "noiseutils", *words],
        env={**os.environ, "NOISEUTILS_OUTPUTS": str(outputs)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """A folder whose outputs/ has a study and the live lab on hostile images, and the book of both."""
    folder = tmp_path_factory.mktemp("hostile")
    tree, outputs = small_tree(folder / ABOVE / LABEL), folder / "outputs"
    values = {"data": str(tree), "train_size": None, "test_size": None}
    few = {"probabilities": [0.25], "readings": ["dropped"], "seeds": 1}
    lab = {**values, "model": "tinycnn", "steps": 4, "epochs": 2, "explore_profile": "smoke"}
    for study, changes in (("noisy_dropout", {**values, **few}), ("live_lab", lab)):
        changed = [f"--set={key}={json.dumps(value)}" for key, value in changes.items()]
        run(outputs, "run", study, "--profile", "smoke", "--executor", "inline", *changed)
    run(outputs, "book")
    return folder


def pages(folder) -> list[Path]:
    book = [path for path in sorted(folder.glob("outputs/book/**/*.html")) if "_static" not in path.parts]
    return [
        *sorted(folder.glob("outputs/*/smoke/*.html")),
        *book,
        *sorted(folder.glob("outputs/*/*/*/*.svg")),
    ]


def test_no_name_comes_alive_on_any_page(rendered, browser):
    found, named = pages(rendered), 0
    assert {".html", ".svg"} == {path.suffix for path in found}
    page, dialogs, errors = browser.new_context(offline=True).new_page(), [], []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    page.on("pageerror", lambda error: errors.append(str(error)))
    for path in found:
        page.goto(path.as_uri())
        assert page.evaluate(ALIVE) == [], path
        assert dialogs == errors == [], path
        named += path.suffix == ".html" and ALERT in page.locator("body").inner_text()
    page.context.close()
    assert named >= 4  # the names were there to come alive


def test_copied_notebooks_are_notebooks(rendered):
    copies = [*rendered.glob("outputs/book/**/*.ipynb")]
    assert copies
    for path in copies:
        assert json.loads(path.read_text(encoding="utf-8"))["nbformat"] == 4
        assert str(rendered) not in path.read_text(encoding="utf-8")


def test_no_name_comes_alive_in_live_widgets(rendered, browser):
    with jupyterlab(rendered) as (address,):
        shutil.copy(
            next(rendered.glob("outputs/live_lab/smoke/*.ipynb")), next((rendered / "notebooks").iterdir())
        )
        context = browser.new_context(viewport={"width": 1500, "height": 1100})
        context.set_default_timeout(1000 * PATIENCE)
        page, dialogs = context.new_page(), []
        page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        page.goto(address)
        lab = LabPage(page, rendered)
        lab.run_all()
        lab.until(lambda: page.locator(".jp-OutputArea-output").get_by_text(ALERT).count() > 0, "a name")
        lab.button("Start").click()
        lab.until(lambda: lab.steps() > 2, "steps")
        page.wait_for_timeout(1000)
        assert page.evaluate(ALIVE) == []
        assert dialogs == []
        context.close()
