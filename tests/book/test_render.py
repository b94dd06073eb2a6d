"""A notebook becomes a page that reads without a network, whole or not at all."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import noiseutils
from noiseutils.book import render as render_module
from noiseutils.book.export import to_html
from noiseutils.book.extras import notebooks_extra
from noiseutils.book.render import current, render, stamp
from noiseutils.errors import UserError

nbformat = pytest.importorskip("nbformat", reason="needs the notebooks extra")
pytest.importorskip("papermill", reason="needs the notebooks extra")

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
TEXT = r"""# Noise in $\sigma$

$$h = \begin{cases} x / (1 - p) & \text{if kept} \\ \sigma \odot z & \text{if dropped} \end{cases}$$

Code stays: `$a$`.

<details>
<summary>Solution for $\eta$</summary>

It is hidden.

</details>
"""
FIGURE = """
from IPython.display import Image, display
display(Image('pixel.png', alt='One dot & no more.', width=20))
"""


def write(folder: Path, *cells: str, name: str = "01_study.ipynb") -> Path:
    """A notebook with a parameters cell; a text starting with # is markdown."""
    v4 = nbformat.v4
    made = [
        v4.new_code_cell("data: str = 'shapes'  # which images\nn = 2", metadata={"tags": ["parameters"]})
    ]
    made += [v4.new_markdown_cell(c) if c.startswith("# ") else v4.new_code_cell(c) for c in cells]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pixel.png").write_bytes(PIXEL)
    nbformat.write(v4.new_notebook(cells=made), folder / name)
    return folder / name


def loads(page: str) -> list[str]:
    """What a page makes a browser fetch: no plain links, no embedded data."""
    found = re.findall(r"""<(?!a\b)[^>]*?\b(?:src|href)\s*=\s*["']?([^"'\s>]+)""", page)
    found += re.findall(r"""url\(\s*["']?([^"')\s]+)""", page)
    found += re.findall(r"""@import\s+["']?([^"'\s;]+)|\bimport\(?\s*["']([^"']+:[^"']+)["']""", page)
    return [str(item) for item in found if not str(item).startswith(("data:", "#"))]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """One notebook rendered once: (source, folder, stamp)."""
    root = tmp_path_factory.mktemp("render {braces}")
    code = (
        "import json, os, sys\nprint(json.dumps([os.getcwd(), sys.executable, data, n, os.environ['LENT']]))"
    )
    notebook = write(root / "notebooks", TEXT, code, FIGURE)
    folder = root / "outputs" / "study" / "quick"
    mark = stamp(notebook, {"n": 5})
    render(notebook, folder, {"n": 5, "data": "digits"}, mark, {"LENT": "to the kernel"})
    return notebook, folder, mark


def test_rendering_is_current_for_its_stamp_and_for_no_other(rendered):
    notebook, folder, mark = rendered
    assert current(notebook, folder, mark)
    assert not current(notebook, folder, stamp(notebook, {"n": 6}))
    assert sorted(path.name for path in folder.iterdir()) == ["01_study.html", "01_study.ipynb"]


@pytest.mark.parametrize("harm", ["cut the notebook", "lose the page", "lose the end time"])
def test_torn_rendering_is_not_current(rendered, tmp_path, harm):
    notebook, folder, mark = rendered
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    made = copy / "01_study.ipynb"
    if harm == "cut the notebook":
        made.write_text(made.read_text()[:-20])
    elif harm == "lose the page":
        (copy / "01_study.html").unlink()
    else:
        nb = json.loads(made.read_text())
        del nb["metadata"]["papermill"]["end_time"]
        made.write_text(json.dumps(nb))
    assert not current(notebook, copy, mark)


def test_notebook_runs_in_its_own_folder_on_this_interpreter_with_the_parameters(rendered):
    notebook, folder, _ = rendered
    cells = json.loads((folder / "01_study.ipynb").read_text())["cells"]
    printed = ["".join(out["text"]) for cell in cells for out in cell.get("outputs", []) if "text" in out]
    assert json.loads(printed[0]) == [str(notebook.parent), sys.executable, "digits", 5, "to the kernel"]
    assert "LENT" not in os.environ


def test_an_installed_notebook_runs_where_the_command_was_called(tmp_path, monkeypatch):
    """Its own folder is site-packages: results would be written, and data looked for, in there."""
    monkeypatch.setattr(render_module, "in_checkout", lambda: False)
    monkeypatch.chdir(tmp_path)
    source = write(tmp_path / "site-packages" / "notebooks", "from pathlib import Path\nPath('mark').touch()")
    render(source, tmp_path / "made", {}, "stamp")
    assert (tmp_path / "mark").exists()


def test_kept_notebook_names_no_folder_of_this_machine(rendered):
    _, folder, _ = rendered
    metadata = json.loads((folder / "01_study.ipynb").read_text())["metadata"]
    assert str(folder.parent) not in json.dumps(metadata)


def test_stamp_follows_cells_and_parts_but_not_outputs(tmp_path):
    notebook = write(tmp_path, "n + 1")
    first = stamp(notebook, {"a": 1, "b": 2})
    assert stamp(notebook, {"b": 2, "a": 1}) == first != stamp(notebook, {"a": 1})
    nb = nbformat.read(notebook, as_version=4)
    nb.cells[1].execution_count = 7
    nb.cells[1].outputs = [nbformat.v4.new_output("stream", text="3")]
    nbformat.write(nb, notebook)
    assert stamp(notebook, {"a": 1, "b": 2}) == first
    nb.cells[1].source = "n + 2"
    nbformat.write(nb, notebook)
    assert stamp(notebook, {"a": 1, "b": 2}) != first


def test_stamp_follows_every_file_of_the_package(tmp_path, monkeypatch):
    assert Path(noiseutils.__file__).parent == render_module.PACKAGE
    notebook, source = write(tmp_path, "n + 1"), tmp_path / "package" / "studies" / "figures.py"
    source.parent.mkdir(parents=True)
    source.write_text("a = 1")
    monkeypatch.setattr(render_module, "PACKAGE", tmp_path / "package")
    first = stamp(notebook)
    source.write_text("a = 2")
    assert stamp(notebook) != first


def test_unknown_parameter_is_refused_before_anything_runs(tmp_path):
    notebook = write(tmp_path / "notebooks", "open('ran', 'w').close()")
    with pytest.raises(UserError, match=r"01_study\.ipynb: parameter 'sed' is not known; allowed: data, n"):
        render(notebook, tmp_path / "out", {"sed": 1}, "s")
    assert not (notebook.parent / "ran").exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("tex", [r"\foo{x}", r"\frac{1}{", r"\begin{tikz} x \end{tikz}", "a & b"])
def test_broken_equation_is_refused_before_anything_runs(tmp_path, tex):
    notebook = write(tmp_path / "notebooks", f"# Title\n\n${tex}$", "open('ran', 'w').close()")
    with pytest.raises(UserError, match=r"01_study\.ipynb: equation .*(known|valid)"):
        render(notebook, tmp_path / "out", {}, "s")
    assert not (notebook.parent / "ran").exists()


def test_failing_cell_is_named_and_an_earlier_rendering_stays(rendered, tmp_path):
    _, folder, _ = rendered
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    notebook = write(tmp_path / "notebooks", "print('so far')", "\n1 / (n - 5)")
    expected = (
        r"01_study\.ipynb: cell \[4\] '1 / \(n - 5\)' failed: ZeroDivisionError: division by zero\n.*failed"
    )
    with pytest.raises(UserError, match=expected):
        render(notebook, copy, {"n": 5}, "s")
    kept = copy / "01_study.failed.ipynb"
    assert "so far" in kept.read_text()
    kept.unlink()
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before


def test_what_ran_before_the_kernel_died_is_kept(tmp_path):
    notebook = write(tmp_path / "notebooks", "print('so far')", "import os\nos._exit(1)")
    with pytest.raises(UserError, match="kernel died"):
        render(notebook, tmp_path / "out", {}, "s")
    (kept,) = (tmp_path / "out").iterdir()
    assert kept.name == "01_study.failed.ipynb"
    printed = [
        out["text"] for cell in nbformat.read(kept, as_version=4).cells for out in cell.get("outputs", [])
    ]
    assert printed == ["so far\n"]


def test_an_executed_notebook_is_written_when_all_cells_have_run(tmp_path):
    """Not after every cell: a study's is megabytes."""
    code = "from pathlib import Path\nprint([path.name for path in Path('../out').iterdir()])"
    notebook = write(tmp_path / "notebooks", "1 + 1", code)
    render(notebook, tmp_path / "out", {}, "s")
    cells = nbformat.read(tmp_path / "out" / notebook.name, as_version=4).cells
    assert cells[-1].outputs[0].text == "[]\n"


def test_what_the_jupyter_stack_is_imported_without_can_be_imported_later(monkeypatch):
    monkeypatch.delitem(sys.modules, "rfc3987_syntax", raising=False)
    with notebooks_extra():
        assert sys.modules["rfc3987_syntax"] is None
    assert "rfc3987_syntax" not in sys.modules


def test_rendering_never_overwrites_its_source(tmp_path):
    notebook = write(tmp_path)
    before = notebook.read_bytes()
    with pytest.raises(UserError, match="overwritten"):
        render(notebook, tmp_path, {}, "s")
    assert notebook.read_bytes() == before


@pytest.mark.parametrize("text", [None, "{", "[]", '{"nbformat": 3}'])
def test_what_is_no_notebook_is_refused_by_name(tmp_path, text):
    path = tmp_path / "x.ipynb"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=r"x\.ipynb: (is not a notebook|cannot be read)"):
        to_html(path)


def test_missing_extra_is_named(tmp_path, monkeypatch):
    notebook = write(tmp_path)
    monkeypatch.setitem(sys.modules, "papermill", None)
    with pytest.raises(UserError, match=r"pip install 'noiseutils\[notebooks\]'"):
        render(notebook, tmp_path / "out", {}, "s")


def test_page_fetches_nothing(rendered):
    _, folder, _ = rendered
    page = (folder / "01_study.html").read_text()
    assert loads('<script src="https://cdn.example/x.js">') == ["https://cdn.example/x.js"]
    assert loads(page) == []
    assert "<script" not in page
    assert "<link" not in page


def test_widgets_and_scripts_in_outputs_reach_no_network(tmp_path):
    notebook = write(tmp_path, "view")
    nb = nbformat.read(notebook, as_version=4)
    view = {
        "application/vnd.jupyter.widget-view+json": {"model_id": "a", "version_major": 2, "version_minor": 0},
        "text/html": "<b>still frame</b><script src='https://cdn.example/x.js'></script>",
        "text/plain": "View()",
    }
    nb.cells[1].outputs = [nbformat.v4.new_output("display_data", data=view)]
    state = {"state": {"a": {}}, "version_major": 2, "version_minor": 0}
    nb.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": state}
    nbformat.write(nb, notebook)
    page = to_html(notebook)
    assert "<b>still frame</b>" in page
    assert loads(page) == []
    assert "<script" not in page


def test_equations_become_mathml_and_code_keeps_its_dollars(rendered):
    _, folder, _ = rendered
    page = (folder / "01_study.html").read_text()
    assert page.count("<math") == 3  # heading, cases, summary
    assert "<mtable>" in page
    assert "⊙" in page
    assert "<code>$a$</code>" in page


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("It costs \\$5 or \\$6.", "costs $5 or $6"),
        ("```python\na = '$x$'\n```", "$x$"),
        ("    $x$ and $y$", "$x$ and $y$"),
        ("Write `$$x$$` for it.", "<code>$$x$$</code>"),
        ("<pre>$x$</pre>", "<pre>$x$</pre>"),
    ],
)
def test_dollars_that_are_no_equation_stay(tmp_path, text, kept):
    page = to_html(write(tmp_path, f"# Title\n\n{text}"))
    assert "<math" not in page
    assert kept in page


@pytest.mark.parametrize("environment", ["align", "aligned", "align*", "cases", "pmatrix"])
def test_environments_have_rows(tmp_path, environment):
    equation = rf"$$\begin{{{environment}}} a &= b \\ c &= d \end{{{environment}}}$$"
    page = to_html(write(tmp_path, f"# Title\n\n{equation}"))
    assert page.count("<mtr>") == 2


def test_hidden_solution_holds_what_follows_its_summary(rendered):
    from bs4 import BeautifulSoup

    _, folder, _ = rendered
    details = BeautifulSoup((folder / "01_study.html").read_text(), "html.parser").find("details")
    assert details is not None
    assert "It is hidden." in details.get_text()


def test_figures_are_embedded_with_their_alternative_text(rendered):
    _, folder, _ = rendered
    page = (folder / "01_study.html").read_text()
    (image,) = re.findall(r"<img[^>]*>", page)
    assert 'alt="One dot &amp; no more."' in image
    assert 'src="data:image/png;base64,' in image
    assert 'width="20"' in image


def test_images_beside_the_notebook_are_embedded_and_links_are_left(tmp_path):
    text = "# Title\n\n![dot](pixel.png) <img src='pixel.png'> [next](02_next.ipynb)"
    page = to_html(write(tmp_path, text))
    assert page.count('src="data:image/png;base64') == 2
    assert '<a href="02_next.ipynb">next</a>' in page


@pytest.mark.slow
def test_browser_draws_the_equation_and_the_figure(rendered, tmp_path):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium on this machine to open the page with")
    _, folder, _ = rendered
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync"
    flags += " --disable-background-networking --disable-component-update --dump-dom"
    page = tmp_path / "page.html"
    # heights as drawn: what is not drawn has none
    probe = """<script>onload = () => {
        for (const name of ['math', 'mtable', 'main img', 'summary', 'details p']) {
            const found = document.querySelector(name), height = found.getBoundingClientRect().height
            document.body.dataset[name.replace(' ', '_')] = found.checkVisibility() ? Math.round(height) : 0
        } }</script>"""
    page.write_text((folder / "01_study.html").read_text() + probe)
    done = subprocess.run(
        [chromium, *flags.split(), f"--user-data-dir={tmp_path / 'profile'}", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    heights = {name: int(found) for name, found in re.findall(r'data-(\w+)="(\d+)"', done.stdout)}
    assert heights["math"] > 5
    assert heights["mtable"] > 25  # two rows
    assert heights["main_img"] >= 20
    assert heights["summary"] > 5
    assert heights["details_p"] == 0  # hidden until opened
