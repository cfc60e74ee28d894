"""What lies in a folder of images: classes, splits, image files, and the files that are skipped."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from nephros.data.dataset import SPLITS, class_name_fault
from nephros.data.foreign_formats import folder_format
from nephros.data.image_decoding import IMAGE_SUFFIXES
from nephros.data.input_files import count_text, file_kind
from nephros.errors import FileError

_EXPECTED_LAYOUT = (
    "it must contain one subfolder per class with PNG, TIFF or JPEG files, or train, val and test folders of them"
)
_SPLIT_WORDS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}


def sort_class_names(names: Iterable[str]) -> list[str]:
    """Sort names as people do: numbers by value (0, 1, 2, 10), also within a name (grade 2, grade 10)."""
    names = sorted(names)
    if all(re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", name) for name in names):
        return sorted(names, key=float)
    # A split by digits alternates text and numbers, so that like is compared with like.
    return sorted(names, key=lambda name: [int(s) if i % 2 else s for i, s in enumerate(re.split("([0-9]+)", name))])


@dataclass(frozen=True)
class ImageFile:
    """One image of the folder: its path, its class and, where folders give the split, its split."""

    path: Path
    label: int
    split: str


def scan_folder(root: Path) -> tuple[tuple[str, ...], list[ImageFile], bool, Counter[str]]:
    """Return the class names, the images, whether folders give the split, and the number of skipped files by kind."""
    if not os.path.isdir(root):
        raise FileError(root, f"{root} is not a folder; {_EXPECTED_LAYOUT}.")
    if folder_kind := folder_format(root):
        raise FileError(root, folder_kind.message(root))
    folders = _subfolder_names(root)
    is_presplit = "train" in folders and ("val" in folders or "test" in folders)
    if missing_splits := [split for split in SPLITS if is_presplit and split not in folders]:
        raise FileError(root, f"{root} has a train folder but no {missing_splits[0]} folder; {_EXPECTED_LAYOUT}.")
    if not is_presplit:
        _refuse_split_names(root, folders)
    split_roots = {split: root / split for split in SPLITS} if is_presplit else {"": root}
    class_names = tuple(
        sort_class_names({name for split_root in split_roots.values() for name in _subfolder_names(split_root)})
    )
    if not class_names:
        raise FileError(root, f"{root} has no class folders; {_EXPECTED_LAYOUT}.")
    if fault := class_name_fault(class_names):
        raise FileError(root, f"In {root}, {fault}; give the folder of each class a name of its own.")
    if len(class_names) == 1:
        raise FileError(root, f"{root} has one class only, {class_names[0]}; a classifier needs at least two.")
    skipped = _skipped_beside(root, SPLITS if is_presplit else class_names)
    for split_root in split_roots.values() if is_presplit else ():
        skipped += _skipped_beside(split_root, class_names)
    files = [
        ImageFile(path, label, split)
        for split, split_root in split_roots.items()
        for label, name in enumerate(class_names)
        for path in _class_image_paths(split_root / name, split, skipped)
    ]
    for split in SPLITS if is_presplit else ():
        if not any(file.split == split for file in files):
            raise FileError(root / split, f"{root / split} has no images; every split needs some.")
    return class_names, files, is_presplit, skipped


def _refuse_split_names(root: Path, folders: list[str]) -> None:
    """Raise FileError where the folders are splits under other names, which would be taken for classes."""
    splits = [name for name in folders if name.casefold() in _SPLIT_WORDS]
    if len(splits) > 1:
        raise FileError(
            root, f"{root} has the folders {', '.join(splits)}, which look like splits; call them train, val and test."
        )


def _class_image_paths(folder: Path, split: str, skipped: Counter[str]) -> list[Path]:
    """Return the images of one class and count its other files; without a `split` there must be one image for each."""
    others: Counter[str] = Counter()
    paths = _image_paths(folder, others) if folder.is_dir() else []
    skipped += others
    detail = f", beside {count_text(others)}" if others else ""
    if len(paths) < 3 and not split:
        raise FileError(
            folder, f"{folder} has {len(paths)} images{detail}; a class needs at least 3, one for each split."
        )
    if not paths and split == "train":
        raise FileError(folder, f"{folder} has no images{detail}; every class needs training images.")
    return paths


def _subfolder_names(root: Path) -> list[str]:
    return [name for name in _names(root) if (root / name).is_dir() and not name.startswith((".", "__"))]


def _skipped_beside(root: Path, expected: Sequence[str]) -> Counter[str]:
    """Count what lies in `root` beside the folders expected there: files by kind, loose images, and folders."""
    skipped: Counter[str] = Counter()
    for name in _names(root):
        path = root / name
        if path.is_dir() and name not in expected:
            skipped["hidden" if name.startswith((".", "__")) else f"folder {name}"] += 1
        elif not path.is_dir():
            kind = file_kind(name)
            skipped[f"{kind} outside the class folders" if kind in IMAGE_SUFFIXES else kind] += 1
    return skipped


def _image_paths(folder: Path, skipped: Counter[str]) -> list[Path]:
    """Return the images in a class folder and its subfolders, sorted, and count its other files by kind."""
    paths, visited = [], set()
    for current, folders, names in os.walk(folder, onerror=_raise_unreadable, followlinks=True):
        try:
            status = os.stat(current)
        except OSError as error:
            _raise_unreadable(error)
        if (status.st_dev, status.st_ino) in visited:
            folders.clear()
            skipped["by links to folders already read"] += 1
            continue
        visited.add((status.st_dev, status.st_ino))
        skipped.update("hidden" for name in folders if name.startswith((".", "__MACOSX")))
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        for name in sorted(names):
            if name.startswith(".") or Path(name).suffix.lower() not in IMAGE_SUFFIXES:
                skipped[file_kind(name)] += 1
            else:
                paths.append(Path(current, name))
    return paths


def file_warnings(root: Path, files: list[ImageFile], skipped: Counter[str], is_presplit: bool) -> tuple[str, ...]:
    """Return what is to be known of a folder's files: which were skipped, and that subfolders of classes were read."""
    warnings = []
    depth = 3 if is_presplit else 2
    nested = [path for file in files if len((path := file.path.relative_to(root)).parts) > depth]
    if nested:
        split_note = (
            "" if is_presplit else "; the split is by image, so those of one subfolder may be in train and in test"
        )
        warnings.append(
            f"{len(nested):,} of {len(files):,} images are in subfolders of class folders, such as "
            f"{nested[0].parent.as_posix()}{split_note}."
        )
    if skipped:
        warnings.append(
            f"skipped in {root}, where only PNG, TIFF and JPEG files in class folders are read: {count_text(skipped)} "
            f"({skipped.total():,} in all)."
        )
    return tuple(warnings)


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise _unreadable_error(folder, error) from error


def _raise_unreadable(error: OSError) -> NoReturn:
    raise _unreadable_error(error.filename, error) from error


def _unreadable_error(folder: str | Path, error: OSError) -> FileError:
    return FileError(folder, f"{folder} can't be read ({error.strerror}); check its permissions.")
