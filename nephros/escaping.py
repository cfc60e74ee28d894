"""Text from outside (file names, class names, titles) made harmless for where it goes: a terminal, or a CSV file."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

_FORMULA_START = re.compile(r"(\A|[;\t\r\n])(\s*'*[=+\-@\uff1d\uff0b\uff0d\uff20])")
"""Where a spreadsheet would begin a formula: at a cell's start, or after a character that some take for a separator."""
_ESCAPED_FORMULA_START = re.compile(r"(\A|[;\t\r\n])'(\s*'*[=+\-@\uff1d\uff0b\uff0d\uff20])")
_NUMBER_OR_SIGN = re.compile(r"[+-](\d+(\.\d*)?|\.\d+)?([eE][+-]?\d+)?%?")
_SHORT_ESCAPES = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def escape_for_terminal(text: str) -> str:
    r"""Return one line of text that a terminal shows as it is: what it would obey becomes an escape such as ``\u001b``.

    That includes control characters, line breaks, marks that reverse the direction of writing, characters of no width, and
    halves of surrogate pairs, which stand for bytes of file names that are no text. The escapes are those of JSON.
    """
    return text if text.isprintable() else "".join(map(_escape_character, text))


def escape_for_csv(value: Any) -> Any:
    """Return a CSV cell that no spreadsheet takes for a formula: an apostrophe precedes the first character of one.

    Text that is a number, and values that are no text, stay as they are. Halves of surrogate pairs, which no file can hold,
    become escapes as in `escape_for_terminal`. `unescape_from_csv` removes the apostrophes again.
    """
    if not isinstance(value, str):
        return value
    text = escape_surrogates(value)
    return text if _NUMBER_OR_SIGN.fullmatch(text) else _FORMULA_START.sub(r"\1'\2", text)


def escape_surrogates(text: str) -> str:
    """Return text that files and figures can hold: halves of surrogate pairs become escapes as in `escape_for_terminal`."""
    return "".join(_escape_character(char) if unicodedata.category(char) == "Cs" else char for char in text)


def unescape_from_csv(text: str) -> str:
    """Return the text that `escape_for_csv` made `text` of."""
    return _ESCAPED_FORMULA_START.sub(r"\1\2", text)


def _escape_character(char: str) -> str:
    if char.isprintable() or unicodedata.category(char) == "Zs":
        return char
    units = char.encode("utf-16-be", "surrogatepass").hex()
    return _SHORT_ESCAPES.get(char) or "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))
