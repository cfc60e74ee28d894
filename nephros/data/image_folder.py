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

from nephros.console import with_bar
from nephros.data.dataset import SPLITS, Dataset, Provenance, Split, absent
from nephros.data.image_decoding import SUFFIXES, decode, quiet, read_bytes, to_eight_bits
from nephros.errors import UserError

LAYOUT = "it must hold one sub-folder a class with PNG, TIFF or JPEG images, or train, val and test folders of those"
_PROGRESS_FROM = 2000


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
        raise UserError(f"--size must be at least 1 pixel, not {size}.")
    root = Path(path).expanduser().absolute()
    names, files, given = _find(root)
    images, sha256, notes = _read(root, files, size)
    labels = np.array([file.label for file in files], dtype=np.int64)
    if given:
        where = np.array([SPLITS.index(file.split) for file in files])
        notes.insert(0, "split by its folders train, val and test")
    else:
        where = assign(labels, seed)
        notes.insert(0, f"split 7:1:2 by class with seed {seed}")
    train, val, test = (Split(images[where == part], labels[where == part]) for part in range(3))
    unusual = absent("val", val.labels, names) + absent("test", test.labels, names)
    provenance = Provenance(root.name, "own", str(root), sha256, detail="; ".join(notes))
    task = "binary-class" if len(names) == 2 else "multi-class"
    return Dataset(train, val, test, names, provenance, task, unusual)


def assign(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Deal images to train, val and test (0, 1, 2) 7:1:2 within each class, at least one each; (n,) int64 both ways.

    Every class must have at least three images. The same labels and seed give the same split.
    """
    generator = np.random.default_rng(seed)
    where = np.zeros(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        indices = generator.permutation(np.flatnonzero(labels == label))
        val, test = (max(1, (len(indices) * tenths + 5) // 10) for tenths in (1, 2))
        where[indices[:val]] = 1
        where[indices[val : val + test]] = 2
    return where


@dataclass(frozen=True)
class _File:
    """One image of the folder: its place, its class and, where folders say so, its split."""

    path: Path
    label: int
    split: str


def _find(root: Path) -> tuple[tuple[str, ...], list[_File], bool]:
    """List class names and images, and say whether the folders give the split."""
    if not os.path.isdir(root):
        raise UserError(f"{root} is not a folder; {LAYOUT}.")
    folders = _folders(root)
    given = "train" in folders and ("val" in folders or "test" in folders)
    if missing := [split for split in SPLITS if given and split not in folders]:
        raise UserError(f"{root} has a train folder but no {missing[0]} folder; {LAYOUT}.")
    tops = {split: root / split for split in SPLITS} if given else {"": root}
    names = tuple(sorted({name for top in tops.values() for name in _folders(top)}))
    if not names:
        raise UserError(f"{root} has no class folders; {LAYOUT}.")
    if len(names) == 1:
        raise UserError(f"{root} has one class only, {names[0]}; a classifier needs at least two.")
    files = []
    for split, top in tops.items():
        for label, name in enumerate(names):
            found = _images(top / name)
            if len(found) < 3 and not given:
                raise UserError(f"{top / name} has {len(found)} images; a class needs at least 3, one for each split.")
            if not found and split == "train":
                raise UserError(f"{top / name} has no images; every class needs training images.")
            files += [_File(file, label, split) for file in found]
    for split in SPLITS if given else ():
        if not any(file.split == split for file in files):
            raise UserError(f"{root / split} has no images; every split needs some.")
    return names, files, given


def _folders(root: Path) -> list[str]:
    return _listed(root, lambda path: path.is_dir() and not path.name.startswith("__"))


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [folder / name for name in _listed(folder, lambda path: path.suffix.lower() in SUFFIXES)]


def _listed(folder: Path, wanted: Callable[[Path], bool]) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir() if not path.name.startswith(".") and wanted(path))
    except OSError as error:
        raise UserError(f"{folder} can't be read ({error.strerror}); check its permissions.") from error


def _read(root: Path, files: list[_File], size: int | None) -> tuple[NDArray[np.uint8], str, list[str]]:
    """Return all images in file order, the SHA-256 of names and bytes, and notes on what was changed."""
    digest, pixels = hashlib.sha256(), []
    with quiet():
        for file in with_bar(files, "Reading images", len(files)) if len(files) > _PROGRESS_FROM else files:
            data = read_bytes(file.path)
            digest.update(f"{file.path.relative_to(root).as_posix()}\0{len(data)}\0".encode())
            digest.update(data)
            pixels.append(decode(file.path, data))
            if size is None and pixels[-1].shape[:2] != pixels[0].shape[:2]:
                raise UserError(
                    f"{file.path} is {_pixels(pixels[-1])} and {files[0].path.name} {_pixels(pixels[0])}; "
                    "give --size to resize all images."
                )
    pixels, notes = _one_depth(root, pixels)
    if size is not None:
        notes.append(f"resized to {size}x{size} pixels (bicubic)")
        pixels = [np.asarray(Image.fromarray(p).resize((size, size), Image.Resampling.BICUBIC)) for p in pixels]
    if any(image.ndim == 3 for image in pixels):
        pixels = [image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2) for image in pixels]
    return np.stack(pixels), digest.hexdigest(), notes


def _pixels(image: NDArray[Any]) -> str:
    return f"{image.shape[0]}x{image.shape[1]} pixels"


def _one_depth(root: Path, pixels: list[NDArray[Any]]) -> tuple[list[NDArray[Any]], list[str]]:
    """Bring deep images to uint8 by one factor, so that brightness still compares between cells."""
    deep = [image.dtype != np.uint8 for image in pixels]
    if not any(deep):
        return pixels, []
    if not all(deep):
        raise UserError(f"{root} mixes 8-bit and 16-bit images; save all of them with one depth.")
    lowest, highest = min(int(image.min()) for image in pixels), max(int(image.max()) for image in pixels)
    if lowest < 0:
        raise UserError(f"{root} has images with negative pixels; save them with 8 or 16 unsigned bits.")
    scaled = [to_eight_bits(image, highest) for image in pixels]
    return scaled, [f"16-bit pixels scaled so that the folder's maximum, {highest}, becomes 255"]
