"""What lies in a folder with a subfolder per class: classes, splits, groups, images, and the files that are skipped."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from nephros.data.dataset import SPLITS, class_name_fault
from nephros.data.folders.image_files import (
    EXPECTED_LAYOUT,
    FolderScan,
    ImageFile,
    file_names,
    holds_images,
    is_hidden_folder,
    list_images,
    skipped_warnings,
    sort_class_names,
    subfolder_names,
)
from nephros.data.images.decoding import IMAGE_SUFFIXES
from nephros.data.input_files import count_text, file_kind
from nephros.data.split_names import DuplicateSplitError, find_splits, is_split_word
from nephros.errors import FileError
from nephros.text_tables import join_words

_CONTAINER_NAME = re.compile("(image|img|picture|png|tiff?|jpe?g|crop|mask)s?|data")
"""Names of folders that say what kind of files they hold, in lower case: such folders are neither classes nor groups."""
_GROUP_NAME = re.compile(
    "(patient|pat|pt|case|subject|subj|sub|donor|participant|individual|animal|mouse|rat|slide|sample|specimen|biopsy)"
    "[ _-]*[a-z]{0,2}[ _-]*[0-9]+[a-z]?|[ps][0-9]{2,}|[0-9]{3,}"
)
"""Names of folders that stand for patients, animals or slides, in lower case, such as P01, patient 7 and mouse_3b."""


@dataclass
class _TopFolder:
    """A folder in the root or in a split's folder: its images, and its other files by kind."""

    split: str
    path: Path
    images: list[Path] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)

    def inner_folders(self, image: Path) -> tuple[str, ...]:
        """Return the folders between this one and an image, without a first one that only says what kind of files it holds."""
        parts = image.relative_to(self.path).parts[:-1]
        return parts[1:] if parts and is_container(parts[0]) else parts


def scan_class_folders(root: Path, groups: str = "auto") -> FolderScan:
    """Find the images of CLASS/IMAGE, CLASS/GROUP/IMAGE, CLASS/SPLIT/IMAGE or GROUP/CLASS/IMAGE, or of split folders of these.

    Args:
        root: the folder.
        groups: one of `nephros.data.splitting.GROUP_RULES`.

    Raises:
        FileError: the folder has no classes or too few images, or its splits can't be told.
    """
    splits = find_split_folders(root)
    split_roots = {split: root / name for split, name in splits.items()} if splits else {"": root}
    tops = [_TopFolder(split, path / name) for split, path in split_roots.items() for name in subfolder_names(path)]
    top_names = {top.path.name for top in tops}
    skipped = _count_beside(root, splits.values() if splits else top_names)
    for split_root in split_roots.values() if splits else ():
        skipped += _count_beside(split_root, top_names)
    for top in tops:
        top.images = list_images(top.path, top.others)
        skipped += top.others
    groups_on_top = groups == "folders" or (groups == "auto" and _are_groups(tops))
    class_names = tuple(sort_class_names(_inner_names(tops) if groups_on_top else top_names))
    _check_class_names(root, class_names, skipped)
    splits_from = folders_text(splits.values()) if splits else ""
    if groups_on_top:
        files, groups_from = _files_in_groups(tops, class_names, skipped), "the folders around the class folders"
    elif not splits and (files := _files_in_split_classes(tops, class_names)):
        splits_from, groups_from = "the folders for train and others in each class", ""
    else:
        files, groups_from = _files_in_classes(tops, class_names, groups), "the subfolders of class folders"
    files.sort(key=lambda file: (SPLITS.index(file.split) if file.split else 0, file.label))
    _check_counts(root, class_names, files, tops, splits)
    groups_from = groups_from if any(file.group for file in files) else ""
    warnings = _layout_warnings(root, files, bool(splits), groups_from, groups_on_top)
    return FolderScan(class_names, files, splits_from, groups_from, warnings=warnings + skipped_warnings(root, skipped))


def find_split_folders(root: Path) -> dict[str, str]:
    """Return split -> name of its folder, for a folder that has one for train and perhaps for val and test; else nothing.

    Raises:
        FileError: folders look like splits but can't be told apart, or none is for train.
    """
    folders = subfolder_names(root)
    try:
        splits = find_splits(folders)
    except DuplicateSplitError as error:
        raise FileError(root, f"In {root}, {error}; name the splits' folders train, val and test.") from error
    words = [name for name in folders if is_split_word(name) or name in splits.values()]
    if len(words) > 1 and (len(splits) < 2 or "train" not in splits):
        raise FileError(
            root, f"{root} has the folders {join_words(words)}, which look like splits; call them train, val and test."
        )
    if len(splits) == 1 and any(holds_images(root / name) for name in folders if name not in splits.values()):
        return {}  # a class called train, beside others
    return splits


def folders_text(names: Collection[str]) -> str:
    """Return such as ``its folders train and test``, for what gives the splits."""
    return f"its folder{'s' if len(names) > 1 else ''} {join_words(names)}"


def is_container(name: str) -> bool:
    """Return whether a folder's name says only what kind of files it holds, such as ``images``."""
    return _CONTAINER_NAME.fullmatch(name.casefold()) is not None


def _inner_names(tops: Iterable[_TopFolder]) -> set[str]:
    """Return the names of the folders directly in `tops` that hold images."""
    return {inner[0] for top in tops for image in top.images if (inner := top.inner_folders(image))}


def _are_groups(tops: Collection[_TopFolder]) -> bool:
    """Return whether all folders are named like patients or slides, while those in them are not: GROUP/CLASS/IMAGE."""
    names, inner_names = {top.path.name for top in tops}, _inner_names(tops)
    return (
        len(names) > 1
        and len(inner_names) > 1
        and all(_GROUP_NAME.fullmatch(name.casefold()) for name in names)
        and not any(_GROUP_NAME.fullmatch(name.casefold()) or is_split_word(name) for name in inner_names)
    )


def _files_in_groups(
    tops: Iterable[_TopFolder], class_names: tuple[str, ...], skipped: Counter[str]
) -> list[ImageFile]:
    """Return the images of GROUP/CLASS/IMAGE, and count in `skipped` those that are in no class folder."""
    files, label_of_name = [], {name: label for label, name in enumerate(class_names)}
    for top in tops:
        for image in top.images:
            if inner := top.inner_folders(image):
                files.append(ImageFile(image, label_of_name[inner[0]], top.split, top.path.name))
            else:
                skipped[f"{file_kind(image.name)} outside the class folders"] += 1
    return files


def _files_in_split_classes(tops: Iterable[_TopFolder], class_names: tuple[str, ...]) -> list[ImageFile]:
    """Return the images of CLASS/SPLIT/IMAGE; none where the folders in the classes are not splits.

    Raises:
        FileError: some classes have folders for train and others, but another class or image has none.
    """
    files, other_path = [], None
    for top in tops:
        names = _inner_names([top])
        try:
            splits = {name: split for split, name in find_splits(names).items()}
        except DuplicateSplitError:
            splits = {}
        if len(splits) < 2 or "train" not in splits.values():
            splits = {}
        for image in top.images:
            inner = top.inner_folders(image)
            if inner and inner[0] in splits:
                files.append(ImageFile(image, class_names.index(top.path.name), splits[inner[0]]))
            else:
                other_path = image
    if files and other_path is not None:
        raise FileError(
            other_path,
            f"{other_path} is in no split, while other images of the classes are in folders for train and others.",
        )
    return files


def _files_in_classes(tops: Collection[_TopFolder], class_names: tuple[str, ...], groups: str) -> list[ImageFile]:
    """Return the images of CLASS/IMAGE and CLASS/GROUP/IMAGE."""
    # One folder around all images of every class tells nothing apart, whatever it is called.
    first_folders = {top.inner_folders(image)[:1] for top in tops for image in top.images}
    has_groups = groups == "subfolders" or (groups == "auto" and len(first_folders) > 1)
    files = []
    for top in tops:
        label = class_names.index(top.path.name)
        for image in top.images:
            inner = top.inner_folders(image) if has_groups else ()
            files.append(ImageFile(image, label, top.split, inner[0] if inner else ""))
    return files


def _check_class_names(root: Path, class_names: tuple[str, ...], skipped: Counter[str]) -> None:
    if not class_names:
        loose = sum(count for kind, count in skipped.items() if kind.endswith("outside the class folders"))
        images = f", but {loose:,} images directly in it or in the folders of its splits" if loose else ""
        raise FileError(root, f"{root} has no class folders{images}; {EXPECTED_LAYOUT}.")
    if fault := class_name_fault(class_names):
        raise FileError(root, f"In {root}, {fault}; give the folder of each class a name of its own.")
    if all(map(is_container, class_names)) and len(class_names) > 1:
        raise FileError(
            root, f"{root} has the folders {join_words(class_names)}, which are no classes; {EXPECTED_LAYOUT}."
        )
    if len(class_names) == 1:
        folder = root / class_names[0]
        hint = (
            f" If the classes are in that folder, give {folder}." if folder.is_dir() and subfolder_names(folder) else ""
        )
        raise FileError(root, f"{root} has one class only, {class_names[0]}; a classifier needs at least two.{hint}")


def _check_counts(
    root: Path, class_names: tuple[str, ...], files: list[ImageFile], tops: Iterable[_TopFolder], splits: dict[str, str]
) -> None:
    """Raise FileError for a class or a split without images, and for a class too small to be split."""
    has_splits = any(file.split for file in files)
    counts = Counter(file.label for file in files if file.split in ("", "train"))
    for label, name in enumerate(class_names):
        top = next((top for top in tops if top.path.name == name and top.split in ("", "train")), None)
        folder = top.path if top else root / splits.get("train", "") / name
        subject = f"{folder}" if top or splits else f"{root}: {name}"
        detail = f", beside {count_text(top.others)}" if top and top.others else ""
        if counts[label] < 3 and not has_splits:
            raise FileError(
                folder, f"{subject} has {counts[label]} images{detail}; a class needs at least 3, one for each split."
            )
        if not counts[label]:
            raise FileError(folder, f"{subject} has no images{detail}; every class needs training images.")
    for split, name in splits.items():
        if not any(file.split == split for file in files):
            raise FileError(root / name, f"{root / name} has no images; every split needs some.")


def _count_beside(root: Path, expected: Collection[str]) -> Counter[str]:
    """Count what lies in `root` beside the folders expected there: files by kind, loose images, and folders."""
    skipped: Counter[str] = Counter()
    for name in file_names(root):
        path = root / name
        if path.is_dir() and name not in expected:
            skipped["hidden" if is_hidden_folder(name) else f"folder {name}"] += 1
        elif not path.is_dir():
            kind = file_kind(name)
            skipped[f"{kind} outside the class folders" if kind in IMAGE_SUFFIXES else kind] += 1
    return skipped


def _layout_warnings(
    root: Path, files: list[ImageFile], has_split_folders: bool, groups_from: str, groups_on_top: bool
) -> tuple[str, ...]:
    """Return what is to be known of images in deeper folders: whether these are taken for groups."""
    groups = {file.group for file in files if file.group}
    if groups_on_top:
        return (
            f"the {len(groups):,} folders in {root} are taken for groups (patients, slides) and the folders in them for classes; "
            "give `groups` as subfolders to read it the other way round.",
        )
    depth = 1 + has_split_folders
    paths = [file.path.relative_to(root) for file in files]
    nested = [path for path in paths if not all(map(is_container, path.parts[depth:-1]))]
    if not nested or (not groups_from and any(file.split for file in files)):
        return ()
    text = f"{len(nested):,} of {len(files):,} images are in subfolders of class folders, such as {nested[0].parent.as_posix()}"
    if not groups_from:
        return (f"{text}; the split is by image, so those of one subfolder may be in train and in test.",)
    classes_of_group: dict[str, set[int]] = {}
    for file in files:
        classes_of_group.setdefault(file.group, set()).add(file.label)
    n_classes = len({file.label for file in files})
    text += f"; the subfolders, {len(groups):,} in all, are taken for groups (patients, slides)"
    text += (
        ""
        if has_split_folders
        else ", and the images of a group stay in one split. Give `groups` as none to split by image"
    )
    if 1 < len(groups) < n_classes and all(len(classes_of_group[group]) > 1 for group in groups):
        text += ", or as folders if the folders are the patients and their subfolders the classes"
    return (f"{text}.",)
