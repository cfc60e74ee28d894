"""Numbers as text, and rows of text as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence

Rows = Sequence[Sequence[str]]


def markdown_table(headers: Sequence[str], rows: Rows) -> str:
    """Return a Markdown table; a bar within a cell is escaped."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def csv_table(headers: Sequence[str], rows: Rows) -> str:
    """Return the table as CSV text, Markdown's code marks around a cell left out."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(headers)
    writer.writerows([[cell.strip("`") for cell in row] for row in rows])
    return buffer.getvalue()


def format_number(value: float | None, digits: int = 4) -> str:
    """Return a number with so many decimals; empty for none."""
    return "" if value is None or math.isnan(value) else f"{value:.{digits}f}"
