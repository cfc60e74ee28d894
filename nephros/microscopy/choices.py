"""Choosing a channel or an image of a stack by its number or its name."""

from __future__ import annotations

from collections.abc import Sequence

from nephros.errors import InvalidArgument, UnknownName

_MAX_LISTED = 20


def listing(names: Sequence[str], n: int) -> str:
    """Return numbers and names as text, such as ``0 DAPI, 1 GFP``; numbers alone where there are no names."""
    items = [f"{index} {name}".strip() for index, name in enumerate([*names, *[""] * n][: min(n, _MAX_LISTED)])]
    return ", ".join(items) + (f" and {n - _MAX_LISTED:,} more" if n > _MAX_LISTED else "")


def choose_index(parameter: str, choice: int | str, names: Sequence[str], n: int, file_name: str) -> int:
    """Return the index of what a user chooses by number or name; the case of a name matters only where two differ by it.

    Args:
        parameter: what the user chooses with.
        choice: an index, also as text, or a name.
        names: the names of what there is, without gaps from the first; may be fewer than `n`, or none.
        n: how many there are.
        file_name: names the file in an error.

    Raises:
        UnknownName: there is no such name.
        InvalidArgument: there is no such number, or several things have the name.
    """
    if isinstance(choice, str) and not (choice in names or choice.strip().isdecimal()):
        alike = [index for index, name in enumerate(names) if name.casefold() == choice.strip().casefold()]
        if len(alike) == 1:
            return alike[0]
        hint = f"{file_name} has {listing(names, n)}." if any(names) else f"{file_name} has no names for them."
        if alike or not any(names):
            raise InvalidArgument(parameter, choice, f"a number from 0 to {n - 1}", hint=hint)
        raise UnknownName(parameter, choice, [name for name in names if name], hint=hint)
    if isinstance(choice, str) and choice in names:
        if list(names).count(choice) > 1:
            hint = f"{file_name} has {listing(names, n)}."
            raise InvalidArgument(parameter, choice, "a number, since several have this name", hint=hint)
        return list(names).index(choice)
    number = int(choice)
    if not 0 <= number < n:
        valid = f"from 0 to {n - 1}" if n > 1 else "0"
        hint = f"It has {listing(names, n)}." if n > 1 and any(names) else ""
        raise InvalidArgument(parameter, choice, f"{valid} for {file_name}", hint=hint)
    return number
