"""Data sets as folders of images, one subfolder per class, with folders for the splits or split here."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nephros.console import progress_bar
from nephros.data.dataset import SPLITS, Dataset, Provenance, Split, class_name_fault, missing_class_warnings
from nephros.data.image_decoding import IMAGE_SUFFIXES, decode_image, strict_pillow_warnings
from nephros.data.image_transforms import to_uint8
from nephros.data.input_files import count_text, file_kind, read_bytes
from nephros.errors import FileError, InvalidArgument

_EXPECTED_LAYOUT = (
    "it must contain one subfolder per class with PNG, TIFF or JPEG files, or train, val and test folders of them"
)
_MIN_FILES_FOR_PROGRESS = 2000
_SPLIT_WORDS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}


def open_folder(path: str | Path, *, size: int | None = None, seed: int = 0) -> Dataset:
    """Open a folder of images.

    Args:
        path: contains CLASS/IMAGE, which is split here 7:1:2 by class, or {train,val,test}/CLASS/IMAGE. The names of the
            subfolders are the class names, in order, numbers by value. Images in subfolders of a class belong to it. Hidden
            files and files that are not PNG, TIFF or JPEG are skipped, and a warning counts them.
        size: resize every image to (size, size) pixels with Pillow's bicubic filter; None requires images of one size.
        seed: of the split.

    Returns:
        Images (n, h, w) uint8 where all are grayscale, else (n, h, w, 3). Alpha is dropped. 16-bit images are scaled by one
        factor, so that the folder's brightest pixel becomes 255.

    Raises:
        FileError: the folder has no classes or too few images, or an image can't be read or doesn't fit the others.
        InvalidArgument: `size` is below 1.
    """
    if size is not None and size < 1:
        raise InvalidArgument("size", size, "at least 1 pixel")
    root = Path(path).expanduser().absolute()
    class_names, files, is_presplit, skipped = _scan_folder(root)
    images, sha256, notes = _read_images(root, files, size)
    labels = np.array([file.label for file in files], dtype=np.int64)
    if is_presplit:
        split_index = np.array([SPLITS.index(file.split) for file in files])
        notes.insert(0, "split by its folders train, val and test")
    else:
        split_index = stratified_split(labels, seed)
        notes.insert(0, f"split 7:1:2 by class with seed {seed}")
    train, val, test = (Split(images[split_index == index], labels[split_index == index]) for index in range(3))
    warnings = (
        missing_class_warnings("val", val.labels, class_names)
        + missing_class_warnings("test", test.labels, class_names)
        + _file_warnings(root, files, skipped, is_presplit)
    )
    provenance = Provenance(root.name, "own", str(root), sha256, detail="; ".join(notes))
    task = "binary-class" if len(class_names) == 2 else "multi-class"
    return Dataset(train, val, test, class_names, provenance, task, warnings)


def stratified_split(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Assign images to train, val and test (0, 1, 2) in the ratio 7:1:2 within each class, at least one to each.

    Args:
        labels: (n,) int64; every class needs at least three images.
        seed: the same labels and seed give the same split.

    Returns:
        (n,) int64, the split of each image.
    """
    rng = np.random.default_rng(seed)
    split_index = np.zeros(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        indices = rng.permutation(np.flatnonzero(labels == label))
        n_val, n_test = (max(1, (len(indices) * tenths + 5) // 10) for tenths in (1, 2))
        split_index[indices[:n_val]] = 1
        split_index[indices[n_val : n_val + n_test]] = 2
    return split_index


def sort_class_names(names: Iterable[str]) -> list[str]:
    """Sort names as people do: numbers by value (0, 1, 2, 10), also within a name (grade 2, grade 10)."""
    names = sorted(names)
    if all(re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", name) for name in names):
        return sorted(names, key=float)
    # A split by digits alternates text and numbers, so that like is compared with like.
    return sorted(names, key=lambda name: [int(s) if i % 2 else s for i, s in enumerate(re.split("([0-9]+)", name))])


@dataclass(frozen=True)
class _ImageFile:
    """One image of the folder: its path, its class and, where folders give the split, its split."""

    path: Path
    label: int
    split: str


def _scan_folder(root: Path) -> tuple[tuple[str, ...], list[_ImageFile], bool, Counter[str]]:
    """Return the class names, the images, whether folders give the split, and the number of skipped files by kind."""
    if not os.path.isdir(root):
        raise FileError(root, f"{root} is not a folder; {_EXPECTED_LAYOUT}.")
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
        _ImageFile(path, label, split)
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


def _file_warnings(root: Path, files: list[_ImageFile], skipped: Counter[str], is_presplit: bool) -> tuple[str, ...]:
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


def _read_images(root: Path, files: list[_ImageFile], size: int | None) -> tuple[NDArray[np.uint8], str, list[str]]:
    """Return all images in file order, the SHA-256 of their names and bytes, and notes on how they were changed."""
    digest, images = hashlib.sha256(), []
    show_progress = len(files) > _MIN_FILES_FOR_PROGRESS
    with strict_pillow_warnings():
        for file in progress_bar(files, "Reading images", len(files)) if show_progress else files:
            data = read_bytes(file.path)
            digest.update(f"{file.path.relative_to(root).as_posix()}\0{len(data)}\0".encode())
            digest.update(data)
            images.append(decode_image(file.path, data))
            if size is None and images[-1].shape[:2] != images[0].shape[:2]:
                raise FileError(
                    file.path,
                    f"{file.path} is {_size_text(images[-1])} and {files[0].path.name} {_size_text(images[0])}; "
                    "give `size` to resize all images.",
                )
    images, notes = _unify_bit_depth(root, images)
    if size is not None:
        notes.append(f"resized to {size}x{size} pixels (bicubic)")
        images = [np.asarray(Image.fromarray(p).resize((size, size), Image.Resampling.BICUBIC)) for p in images]
    if any(image.ndim == 3 for image in images):
        images = [image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2) for image in images]
    return np.stack(images), digest.hexdigest(), notes


def _size_text(image: NDArray[Any]) -> str:
    return f"{image.shape[0]}x{image.shape[1]} pixels"


def _unify_bit_depth(root: Path, images: list[NDArray[Any]]) -> tuple[list[NDArray[Any]], list[str]]:
    """Scale images of more than 8 bits to uint8 by one factor, so that intensities stay comparable between cells."""
    is_high_bit_depth = [image.dtype != np.uint8 for image in images]
    if not any(is_high_bit_depth):
        return images, []
    if not all(is_high_bit_depth):
        raise FileError(root, f"{root} mixes 8-bit and 16-bit images; save all of them with the same bit depth.")
    lowest, highest = min(int(image.min()) for image in images), max(int(image.max()) for image in images)
    if lowest < 0:
        raise FileError(root, f"{root} has images with negative pixels; save them with 8 or 16 unsigned bits.")
    images_uint8 = [to_uint8(image, highest) for image in images]
    return images_uint8, [f"16-bit pixels scaled so that the folder's maximum, {highest}, becomes 255"]
