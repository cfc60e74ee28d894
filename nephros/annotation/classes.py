"""The classes of a project: their names and colors, and what such a name may be."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from nephros.data.class_names import class_name_fault
from nephros.errors import IncompatibleError, InvalidArgument
from nephros.tissue.class_colors import CLASS_COLORS

MAX_NAME_LENGTH = 80
MAX_CLASSES = 1000
"""Classes of a project, those that were merged into others included."""
_INVISIBLE = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Marks of the direction of writing, with which one name can look like another."""


@dataclass(frozen=True)
class LabelClass:
    """A class that cells can be labeled with."""

    id: int
    """From 0; never used again."""
    name: str
    color: str
    """Such as ``#e69f00``."""
    n_labels: int
    """Cells whose label it is."""


def check_name(parameter: str, name: str) -> str:
    """Return the name of a class or an annotator without blanks around it.

    Raises:
        InvalidArgument: it is empty, too long, or has characters that can't be shown.
    """
    expected = f"text of 1 to {MAX_NAME_LENGTH} characters, without line breaks and control characters"
    if not isinstance(name, str):
        raise InvalidArgument(parameter, name, expected)
    text = unicodedata.normalize("NFC", name).strip()
    is_shown = not any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") or char in _INVISIBLE for char in text)
    if not is_shown or len(text) > MAX_NAME_LENGTH or class_name_fault([text]):
        raise InvalidArgument(parameter, ascii(name) if not is_shown else name, expected)
    return text


def check_distinct(name: str, other_names: Iterable[str]) -> None:
    """Raise IncompatibleError if a name looks like that of another class."""
    for other in other_names:
        if class_name_fault([name, other]):
            raise IncompatibleError(f"There is a class {other} already; choose another name.")


def check_color(color: str) -> str:
    """Return a color in small letters; InvalidArgument for text that is none."""
    if not isinstance(color, str) or not re.fullmatch("#[0-9a-fA-F]{6}", color):
        raise InvalidArgument("color", color, "a color such as #e69f00")
    return color.lower()


def next_color(used: list[str]) -> str:
    """Return the first color of the palette that the fewest classes have."""
    counts = [used.count(color) for color in CLASS_COLORS]
    return CLASS_COLORS[counts.index(min(counts))]
