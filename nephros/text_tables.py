"""Numbers and tables as text: Markdown, CSV, HTML and terminal tables."""

from __future__ import annotations

import csv
import html
import io
import math
import re
from collections.abc import Collection, Iterable, Sequence

from rich.table import Table

from nephros.escaping import escape_for_csv

Rows = Sequence[Sequence[str]]
EN_DASH = "\N{EN DASH}"


def format_number(value: float | None, digits: int = 4, missing: str = "") -> str:
    """Return a number with `digits` decimals; `missing` for None and NaN."""
    return missing if value is None or math.isnan(value) else f"{value:.{digits}f}"


def format_percent(fraction: float | None, digits: int = 1, missing: str = "") -> str:
    """Return a fraction of 1 in percent, without the sign; `missing` for None and NaN."""
    return format_number(None if fraction is None else 100 * fraction, digits, missing)


def format_count(value: int | None) -> str:
    """Return a whole number with thousands separators; empty for None."""
    return "" if value is None else f"{value:,}"


def format_timestamp(iso: str) -> str:
    """Return an ISO 8601 time in UTC as ``2026-11-25 21:09:13 UTC``; any other text unchanged."""
    return re.sub(r"^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?\+00:00$", r"\1 \2 UTC", iso)


def format_minutes(minutes: float) -> str:
    """Return a duration as ``4.0 seconds`` or, from one minute on, ``12.3 minutes``."""
    return f"{60 * minutes:.1f} seconds" if minutes < 1 else f"{minutes:.1f} minutes"


def pluralize(n: int, noun: str) -> str:
    """Return a count with its noun, such as ``1 epoch`` or ``1,200 epochs``."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def join_words(words: Iterable[str]) -> str:
    """Return such as ``train, val and test``."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def list_names(names: Iterable[str]) -> str:
    """Return names with commas between them; with semicolons where a name has a comma itself."""
    names = tuple(names)
    return ("; " if any("," in name for name in names) else ", ").join(names)


def markdown_table(headers: Sequence[str], rows: Rows) -> str:
    """Return a Markdown table; bars within cells are escaped."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def csv_table(headers: Sequence[str], rows: Rows) -> str:
    """Return a table as CSV text; backticks around a cell are removed, and no cell is a formula (`escape_for_csv`)."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(headers)
    writer.writerows([[escape_for_csv(cell.strip("`")) for cell in row] for row in rows])
    return buffer.getvalue()


def html_table(title: str, headers: Sequence[str], rows: Rows, notes: Iterable[str] = ()) -> str:
    """Return a title, a table and notes as HTML for notebooks, whose style it takes; all text is escaped."""

    def row(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    head = f"<thead>{row('th', headers)}</thead>" if headers else ""
    body = "".join(row("td", cells) for cells in rows)
    lines = "".join(f"<br><small>{html.escape(note)}</small>" for note in notes)
    return f"<div><strong>{html.escape(title)}</strong><table>{head}<tbody>{body}</tbody></table>{lines}</div>"


def terminal_table(title: str, headers: Sequence[str], rows: Rows, *, numeric: Collection[str] = ()) -> Table:
    """Return a table for the terminal; columns whose header is in `numeric` are aligned right."""
    table = Table(title=title)
    for header in headers:
        table.add_column(header, justify="right" if header in numeric else "left")
    for row in rows:
        table.add_row(*row)
    return table
