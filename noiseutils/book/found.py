"""Write the book's first page: every claim of the papers with its best evidence, as Markdown and HTML."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from noiseutils.book.tables import Html, table_html
from noiseutils.book.verdicts import WORDS, badge
from noiseutils.config import EMBEDDED
from noiseutils.errors import UserError
from noiseutils.markdown import markdown_list
from noiseutils.studies import STUDIES, evidence, findings
from noiseutils.studies.output import read_table
from noiseutils.studies.readable import effect
from noiseutils.studies.registry import made_of

NEEDED_COLUMNS = {  # columns
    *("name", "section", "claim", "test", "claimed", "difference", "low"),
    *("high", "n", "verdict", "settings", "counted", "images", "train", "epochs", "width"),
}
HEADS = ("claim", "verdict", "measured: effect [95 % interval]", "trained on")
TEXT_COLUMNS = [
    "section",
    "claim",
    "test",
    "claimed",
    "verdict",
    "images",
    "train",
    "epochs",
    "width",
    "settings",
]
MINIATURE = "miniature"  # what the pages call embedded images


def best_evidence(reference: Path, rendered: Iterable[Path]) -> tuple[pd.DataFrame, list[str]]:
    """Return every claim with its best evidence among committed and rendered results, and what is damaged.

    rendered: folders outputs/<study>/<profile>, each with tables/claims.csv where its notebook judges claims.
    """
    more: dict[str, list[pd.DataFrame]] = {}
    problems = []
    for folder in rendered:
        path = folder / "tables" / "claims.csv"
        if folder.parent.name not in STUDIES or not path.is_file():
            continue
        try:
            table = read_table(path)
            if missing := NEEDED_COLUMNS - set(table.columns):
                raise UserError(f"claims.csv: has no column {min(missing)}; render the study again")
        except UserError as error:
            problems.append(f"{'/'.join(folder.parts[-2:])}/tables/{error}")
            continue
        texts = table[TEXT_COLUMNS].astype(object).fillna("").astype(str)
        table[TEXT_COLUMNS] = texts.replace(r"^(\d+)\.0$", r"\1", regex=True)  # a number beside an empty cell
        known = {claim.name for claim in STUDIES[folder.parent.name].claims}
        kept = table.loc[table.name.isin(known)].drop(columns=["data", "commit", "device"], errors="ignore")
        more.setdefault(folder.parent.name, []).append(kept.assign(profile=folder.name))
    return evidence.evidence(reference=reference, more=more), problems


def short_tables(reference: Path, claims: pd.DataFrame) -> str:
    """Return the answer in short as Markdown: noises in one setting as HTML, then how the verdicts went."""
    tables = [
        table_html(list(table.columns), table.to_numpy().tolist(), says, fold=False, sort=False)
        for says, table in findings.in_short(reference)
    ]
    return "\n\n".join([*tables, markdown_list(findings.in_sentences(claims))])


def counts_table(claims: pd.DataFrame) -> str:
    """Return the counts of verdicts by paper as HTML: of the claims that noise helps, then of all."""
    tables = ((findings.helpful(claims), "Claims that noise helps."), (claims, "All claims."))
    return "\n\n".join(
        table_html(findings.SCORE_HEADS, findings.score_rows(table), caption, sort=False)
        for table, caption in tables
    )


def main_table(claims: pd.DataFrame) -> str:
    """Return the papers' main claims as HTML, judged or not."""
    return claims_html(findings.main_claims(claims), "The papers' main claims.", fold=False)


def causes_table(claims: pd.DataFrame) -> str:
    """Return what explains differences from the papers as Markdown with a table in HTML, if anything."""
    found = findings.explained(claims)
    if not found:
        return ""
    rows = [
        [_claim(one.claim), _judged(one.claim), one.cause, _judged(one.twin), _change(one)] for one in found
    ]
    heads = ["claim", "as counted", "changed", "then", "difference"]
    caption = "One thing changed: the claim as it counts, and its twin."
    title = "## What verdicts depend on"
    return f"{title}\n\n{table_html(heads, rows, caption, sort=False)}"


def methods_tables(reference: Path) -> str:
    """Return how all methods compare as Markdown with tables in HTML; empty without committed comparisons."""
    tables = [
        table_html(list(table.columns), table.to_numpy().tolist(), says, fold=False)
        for says, table in findings.overviews(reference)
    ]
    return "\n\n".join(["## All methods in one setting", *tables]) if tables else ""


def numbers_table(reference: Path) -> str:
    """Return how many of the papers' printed numbers stand beside ours as HTML."""
    return table_html(
        findings.NUMBER_HEADS, findings.number_rows(reference), findings.NUMBERS_CAPTION, sort=False
    )


def all_tables(claims: pd.DataFrame) -> str:
    """Return every claim, then what stands beside the claims, as Markdown with tables in HTML."""
    counted, real = claims.loc[claims.counted], findings.is_real(claims.loc[claims.counted])
    small = (counted.n > 0) & ~real & (counted.settings == "embedded")
    some = (counted.n > 0) & ~real & ~small
    parts = [
        ("Judged on real images", counted.loc[real]),
        ("Measured on real images, without a verdict", counted.loc[some]),
        (f"Seen in {MINIATURE}: embedded images, which decide nothing", counted.loc[small]),
        ("Not run yet", counted.loc[~real & ~small & ~some]),
        ("Other readings and controls, beside the claims", claims.loc[~claims.counted & (claims.n > 0)]),
    ]
    return "\n\n".join(
        f"## {title}\n\n{claims_html(rows, f'{title}.', fold='beside' in title)}"
        for title, rows in parts
        if len(rows)
    )


def box(claims: pd.DataFrame, study: str) -> str:
    """Return the main claims of a paper with their verdicts as HTML."""
    own = findings.main_claims(claims)
    return claims_html(own.loc[own.study == study], "The main claims.", fold=False)


def claims_html(claims: pd.DataFrame, caption: str, fold: bool = True) -> str:
    """Return claims as a table in HTML."""
    return table_html(HEADS, [_row(row) for row in evidence.rows_of(claims)], caption, fold)


def _row(row: Mapping[str, Any]) -> list[str]:
    """Return the cells of a claim: four, so that the table fits its page."""
    n = int(row["n"])
    made = made_of(row) if n else "–"
    if n and set(str(row["images"]).split(", ")) & set(EMBEDDED):
        made = f"{MINIATURE}: {made}"
    return [
        _claim(row),
        Html(badge(evidence.word(row), findings.shown(row))),
        _effect(row) if n else "–",
        f"n = {n}; {made}" if n else "–",
    ]


def _claim(row: Mapping[str, Any]) -> Html:
    """Return a claim below the place of its paper as HTML."""
    place = html.escape(f"{evidence.paper_name(row['study'])}, {row['section']}")
    return Html(f'<span class="where">{place}</span><br>{html.escape(evidence.said(row))}')


def _judged(row: Mapping[str, Any]) -> Html:
    return Html(f"{badge(evidence.word(row))}<br>{_effect(row)}, n = {int(row['n'])}")


def _change(one: findings.Explained) -> Html:
    """Return what a cause changes the effect by as HTML; the effect does not break."""
    text = effect(one.change.mean, one.change.low, one.change.high, one.claim["test"])
    return Html(html.escape(text).replace(" ", "&nbsp;"))


def _effect(row: Mapping[str, Any]) -> Html:
    """Return what was measured and the effect below it as HTML; the effect does not break."""
    text = html.escape(evidence.effect_of(row, with_n=False)).replace(" ", "&nbsp;")
    return Html(f"{html.escape(row['test'])}<br><b>{text}</b>")


def legend() -> str:
    """Return the meaning of each verdict word as HTML."""
    rows = [[Html(badge(word)), outcome.meaning, why] for word, (outcome, why) in WORDS.items()]
    return table_html(("verdict", "what it says", "when"), rows, "Verdict words.", sort=False)


def escaped(text: str) -> str:
    """Return text for a line of Markdown, free of markup."""
    line = " ".join(html.unescape(text).split())
    return re.sub(r"([\\`*_\[\]<>$|{}#~&])", r"\\\1", line)
