"""What lies in a folder with a subfolder per class: classes, splits, groups, images, and the files that are skipped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from nephros.data.class_names import class_name_fault, spelling_warnings, unify_spelling
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
from nephros.data.folders.layouts import (
    TopFolder,
    are_groups,
    files_in_classes,
    files_in_groups,
    files_in_split_classes,
    inner_names,
    is_container,
)
from nephros.data.group_names import class_name_warnings
from nephros.data.images.decoding import IMAGE_SUFFIXES
from nephros.data.input_files import count_text, file_kind
from nephros.data.split import SPLITS
from nephros.data.split_names import DuplicateSplitError, find_splits, is_split_word
from nephros.errors import FileError
from nephros.text_tables import join_words, pluralize


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
    tops, spelling = _top_folders(split_roots)
    skipped = _count_beside(root, splits.values() if splits else {top.path.name for top in tops})
    for split_root in split_roots.values() if splits else ():
        skipped += _count_beside(split_root, {top.path.name for top in tops})
    for top in tops:
        top.images = list_images(top.path, top.others)
        skipped += top.others
    groups_on_top = groups == "folders" or (groups == "auto" and are_groups(tops))
    if groups_on_top:
        spelling = unify_spelling((str(top.path), name) for top in tops for name in sorted(inner_names([top])))
    class_names = tuple(
        sort_class_names(
            {spelling.get(name, name) for name in inner_names(tops)} if groups_on_top else {top.name for top in tops}
        )
    )
    _check_class_names(root, class_names, skipped)
    splits_from = folders_text(splits.values()) if splits else ""
    if groups_on_top:
        files = files_in_groups(tops, class_names, spelling, skipped)
        groups_from = "the folders around the class folders"
    elif not splits and (files := files_in_split_classes(tops, class_names)):
        splits_from, groups_from = "the folders for train and others in each class", ""
    else:
        files = files_in_classes(tops, class_names, groups)
        groups_from = "the names of the files" if groups == "names" else "the subfolders of class folders"
    files.sort(key=lambda file: (SPLITS.index(file.split) if file.split else 0, file.label))
    _check_counts(root, class_names, files, tops, splits)
    groups_from = groups_from if any(file.group for file in files) else ""
    layout_warnings = (
        _layout_warnings(root, files, bool(splits), groups_from, groups_on_top) if groups != "names" else ()
    )
    warnings = (
        layout_warnings
        + spelling_warnings(spelling)
        + class_name_warnings(class_names)
        + skipped_warnings(root, skipped)
    )
    return FolderScan(class_names, files, splits_from, groups_from, warnings=warnings)


def _top_folders(split_roots: Mapping[str, Path]) -> tuple[list[TopFolder], dict[str, str]]:
    """Return the folders in the root, or in those of the splits, and for each of their names the spelling that is used."""
    names = {split: subfolder_names(path) for split, path in split_roots.items()}
    spelling = unify_spelling((split, name) for split in names for name in names[split])
    tops = [
        TopFolder(split, path / name, spelling.get(name, name))
        for split, path in split_roots.items()
        for name in names[split]
    ]
    return tops, spelling


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


def _check_class_names(root: Path, class_names: tuple[str, ...], skipped: Counter[str]) -> None:
    if not class_names:
        loose = sum(count for kind, count in skipped.items() if kind.endswith("outside the class folders"))
        images = f", but {loose:,} images directly in it or in the folders of its splits" if loose else ""
        raise FileError(root, f"{root} has no class folders{images}; {EXPECTED_LAYOUT}.")
    if fault := class_name_fault(class_names):
        raise FileError(root, f"In {root}, {fault}; give the folder of each class a name of its own.")
    if all(map(is_container, class_names)) and len(class_names) > 1:
        raise FileError(
            root, f"{root} has the folders {join_words(class_names)}, which are not classes; {EXPECTED_LAYOUT}."
        )
    if len(class_names) == 1:
        folder = root / class_names[0]
        hint = (
            f" If the classes are in that folder, give {folder}." if folder.is_dir() and subfolder_names(folder) else ""
        )
        raise FileError(root, f"{root} has one class only, {class_names[0]}; a classifier needs at least two.{hint}")


def _check_counts(
    root: Path, class_names: tuple[str, ...], files: list[ImageFile], tops: Iterable[TopFolder], splits: dict[str, str]
) -> None:
    """Raise FileError for a class or a split without images, and for a class too small to be split."""
    has_splits = any(file.split for file in files)
    counts = Counter(file.label for file in files if file.split in ("", "train"))
    for label, name in enumerate(class_names):
        top = next((top for top in tops if top.name == name and top.split in ("", "train")), None)
        folder = top.path if top else root / splits.get("train", "") / name
        subject = f"{folder}" if top else f"{root}: {name}"
        detail = f", beside {count_text(top.others)}" if top and top.others else ""
        if counts[label] < 3 and not has_splits:
            n_images = pluralize(counts[label], "image")
            raise FileError(folder, f"{subject} has {n_images}{detail}; a class needs at least 3.")
        if splits and not top:
            others = [top.path for top in tops if top.name == name]
            raise FileError(
                others[0] if others else folder,
                f"{others[0] if others else folder} is a class folder, and {splits['train']} has none of that name; every class "
                "needs training images.",
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
