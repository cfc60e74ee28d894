"""The files of several stacks: the mask, the table of classes and the patient of each, by patterns such as {stem}_mask.tif."""

from __future__ import annotations

import glob
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nephros.data.input_files import read_magic
from nephros.errors import FileError, InvalidArgument
from nephros.microscopy.class_labels import STEM, fill_stem, stack_stem
from nephros.microscopy.location import StackLocation, StackUrl, is_url, locate, name_path
from nephros.microscopy.ome_zarr import LABELS_GROUP
from nephros.microscopy.zarr_files import is_zarr_folder
from nephros.text_tables import join_words

_PATIENT = "{patient}"


@dataclass(frozen=True)
class StackFiles:
    """A stack and what belongs to it."""

    path: StackLocation
    name: str
    """Its stem, with as many folders before it as tell it from the other stacks."""
    mask: StackLocation | None = None
    """None where the nuclei are to be segmented."""
    classes: Path | None = None
    """Table of classes, which may be that of other stacks too."""
    patient: str = ""


def find_stack_files(
    stacks: Sequence[str | Path],
    mask: str | Path | None = None,
    classes: str | Path | None = None,
    patient: str | None = None,
) -> tuple[list[StackFiles], list[str]]:
    """Return the files of each stack, and notes.

    Args:
        stacks: paths, or URLs of Zarr stores. One that is the mask of another is left out, as ``*.tif`` may name both.
        mask: path for a single stack, or a pattern in which ``{stem}`` is the stack's name without its suffix, and ``*`` any
            text. A relative one is looked for beside the stack, then from the working folder.
        classes: likewise; without ``{stem}`` one table for all stacks, which says which stack each row is of.
        patient: pattern of the stack's name, such as ``{patient}_*``, or of the end of its path, such as ``{patient}/*``; or,
            without ``{patient}``, the one patient of all stacks.

    Raises:
        InvalidArgument: a stack is given twice, or a pattern can't be told apart or doesn't match a stack.
        FileError: a pattern matches no file, or several.
    """
    paths = [locate(path) for path in stacks]
    if not paths:
        raise InvalidArgument("stack", "empty", "the path of at least one stack")
    for text, path in zip(stacks, paths, strict=True):
        if isinstance(path, Path) and not path.exists():
            if "://" in str(text):
                raise InvalidArgument("stack", text, "a path, or a URL that begins with https:// or s3://")
            read_magic(path, "a TIFF file with all slices")  # says so, and suggests a name
    notes = []
    if mask is not None and STEM in str(mask):
        masks = {_real(match) for path in paths for match in _matches(str(mask), path)}
        kept = [path for path in paths if _real(path) not in masks]
        if kept and len(kept) < len(paths):
            left_out = [path.name for path in paths if path not in kept]
            notes.append(
                f"Left out as the masks of other stacks: {join_words(left_out[:5])} ({len(left_out):,} in all)."
            )
            paths = kept
    _check_distinct(paths)
    names = _unique_names(paths)
    files = [
        StackFiles(
            path,
            name,
            _companion("mask", mask, path, len(paths)),
            _class_table(classes, path, len(paths)),
            "" if patient is None else _patient(patient, path),
        )
        for path, name in zip(paths, names, strict=True)
    ]
    _check_one_each("mask", files, [file.mask for file in files])
    if classes is not None and STEM in str(classes):
        _check_one_each("classes", files, [file.classes for file in files])
    if len(set(map(stack_stem, paths))) < len(paths):
        notes.append(f"Several stacks have one name; they are called {join_words(names[:6])}.")
    return files, notes


def _real(location: StackLocation) -> StackLocation:
    """Return a location by which others that mean the same are known: a path without links."""
    return location.resolve() if isinstance(location, Path) else location


def _check_distinct(paths: Sequence[StackLocation]) -> None:
    counts = Counter(map(_real, paths))
    if repeated := [path for path, count in counts.items() if count > 1]:
        raise InvalidArgument("stack", repeated[0], "given once", hint="Its nuclei would be in two splits.")


def _unique_names(paths: Sequence[StackLocation]) -> list[str]:
    """Return the stem of each stack; of those that share one, with folders before it, and else with its suffix."""
    folders = [name_path(path).parent for path in paths]
    for depth in range(1 + max(len(folder.parts) for folder in folders)):
        parents = [folder.parts[max(0, len(folder.parts) - depth) :] for folder in folders]
        names = ["/".join((*parent, stack_stem(path))) for parent, path in zip(parents, paths, strict=True)]
        if len(set(names)) == len(names):
            return names
        if len({(folder, stack_stem(path)) for folder, path in zip(folders, paths, strict=True)}) < len(paths):
            break
    names = [path.name for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def _companion(parameter: str, pattern: str | Path | None, stack: StackLocation, n_stacks: int) -> StackLocation | None:
    """Return the file that a pattern names for a stack; None where there is no pattern."""
    if pattern is None:
        return None
    text = str(pattern)
    placeholders = set(re.findall(r"\{\w*\}", text)) - {STEM}
    if placeholders and STEM not in text:
        raise InvalidArgument(parameter, text, "a path, in which {stem} may stand for the stack's name")
    if parameter == "mask" and isinstance(stack, Path):
        labels = stack / LABELS_GROUP / text
        if is_zarr_folder(stack) and is_zarr_folder(labels):
            return labels
    if STEM not in text:
        if parameter == "mask" and n_stacks > 1:
            raise InvalidArgument(
                parameter, text, "a pattern with {stem} for several stacks, such as '{stem}_mask.tif'"
            )
        return locate(text, parameter) if is_url(text) else Path(text)
    paths = _matches(text, stack)
    if not paths:
        tried = _candidates(text, stack)
        raise FileError(
            tried[0],
            f"{stack.name} has no {'mask' if parameter == 'mask' else 'table of classes'}: there is no {tried[0]}"
            f"{f' and no {tried[1]}' if len(tried) > 1 else ''}; correct `{parameter}`, or leave the stack out.",
        )
    if len(paths) > 1:
        raise FileError(
            paths[0],
            f"{stack.name} has several files that match `{parameter}`, {join_words(path.name for path in paths[:3])}; write a "
            "pattern that matches one.",
        )
    return paths[0]


def _class_table(pattern: str | Path | None, stack: StackLocation, n_stacks: int) -> Path | None:
    table = _companion("classes", pattern, stack, n_stacks)
    if isinstance(table, StackUrl):
        raise InvalidArgument("classes", table, "a file on disk; download the table first")
    return table


def _candidates(pattern: str, stack: StackLocation) -> list[StackLocation]:
    """Return where the file of a pattern may be: beside the stack, then from the working folder."""
    path = fill_stem(pattern, stack)
    if isinstance(path, StackUrl):
        return [path]
    beside = [stack.parent / path] if isinstance(stack, Path) else []
    return list(dict.fromkeys([*beside, path.absolute()]))


def _matches(pattern: str, stack: StackLocation) -> Sequence[StackLocation]:
    """Return the files that a pattern names, of the first place that has any; ``*`` stands for any text.

    A URL is taken as it is: a server can't be asked for what it has.
    """
    if is_url(pattern):
        return [fill_stem(pattern, stack)]
    text = glob.escape(pattern).replace("[*]", "*").replace("[?]", "?")
    text = text.replace(STEM, glob.escape(stack_stem(stack)))
    for folder in (*([stack.parent] if isinstance(stack, Path) else []), Path.cwd()):
        path = Path(text).expanduser()
        root = path if path.is_absolute() else Path(glob.escape(str(folder))) / path
        paths = [Path(match) for match in sorted(glob.glob(str(root)))]
        if paths := [match for match in paths if match.resolve() != _real(stack)]:
            return paths
    return []


def _check_one_each(parameter: str, files: Sequence[StackFiles], companions: Sequence[StackLocation | None]) -> None:
    """Raise InvalidArgument where two stacks have the same mask or table."""
    owners: dict[StackLocation, StackFiles] = {}
    for file, companion in zip(files, companions, strict=True):
        if companion is None:
            continue
        other = owners.setdefault(_real(companion), file)
        if other is not file:
            raise InvalidArgument(
                parameter,
                companion,
                "of one stack only",
                hint=f"It matches both {other.name} and {file.name}: use a pattern that gives each its own.",
            )


def _patient(pattern: str, stack: StackLocation) -> str:
    """Return the part of a stack's path that ``{patient}`` stands for."""
    if _PATIENT not in pattern:
        return pattern
    expression = re.escape(pattern).replace(re.escape(_PATIENT), "(?P<patient>[^/]+?)", 1).replace(r"\*", "[^/]*")
    if expression.count("(?P<patient>") != 1 or re.escape(_PATIENT) in expression:
        raise InvalidArgument("patient", pattern, "a pattern with one {patient}, such as '{patient}_*'")
    path = name_path(stack)
    texts = (
        (stack_stem(stack), stack.name)  # "*_{patient}" is not to end in .ome.tif
        if "/" not in pattern
        else (path.with_name(stack_stem(stack)).as_posix(), path.as_posix())
    )
    for text in texts:
        match = re.fullmatch(rf"(?:.*/)?{expression}", text)
        if match:
            return match["patient"]
    raise InvalidArgument("patient", pattern, f"a pattern of each stack's name, such as that of {stack.name}")
