"""Classes that a user assigns to stacks' nuclei, by the rows of a table, so that a model can be trained on them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from nephros.errors import FileError, IncompatibleError
from nephros.microscopy.class_table import ClassRow, ClassTable
from nephros.microscopy.location import StackLocation, is_url, locate, name_path
from nephros.microscopy.measurements import NucleusProperties
from nephros.microscopy.nucleus_matching import MatchedRows, match_rows
from nephros.microscopy.voxel_size import VoxelSize
from nephros.text_tables import join_words, pluralize

STEM = "{stem}"
"""What stands for the name of a stack in the paths of its mask and its table."""
_SUFFIX = re.compile(r"(\.ome)?\.(tiff?|zarr|npy|lsm|czi|nd2|lif|ims|png|jpe?g)", re.IGNORECASE)
_VIEW_WORDS = frozenset({
    "avg", "classes", "label", "labels", "mask", "masks", "max", "med", "min", "mip", "overlay", "projection", "std", "sum",
})  # fmt: skip
"""What an image that was made from a stack, such as Fiji's MAX_K4.tif or our projection.ome.tif, adds to the stack's name."""
_MAX_LISTED = 4


@dataclass(frozen=True)
class NamedStack:
    """What the rows of a table may call a stack."""

    path: StackLocation
    name: str
    """Its name among the other stacks."""
    mask: StackLocation | None = None


@dataclass(frozen=True)
class RowsByStack:
    """The rows of a table, divided among stacks."""

    rows: tuple[tuple[ClassRow, ...], ...]
    """Of each stack."""
    notes: tuple[str, ...] = ()
    """What was assumed or left out; one sentence each."""


@dataclass(frozen=True)
class NucleusClasses:
    """The classes of a stack's nuclei by their ids in the mask."""

    class_of_id: Mapping[int, str]
    groups_of_id: Mapping[str, Mapping[int, str]]
    """Name of a column, such as patient -> the group of each labeled nucleus that has one."""
    notes: tuple[str, ...] = ()
    """What was assumed or left out; one sentence each."""
    is_by_id: bool = False
    """Whether each row is of the nucleus of its id, and none of the one at its position."""


def stack_stem(path: StackLocation) -> str:
    """Return a stack's name without its suffix, such as K4 of K4.ome.tif, which `{stem}` stands for."""
    match = re.fullmatch(rf"(.+?){_SUFFIX.pattern}", path.name, re.IGNORECASE)
    return match[1] if match else path.name


def fill_stem(pattern: str, stack: StackLocation) -> StackLocation:
    """Return the path or URL that a pattern such as ``{stem}_mask.tif`` names for a stack."""
    text = pattern.replace(STEM, stack_stem(stack))
    return locate(text, "mask") if is_url(text) else Path(text).expanduser()


def rows_by_stack(table: ClassTable, stacks: Sequence[NamedStack]) -> RowsByStack:
    """Return the rows of a table that are of each stack.

    A row names its stack by the stack's name, by the end of its path, by its mask, or by its number from 1. Where several stacks
    have the same file name, it is of the one that has the most folders in common with what the row says.

    Args:
        table: where there is only one stack, it need not name it.
        stacks: all that the table is for.

    Raises:
        FileError: the rows don't say which stack they are of, all are of other stacks, or what they say fits several stacks.
    """
    values = sorted({row.stack for row in table.rows})
    if values == [""]:
        _check_only_stack(table, len(stacks))
        return RowsByStack((table.rows,))
    if len(stacks) == 1:
        values = [value for value in values if value]  # rows that name none are of the only stack
    stack_of_value, notes = _match_names(table, values, stacks)
    if not stack_of_value:
        return RowsByStack((table.rows,), (_other_image_note(table, values, stacks),))
    if len(stacks) == 1:
        stack_of_value[""] = 0
    if unmatched := [value for value in values if value not in stack_of_value]:
        n_rows = sum(row.stack in unmatched for row in table.rows)
        names = join_words((value or "rows that name none") for value in unmatched[:_MAX_LISTED])
        notes.append(
            f"{table.path.name}: {pluralize(n_rows, 'row')} of {len(table.rows):,} left out, of other stacks than those given: "
            f"{names}{' and others' if len(unmatched) > _MAX_LISTED else ''}."
        )
    rows = [tuple(row for row in table.rows if stack_of_value.get(row.stack) == i) for i in range(len(stacks))]
    return RowsByStack(tuple(rows), tuple(notes))


def _check_only_stack(table: ClassTable, n_stacks: int) -> None:
    """Raise FileError for a table that names no stack and is for several."""
    if n_stacks > 1:
        raise FileError(
            table.path,
            f"{table.path} does not say which of {n_stacks} stacks each row is of; add a column stack, or give a table for each, "
            "such as `classes`='{stem}.csv'.",
        )


def _match_names(
    table: ClassTable, values: Sequence[str], stacks: Sequence[NamedStack]
) -> tuple[dict[str, int], list[str]]:
    """Return the index of the stack that each name in a table means, without those that mean none, and notes.

    Raises:
        FileError: a name fits several stacks, or a stack several names that mean different files.
    """
    fits_of_stack: dict[int, dict[str, _Fit]] = {}
    for value in values:
        fits = [_fit(value, stack) for stack in stacks]
        best = [index for index, fit in enumerate(fits) if any(fit) and fit == max(fits)]
        if len(best) > 1:
            raise FileError(
                table.path,
                f"{table.path}: its rows of {value} may be of {join_words(stacks[index].name for index in best)}; write these "
                "names in its column stack, or give a table for each stack.",
            )
        if best:
            fits_of_stack.setdefault(best[0], {})[value] = fits[best[0]]
    if not fits_of_stack and all(value.isdecimal() for value in values) and not _are_numbered(stacks):
        numbers = {value: int(value) - 1 for value in values}
        return (numbers if set(numbers.values()) <= set(range(len(stacks))) else {}), []
    stack_of_value: dict[str, int] = {}
    notes: list[str] = []
    for index, fits_of_value in fits_of_stack.items():
        most_parts = max(fit.n_parts for fit in fits_of_value.values())
        elsewhere = {value for value, fit in fits_of_value.items() if fit.n_parts < len(_path_parts(value))}
        # Where the table has the folder of the stack, a file of the same name in another folder is another stack.
        elsewhere -= (others := {value for value in elsewhere if fits_of_value[value].n_parts < most_parts})
        if len({_path_parts(value)[:-1] for value in elsewhere}) > 1:
            raise FileError(
                table.path,
                f"{table.path} has rows of {join_words(sorted(elsewhere)[:_MAX_LISTED])}, all of which may be "
                f"{stacks[index].path}; leave only its own rows there.",
            )
        notes += [
            f"{table.path.name}: its rows of {value} are taken for {stacks[index].path}." for value in sorted(elsewhere)
        ]
        stack_of_value |= {value: index for value in fits_of_value if value not in others}
    return stack_of_value, notes


class _Fit(NamedTuple):
    """How well a name fits a stack: the greater, the better; all is 0 where it doesn't."""

    is_stack: bool = False
    """Rather than its mask."""
    n_parts: int = 0
    """Folders and files that the ends of the two paths have in common."""
    is_name: bool = False
    """Whether it is what the stack is called among the others."""
    has_suffix: bool = False
    """Whether the suffix is the same."""


def _fit(value: str, stack: NamedStack) -> _Fit:
    is_name = value.casefold() == stack.name.casefold()
    n_parts, has_suffix = _common_end(value, stack.path)
    if n_parts or is_name:
        return _Fit(True, max(n_parts, 1), is_name, has_suffix)
    return _Fit(False, *_common_end(value, stack.mask)) if stack.mask is not None else _Fit()


def _common_end(value: str, path: StackLocation) -> tuple[int, bool]:
    """Return how many parts the ends of a name and a path have in common, and whether that of the file has the same suffix."""
    parts, own_parts = _path_parts(value), [part.casefold() for part in name_path(path).parts]
    if not parts or not own_parts:
        return 0, False
    *folders, file = parts
    has_suffix = file == own_parts[-1] or file.startswith(f"{own_parts[-1]} ")
    if not has_suffix and stack_stem(Path(file)) != stack_stem(path).casefold():
        return 0, False
    pairs = zip(reversed(folders), reversed(own_parts[:-1]), strict=False)
    return 1 + sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs)), has_suffix


def _path_parts(value: str) -> tuple[str, ...]:
    """Return the folders and the file that a name for an image has, such as "K4.ome.tif - Series 0" of QuPath."""
    text = value.casefold().replace("\\", "/")
    text = re.sub(rf"({_SUFFIX.pattern}) .*", r"\1", text.partition("://")[2] or text)
    return tuple(part for part in text.split("/") if part not in ("", ".", ".."))


def _other_image_note(table: ClassTable, values: Sequence[str], stacks: Sequence[NamedStack]) -> str:
    """Return a note on a table of another image than the only stack, such as a projection of it.

    Raises:
        FileError: there are several images or stacks, or the ids of nuclei are those of another stack.
    """
    path = stacks[0].path
    if len(values) > 1 or len(stacks) > 1:
        target = path.name if len(stacks) == 1 else f"one of the {len(stacks)} stacks"
        raise FileError(
            table.path,
            f"{table.path} covers {pluralize(len(values), 'image')}, {join_words(values[:_MAX_LISTED])}, none of which is "
            f"{target}; give a table for each stack, or name the stack in its column Image.",
        )
    image_words, stack_words = (
        set(re.findall(r"[^\W_]+", text.casefold()))
        for text in (stack_stem(Path(*_path_parts(values[0])[-1:])), stack_stem(path))
    )
    added_words = image_words - stack_words if stack_words <= image_words else image_words
    is_same = added_words <= _VIEW_WORDS or (values[0].isdecimal() and not _are_numbered(stacks))
    if all(row.id is not None for row in table.rows) and not is_same:
        raise FileError(
            table.path,
            f"{table.path} has the ids of nuclei of {values[0]}, and the stack is {path.name}; give the table of that stack, or "
            "correct the name in this one.",
        )
    return f"{table.path.name}: its rows are of {values[0]}, which is taken for {path.name}."


def _are_numbered(stacks: Sequence[NamedStack]) -> bool:
    """Return whether a number may be the name of a stack, and not only count the images of another program."""
    return any(stack_stem(stack.path).isdecimal() for stack in stacks)


def classes_of_nuclei(
    table: ClassTable,
    rows: Sequence[ClassRow],
    nuclei: NucleusProperties,
    voxel_size: VoxelSize | None,
    level_step: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> NucleusClasses:
    """Return the classes of a stack's nuclei, matched as `nephros.microscopy.nucleus_matching.match_rows` does.

    Args:
        table: for messages.
        rows: those of this stack.
        nuclei: all nuclei of the mask.
        voxel_size: micrometers along z, y and x; None where it is unknown.
        level_step: voxels of the stack's finest pyramid level per voxel here, along z, y and x: other programs show the finest.

    Raises:
        FileError: a nucleus has two classes or two groups of one kind, or the positions are not in the nuclei.
        IncompatibleError: an id is not in the mask.
    """
    matched = match_rows(table, rows, nuclei, voxel_size, level_step)
    if unknown_ids := matched.unknown_ids:
        raise IncompatibleError(
            f"`classes` has the nucleus {unknown_ids[0]}, which is not in the mask ({len(unknown_ids):,} of the "
            f"{len(rows):,} in {table.path.name} are not); take the ids from the mask."
        )
    return collect_classes(table, rows, matched)


def collect_classes(table: ClassTable, rows: Sequence[ClassRow], matched: MatchedRows) -> NucleusClasses:
    """Return the classes of nuclei, given that of each row.

    Raises:
        FileError: a nucleus has two classes or two groups of one kind.
    """
    class_of_id: dict[int, str] = {}
    groups_of_id: dict[str, dict[int, str]] = {}
    for row, nucleus_id in zip(rows, matched.ids, strict=True):
        if nucleus_id is None:
            continue
        if class_of_id.setdefault(nucleus_id, row.class_name) != row.class_name:
            raise FileError(
                table.path,
                f"{table.path}: line {row.line} gives nucleus {nucleus_id} a second class; keep one of them.",
            )
        for name, group in row.groups.items():
            if group and groups_of_id.setdefault(name, {}).setdefault(nucleus_id, group) != group:
                raise FileError(
                    table.path,
                    f"{table.path}: line {row.line} gives nucleus {nucleus_id} a second value of {name}; keep one of them.",
                )
    return NucleusClasses(class_of_id, groups_of_id, matched.notes, matched.is_by_id)
