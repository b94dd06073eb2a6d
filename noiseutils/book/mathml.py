"""Convert equations to MathML, which browsers draw without a script, a font or the network."""

from __future__ import annotations

import html
import re

from noiseutils.book.extras import notebooks_extra

ENVIRONMENTS = {
    "align*",
    "array",
    "bmatrix",
    "cases",
    "equation",
    "equation*",
    "matrix",
    "pmatrix",
    "vmatrix",
}
TEX = (  # what latex2mathml does not read, as it reads it
    (r"\{(?:align|aligned|split)\}", "{align*}"),
    (r"\\arg\s*\\(min|max)", r"\\arg\1"),
    (r"(\\math(?:bb|bf|cal|rm)) +([A-Za-z])", r"\1{\2}"),
    (r"(?s)^(.*)\\tag\{([^}]*)\}(.*)$", r"\1\3\\qquad\\text{(\2)}"),
)
MATHML = (  # what it writes, as browsers draw it; the namespace is implied in HTML
    (' xmlns="http://www.w3.org/1998/Math/MathML"', ""),
    ("<mi>&#x0007E;</mi>", "<mo>&#x0223C;</mo>"),
    ("<mi>&#x000B1;</mi>", "<mo>&#x000B1;</mo>"),
    ('"negativethinmathspace"', '"-0.167em"'),
    (r"\%", "%"),
)
# the tags of an equation; `convert` copies texts, links and styles as they are
TAG = (
    r"</?(?:math|semantics|mrow|mstyle|mspace|mpadded|mphantom|menclose|mfenced|mfrac|msqrt|mroot|m[inos]|mtext|"
    r"msub|msup|msubsup|munder|mover|munderover|mmultiscripts|mtable|mtr|mtd)"
    r'(?: (?!on|href|style|src|class|id)[a-z]+="[^"<>]*")* ?/?>'
)


def typeset(text: str) -> str:
    """HTML with $...$ and $$...$$ outside its tags and code as MathML; what is no equation stays."""

    def drawn(found: re.Match[str]) -> str:
        block, inline = found["block"], found["inline"]
        try:
            return mathml(html.unescape(block or inline), "block" if block else "inline")
        except (TypeError, ValueError):  # TypeError: neither, a tag or code
            return found[0]

    inline = r"(?<![\\$\w])\$(?P<inline>[^\s$<](?:[^$<]*[^\s$<])?)\$(?![\d$])"
    skipped = r"<(pre|code|script|style|math)\b(?s:.)*?</\1>|<[^>]*>"
    return re.sub(rf"{skipped}|\$\$(?P<block>[^$<]+)\$\$|{inline}", drawn, text)


def mathml(tex: str, display: str) -> str:
    """An equation as MathML; ValueError for one that latex2mathml would draw wrongly or not at all."""
    with notebooks_extra():
        from latex2mathml.converter import convert
    for pattern, plain in TEX:
        tex = re.sub(pattern, plain, tex)
    if unknown := set(re.findall(r"\\begin\{([^}]*)\}", tex)) - ENVIRONMENTS:
        raise ValueError(
            f"environment {min(unknown)} is not known; allowed: {', '.join(sorted(ENVIRONMENTS))}"
        )
    try:
        drawn = convert(tex, display=display)
    except (
        Exception
    ) as error:  # the library's errors have no common base, and broken TeX brings out others too
        raise ValueError(f"not valid TeX ({type(error).__name__})") from None
    if found := re.search(r">(\\[A-Za-z]+|&)<", drawn):
        raise ValueError(f"{found[1]} is not known, or not here")
    if re.sub(TAG, "", drawn).count("<"):
        raise ValueError("holds markup, a link or a style")
    for wrong, right in MATHML:
        drawn = drawn.replace(wrong, right)
    # a long one scrolls on a phone: by keys, too
    scrolled = 'class="equation" role="group" aria-label="equation" tabindex="0"'
    return f"<span {scrolled}>{drawn}</span>" if display == "block" else drawn
