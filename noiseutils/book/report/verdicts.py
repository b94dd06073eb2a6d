"""What the tables' verdicts come to: counted by word, sorted by what they mean, each word explained.

Counted are the rows of tables with a column `verdict`, in kinds that do not mix: the papers' claims, the
numbers that the papers report, and comparisons that no paper makes; of claims and numbers, those judged on
the paper's own images at its setting apart from all others. A claim's other readings are not counted.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd

KINDS = {  # by how a table's name begins
    "claim": "Claims of the paper",
    "reported": "Numbers that the paper reports",
    "": "Comparisons beyond the paper",
}
REPLICATED = ", on its own images at its setting"


class Outcome(NamedTuple):
    """What verdicts mean, whatever their words: as a class of the style, a sign, and a heading."""

    name: str
    sign: str
    meaning: str


AGREES = Outcome("agrees", "✓", "as the paper says")
DIFFERS = Outcome("differs", "✗", "not as the paper says")
OPEN = Outcome("open", "○", "not decided by these runs")
NONE = Outcome("none", "–", "no verdict is due")
OTHER = Outcome("other", "•", "found beside the paper")
OUTCOMES = (AGREES, DIFFERS, OPEN, NONE, OTHER)

WORDS = {  # the words of noiseutils.stats and of the studies, in the order that they are shown in
    "held": (AGREES, "the difference goes where the paper says, p < 0.05 after Holm's correction"),
    "agrees": (AGREES, "the reported number, as rounded, lies where one more training of ours would"),
    "the opposite": (DIFFERS, "the difference goes the other way, p < 0.05 after Holm's correction"),
    "ours is higher": (DIFFERS, "the 95 % interval of one more training of ours lies above the number"),
    "ours is lower": (DIFFERS, "the 95 % interval of one more training of ours lies below the number"),
    "ours is not below": (DIFFERS, "the paper gives an upper limit, and all of our interval lies above it"),
    "ours is not above": (DIFFERS, "the paper gives a lower limit, and all of our interval lies below it"),
    "not shown": (OPEN, "nothing is shown: too small an effect, or too wide an interval, to tell"),
    "no difference shown": (OPEN, "none was found, which does not prove that there is none"),
    "too few seeds": (NONE, "a verdict takes six paired seeds"),
    "embedded images: no verdict": (NONE, "the images that the package brings along decide nothing"),
    "at chance: no verdict": (NONE, "a network that learned nothing supports no claim"),
    "counted as top-1 error": (NONE, "the same quantity under another name"),
    "no gap to close: no verdict": (NONE, "a regulariser is judged only where there is overfitting"),
    "other settings: no verdict": (NONE, "the profile changes what the number depends on, such as epochs"),
    "not run": (NONE, "the profile leaves it out, or its runs are not finished"),
    "sturdier": (OTHER, "more images right than without noise, p < 0.05 after Holm's correction"),
    "weaker": (OTHER, "fewer images right than without noise, p < 0.05 after Holm's correction"),
}


def kind_of(name: str) -> str:
    """Which of KINDS a table's verdicts are, by its name."""
    return next(kind for kind in KINDS if name.startswith(kind))


def heading(kind: str) -> str:
    """A kind of verdicts in words, as `count` names it."""
    base = kind.removesuffix(REPLICATED)
    return KINDS[base] + kind[len(base) :]


def outcome_of(word: str) -> Outcome:
    """What a verdict's word means; one that is not known is shown as it is."""
    return WORDS.get(word, (OTHER, ""))[0]


def count(tables: Mapping[str, pd.DataFrame]) -> dict[str, Counter[str]]:
    """How often each verdict stands in a set's tables, by kind; kinds without any are absent."""
    found: dict[str, Counter[str]] = {}
    for name, table in tables.items():
        if "verdict" not in table:
            continue
        kind = kind_of(name)
        counted = table[table["counted"].astype(bool)] if "counted" in table else table
        own = counted.get("settings", pd.Series("", index=counted.index)) == "paper"
        for heading, rows in ((f"{kind}{REPLICATED}", counted[own]), (kind, counted[~own])):
            found.setdefault(heading, Counter()).update(pd.Series(rows["verdict"]).dropna().astype(str))
    order = [f"{kind}{where}" for kind in KINDS for where in (REPLICATED, "")]
    return {kind: found[kind] for kind in order if found.get(kind)}


def totals(words: Counter[str]) -> dict[Outcome, int]:
    """Verdict counts of one kind by what they mean."""
    return {o: sum(n for word, n in words.items() if outcome_of(word) == o) for o in OUTCOMES}


def badge(word: str, text: str | None = None) -> str:
    """A verdict as HTML.   text: what is said instead of the word alone."""
    return signed(outcome_of(word), text or word)


def badges(counts: Mapping[str, Counter[str]]) -> str:
    """Verdict counts as HTML, a line a kind: `Claims of the paper (12 tested): 3 held, 1 the opposite …`."""
    order = [*WORDS]
    lines = []
    for kind, words in counts.items():
        known = sorted(
            words, key=lambda w: (OUTCOMES.index(outcome_of(w)), order.index(w) if w in order else 99)
        )
        items = "".join(f"<li>{badge(word, f'{words[word]} {word}')}</li>" for word in known)
        lines.append(
            f'<p>{heading(kind)}, {words.total()} in all</p><ul class="verdicts" role="list">{items}</ul>'
        )
    return "".join(lines)


def legend() -> str:
    """What each verdict word means, as HTML."""
    rows = "".join(
        f'<tr><th scope="row">{signed(outcome, word)}</th><td>{html.escape(outcome.meaning)}</td>'
        f"<td>{html.escape(why)}</td></tr>"
        for word, (outcome, why) in WORDS.items()
    )
    return (
        '<table class="sortable"><thead><tr><th scope="col">verdict</th><th scope="col">what it says</th>'
        f'<th scope="col">when</th></tr></thead><tbody>{rows}</tbody></table>'
    )


def signed(outcome: Outcome, text: str) -> str:
    """Words about verdicts of one outcome as HTML: sign and border of its own, no colour alone."""
    sign = f'<span aria-hidden="true">{outcome.sign}</span>'
    return f'<span class="verdict {outcome.name}">{sign} {html.escape(text)}</span>'
