"""A folder with one image file per slice and channel, such as ImageJ's image sequences: which file is which."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from os.path import splitext
from pathlib import Path
from typing import Literal

from nephros.data.companion_files import companion_files
from nephros.data.folders.image_files import is_image_name
from nephros.errors import FileError

_MAX_FILES = 100_000
_MARKERS = {
    "z": ("z", "slice", "sl", "plane", "section", "sec", "zstack", "zstep", "zpos"),
    "channel": ("c", "ch", "chan", "channel", "w", "wave", "wavelength", "color"),
    "time point": ("t", "time", "tp", "timepoint", "frame"),
    "position": ("s", "scene", "series", "pos", "position", "xy", "site", "field", "fov", "tile", "well"),
}  # fmt: skip
"""What the letters before a number in a file's name say of it."""
_AXIS_OF_MARKER = {marker: axis for axis, markers in _MARKERS.items() for marker in markers}
_PART = re.compile(r"[^\W\d_]*\d+|[^\W\d_]+")
_MARKED_NUMBER = re.compile(r"(\D*)(\d+)")
_EXPECTED_NAMES = "name the files such as img_z001_c1.tif"


@dataclass(frozen=True)
class SliceSequence:
    """The files of a stack, by slice and channel."""

    folder: Path
    files: tuple[tuple[Path, ...], ...]
    """Of each channel, the files from the first slice to the last."""
    channel_names: tuple[str, ...]
    """What tells the channels apart in the files' names."""

    @property
    def n_slices(self) -> int:
        """Number of slices."""
        return len(self.files[0])

    def note(self) -> str:
        """Return which files are read as what, as one sentence."""
        first, last = self.files[0][0].name, self.files[0][-1].name
        channels = f" and {len(self.files)} channels ({', '.join(self.channel_names)})" if len(self.files) > 1 else ""
        return (
            f"{self.folder.name} is read as one stack of {self.n_slices:,} slices{channels}, by the numbers in the files' names: "
            f"{first} to {last}."
        )


@dataclass(frozen=True)
class _Column:
    """One part of all file names: the letters before a number, and the number; or a word."""

    parts: tuple[str, ...]
    """The part in each file's name."""

    @property
    def axis(self) -> str:
        """What the part says: an axis, ``number``, or ``word``."""
        matches = [_MARKED_NUMBER.fullmatch(part) for part in self.parts]
        prefixes = {match[1].casefold() for match in matches if match}
        if None in matches or len(prefixes) > 1:
            return "word"
        return _AXIS_OF_MARKER.get(prefixes.pop(), "number")

    @property
    def numbers(self) -> list[int]:
        """The number in each file's name."""
        return [int(re.sub(r"\D", "", part)) for part in self.parts]


def image_names(names: Iterable[str]) -> list[str]:
    """Return the names of image files among those in a folder, without hidden ones and masks beside them, sorted."""
    images = set(filter(is_image_name, names))
    return sorted(images - companion_files(images))


def slice_naming(images: list[str]) -> Literal["marked", "numbered", "none"]:
    """Return how the names of images, as of `image_names`, number slices.

    ``marked``: they differ in a number that is marked as a slice's, such as ``z001``; ``numbered``: in a single number without
    such letters.
    """
    columns = _varying_columns(images)
    if columns is None:
        return "none"
    axes = [column.axis for column in columns]
    return "marked" if "z" in axes else "numbered" if len(axes) == 1 and axes[0] != "word" else "none"


def may_mark_slice(name: str) -> bool:
    """Return whether a part of an image's name is a number that is marked as a slice's, as in all names that are ``marked``."""
    matches = map(_MARKED_NUMBER.fullmatch, _split(name))
    return any(_AXIS_OF_MARKER.get(match[1].casefold()) == "z" for match in matches if match)


def find_sequence(folder: Path, *, all_slices: bool = False) -> SliceSequence:
    """Return the slices and channels in a folder, by the numbers in the names of its image files.

    Numbers count by value, not alphabetically. A number after z, slice or plane is a slice's, one after c, ch or w a channel's; a
    word that differs, such as DAPI or Cy3, is a channel; a single number without such letters is a slice's.

    Args:
        folder: the folder; files in its subfolders don't count.
        all_slices: whether the only number that differs is a slice's, whatever stands before it.

    Raises:
        FileError: the names don't tell slices and channels, or a slice is missing or there twice.
    """
    try:
        names = image_names(name for name in os.listdir(folder) if (folder / name).is_file())
    except OSError as error:
        raise FileError(folder, f"{folder} can't be read ({error.strerror}); check its permissions.") from error
    if not 2 <= len(names) <= _MAX_FILES:
        raise FileError(
            folder,
            f"{folder} is a folder with {len(names):,} image files; give a file with all slices, or a folder with one image per "
            f"slice and channel, at most {_MAX_FILES:,}.",
        )
    columns = _varying_columns(names)
    if columns is None:
        raise FileError(
            folder,
            f"{folder} has {_odd_name(names)}, which is not named like its other images; leave only the slices' files there.",
        )
    if all_slices and len(columns) == 1 and columns[0].axis != "word":
        slice_column: _Column | None = columns[0]
    else:
        slice_column = _slice_column(folder, columns)
    channel_columns = [column for column in columns if column is not slice_column]
    channels = [tuple(column.parts[row] for column in channel_columns) for row in range(len(names))]
    slices = slice_column.numbers if slice_column else [0] * len(names)
    return _arrange(folder, names, slices, channels)


def _split(name: str) -> list[str]:
    """Return the parts of a file's name: words, and numbers with the letters before them."""
    return _PART.findall(splitext(name)[0])


def _varying_columns(names: list[str]) -> list[_Column] | None:
    """Return the parts in which names differ; None where they don't have the same number of parts."""
    rows = [_split(name) for name in names]
    if len({len(row) for row in rows}) != 1:
        return None
    columns = [_Column(parts) for parts in zip(*rows, strict=True)]
    # Some programs write a channel's name twice.
    return list(dict.fromkeys(column for column in columns if len(set(column.parts)) > 1))


def _odd_name(names: list[str]) -> str:
    """Return the first name whose number of parts is the rarest."""
    counts = [len(_split(name)) for name in names]
    return names[counts.index(min(counts, key=counts.count))]


def _slice_column(folder: Path, columns: list[_Column]) -> _Column | None:
    """Return the part of the names that numbers the slices; None where they differ only by channel.

    Raises:
        FileError: it can't be told, or there are several time points or positions.
    """
    axes = [column.axis for column in columns]
    for axis in ("time point", "position"):
        if axis in axes:
            parts = columns[axes.index(axis)].parts
            slices = ", or set `axes` to ZYX if they are slices" if len(columns) == 1 else ""
            raise FileError(
                folder,
                f"{folder} has images of several {axis}s by their names ({min(parts)} to {max(parts)}); put the slices of each "
                f"{axis} into a folder of their own{slices}.",
            )
    candidates = [column for column, axis in zip(columns, axes, strict=True) if axis == "z"]
    if not candidates:  # a bare number rather than one after a word, as in Cy3_007
        numbered = [column for column, axis in zip(columns, axes, strict=True) if axis == "number"]
        candidates = [column for column in numbered if column.parts[0][:1].isdigit()] or numbered
    others = [
        column
        for column, axis in zip(columns, axes, strict=True)
        if axis != "channel" and not any(column is candidate for candidate in candidates)
    ]
    if len(candidates) > 1 or len(others) > 1 or any(column.parts[0][:1].isdigit() for column in others):
        differing = ", ".join(f"{column.parts[0]} and {column.parts[-1]}" for column in columns)
        raise FileError(
            folder,
            f"{folder} has images whose names differ in several parts ({differing}), so it is unclear which are slices; "
            f"{_EXPECTED_NAMES}.",
        )
    return candidates[0] if candidates else None


def _arrange(folder: Path, names: list[str], slices: list[int], channels: list[tuple[str, ...]]) -> SliceSequence:
    """Return the files by channel and slice; raise FileError where one is missing or there twice."""
    keys = [
        tuple(int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", "_".join(c))) for c in channels
    ]
    names_by_place: dict[tuple[tuple[int | str, ...], int], str] = {}
    for place, name in zip(zip(keys, slices, strict=True), names, strict=True):
        if place in names_by_place:
            raise FileError(
                folder,
                f"{folder} has both {names_by_place[place]} and {name} for the same slice; leave one of them there.",
            )
        names_by_place[place] = name
    channel_names = {key: "_".join(channel) for key, channel in zip(keys, channels, strict=True)}
    first, last = min(slices), max(slices)
    for key, channel_name in channel_names.items():
        missing = next((z for z in range(first, last + 1) if (key, z) not in names_by_place), None)
        if missing is not None:
            of_channel = f" of channel {channel_name}" if channel_name else ""
            raise FileError(
                folder,
                f"{folder} lacks slice {missing}{of_channel}, between {first} and {last}; add its file, or number the files anew "
                "without gaps.",
            )
    ordered = sorted(channel_names)
    files = tuple(tuple(folder / names_by_place[key, z] for z in range(first, last + 1)) for key in ordered)
    return SliceSequence(folder, files, tuple(channel_names[key] for key in ordered))
