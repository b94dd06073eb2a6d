"""TeX from outside, such as a class's name between dollar signs, stays text where it holds markup."""

import html

import pytest

pytest.importorskip("latex2mathml", reason="needs the notebooks extra")

from noiseutils.book.mathml import typeset

IMAGE = "<img src=x onerror=alert(1)>"


@pytest.mark.parametrize(
    "tex",
    [
        rf"$\text{{{IMAGE}}}$",
        rf"$\mbox{{{IMAGE}}}$",
        rf"$$\text{{{IMAGE}}}$$",
        rf"$\color{{\">{IMAGE}}}{{x}}$",
        r"$\href{javascript:alert(1)}{x}$",
        r"$\style{background:red}{x}$",
        rf"$\operatorname{{{IMAGE}}}$",
    ],
)
def test_markup_in_an_equation_does_not_come_alive(tex):
    page = f"<td>{html.escape(tex)}</td>"
    shown = typeset(page)
    assert "<img" not in shown
    assert "href" not in shown or shown == page
    assert "style=" not in shown


def test_letters_of_markup_are_drawn_as_letters():
    assert "<mo>&#x0003C;</mo><mi>i</mi><mi>m</mi><mi>g</mi>" in typeset(f"${html.escape(IMAGE)}$")
