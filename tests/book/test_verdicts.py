"""Verdicts as the book shows them: every word that the package says has its sign and its explanation."""

import ast
from pathlib import Path

import noiseutils
from noiseutils.book.verdicts import WORDS

PACKAGE = Path(noiseutils.__file__).parent


def test_every_reason_for_no_verdict_is_explained():
    said = {
        node.value
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and str(node.value).endswith(": no verdict")
    }
    assert {"no gain: no verdict", "at chance: no verdict"} <= said
    assert {word for word in said if word != ": no verdict"} <= set(WORDS)
