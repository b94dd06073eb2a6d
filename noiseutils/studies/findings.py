"""Tell readers what was found: in short, the main claims, what explains differences, head to head.

README's first page and outputs/reference/README.md, the list of all that was judged, are written from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from noiseutils.markdown import markdown_list, markdown_table
from noiseutils.provenance import reference_root
from noiseutils.stats import CONFIDENCE, MIN_SEEDS, Interval, holm, one_sample
from noiseutils.studies import STUDIES
from noiseutils.studies.evidence import (
    JUDGED,
    by_seed,
    committed,
    effect_of,
    evidence,
    paper_name,
    printed,
    rows_of,
    said,
    sets_of,
    summary,
    word,
)
from noiseutils.studies.readable import effect
from noiseutils.studies.registry import made_of

SCORE_HEADS = ("paper", "claims", "replicated", *JUDGED, "none yet")  # columns of `score_rows`
LISTED_AT, LISTED = "outputs/reference", "README.md"  # all that was judged


class Explained(NamedTuple):
    """A claim as it counts, and its twin with one thing changed, both with their evidence.

    change: the twin's effect minus the claim's, over the seeds that both have.
    """

    cause: str
    claim: Mapping[str, Any]
    twin: Mapping[str, Any]
    change: Interval


def is_real(claims: pd.DataFrame) -> pd.Series:
    """Tell, row by row, whether a claim has a verdict from real images."""
    return claims.verdict.isin(JUDGED) & (claims.n >= MIN_SEEDS)


def helpful(claims: pd.DataFrame) -> pd.DataFrame:
    """Return the claims that say that noise helps; the others say what it costs, or does not."""
    says = {(study.name, claim.name) for study in STUDIES.values() for claim in study.claims if claim.helps}
    return claims.loc[[pair in says for pair in zip(claims.study, claims.name, strict=True)]]


def in_sentences(claims: pd.DataFrame) -> list[str]:
    """Return in sentences how often noise helped, and how all verdicts went."""
    counts, helps = (summary(table).iloc[-1] for table in (claims, helpful(claims)))
    return [
        f"**{helps['claims']}** claims say that a paper's noise makes a network better, or its gap between "
        f"training and test smaller, than the same training without it. **{helps['judged']}** of them are "
        f"judged: **{helps['replicated']}** replicated, **{helps['held']}** held, "
        f"**{helps['the opposite']}** the opposite, **{helps['not shown']}** not shown.",
        f"Of all {counts['claims']} claims, {counts['judged']} have a verdict from real images and six seeds "
        f"or more: {', '.join(f'{counts[name]} {name}' for name in ('replicated', *JUDGED))}; many of them "
        f"say what noise costs. {counts['claims'] - counts['judged']} have none yet.",
    ]


PRINTED = r" \((printed: .*)\)$"  # the paper's own numbers, at the end of a claim


def main_claims(claims: pd.DataFrame) -> pd.DataFrame:
    """Return the claims that papers are read for, paper by paper, judged or not.

    The numbers that the paper prints are taken from the claim's words into the column `printed`.
    """
    named = [(study.name, name) for study in STUDIES.values() for name in study.main]
    known = claims.set_index(["study", "name"], drop=False)
    found = known.loc[[one for one in named if one in known.index]].reset_index(drop=True)
    printed = found.claim.str.extract(PRINTED, expand=False).str.removeprefix("printed: ").fillna("–")
    return found.assign(printed=printed, claim=found.claim.str.replace(PRINTED, "", regex=True))


Measured = Callable[[Mapping[str, Any]], Mapping[int, float]]


def explained(claims: pd.DataFrame, measured: Measured = by_seed) -> list[Explained]:
    """Return the causes that real images have decided on, with how much each changes.

    Claim and twin have different verdicts, and the paired difference of their effects is shown, after Holm's
    correction over the causes of all papers.   measured: returns the numbers by seed behind a claim's row.
    """
    known = {(row["study"], row["name"]): row for row in rows_of(claims.loc[is_real(claims)])}
    pairs = [
        (cause.text, known.get((study.name, cause.claim)), known.get((study.name, cause.twin)))
        for study in STUDIES.values()
        for cause in study.causes
    ]
    found = [(text, claim, twin) for text, claim, twin in pairs if claim and twin]
    tests = [one_sample(_differences(measured(claim), measured(twin))) for _, claim, twin in found]
    return [
        Explained(*each, test.difference)
        for each, test, p in zip(found, tests, holm([test.p for test in tests]), strict=True)
        if each[1]["verdict"] != each[2]["verdict"] and p < 1 - CONFIDENCE
    ]


def _differences(claim: Mapping[int, float], twin: Mapping[int, float]) -> list[float]:
    return [twin[seed] - claim[seed] for seed in claim if seed in twin]


def overviews(reference: Path | None = None) -> list[tuple[str, pd.DataFrame]]:
    """Return what committed results say beside the claims of papers, as tables under their captions."""
    return [
        found
        for folder, results in sets_of(reference or reference_root())
        for found in STUDIES[folder.parent.name].overview(results).items()
    ]


def in_short(reference: Path | None = None) -> list[tuple[str, pd.DataFrame]]:
    """Return what `overviews` comes to, as tables under their captions."""
    return [
        found
        for folder, results in sets_of(reference or reference_root())
        for found in STUDIES[folder.parent.name].in_short(results).items()
    ]


def first_words(reference: Path | None = None) -> str:
    """Return the answer as Markdown: noises in one setting, and the claims that noise helps by paper."""
    claims = evidence(reference=reference)
    parts = []
    for says, table in in_short(reference):
        parts += [says, _table(list(table.columns), table.to_numpy().tolist())]
    parts += [markdown_list(in_sentences(claims))]
    return "\n\n".join([*parts, "Claims that noise helps:", _table(SCORE_HEADS, score_rows(helpful(claims)))])


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
        parts += ["What verdicts depend on, one thing changed at a time:"]
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


MAIN_HEADS = (
    "paper",
    "claim",
    "verdict",
    "measured: effect [95 % interval]",
    "n",
    "trained on",
    "the paper prints",
)


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
        row["printed"],
    ]


def _cause_said(one: Explained) -> str:
    """Return a cause as an item of a list: the claim as it counts, what is changed, what is found then."""
    found = [f"{word(row)}, {effect_of(row)}" for row in (one.claim, one.twin)]
    claim = f"{paper_name(one.claim['study'])}, {said(one.claim)} ({one.claim['test']})"
    change = effect(one.change.mean, one.change.low, one.change.high, one.claim["test"])
    return f"{claim}: **{found[0]}**. With {one.cause}: **{found[1]}**; that changes the effect by {change}."


def page(reference: Path | None = None) -> str:
    """Return the page of all that was judged: counts, claims, what stands beside, the committed results."""
    claims = evidence(reference=reference)
    parts = [
        "# Committed results",
        "Written by `noiseutils claims --readme` from the folders beside this file.",
        "All claims:",
        _table(SCORE_HEADS, score_rows(claims)),
        "Of them, claims that noise helps:",
        _table(SCORE_HEADS, score_rows(helpful(claims))),
    ]
    judged = claims.loc[is_real(claims)]
    parts += ["## Printed numbers beside ours", NUMBERS_CAPTION, _table(NUMBER_HEADS, number_rows(reference))]
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


NUMBERS_CAPTION = (
    "A number of a paper stands beside ours where a training here measured the same quantity of the same "
    "network and method. It agrees where it lies in the range in which one more training of ours would, of "
    "six seeds or more. A number is judged at the paper's setting alone: on its own images, or on a JPEG "
    "copy of them (copy); not where the paper leaves out what the number depends on, such as the layer, and "
    "not where something here was chosen by it: CIFAR10Net's widths by its errors without noise."
)
NUMBER_HEADS = ("paper", "printed", "beside ours", "with six seeds", "judged", "agree", "at which settings")


def numbers_in_a_sentence(reference: Path | None = None) -> str:
    """Return how many printed numbers stand beside ours in a sentence."""
    counts = printed(reference=reference)[["printed", "compared", "six_seeds", "judged", "agree"]].sum()
    return (
        f"Of the {counts['printed']} numbers that the papers print, {counts['compared']} stand beside ours, "
        f"{counts['six_seeds']} with six seeds. A number is judged where the setting is the paper's as we "
        f"read it, on its images or a JPEG copy of them, and nothing here was chosen by it: "
        f"{counts['judged']} so far, of which {counts['agree']} agree."
    )


def number_rows(reference: Path | None = None) -> list[list[str]]:
    """Return how many of each paper's printed numbers stand beside ours, a row of texts a paper."""
    counts = ("printed", "compared", "six_seeds", "judged", "agree")
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
