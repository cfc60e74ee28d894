"""Data sets as folders of images, one subfolder per class, with folders for the splits or split here."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nephros.console import progress_bar
from nephros.data.dataset import SPLITS, Dataset, Provenance, Split, missing_class_warnings
from nephros.data.folder_scan import ImageFile, file_warnings, scan_folder
from nephros.data.image_decoding import decode_image, strict_pillow_warnings
from nephros.data.image_transforms import to_uint8
from nephros.data.input_files import read_bytes
from nephros.data.splitting import stratified_split
from nephros.errors import FileError, InvalidArgument

_MIN_FILES_FOR_PROGRESS = 2000


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
    class_names, files, is_presplit, skipped = scan_folder(root)
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
        + file_warnings(root, files, skipped, is_presplit)
    )
    provenance = Provenance(root.name, "own", str(root), sha256, detail="; ".join(notes))
    task = "binary-class" if len(class_names) == 2 else "multi-class"
    return Dataset(train, val, test, class_names, provenance, task, warnings)


def _read_images(root: Path, files: list[ImageFile], size: int | None) -> tuple[NDArray[np.uint8], str, list[str]]:
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
