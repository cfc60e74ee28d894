"""Open a folder of images, one sub-folder a class, split already into train, val and test or split here."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nephros.console import progress_bar
from nephros.data.dataset import SPLITS, Dataset, Provenance, Split, missing_class_warnings
from nephros.data.image_decoding import IMAGE_SUFFIXES, decode_image, read_bytes, strict_pillow_warnings, to_uint8
from nephros.errors import NephrosError

_EXPECTED_LAYOUT = (
    "it must hold one sub-folder a class with PNG, TIFF or JPEG images, or train, val and test folders of those"
)
_MIN_FILES_FOR_PROGRESS = 2000


def open_folder(path: str | Path, *, size: int | None = None, seed: int = 0) -> Dataset:
    """Open a folder of images.

    Args:
        path: holds CLASS/IMAGE, split here 7:1:2 by class, or {train,val,test}/CLASS/IMAGE. Class names are the
            sub-folders', sorted. Hidden files and other suffixes than PNG's, TIFF's and JPEG's are passed over.
        size: resize every image to (size, size) pixels with Pillow's bicubic filter; None needs them all of one size.
        seed: of the split.

    Returns:
        (n, h, w) uint8 where all images are grey, otherwise (n, h, w, 3). Alpha is dropped. The brightest pixel of a
        folder of 16-bit images becomes 255, by one factor for all of them.

    Raises:
        UserError: no classes, too few images, or an image that can't be read or doesn't fit the others.
    """
    if size is not None and size < 1:
        raise NephrosError(f"--size must be at least 1 pixel, not {size}.")
    root = Path(path).expanduser().absolute()
    class_names, files, is_presplit = _scan_folder(root)
    images, sha256, notes = _read_images(root, files, size)
    labels = np.array([file.label for file in files], dtype=np.int64)
    if is_presplit:
        split_index = np.array([SPLITS.index(file.split) for file in files])
        notes.insert(0, "split by its folders train, val and test")
    else:
        split_index = stratified_split(labels, seed)
        notes.insert(0, f"split 7:1:2 by class with seed {seed}")
    train, val, test = (Split(images[split_index == index], labels[split_index == index]) for index in range(3))
    warnings = missing_class_warnings("val", val.labels, class_names) + missing_class_warnings(
        "test", test.labels, class_names
    )
    provenance = Provenance(root.name, "own", str(root), sha256, detail="; ".join(notes))
    task = "binary-class" if len(class_names) == 2 else "multi-class"
    return Dataset(train, val, test, class_names, provenance, task, warnings)


def stratified_split(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Deal images to train, val and test (0, 1, 2) 7:1:2 within each class, at least one each; (n,) int64 both ways.

    Every class must have at least three images. The same labels and seed give the same split.
    """
    rng = np.random.default_rng(seed)
    split_index = np.zeros(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        indices = rng.permutation(np.flatnonzero(labels == label))
        val, test = (max(1, (len(indices) * tenths + 5) // 10) for tenths in (1, 2))
        split_index[indices[:val]] = 1
        split_index[indices[val : val + test]] = 2
    return split_index


@dataclass(frozen=True)
class _ImageFile:
    """One image of the folder: its place, its class and, where folders say so, its split."""

    path: Path
    label: int
    split: str


def _scan_folder(root: Path) -> tuple[tuple[str, ...], list[_ImageFile], bool]:
    """List class names and images, and say whether the folders give the split."""
    if not os.path.isdir(root):
        raise NephrosError(f"{root} is not a folder; {_EXPECTED_LAYOUT}.")
    folders = _subfolder_names(root)
    is_presplit = "train" in folders and ("val" in folders or "test" in folders)
    if missing_splits := [split for split in SPLITS if is_presplit and split not in folders]:
        raise NephrosError(f"{root} has a train folder but no {missing_splits[0]} folder; {_EXPECTED_LAYOUT}.")
    split_roots = {split: root / split for split in SPLITS} if is_presplit else {"": root}
    class_names = tuple(sorted({name for split_root in split_roots.values() for name in _subfolder_names(split_root)}))
    if not class_names:
        raise NephrosError(f"{root} has no class folders; {_EXPECTED_LAYOUT}.")
    if len(class_names) == 1:
        raise NephrosError(f"{root} has one class only, {class_names[0]}; a classifier needs at least two.")
    files = []
    for split, split_root in split_roots.items():
        for label, name in enumerate(class_names):
            paths = _image_paths(split_root / name)
            if len(paths) < 3 and not is_presplit:
                raise NephrosError(
                    f"{split_root / name} has {len(paths)} images; a class needs at least 3, one for each split."
                )
            if not paths and split == "train":
                raise NephrosError(f"{split_root / name} has no images; every class needs training images.")
            files += [_ImageFile(file, label, split) for file in paths]
    for split in SPLITS if is_presplit else ():
        if not any(file.split == split for file in files):
            raise NephrosError(f"{root / split} has no images; every split needs some.")
    return class_names, files, is_presplit


def _subfolder_names(root: Path) -> list[str]:
    return _sorted_names(root, lambda path: path.is_dir() and not path.name.startswith("__"))


def _image_paths(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [folder / name for name in _sorted_names(folder, lambda path: path.suffix.lower() in IMAGE_SUFFIXES)]


def _sorted_names(folder: Path, predicate: Callable[[Path], bool]) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir() if not path.name.startswith(".") and predicate(path))
    except OSError as error:
        raise NephrosError(f"{folder} can't be read ({error.strerror}); check its permissions.") from error


def _read_images(root: Path, files: list[_ImageFile], size: int | None) -> tuple[NDArray[np.uint8], str, list[str]]:
    """Return all images in file order, the SHA-256 of names and bytes, and notes on what was changed."""
    digest, images = hashlib.sha256(), []
    with strict_pillow_warnings():
        for file in (
            progress_bar(files, "Reading images", len(files)) if len(files) > _MIN_FILES_FOR_PROGRESS else files
        ):
            data = read_bytes(file.path)
            digest.update(f"{file.path.relative_to(root).as_posix()}\0{len(data)}\0".encode())
            digest.update(data)
            images.append(decode_image(file.path, data))
            if size is None and images[-1].shape[:2] != images[0].shape[:2]:
                raise NephrosError(
                    f"{file.path} is {_size_text(images[-1])} and {files[0].path.name} {_size_text(images[0])}; "
                    "give --size to resize all images."
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
    """Bring deep images to uint8 by one factor, so that brightness still compares between cells."""
    is_high_bit_depth = [image.dtype != np.uint8 for image in images]
    if not any(is_high_bit_depth):
        return images, []
    if not all(is_high_bit_depth):
        raise NephrosError(f"{root} mixes 8-bit and 16-bit images; save all of them with one depth.")
    lowest, highest = min(int(image.min()) for image in images), max(int(image.max()) for image in images)
    if lowest < 0:
        raise NephrosError(f"{root} has images with negative pixels; save them with 8 or 16 unsigned bits.")
    images_uint8 = [to_uint8(image, highest) for image in images]
    return images_uint8, [f"16-bit pixels scaled so that the folder's maximum, {highest}, becomes 255"]
