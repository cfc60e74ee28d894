"""Text from outside (file names, class names, titles) made harmless for where it goes: a terminal, a CSV file, or a page
that people pass on."""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

_FORMULA_START = re.compile(r"(\A|[;\t\r\n])(\s*'*[=+\-@\uff1d\uff0b\uff0d\uff20])")
"""Where a spreadsheet would begin a formula: at a cell's start, or after a character that some take for a separator."""
_ANY_FORMULA_START = re.compile(_FORMULA_START.pattern.replace("[;", "[\0;"))
"""The same in many texts, with a null character between them."""
_ESCAPED_FORMULA_START = re.compile(r"(\A|[;\t\r\n])'(\s*'*[=+\-@\uff1d\uff0b\uff0d\uff20])")
_NUMBER_OR_SIGN = re.compile(r"[+-](\d+(\.\d*)?|\.\d+)?([eE][+-]?\d+)?%?")
_SHORT_ESCAPES = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def escape_for_terminal(text: str) -> str:
    r"""Return one line of text that a terminal shows as it is: what it would obey becomes an escape such as ``\u001b``.

    That includes control characters, line breaks, marks that reverse the direction of writing, characters of no width, and
    halves of surrogate pairs, which stand for bytes of file names that are not text. The escapes are those of JSON.
    """
    return text if text.isprintable() else "".join(map(_escape_character, text))


def escape_for_csv(value: Any) -> Any:
    """Return a CSV cell that no spreadsheet takes for a formula: an apostrophe precedes the first character of one.

    Text that is a number, and values that are not text, stay as they are. Halves of surrogate pairs, which no file can hold,
    become escapes as in `escape_for_terminal`. `unescape_from_csv` removes the apostrophes again.
    """
    if not isinstance(value, str):
        return value
    if not value or value.isalnum():
        return value
    text = escape_surrogates(value)
    return text if _NUMBER_OR_SIGN.fullmatch(text) else _FORMULA_START.sub(r"\1'\2", text)


def may_need_csv_escape(texts: Iterable[str]) -> bool:
    """Return False where `escape_for_csv` would change none of many texts, which is sooner known of all than of each."""
    text = "\0".join(texts)
    return _ANY_FORMULA_START.search(text) is not None or escape_surrogates(text) != text


def escape_surrogates(text: str) -> str:
    """Return text that files and figures can hold: halves of surrogate pairs become escapes as in `escape_for_terminal`."""
    try:
        text.encode()
    except UnicodeEncodeError:
        pass
    else:
        return text
    return "".join(_escape_character(char) if unicodedata.category(char) == "Cs" else char for char in text)


def unescape_from_csv(text: str) -> str:
    """Return the text that `escape_for_csv` made `text` of."""
    return _ESCAPED_FORMULA_START.sub(r"\1\2", text)


_ABSOLUTE_PATH = re.compile(
    r"""(?P<quote>['"`])(?:[a-z0-9+]+:/{2,3})?(?:/|[A-Za-z]:[\\/]|\\\\)[^'"`\n]+(?P=quote)"""  # quoted: may hold spaces
    r"""|(?<![\w./~-])(?:(?:file|sqlite):/{2,3})?(?:/(?!/)|[A-Za-z]:[\\/]|\\\\)[^\s'"`,;:()<>|]+"""
)
"""An absolute path in a sentence; neither the path of a URL nor a slash between two words."""


def without_folders(text: str, known_paths: Iterable[object] = ()) -> str:
    """Return text in which each absolute path is its last part, so that a page can be passed on.

    A path with spaces ends in a sentence where only its reader knows: one that is in quotes, or in `known_paths`, is recognized.
    """
    for path in sorted({str(path) for path in known_paths if path}, key=len, reverse=True):
        if is_absolute(path):
            text = text.replace(path, last_part(path))
            parent = path[: len(path.rstrip("/\\")) - len(last_part(path))]
            text = text.replace(parent, "") if len(parent) > 1 else text
    return _ABSOLUTE_PATH.sub(lambda match: _quotedlast_part(match[0], match["quote"] or ""), text)


def command_without_folders(command: str) -> str:
    """Return a shell command in which each absolute path, and each that begins with the folder above, is its last part."""
    try:
        words = shlex.split(command)
    except ValueError:  # a quotation mark without its partner
        return without_folders(command)
    return shlex.join([_word_without_folders(word) for word in words]) if words else command


def is_absolute(path: str) -> bool:
    """Return whether a path is absolute on any system."""
    return PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute()


def _word_without_folders(word: str) -> str:
    """Return a word of a command, such as a path, ``--data=PATH`` or ``PATH,PATH``, without folders."""
    flag, separator, value = word.partition("=") if word.startswith("-") else ("", "", word)
    parts = []
    for part in value.split(","):
        location = re.sub(r"^(?:file|sqlite):/{2,3}(?=/|[A-Za-z]:)", "", part)
        is_elsewhere = is_absolute(location) or location.startswith(("../", "..\\"))
        parts.append(last_part(location) if is_elsewhere and "://" not in location else part)
    return f"{flag}{separator}{','.join(parts)}"


def _quotedlast_part(path: str, quote: str) -> str:
    return f"{quote}{last_part(path.strip(quote) if quote else path)}{quote}"


def last_part(path: str) -> str:
    """Return the name of a file or folder from its path on any system."""
    return PureWindowsPath(path).name or path  # both kinds of slashes


def _escape_character(char: str) -> str:
    if char.isprintable() or unicodedata.category(char) == "Zs":
        return char
    units = char.encode("utf-16-be", "surrogatepass").hex()
    return _SHORT_ESCAPES.get(char) or "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))
