"""Tables read from CSV and drawn: in a box of their own width, sortable, verdicts as badges."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from noiseutils.book.report import verdicts
from noiseutils.errors import UserError
from noiseutils.studies.output import brief, with_intervals

MADE_WITH = ["data", "commit", "device"]  # columns that every table ends with, equal in all rows
NUMBER = re.compile(r"^[^\w.+-]*[-+−]?(\d|\.\d)")
LONG = 60  # rows; longer tables are folded
WORDY = 24  # characters; a column with more needs room on a phone


def read_table(path: Path) -> pd.DataFrame:
    """A table as it was written. Raises UserError for one that is torn, or is none."""
    try:
        text = path.read_bytes().decode()
        if not text.endswith("\n"):  # with what to_csv ends
            raise UserError(f"{path.name}: is cut off")
        return pd.read_csv(path, keep_default_na=False, na_values=["", "nan"])
    except OSError as error:
        raise UserError(f"{path.name}: cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError):
        raise UserError(f"{path.name}: is not a table of comma-separated values") from None


def told(tables: Iterable[pd.DataFrame], column: str, separator: str) -> list[str]:
    """What tables say in one of MADE_WITH, each thing once.   separator: between things in one cell."""
    values = (str(v) for table in tables if column in table for v in table[column].dropna().unique())
    return list(dict.fromkeys(filter(None, (p.strip() for v in values for p in v.split(separator)))))


def table_html(table: pd.DataFrame, caption: str) -> str:
    """A table as HTML: intervals folded in; what made it, the same in every row, is left to the caption."""
    folded = with_intervals(table.drop(columns=MADE_WITH, errors="ignore"))
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in folded.columns)
    rows = (
        "".join(f"<td>{html.escape(brief(value))}</td>" for value in row)
        for row in folded.itertuples(index=False)
    )
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return (
        f"<table><caption>{html.escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )


def dress(soup: Any) -> None:
    """Put each table of a parsed page into a box that scrolls by itself, its caption above, ready to sort."""
    for count, table in enumerate(soup("table"), 1):
        _dress(soup, table, f"table-{count}")


def _dress(soup: Any, table: Any, name: str) -> None:
    body = table.find("tbody")
    heads = table.thead.find_all("tr") if table.thead else []
    simple = len(heads) == 1 and not table.find_all(attrs={"colspan": True, "rowspan": True})
    rows = [row.find_all(["td", "th"], recursive=False) for row in body.find_all("tr")] if body else []
    if simple and rows:
        table["class"] = "sortable"
        head_cells = heads[0].find_all(["td", "th"], recursive=False)
        _verdict_second([head_cells, *rows])
        for column, head in enumerate(head_cells):
            cells = [row[column] for row in rows if column < len(row)]
            _dress_column(soup, head, cells)
    figure, box = soup.new_tag("figure"), soup.new_tag("div", role="region", tabindex="0")
    figure["class"], box["class"] = "table", "scroll"
    table.replace_with(figure)
    if table.caption and table.caption.get_text(strip=True):
        caption = table.caption.extract()
        caption.name, caption.attrs = "figcaption", {"id": name}
        figure.append(caption)
        box["aria-labelledby"] = name
    else:
        box["aria-label"] = "Table"
    box.append(table)
    if len(rows) > LONG:
        folded, summary = soup.new_tag("details"), soup.new_tag("summary")
        summary.string = f"All {len(rows)} rows"
        folded.extend([summary, box])
        box = folded
    figure.append(box)


def _verdict_second(rows: list[list[Any]]) -> None:
    """Move the verdict behind the first column: at the end of a wide table a phone would not show it."""
    titles = [cell.get_text(strip=True) for cell in rows[0]]
    if "verdict" not in titles[2:] or len({len(row) for row in rows}) > 1:
        return
    column = titles.index("verdict")
    for row in rows:
        row.insert(1, row.pop(column))
        row[0].insert_after(row[1].extract())


def _dress_column(soup: Any, head: Any, cells: list[Any]) -> None:
    if head.name == "th":
        head["scope"] = "col"
    title = head.get_text(strip=True)
    texts = [cell.get_text(strip=True) for cell in cells]
    filled = [text for text in texts if text not in ("", "–")]
    if title == "verdict":
        for cell, text in zip(cells, texts, strict=True):
            if text not in ("", "–"):
                cell.clear()
                cell.append(soup.__class__(verdicts.badge(text), "html.parser"))
    elif filled and all(map(NUMBER.match, filled)):
        for place in (head, *cells):
            place["class"] = "number"
    elif max(map(len, texts), default=0) > WORDY:
        for cell in cells:
            cell["class"] = "wordy"
    if (
        "_" in title and len(title) > 12 and head.string
    ):  # a long name may break there, so that a column of digits stays narrow
        parts = title.split("_")
        head.clear()
        for part in parts[:-1]:
            head.extend([f"{part}_", soup.new_tag("wbr")])
        head.append(parts[-1])
