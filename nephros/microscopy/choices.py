"""Choosing an image, a channel or a time point of a stack by its number or its name."""

from __future__ import annotations

from collections.abc import Sequence

from nephros.errors import FileError, InvalidArgument, UnknownName
from nephros.microscopy.location import StackLocation

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
            raise InvalidArgument(parameter, choice, f"a number from 0 to {n - 1}" if n > 1 else "0", hint=hint)
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


def choose_image(
    choice: int | str | None, names: Sequence[str], default: int, location: StackLocation, notes: list[str]
) -> int:
    """Return the index of the image that a user chooses, or `default` with a note that names the others.

    Raises:
        InvalidArgument: there is no such image.
    """
    n = len(names)
    if choice is not None:
        return choose_index("image", choice, names, n, location.name)
    if n > 1:
        notes.append(
            f"{location.name} holds {n:,} images, and only image {default} is read: {listing(names, n)}; set `image` to read "
            "another."
        )
    return default


def choose_channel(
    choice: int | str | None, names: Sequence[str], n_channels: int, location: StackLocation, *, is_mask: bool
) -> int:
    """Return the index of the channel that a user chooses, or of the only one; a mask has no other.

    Raises:
        FileError: there are several, and none is chosen.
        InvalidArgument: there is no such channel.
    """
    if choice is not None and not is_mask:
        return choose_index("channel", choice, names, n_channels, location.name)
    if n_channels == 1:
        return 0
    if is_mask:
        raise FileError(
            str(location),
            f"{location} has {n_channels} channels, and a mask has one; save only the ids of the nuclei.",
        )
    raise FileError(
        str(location),
        f"{location.name} has {n_channels} channels ({listing(names, n_channels)}); set `channel` to the one that shows "
        "the nuclei, by number or name.",
    )


def choose_time_point(choice: int | None, n_times: int, location: StackLocation, *, is_mask: bool) -> int:
    """Return the time point that a user chooses, or the only one; that of a mask is its stack's.

    Raises:
        FileError: there are several, and none is chosen.
        InvalidArgument: there is no such time point.
    """
    if n_times > 1 and choice is None and is_mask:
        raise FileError(
            str(location),
            f"{location.name} is a mask of {n_times} time points, which are not those of its stack; save the ids of the one that "
            "is read.",
        )
    if n_times > 1 and choice is None:
        raise FileError(
            str(location), f"{location.name} is a time series; set `time_point` to one of 0 to {n_times - 1}."
        )
    if not 0 <= (choice or 0) < n_times:
        valid = f"from 0 to {n_times - 1}" if n_times > 1 else "0"
        raise InvalidArgument("time_point", choice, f"{valid} for {location.name}")
    return choice or 0
