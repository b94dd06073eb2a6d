"""What was found, for readers: in short, the papers' main claims, what explains differences, head to head.

README's first page and outputs/reference/README.md, the list of all that was judged, are written from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from noiseutils.markdown import markdown_list, markdown_table
from noiseutils.provenance import reference_root
from noiseutils.stats import MIN_SEEDS
from noiseutils.studies import STUDIES
from noiseutils.studies.evidence import (
    JUDGED,
    committed,
    effect_of,
    evidence,
    paper_name,
    printed,
    rows_of,
    sets_of,
    summary,
    word,
)
from noiseutils.studies.readable import claimed_in_points, is_share_difference
from noiseutils.studies.registry import made_of

SCORES = ("paper", "claims", "replicated", *JUDGED, "none yet")  # columns of `score_rows`
LISTED_AT, LISTED = "outputs/reference", "README.md"  # all that was judged


class Explained(NamedTuple):
    """A claim as it counts, and its twin with one thing changed, both with their evidence."""

    cause: str
    claim: Mapping[str, Any]
    twin: Mapping[str, Any]


def is_real(claims: pd.DataFrame) -> pd.Series:
    """Tell, row by row, whether a claim has a verdict from real images."""
    return claims.verdict.isin(JUDGED) & (claims.n >= MIN_SEEDS)


def in_sentences(claims: pd.DataFrame) -> list[str]:
    """Return in sentences how often noise helped, and how all verdicts went."""
    counts = summary(claims).iloc[-1]
    went = [f"{counts[name]} {name}" for name in ("replicated", *JUDGED)]
    return [
        _helped(claims),
        f"Of all {counts['claims']} claims in the registry, {counts['judged']} have a verdict from real "
        f"images and six seeds or more: {', '.join(went)}. {counts['claims'] - counts['judged']} have none "
        "yet.",
    ]


def _helped(claims: pd.DataFrame) -> str:
    """Return how the claims went that say that noise helps; the others say what it costs, or does not."""
    says = {(study.name, claim.name) for study in STUDIES.values() for claim in study.claims if claim.helps}
    own = [pair in says for pair in zip(claims.study, claims.name, strict=True)]
    counts = summary(claims.loc[own]).iloc[-1]
    return (
        f"**{counts['claims']}** claims say that a paper's noise makes a network better, or its gap between "
        f"training and test smaller, than the same training without it. **{counts['judged']}** of them are "
        f"judged: **{counts['replicated']}** replicated, **{counts['held']}** held, "
        f"**{counts['the opposite']}** the opposite, **{counts['not shown']}** not shown."
    )


def main_claims(claims: pd.DataFrame) -> pd.DataFrame:
    """Return the claims that papers are read for, paper by paper, judged or not, without printed numbers."""
    named = [(study.name, name) for study in STUDIES.values() for name in study.main]
    known = claims.set_index(["study", "name"], drop=False)
    found = known.loc[[one for one in named if one in known.index]].reset_index(drop=True)
    return found.assign(claim=found.claim.str.replace(r" \(printed: .*\)$", "", regex=True))


def explained(claims: pd.DataFrame) -> list[Explained]:
    """Return the causes that real images have decided on: both have a verdict, and not the same one."""
    known = {(row["study"], row["name"]): row for row in rows_of(claims.loc[is_real(claims)])}
    pairs = [
        (cause.text, known.get((study.name, cause.claim)), known.get((study.name, cause.twin)))
        for study in STUDIES.values()
        for cause in study.causes
    ]
    return [
        Explained(text, claim, twin)
        for text, claim, twin in pairs
        if claim and twin and claim["verdict"] != twin["verdict"]
    ]


def overviews(reference: Path | None = None) -> list[tuple[str, pd.DataFrame]]:
    """Return what committed results say beside the claims of papers, as tables under their captions."""
    return [
        found
        for folder, results in sets_of(reference or reference_root())
        for found in STUDIES[folder.parent.name].overview(results).items()
    ]


def in_short(reference: Path | None = None) -> list[str]:
    """Return in sentences what committed results say beside the claims of papers."""
    return [
        sentence
        for folder, results in sets_of(reference or reference_root())
        for sentence in STUDIES[folder.parent.name].in_short(results)
    ]


def first_words(reference: Path | None = None) -> str:
    """Return the answer as Markdown: noises in one setting, claims that noise helps, verdicts by paper."""
    claims = evidence(reference=reference)
    items = markdown_list([*in_short(reference), *in_sentences(claims)])
    return "\n\n".join([items, _table(SCORES, score_rows(claims))])


def score_rows(claims: pd.DataFrame) -> list[list[str]]:
    """Return how the verdicts went, a row of texts a paper, and one for all."""
    return [
        [
            paper_name(row["study"]),
            *(str(row[name]) for name in ("claims", "replicated", *JUDGED)),
            str(row["claims"] - row["judged"]),
        ]
        for row in rows_of(summary(claims))
    ]


def in_readme(reference: Path | None = None) -> str:
    """Return what was found as Markdown for the README: the main claims, causes, head to head."""
    claims = evidence(reference=reference)
    main = main_claims(claims)
    judged = is_real(main)
    parts = [
        f"Of the {len(main)} claims that we take for the papers' main ones, {int(judged.sum())} have a "
        f"verdict; all stand in [{LISTED_AT}]({LISTED_AT}/{LISTED}). {numbers_in_a_sentence(reference)}"
    ]
    if judged.any():
        parts += [_table(MAIN_HEADS, map(_main_row, rows_of(main.loc[judged])))]
    if not judged.all():
        parts += ["Without a verdict yet:", open_claims(main.loc[~judged])]
    if causes := explained(claims):
        parts += ["What explains a difference between a paper's result and ours:"]
        parts += [markdown_list(map(_cause_said, causes))]
    for says, table in overviews(reference):
        folded = _table(list(table.columns), table.to_numpy().tolist())
        parts += [f"<details><summary>{says}</summary>", folded, "</details>"]
    return "\n\n".join(parts)


def open_claims(claims: pd.DataFrame) -> str:
    """Return claims without a verdict as a list in Markdown, each with why it has none."""
    return markdown_list(
        f"{paper_name(row['study'])}, {said(row)}: *{shown(row)}*" for row in rows_of(claims)
    )


MAIN_HEADS = ("paper", "claim", "verdict", "measured: effect [95 % interval]", "n", "trained on")


def said(row: Mapping[str, Any]) -> str:
    """Return a claim in words, with the margin that is meant by "the same"."""
    margin = row["claimed"] if row["claimed"].startswith("within") else ""
    if margin and is_share_difference(row["test"]):
        margin = claimed_in_points(margin)
    return f"{row['claim']} ({margin})" if margin else row["claim"]


def shown(row: Mapping[str, Any]) -> str:
    """Return a verdict in words, or why there is none."""
    if row["verdict"] in JUDGED:
        return word(row)
    seeds = f" ({int(row['n'])} of {MIN_SEEDS})" if row["verdict"] == "too few seeds" else ""
    return f"{row['verdict'].removesuffix(': no verdict')}{seeds}"


def _main_row(row: Mapping[str, Any]) -> list[str]:
    return [
        f"{paper_name(row['study'])}, {row['section']}",
        said(row),
        f"**{word(row)}**",
        f"{row['test']}: {effect_of(row, with_n=False)}",
        str(int(row["n"])),
        made_of(row),
    ]


def _cause_said(one: Explained) -> str:
    """Return a cause as an item of a list: the claim as it counts, what is changed, what is found then."""
    found = [f"{word(row)}, {effect_of(row)}" for row in (one.claim, one.twin)]
    claim = f"{paper_name(one.claim['study'])}, {said(one.claim)} ({one.claim['test']})"
    return f"{claim}: **{found[0]}**. With {one.cause}: **{found[1]}**."


def page(reference: Path | None = None) -> str:
    """Return the page of all that was judged: counts, claims, what stands beside, the committed results."""
    claims = evidence(reference=reference)
    parts = [
        "# Committed results",
        "Written by `noiseutils claims --readme` from the folders beside this file.",
        _table(SCORES, score_rows(claims)),
    ]
    judged = claims.loc[is_real(claims)]
    parts += ["## Printed numbers beside ours", BESIDE, _table(NUMBERS, number_rows(reference))]
    for counted, title in (
        (True, "Judged so far"),
        (False, "Other readings and controls, beside the claims"),
    ):
        rows = [_judged_row(row) for row in rows_of(judged.loc[judged.counted == counted])]
        heads = ("paper", "claim", "tested by", "found", "verdict")
        parts += [f"## {title}", _table(heads, rows)] if rows else []
    heads = ("results", "images", "networks", "epochs", "width", "seeds", "runs", "hours of training")
    parts += ["## Sets of results", _table(heads, map(_set_row, rows_of(committed(reference))))]
    return "\n\n".join(parts) + "\n"


BESIDE = (
    "A number of a paper stands beside ours where a training here measured the same quantity of the same "
    "network and method. It agrees where it lies in the range in which one more training of ours would, of "
    "six seeds or more."
)
NUMBERS = ("paper", "printed", "beside ours", "with six seeds", "judged", "agree", "at which settings")


def numbers_in_a_sentence(reference: Path | None = None) -> str:
    """Return how many printed numbers stand beside ours in a sentence."""
    counts = printed(reference=reference)[["printed", "beside", "six_seeds", "judged", "agree"]].sum()
    return (
        f"Of the {counts['printed']} numbers that the papers print, {counts['beside']} stand beside ours, "
        f"{counts['six_seeds']} with six seeds; at a paper's own setting, where a number can be judged, are "
        f"{counts['judged']}, of which {counts['agree']} agree."
    )


def number_rows(reference: Path | None = None) -> list[list[str]]:
    """Return how many of each paper's printed numbers stand beside ours, a row of texts a paper."""
    counts = ("printed", "beside", "six_seeds", "judged", "agree")
    table = printed(reference=reference)
    rows = [
        [paper_name(row["study"]), *(str(row[name]) for name in counts), row["settings"] or "–"]
        for row in rows_of(table)
    ]
    return [*rows, ["All", *(str(table[name].sum()) for name in counts), ""]]


def _table(heads: Iterable[str], rows: Iterable[list[str]]) -> str:
    return markdown_table(tuple(heads), rows)


def _judged_row(row: Mapping[str, Any]) -> list[str]:
    where = f"{paper_name(row['study'])}, {row['section']}"
    return [where, said(row), row["test"], f"{effect_of(row)}; {made_of(row)}", f"**{word(row)}**"]


def _set_row(row: Mapping[str, Any]) -> list[str]:
    values = [str(row[name]) for name in ("images", "networks", "epochs", "width", "seeds", "runs")]
    name = f"[{paper_name(row['study'])}: {row['set']}]({row['study']}/{row['set']})"
    return [name, *values, f"{row['hours']:.1f}"]
