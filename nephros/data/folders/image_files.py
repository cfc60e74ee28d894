"""Image files of a data set in folders: what is known of each before it is opened, and how a folder lists its files."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from nephros.data.companion_files import COMPANION_KIND, companion_files, companion_folders
from nephros.data.images.decoding import IMAGE_SUFFIXES
from nephros.data.input_files import count_text, file_kind
from nephros.data.medmnist import MedMNISTInfo
from nephros.errors import FileError

EXPECTED_LAYOUT = (
    "it must contain one subfolder per class with PNG, TIFF or JPEG files, or train, val and test folders of them, or a "
    "CSV table with the columns file and label"
)
_SUFFIXES = tuple(IMAGE_SUFFIXES)


@dataclass(frozen=True)
class ImageFile:
    """One image: its path, its class, and its split and group where its source gives them."""

    path: Path
    label: int
    split: str = ""
    """train, val or test; "" where the source leaves it open."""
    group: str = ""
    """Name of the patient, slide or the like; "" where there is none."""


@dataclass(frozen=True)
class FolderScan:
    """The images of a folder, before any is opened."""

    class_names: tuple[str, ...]
    files: list[ImageFile]
    splits_from: str = ""
    """What gives the splits, such as ``its folders train, val and test``; "" where nothing does."""
    groups_from: str = ""
    """What gives the groups, such as ``subfolders of class folders``; "" where nothing does."""
    notes: tuple[str, ...] = ()
    """What was taken for what, for the provenance."""
    warnings: tuple[str, ...] = ()
    tables: tuple[Path, ...] = ()
    """Tables that give the labels."""
    info: MedMNISTInfo | None = None
    """The MedMNIST data set that this is, if it is one."""


def file_names(folder: Path) -> list[str]:
    """Return the sorted names of what lies in a folder; FileError where it can't be read."""
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise _unreadable_error(folder, error) from error


def subfolder_names(folder: Path) -> list[str]:
    """Return the sorted names of the folders in a folder, without hidden ones."""
    return [name for name in file_names(folder) if (folder / name).is_dir() and not is_hidden_folder(name)]


def is_hidden_folder(name: str) -> bool:
    """Return whether a folder of this name holds no data of the user's."""
    return name.startswith((".", "__"))


def is_image_name(name: str) -> bool:
    """Return whether a file of this name, or of this path, is read as an image."""
    name = name.rstrip("/").rpartition("/")[2]
    return name.lower().endswith(_SUFFIXES) and not name.startswith(".")


def list_images(folder: Path, skipped: Counter[str], *, with_companions: bool = False) -> list[Path]:
    """Return the images in a folder and its subfolders, sorted, and count its other files in `skipped`, by kind.

    Masks and outlines beside their images are images only `with_companions`.
    """
    return list(_walk_images(folder, skipped, with_companions))


def holds_images(folder: Path) -> bool:
    """Return whether there is an image in a folder or in its subfolders."""
    return next(_walk_images(folder, Counter()), None) is not None


def _walk_images(folder: Path, skipped: Counter[str], with_companions: bool = False) -> Iterator[Path]:
    visited = set()
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
        images, others = list(filter(is_image_name, names)), set[str]()
        if not with_companions:
            others = companion_files(images)
            masks = companion_folders(folders, bool(images))
            folders[:] = [name for name in folders if name not in masks]
            skipped.update(
                [COMPANION_KIND] * (len(others) + sum(len(file_names(Path(current, name))) for name in masks))
            )
        for name in sorted(set(names) - others):
            if is_image_name(name):
                yield Path(current, name)
            else:
                skipped[file_kind(name)] += 1


def sort_class_names(names: Iterable[str]) -> list[str]:
    """Sort names as people do: numbers by value (0, 1, 2, 10), also within a name (grade 2, grade 10)."""
    names = sorted(names)
    if all(re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", name) for name in names):
        return sorted(names, key=float)
    # A split by digits alternates text and numbers, so that like is compared with like.
    return sorted(names, key=lambda name: [int(s) if i % 2 else s for i, s in enumerate(re.split("([0-9]+)", name))])


def skipped_warnings(root: Path, skipped: Counter[str]) -> tuple[str, ...]:
    """Return a warning that counts the files that are not read, by kind; none where there are none."""
    if not skipped:
        return ()
    return (
        f"skipped in {root}, where only PNG, TIFF and JPEG files in class folders are read: {count_text(skipped)}.",
    )


def _raise_unreadable(error: OSError) -> NoReturn:
    raise _unreadable_error(error.filename, error) from error


def _unreadable_error(folder: str | Path, error: OSError) -> FileError:
    return FileError(folder, f"{folder} can't be read ({error.strerror}); check its permissions.")
