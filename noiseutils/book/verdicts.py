"""Explain verdict words to readers: each has a sign, a colour and an explanation."""

from __future__ import annotations

import html
from typing import NamedTuple


class Outcome(NamedTuple):
    """The meaning of verdicts, whatever their words: as a class of the style, a sign, and a heading."""

    name: str
    sign: str
    meaning: str


AGREES = Outcome("agrees", "✓", "as the paper says")
DIFFERS = Outcome("differs", "✗", "not as the paper says")
OPEN = Outcome("open", "○", "not decided by these runs")
NONE = Outcome("none", "–", "no verdict is due")
OTHER = Outcome("other", "•", "found beside the paper")

WORDS = {  # the words of noiseutils.stats and of the studies, in the order that they are shown in
    "replicated": (AGREES, "held on the paper's own images at its own setting"),
    "held": (
        AGREES,
        "the difference goes where the paper says, p < 0.05 after Holm's correction; less where seeds were "
        "added after a look",
    ),
    "agrees": (AGREES, "the reported number, as rounded, lies where one more training of ours would"),
    "the opposite": (
        DIFFERS,
        "the difference goes the other way or, where it should stay the same, beyond the margin, p as for "
        "held",
    ),
    "ours is higher": (DIFFERS, "the 95 % interval of one more training of ours lies above the number"),
    "ours is lower": (DIFFERS, "the 95 % interval of one more training of ours lies below the number"),
    "ours is not below": (DIFFERS, "the paper gives an upper limit, and all of our interval lies above it"),
    "ours is not above": (DIFFERS, "the paper gives a lower limit, and all of our interval lies below it"),
    "not shown": (OPEN, "nothing is shown: too small an effect, or too wide an interval, to tell"),
    "no difference shown": (OPEN, "none was found, which does not prove that there is none"),
    "too few seeds": (NONE, "a verdict takes six paired seeds"),
    "embedded images: no verdict": (NONE, "the images that the package brings along decide nothing"),
    "at chance: no verdict": (NONE, "a network that learned nothing supports no claim"),
    "layer not said: no verdict": (NONE, "the paper does not say at which layer it measured"),
    "too few seeds without noise: no verdict": (NONE, "whether there is overfitting is not known"),
    "no gap to close: no verdict": (NONE, "a regulariser is judged only where there is overfitting"),
    "the network with noise has not fitted its training images: no verdict": (
        NONE,
        "the difference would say how slowly it learns",
    ),
    "only neighbouring ε: no verdict": (NONE, "an optimum between two values is about either"),
    "neighbouring strengths not run: no verdict": (NONE, "the nearest rivals were not trained"),
    "no gain: no verdict": (NONE, "that a gain is small is judged only where there is one"),
    "one level, nothing to choose: no verdict": (NONE, "a best of several levels takes several"),
    "the counted claim's own numbers: no verdict": (NONE, "the same trainings, judged once already"),
    "the network's widths were chosen by it: no verdict": (NONE, "that it agrees is no evidence"),
    "other settings: no verdict": (NONE, "the profile changes what the number depends on, such as epochs"),
    "not run": (NONE, "the profile leaves it out, or its runs are not finished"),
    "more robust": (OTHER, "more images right than without noise, p < 0.05 after Holm's correction"),
    "less robust": (OTHER, "fewer images right than without noise, p < 0.05 after Holm's correction"),
}


def outcome_of(word: str) -> Outcome:
    """Return the meaning of a verdict's word; a word that is not known is shown as it is."""
    return WORDS.get(word, (OTHER, ""))[0]


def badge(word: str, text: str | None = None) -> str:
    """Return a verdict as HTML, with sign and border of its own.   text: shown instead of the word alone."""
    outcome = outcome_of(word)
    sign = f'<span aria-hidden="true">{outcome.sign}</span>'
    return f'<span class="verdict {outcome.name}">{sign} {html.escape(text or word)}</span>'
