"""Data sets as folders of images, one subfolder per class, with folders for the splits or split here."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nephros.data.dataset import SPLITS, Dataset, Provenance, Split, missing_class_warnings
from nephros.data.folder_images import read_folder_images
from nephros.data.folder_scan import file_warnings, scan_folder
from nephros.data.input_conversion import DEFAULT_CONVERSION, CellShape, InputConversion
from nephros.data.splitting import stratified_split
from nephros.errors import InvalidArgument


def open_folder(
    path: str | Path,
    *,
    size: int | None = None,
    seed: int = 0,
    conversion: InputConversion = DEFAULT_CONVERSION,
    shape: CellShape | None = None,
) -> Dataset:
    """Open a folder of images.

    Args:
        path: contains CLASS/IMAGE, which is split here 7:1:2 by class, or {train,val,test}/CLASS/IMAGE. The names of the
            subfolders are the class names, in order, numbers by value. Images in subfolders of a class belong to it. Hidden
            files and files that are not PNG, TIFF or JPEG are skipped, and a warning counts them.
        size: resize every image to (size, size) pixels with Pillow's bicubic filter, padded with black to keep the aspect
            ratio; None requires images of one size.
        seed: of the split.
        conversion: how images become cells. Without a white level, images of more than 8 bits are scaled by one factor, so that
            the folder's brightest pixel becomes 255.
        shape: channels, height and width of the cells of a model that is to be evaluated; wins over `size`.

    Returns:
        Images (n, h, w) uint8 where all are grayscale, else (n, h, w, 3).

    Raises:
        FileError: the folder has no classes or too few images, or an image can't be read or doesn't fit the others.
        InvalidArgument: `size` is below 1.
    """
    if size is not None and size < 1:
        raise InvalidArgument("size", size, "at least 1 pixel")
    root = Path(path).expanduser().absolute()
    class_names, files, is_presplit, skipped = scan_folder(root)
    content = read_folder_images(root, files, size=size, conversion=conversion, shape=shape)
    images, notes = content.images, list(content.details)
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
        + content.warnings
    )
    provenance = Provenance(root.name, "own", str(root), content.sha256, detail="; ".join(notes))
    task = "binary-class" if len(class_names) == 2 else "multi-class"
    return Dataset(train, val, test, class_names, provenance, task, warnings, content.conversion)
