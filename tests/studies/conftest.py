"""What the tests of the studies share."""

import ast
from pathlib import Path

import nbformat
import pytest

from noiseutils.studies import RENDERED

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def notebook_parameters():
    """A study's name -> the names and values of its notebook's parameters, in their order."""

    def parameters(study: str) -> dict:
        notebook = nbformat.read(ROOT / "notebooks" / f"{RENDERED[study].notebook}.ipynb", as_version=4)
        cell = next(c for c in notebook.cells if "parameters" in c.metadata.get("tags", ()))
        return {node.target.id: ast.literal_eval(node.value) for node in ast.parse(cell.source).body}

    return parameters
