"""Data sets as images in any folders beside a table of labels, such as the ``medmnist`` package saves."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from nephros.data.class_names import class_name_fault
from nephros.data.folders.image_files import (
    FolderScan,
    ImageFile,
    file_names,
    holds_images,
    is_image_name,
    list_images,
    sort_class_names,
    subfolder_names,
)
from nephros.data.folders.label_table import TABLE_SUFFIXES, LabelRow, label_table_columns, read_label_table
from nephros.data.folders.layouts import is_container
from nephros.data.folders.scan import find_split_folders, folders_text
from nephros.data.group_names import group_in_file_name
from nephros.data.medmnist import MEDMNIST, MedMNISTInfo
from nephros.data.split_names import DuplicateSplitError, find_splits
from nephros.data.splitting import GROUP_RULES, check_group_rule
from nephros.errors import FileError
from nephros.text_tables import join_words

_MEDMNIST_STEM = re.compile(r"(train|val|test)([0-9]+)_([0-9]+)")
"""Name, without suffix, of an image that the ``medmnist`` package saves: split, number and label."""


def scan_table(path: Path, groups: str = "auto") -> FolderScan:
    """Find the images that a table of labels names, in the folder of the table's name beside it or else in its own folder.

    Raises:
        FileError: the table can't be read, is not a table of labels, or names images that aren't there.
    """
    folder = path.with_suffix("")
    root = folder if folder.is_dir() else path.parent
    return _scan_rows(root, {"": path}, groups)


def scan_folder_with_tables(root: Path, groups: str = "auto") -> FolderScan | None:
    """Find the images in `root` that a table of labels in it or beside it names; None where folders are the classes.

    The names of the files serve as the table where the ``medmnist`` package saved them without one.

    Raises:
        FileError: as `scan_table`, or there are several tables that are not those of the splits.
    """
    has_loose_images = any(is_image_name(name) for name in file_names(root))
    if has_class_folders(root) and not (
        has_loose_images and any("label" in label_table_columns(path) for path in _tables_in(root))
    ):
        return None
    if tables := _find_tables(root):
        return _scan_rows(root, tables, groups)
    images = list_images(root, Counter(), with_companions=True)
    if images and all(path.parent == root and _MEDMNIST_STEM.fullmatch(path.stem) for path in images):
        return _scan_rows(root, {}, groups)
    return None


def unread_table_warnings(root: Path) -> tuple[str, ...]:
    """Return a warning that names the tables of labels in a folder whose subfolders are the classes."""
    names = [path.name for path in _tables_in(root)]
    if not names:
        return ()
    return (
        f"{root} has {join_words(names)} with a column of files, which is not read, as the folders give the classes; give the "
        "table's path instead of the folder's to take them from it.",
    )


def has_class_folders(root: Path) -> bool:
    """Return whether the folders of images in `root`, or in its folders for splits, can be classes."""
    splits = find_split_folders(root)
    names = {
        name
        for folder in ([root / name for name in splits.values()] if splits else [root])
        for name in subfolder_names(folder)
        if not is_container(name) and holds_images(folder / name)
    }
    return len(names) > 1


def _find_tables(root: Path) -> dict[str, Path]:
    """Return split -> its table, or "" -> the table of all images; in the folder, in its folders for splits, or beside it."""
    if tables := _tables_in(root):
        if len(tables) == 1:
            return {"": tables[0]}
        by_stem = {path.stem: path for path in tables}
        try:
            splits = find_splits(by_stem)
        except DuplicateSplitError:
            splits = {}
        if len(splits) < len(tables):
            names = join_words(path.name for path in tables)
            raise FileError(root, f"{root} has several tables of labels, {names}; give the path of one as `data`.")
        return {split: by_stem[stem] for split, stem in splits.items()}
    in_splits = {split: _tables_in(root / name) for split, name in find_split_folders(root).items()}
    if in_splits and all(len(tables) == 1 for tables in in_splits.values()):
        return {split: tables[0] for split, tables in in_splits.items()}
    beside = [root.with_name(f"{root.name}{suffix}") for suffix in TABLE_SUFFIXES]

    path = next((path for path in beside if path.is_file() and label_table_columns(path)), None)
    return {"": path} if path else {}


def _tables_in(folder: Path) -> list[Path]:
    """Return the tables in a folder that have a column of files; of several, those that have labels too."""
    paths = [folder / name for name in file_names(folder) if name.lower().endswith(TABLE_SUFFIXES) and name[0] != "."]
    columns = {path: label_table_columns(path) for path in paths}
    tables = [path for path in paths if "file" in columns[path]]
    return [path for path in tables if "label" in columns[path]] or tables


def _scan_rows(root: Path, tables: Mapping[str, Path], groups: str) -> FolderScan:
    """Match the rows of the tables, or the names of MedMNIST's files where there are none, with the images in `root`."""
    rows, columns, table_warnings = _read_rows(root, tables, groups if groups not in GROUP_RULES else "")
    source = next(iter(tables.values()), root)
    images = list_images(root, Counter(), with_companions=True)
    paths = _match_files(root, source, rows, images)
    splits_from = source.name if tables else "the names of its files"
    if not any(row.split for row in rows) and (folder_splits := _folder_splits(root, paths)):
        rows = [replace(row, split=split) for row, split in zip(rows, folder_splits, strict=True)]
        splits_from = folders_text(dict.fromkeys(path.relative_to(root).parts[0] for path in paths))
    rows_of_path, row_warnings = _distinct_rows(source, rows, paths)
    warnings = table_warnings + row_warnings
    if n_unlisted := len(images) - len(set(paths)):
        warnings.append(f"{n_unlisted:,} of {len(images):,} images in {root} are not in {source.name} and not read.")
    labels = {path: _plain_number(row.label) for path, row in rows_of_path.items()}
    info = _medmnist_info(root, source, set(labels.values()))
    names = [str(label) for label in range(len(info.class_names))] if info else sort_class_names(set(labels.values()))
    class_names = tuple(info.class_names if info else names)
    _check_class_names(source, class_names)
    label_of_name = {name: label for label, name in enumerate(names)}
    files = [
        ImageFile(path, label_of_name[labels[path]], row.split, _group(row, path, groups))
        for path, row in rows_of_path.items()
    ]
    return FolderScan(
        class_names,
        files,
        splits_from if any(file.split for file in files) else "",
        ("the names of the files" if groups == "names" else f"the groups in {source.name}")
        if any(file.group for file in files)
        else "",
        (columns,),
        tuple(warnings),
        tuple(tables.values()),
        info,
    )


def _group(row: LabelRow, path: Path, groups: str) -> str:
    return "" if groups == "none" else group_in_file_name(path.stem) if groups == "names" else row.group


def _read_rows(root: Path, tables: Mapping[str, Path], group_column: str) -> tuple[list[LabelRow], str, list[str]]:
    """Return the rows of all tables, what their columns hold, and warnings; files are relative to `root`, if tables are in it."""
    if not tables:
        if group_column:
            check_group_rule(group_column)
        matches = [
            (path, match)
            for path in list_images(root, Counter(), with_companions=True)
            if (match := _MEDMNIST_STEM.fullmatch(path.stem))
        ]
        matches.sort(key=lambda item: int(item[1][2]))
        return (
            [LabelRow(0, path.name, match[3], match[1], "") for path, match in matches],
            "labels from the names of its files",
            [],
        )
    rows, read = [], {split: read_label_table(path, group_column) for split, path in tables.items()}
    for split, table in read.items():
        folder = table.path.parent
        prefix = f"{folder.name}/" if folder.parent == root else ""
        rows += [replace(row, file=prefix + row.file, split=split or row.split) for row in table.rows]
    warnings = [warning for table in read.values() for warning in table.warnings]
    return rows, next(f"labels from {table.path.name} ({table.columns})" for table in read.values()), warnings


def _match_files(root: Path, source: Path, rows: Iterable[LabelRow], images: Iterable[Path]) -> list[Path]:
    """Return the image of each row, by its path in `root` or else by its name alone.

    Raises:
        FileError: a row's image isn't there, or can't be told from others of its name.
    """
    by_path = {path.relative_to(root).as_posix(): path for path in images}
    by_name: dict[str, list[str]] = {}
    for text in by_path:
        name = PurePosixPath(text)
        for key in {name.name.casefold(), name.stem.casefold()}:
            by_name.setdefault(key, []).append(text)
    paths, problems = [], []
    for row in rows:
        text = PurePosixPath(row.file.replace("\\", "/")).as_posix()
        matches = [text] if text in by_path else by_name.get(PurePosixPath(text).name.casefold(), [])
        if not matches and is_image_name(text):  # of an image that was saved again in another format
            matches = by_name.get(PurePosixPath(text).stem.casefold(), [])
        if len(matches) > 1:
            matches = [
                match for match in matches if f"/{match}".endswith(f"/{text}") or f"/{text}".endswith(f"/{match}")
            ]
        if len(matches) == 1:
            paths.append(by_path[matches[0]])
        else:
            problems.append(
                (row, "several images of that name are" if matches else "no PNG, TIFF or JPEG file of that name is")
            )
    if problems:
        row, problem = problems[0]
        raise FileError(
            source,
            f"{source}: line {row.line} names {row.file}, but {problem} in {root} ({len(problems):,} such lines); correct the "
            "table, or leave such lines out.",
        )
    return paths


def _folder_splits(root: Path, paths: list[Path]) -> list[str]:
    """Return the splits whose folders the images are in; nothing unless all are in such folders."""
    splits = {name: split for split, name in find_split_folders(root).items()}
    tops = [path.relative_to(root).parts[0] for path in paths]
    return [splits[top] for top in tops] if all(top in splits for top in tops) else []


def _distinct_rows(source: Path, rows: list[LabelRow], paths: list[Path]) -> tuple[dict[Path, LabelRow], list[str]]:
    """Return the row of each image that has a label, and warnings that count the other rows.

    Raises:
        FileError: two rows say different things of one image.
    """
    rows_of_path: dict[Path, LabelRow] = {}
    n_unlabeled = n_repeated = 0
    for row, path in zip(rows, paths, strict=True):
        if not row.label:
            n_unlabeled += 1
            continue
        first = rows_of_path.setdefault(path, row)
        if first is not row:
            n_repeated += 1
            if (first.label, first.split, first.group) != (row.label, row.split, row.group):
                raise FileError(
                    source,
                    f"{source}: lines {first.line} and {row.line} give {row.file} different labels, splits or groups; keep one.",
                )
    warnings = (
        [f"{n_unlabeled:,} lines of {source.name} have no label; their images are not read."] if n_unlabeled else []
    )
    warnings += (
        [f"{n_repeated:,} lines of {source.name} name an image again; each image is read once."] if n_repeated else []
    )
    return rows_of_path, warnings


def _plain_number(label: str) -> str:
    """Return a label such as ``3.0`` or ``3,0``, which a program wrote for a whole number, without its decimals."""
    return re.sub(r"[.,]0+$", "", label) if re.fullmatch(r"-?[0-9]+[.,]0+", label) else label


def _medmnist_info(root: Path, source: Path, labels: set[str]) -> MedMNISTInfo | None:
    """Return the MedMNIST data set that the folder or the table is named for, where the labels can be its."""
    keys = [re.sub(r"_\d+$", "", name).lower() for name in (root.name, source.stem)]
    info = next((MEDMNIST[key] for key in keys if key in MEDMNIST), None)
    if info is None or not all(label.isdecimal() and int(label) < len(info.class_names) for label in labels):
        return None
    return info


def _check_class_names(source: Path, class_names: tuple[str, ...]) -> None:
    if len(class_names) < 2:
        raise FileError(source, f"{source} has {len(class_names)} class; a classifier needs at least two.")
    if fault := class_name_fault(class_names):
        raise FileError(source, f"In {source}, {fault}; spell each class in one way.")
