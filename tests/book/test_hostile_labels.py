"""Labels and folders that are markup stay text where a path is taken out of a notebook for the book."""

import html
import json

from noiseutils.book.found import escaped
from noiseutils.book.notebooks import pathless_notebook, private_paths
from noiseutils.studies.output import figure_title

SCRIPT = '</script><script>alert(1)</script>"'


def test_a_label_takes_a_paths_place_as_text_in_markup_and_as_it_is_in_code(tmp_path):
    folder = str(tmp_path / 'images "of" <b>')
    given = f"mnist:{folder}:{SCRIPT}"
    private = private_paths(tmp_path / "outputs", {"data": given})
    nb = {
        "cells": [
            {"cell_type": "code", "source": f"data = {given!r}"},
            {"cell_type": "markdown", "source": ["Images: ", html.escape(folder)]},
            {"outputs": [{"data": {"text/html": f"<p>{html.escape(folder)}</p>", "text/plain": folder}}]},
        ]
    }
    code, markdown, shown = pathless_notebook(nb, private)["cells"]
    assert code["source"] == f"data = 'mnist:./{SCRIPT}:{SCRIPT}'"
    assert markdown["source"][1] == html.escape(f"./{SCRIPT}")
    assert shown["outputs"][0]["data"] == {
        "text/html": f"<p>{html.escape(f'./{SCRIPT}')}</p>",
        "text/plain": f"./{SCRIPT}",
    }
    assert folder not in json.dumps(pathless_notebook(nb, private))


def test_a_path_of_letters_beyond_ascii_is_taken_out(tmp_path):
    folder = str(tmp_path / "Müller’s images")
    private = private_paths(tmp_path / "outputs", {"data": folder})
    assert pathless_notebook([f"in {folder}."], private) == ["in ./Müller’s images."]


def test_a_label_is_one_line_of_markdown_without_markup():
    assert escaped("a\n\n:::\n<b>_x_ *a* &lt;i&gt; ~~s~~ &amp;lt;") == (
        r"a ::: \<b\>\_x\_ \*a\* \<i\> \~\~s\~\~ \&lt;"
    )


def test_a_long_label_is_cut_in_a_title():
    assert len(figure_title("Errors", "x" * 255, 3)) < 100
