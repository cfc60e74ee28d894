"""Tables as text, as spreadsheets and other programs write them: encodings, delimiters, headers and missing values."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

DELIMITERS = (",", ";", "\t", "|")
_MISSING_VALUES = frozenset({"", "NA", "N/A", "#N/A", "<NA>", "NaN", "nan", "NULL", "null"})
"""What spreadsheets, R, pandas and databases write for a value that isn't there."""


@dataclass(frozen=True)
class DelimitedText:
    """The cells of a table, without blanks around them and without empty rows."""

    rows: tuple[tuple[int, tuple[str, ...]], ...]
    """Line number, from 1, and cells of each row; all rows are as long as the longest."""
    is_windows_text: bool
    """Whether the text is neither UTF-8 nor UTF-16, and was read in code page 1252."""


def parse_delimited_text(content: bytes) -> DelimitedText:
    """Read a table whose columns are separated by commas, semicolons, tabs or bars, whichever its header has most of.

    The line ``sep=;``, by which spreadsheets name the delimiter, and comments before the header are left out.

    Raises:
        UnicodeError: the text is neither UTF-8 nor UTF-16, and holds bytes that are not text.
        csv.Error: the cells can't be told apart.
    """
    text, is_windows_text = _decode(content)
    lines = text.splitlines(keepends=True)
    first = next((index for index, line in enumerate(lines) if not _is_preamble(line)), len(lines))
    header = lines[first] if first < len(lines) else ""
    reader = csv.reader(
        io.StringIO("".join(lines[first:]), newline=""), delimiter=max(DELIMITERS, key=header.count), strict=False
    )
    rows = [
        (first + reader.line_num, [" ".join(cell.splitlines()).strip() for cell in row]) for row in reader if any(row)
    ]
    width = max((len(row) for _, row in rows), default=0)
    return DelimitedText(
        tuple((line, (*row, *[""] * (width - len(row)))) for line, row in rows if any(row)), is_windows_text
    )


def is_missing(cell: str) -> bool:
    """Return whether a cell is empty, or holds what programs write for a missing value, such as ``NA``."""
    return cell in _MISSING_VALUES


def _is_preamble(line: str) -> bool:
    """Return whether a line before the header is empty, names the delimiter, or is a comment."""
    text = line.strip().lower()
    is_comment = text.startswith("#") and not any(delimiter in text for delimiter in DELIMITERS)
    return not text or text.startswith(("sep=", '"sep=')) or is_comment


def _decode(content: bytes) -> tuple[str, bool]:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16"), False
    if content[:64:2].strip(b"\0") and not any(content[1:64:2]):
        return content.decode("utf-16-le"), False  # without its mark
    try:
        return content.decode("utf-8-sig"), False
    except UnicodeDecodeError:
        if b"\0" in content:
            raise
        return content.decode("cp1252", "replace"), True
