"""The index: every set of results with its verdicts and facts, what is missing, what the words mean."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from urllib.parse import quote

from noiseutils.book.report import verdicts
from noiseutils.book.report.figures import image_html, sharp
from noiseutils.book.report.look import frame
from noiseutils.book.report.pages import facts_html, problems_html
from noiseutils.book.report.sets import Missing, ResultSet, paper, study_title
from noiseutils.studies import STUDIES

HEADS = ("✓ agree", "✗ differ", "○ open", "– none")
TITLE = "Noise in CNN training: results"
LEAD = (
    "Four papers, rebuilt: every figure and table that was rendered here, and results measured on real "
    "images. A claim that did not hold is shown as plainly as one that did. Each figure opens in full size."
)


def index_html(
    sets: Sequence[ResultSet],
    absent: Sequence[Missing],
    bench: Sequence[tuple[str, str]],
    problems: Sequence[str],
) -> str:
    """The index as a whole page.   bench: titles and pages of benchmarks.   problems: what is left out."""
    places = {one.study: study_title(one) for one in sets}
    places |= {"bench": "Speed"} if bench else {}
    places |= {"missing": "What is missing", "verdicts": "What the verdicts mean"}
    ways = "".join(
        f'<li><a href="#{html.escape(place, quote=True)}">{html.escape(name)}</a></li>'
        for place, name in places.items()
    )
    parts = [
        f"<h1>{TITLE}</h1><p>{LEAD}</p>",
        f'<nav aria-label="On this page"><ul>{ways}</ul></nav>',
        problems_html(list(problems), "What could not be shown"),
        _glance(sets),
    ]
    for study, found in groupby(sets, key=lambda one: one.study):
        parts.append(_study(study, list(found)))
    if bench:
        items = "".join(f'<li><a href="{quote(page)}">{html.escape(title)}</a></li>' for title, page in bench)
        parts.append(f'<section id="bench"><h2>Speed</h2><ul>{items}</ul></section>')
    parts.append(_missing(absent))
    parts.append(
        '<section id="verdicts"><h2>What the verdicts mean</h2>'
        "<p>A verdict is computed from the runs, never typed in. Counted are the rows of the tables that "
        "have one: each claim of a paper once, and apart from them the single numbers that it reports, held "
        "against the interval of one more training of ours.</p>"
        '<div class="scroll" role="region" tabindex="0" aria-label="Verdicts">'
        f"{verdicts.legend()}</div></section>"
    )
    return frame(TITLE, "\n".join(parts))


def _glance(sets: Sequence[ResultSet]) -> str:
    """Verdict counts of all sets in one table, by what they mean."""
    rows = []
    for found in sets:
        counts = verdicts.count(found.tables)
        cells = []
        for kind in ("claim", "reported"):
            own = counts.get(f"{kind}{verdicts.REPLICATED}", Counter())
            totals = verdicts.totals(counts.get(kind, Counter()) + own)
            cells += [_cell(outcome, totals[outcome]) for outcome in verdicts.OUTCOMES[:4]]
        if counts:
            data = html.escape(", ".join(found.labels))
            rows.append(
                f'<tr><th scope="row"><a href="{quote(found.page)}">{found.study.replace("_", " ")}, '
                f"{html.escape(found.profile)}</a></th><td>{data}</td>{''.join(cells)}</tr>"
            )
    if not rows:
        return ""
    heads = ["results", "data"]
    heads += [f"{what} {said}" for what in ("claims", "numbers") for said in HEADS]
    said = "".join(f'<th scope="col">{head}</th>' for head in heads)
    return (
        '<section id="glance"><h2>At a glance</h2><figure class="table"><figcaption id="glance-caption">'
        "How many of the paper's claims, and of the numbers that it reports, came out as the paper says (✓), "
        "not as it says (✗), undecided by these runs (○), and without a verdict (–): embedded images, fewer "
        'than six seeds and a network at chance allow none.</figcaption><div class="scroll" role="region" '
        'tabindex="0" aria-labelledby="glance-caption"><table class="sortable">'
        f"<thead><tr>{said}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></figure></section>"
    )


def _cell(outcome: verdicts.Outcome, count: int) -> str:
    return f'<td class="number">{verdicts.signed(outcome, str(count)) if count else 0}</td>'


def _study(study: str, sets: Sequence[ResultSet]) -> str:
    authors, name = paper(study)
    cited = f"<p>{html.escape(authors)}, <em>{html.escape(name)}</em>.</p>" if name else ""
    cards = "".join(map(_card, sets))
    return (
        f'<section id="{html.escape(study)}"><h2>{html.escape(study_title(sets[0]))}</h2>{cited}'
        f'<div class="cards">{cards}</div></section>'
    )


def _card(found: ResultSet) -> str:
    page = quote(found.page)
    kind = "committed results" if found.committed else f"profile {found.profile}"
    name = f"{found.profile}: {kind}" if found.committed else kind.capitalize()
    picture = ""
    if found.figures:
        figure = found.figures[0]
        image = image_html(f"{found.place}/figures/{sharp(figure).name}", "", figure.size)
        # a picture for the eye beside a link with words: once is enough for a screen reader and the keyboard
        opened = image.index(">")
        picture = f'<a class="figure" href="{page}" tabindex="-1" aria-hidden="true"' + image[opened:]
    links = [(page, "page")]
    if found.notebook:
        links.append((quote(f"{found.place}/{found.notebook.name}"), "notebook"))
    links += [(f"{page}#{what}", what) for what in ("figures", "tables") if getattr(found, what)]
    items = "".join(
        f'<li><a href="{target}" aria-label="{what.capitalize()}: {html.escape(f"{found.study}, {name}")}">'
        f"{what}</a></li>"
        for target, what in links
    )
    counts = verdicts.badges(verdicts.count(found.tables))
    if not counts and found.study in STUDIES:
        counts = '<p class="faint">No table with verdicts.</p>'
    damaged = "".join(f"<li>{html.escape(problem)}</li>" for problem in found.problems)
    damaged = f"<p><strong>Damaged, left out:</strong></p><ul>{damaged}</ul>" if damaged else ""
    return (
        f'<article><h3><a href="{page}">{html.escape(name)}</a></h3>{picture}{counts}{facts_html(found)}'
        f'{damaged}<ul class="links" role="list">{items}</ul></article>'
    )


def _missing(absent: Iterable[Missing]) -> str:
    items = "".join(
        f"<li><strong>{row.study.replace('_', ' ')}, {html.escape(row.profile)}</strong>: "
        f"{html.escape(row.why)}<br><code>{html.escape(row.command)}</code></li>"
        for row in absent
    )
    said = "Profiles that nothing here was rendered with:" if items else "Nothing: every profile is rendered."
    return (
        f'<section id="missing"><h2>What is missing</h2><p>{said}</p>'
        f'<ul class="missing">{items}</ul></section>'
    )
