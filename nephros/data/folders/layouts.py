"""How images lie in folders: CLASS/IMAGE, CLASS/GROUP/IMAGE, GROUP/CLASS/IMAGE or CLASS/SPLIT/IMAGE."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nephros.data.folders.image_files import ImageFile
from nephros.data.group_names import group_in_file_name, is_group_folder
from nephros.data.input_files import file_kind
from nephros.data.split_names import DuplicateSplitError, find_splits, is_split_word
from nephros.errors import FileError

_CONTAINER_NAME = re.compile("(image|img|picture|png|tiff?|jpe?g|crop|mask)s?|data")
"""Names of folders that say what kind of files they hold, in lower case: such folders are neither classes nor groups."""


@dataclass
class TopFolder:
    """A folder in the root or in a split's folder: its images, and its other files by kind."""

    split: str
    path: Path
    name: str
    """Of its class, or of its group; as the first split spells it."""
    images: list[Path] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)

    def inner_folders(self, image: Path) -> tuple[str, ...]:
        """Return the folders between this one and an image, without a first one that only says what kind of files it holds."""
        parts = image.relative_to(self.path).parts[:-1]
        return parts[1:] if parts and is_container(parts[0]) else parts


def is_container(name: str) -> bool:
    """Return whether a folder's name says only what kind of files it holds, such as ``images``."""
    return _CONTAINER_NAME.fullmatch(name.casefold()) is not None


def inner_names(tops: Iterable[TopFolder]) -> set[str]:
    """Return the names of the folders directly in `tops` that hold images."""
    return {inner[0] for top in tops for image in top.images if (inner := top.inner_folders(image))}


def are_groups(tops: Collection[TopFolder]) -> bool:
    """Return whether all folders are named like patients or slides, while those in them are not: GROUP/CLASS/IMAGE."""
    names, folders_inside = {top.path.name for top in tops}, inner_names(tops)
    return (
        len(names) > 1
        and len(folders_inside) > 1
        and all(map(is_group_folder, names))
        and not any(is_group_folder(name) or is_split_word(name) for name in folders_inside)
    )


def files_in_groups(
    tops: Iterable[TopFolder], class_names: tuple[str, ...], spelling: Mapping[str, str], skipped: Counter[str]
) -> list[ImageFile]:
    """Return the images of GROUP/CLASS/IMAGE, and count in `skipped` those that are in no class folder."""
    files, label_of_name = [], {name: label for label, name in enumerate(class_names)}
    for top in tops:
        for image in top.images:
            if inner := top.inner_folders(image):
                files.append(
                    ImageFile(image, label_of_name[spelling.get(inner[0], inner[0])], top.split, top.path.name)
                )
            else:
                skipped[f"{file_kind(image.name)} outside the class folders"] += 1
    return files


def _check_single_set(tops: Iterable[TopFolder]) -> None:
    """Raise FileError where each folder is a data set of its own, such as fold_1 with fold_1/train/disc."""
    inner_folders = {top.path: {top.inner_folders(image)[:2] for image in top.images} for top in tops}
    classes = [
        {folders[1] for folders in inner if len(folders) == 2 and is_split_word(folders[0])}
        for inner in inner_folders.values()
    ]
    if len(classes) > 1 and len(classes[0]) > 1 and all(names == classes[0] for names in classes):
        paths = list(inner_folders)
        raise FileError(
            paths[0].parent,
            f"{paths[0].parent} has {len(paths)} folders with splits and classes of their own, such as {paths[0].name} and "
            f"{paths[1].name}; give the path of one of them.",
        )


def files_in_split_classes(tops: Collection[TopFolder], class_names: tuple[str, ...]) -> list[ImageFile]:
    """Return the images of CLASS/SPLIT/IMAGE; none where the folders in the classes are not splits.

    Raises:
        FileError: some classes have folders for train and others, but another class or image has none.
    """
    files, other_path = [], None
    _check_single_set(tops)
    for top in tops:
        names = inner_names([top])
        try:
            splits = {name: split for split, name in find_splits(names).items()}
        except DuplicateSplitError:
            splits = {}
        if len(splits) < 2 or "train" not in splits.values():
            splits = {}
        for image in top.images:
            inner = top.inner_folders(image)
            if inner and inner[0] in splits:
                files.append(ImageFile(image, class_names.index(top.name), splits[inner[0]]))
            else:
                other_path = image
    if files and other_path is not None:
        raise FileError(
            other_path,
            f"{other_path} is in no split, while other images of the classes are in folders for train and others.",
        )
    return files


def files_in_classes(tops: Collection[TopFolder], class_names: tuple[str, ...], groups: str) -> list[ImageFile]:
    """Return the images of CLASS/IMAGE and CLASS/GROUP/IMAGE."""
    # One folder around all images of every class tells nothing apart, whatever it is called.
    first_folders = {top.inner_folders(image)[:1] for top in tops for image in top.images}
    has_groups = groups == "subfolders" or (groups == "auto" and len(first_folders) > 1)
    files = []
    for top in tops:
        label = class_names.index(top.name)
        for image in top.images:
            inner = top.inner_folders(image) if has_groups else ()
            group = group_in_file_name(image.stem) if groups == "names" else inner[0] if inner else ""
            files.append(ImageFile(image, label, top.split, group))
    return files
