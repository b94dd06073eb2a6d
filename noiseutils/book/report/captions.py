"""What a study's notebook says over its tables, for results that lie here without an executed notebook."""

from __future__ import annotations

import ast
from pathlib import Path

from noiseutils.book.notebooks import read_notebook


def captions(notebook: Path) -> dict[str, str]:
    """Captions by the names of tables, out of the notebook's calls of `output.table(table, name, caption)`.

    A caption that the notebook puts together as it runs is not in it.
    """
    found = {}
    for cell in read_notebook(notebook)["cells"]:
        if cell["cell_type"] != "code":
            continue
        try:
            tree = ast.parse("".join(cell["source"]))
        except SyntaxError:  # a line for IPython
            continue
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "table":
                match call.args:
                    case [_, ast.Constant(str(name)), ast.Constant(str(caption)), *_]:
                        found[name] = caption
    return found
