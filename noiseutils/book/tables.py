"""Write tables as HTML for the book: in boxes that scroll, ready to sort, every cell escaped."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

import pandas as pd

from noiseutils.book.verdicts import badge
from noiseutils.studies.readable import readable

MADE_WITH = ["data", "commit", "device"]  # columns that every table ends with, equal in all rows
NUMBER_PATTERN = re.compile(r"^[^\w.+-]*[-+−]?(\d|\.\d)")
LONG_TABLE = 60  # rows; longer tables are folded
WORDY_CHARACTERS = 24  # characters; a column with more needs room on a phone


class Html(str):
    """A cell that is HTML already."""


def told(tables: Iterable[pd.DataFrame], column: str, separator: str) -> list[str]:
    """List what tables say in one of MADE_WITH, each once.   separator: between values in one cell."""
    values = (str(v) for table in tables if column in table for v in table[column].dropna().unique())
    return list(dict.fromkeys(filter(None, (p.strip() for v in values for p in v.split(separator)))))


def frame_html(table: pd.DataFrame, caption: str, name: str = "") -> str:
    """Return a table for readers, verdicts second, without the columns of MADE_WITH.   name: of its file."""
    shown, _ = readable(table.drop(columns=MADE_WITH, errors="ignore"), name)
    names = list(shown.columns)
    rows = [list(row) for row in shown.itertuples(index=False)]
    if "verdict" in names[2:]:  # at the end of a wide table a phone would not show it
        column = names.index("verdict")
        for row in (names, *rows):
            row.insert(1, row.pop(column))
    verdict = names.index("verdict") if "verdict" in names else None
    for row in rows:
        if verdict is not None and row[verdict] != "–":
            row[verdict] = Html(badge(row[verdict]))
    return table_html(names, rows, caption)


def table_html(
    names: Sequence[str], rows: Sequence[Sequence[str]], caption: str, fold: bool = True, sort: bool = True
) -> str:
    """Return a table of texts as one line of HTML.   fold: put long ones behind a line to open."""
    kinds = [_kind([row[column] for row in rows]) for column in range(len(names))]
    head = "".join(
        f'<th scope="col"{kind}>{_breakable(name)}</th>' for name, kind in zip(names, kinds, strict=True)
    )
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{_cell(c)}</td>" for c, kind in zip(row, kinds, strict=True)) + "</tr>"
        for row in rows
    )
    kind = ' class="sortable"' if sort else ""
    table = f"<table{kind}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    boxed = scrolled(table, caption)
    if fold and len(rows) > LONG_TABLE:
        boxed = f"<details><summary>All {len(rows)} rows</summary>{boxed}</details>"
    return one_line(boxed)


def scrolled(table: str, caption: str) -> str:
    """Return a table in HTML in a box of its own width, below its caption in plain text."""
    label = html.escape(caption) or "Table"
    said = f'<p class="caption">{html.escape(caption)}</p>' if caption else ""
    return f'{said}<div class="scroll" role="region" tabindex="0" aria-label="{label}">{table}</div>'


def in_boxes(text: str) -> str:
    """Return the HTML of a notebook's output with each table in its box, its caption above."""

    def boxed(found: re.Match[str]) -> str:
        table = found[0]
        caption = re.search(r"<caption>(.*?)</caption>", table, re.S)
        if caption:
            table = table.replace(caption[0], "", 1)
        simple = not re.search(r'(col|row)span="(?!1")', table)
        if simple and "<thead>" in table:
            table = re.sub(r"<table\b", '<table class="sortable"', table, count=1)
            table = re.sub(r"<th(?![^>]*scope)([^>]*col_heading[^>]*)>", r'<th scope="col"\1>', table)
        return scrolled(table, html.unescape(caption[1]) if caption else "")

    return re.sub(r"<table\b(?:(?!<table\b).)*?</table>", boxed, text, flags=re.S)


def one_line(text: str) -> str:
    """Return HTML without line ends: Markdown ends a block of it at the first empty line."""
    return re.sub(r"\s*\n\s*", " ", text)


def _kind(cells: Sequence[str]) -> str:
    filled = [cell for cell in cells if cell not in ("", "–")]
    if filled and all(NUMBER_PATTERN.match(cell) and not isinstance(cell, Html) for cell in filled):
        return ' class="number"' if max(map(len, filled)) <= WORDY_CHARACTERS + 8 else ""
    wordy = any(len(cell) > WORDY_CHARACTERS for cell in filled if not isinstance(cell, Html))
    return ' class="wordy"' if wordy else ""


def _cell(cell: str) -> str:
    return cell if isinstance(cell, Html) else html.escape(cell)


def _breakable(name: str) -> str:
    """Return a column's name; a long one may break at its underscores, so that digits below stay narrow."""
    return html.escape(name).replace("_", "_<wbr>") if len(name) > 12 else html.escape(name)
