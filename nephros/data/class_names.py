"""Names of classes: which can't be told apart, and which are one name in several spellings."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence


def class_name_fault(class_names: Sequence[object]) -> str:
    """Return why results can't be told apart by these class names, such as ``class 1 has no name``; empty if they can.

    Names that look the same, such as two forms of one accented letter, are the same; a name of nothing visible is none.
    """
    labels: dict[str, int] = {}
    for label, class_name in enumerate(class_names):
        if not isinstance(class_name, str):
            return f"the name of class {label} is not text"
        if any("\ud800" <= char <= "\udfff" for char in class_name):
            return f"the name of class {label} is not Unicode text"
        visible = unicodedata.normalize(
            "NFC", "".join(c for c in class_name if c == " " or unicodedata.category(c) != "Cf")
        )
        if not (visible := visible.strip()):
            return f"class {label} has no name"
        if (other := labels.setdefault(visible, label)) != label:
            return f"the classes {other} and {label} are both called '{class_name}'"
    return ""


def unify_spelling(scoped_names: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return name -> the spelling to use, for names that differ between scopes in case, blanks, underscores or Unicode form.

    Names that differ within a scope, such as a folder with Disc and disc, mean different things and are left as they are.

    Args:
        scoped_names: scope, such as a split, and name; the spelling of the first scope is used.
    """
    spellings: dict[str, dict[str, list[str]]] = {}
    for scope, name in scoped_names:
        by_scope = spellings.setdefault(class_name_key(name), {})
        if name not in by_scope.setdefault(scope, []):
            by_scope[scope].append(name)
    return {
        name: next(iter(by_scope.values()))[0]
        for by_scope in spellings.values()
        if all(len(names) == 1 for names in by_scope.values())
        for (name,) in by_scope.values()
    }


def spelling_warnings(spelling: dict[str, str]) -> tuple[str, ...]:
    """Return a warning that names the spellings that were taken for one, and don't look the same."""
    changes = [f"'{name}' for '{used}'" for name, used in spelling.items() if _composed(name) != _composed(used)]
    if not changes:
        return ()
    return (f"class folders that are spelled differently are taken for one: {', '.join(changes[:5])}.",)


def similar_name_warnings(class_names: Iterable[str]) -> tuple[str, ...]:
    """Return a warning that names classes that differ only in case, blanks or underscores."""
    by_key: dict[str, list[str]] = {}
    for name in class_names:
        by_key.setdefault(class_name_key(name), []).append(name)
    alike = [" and ".join(names) for names in by_key.values() if len(names) > 1]
    if not alike:
        return ()
    return (f"classes that are spelled nearly alike are taken for different ones: {'; '.join(alike[:5])}.",)


def class_name_key(name: str) -> str:
    """Return what spellings of one class name have in common, whatever their case, blanks and underscores; "3" is "class 3"."""
    key = " ".join(_composed(name).casefold().replace("_", " ").split())
    number = re.fullmatch("(?:class )?([0-9]+)", key)
    return f"class {int(number[1])}" if number else key


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)
