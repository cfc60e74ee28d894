"""The images of a folder as cells of one shape, converted by the rule by which `nephros.predict` converts its inputs."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.console import progress_bar
from nephros.data.folders.image_files import ImageFile
from nephros.data.images.decoded_image import DecodedImage
from nephros.data.images.decoder import ImageDecoder
from nephros.data.images.decoding import strict_pillow_warnings
from nephros.data.images.input_conversion import (
    DEFAULT_CONVERSION,
    BrightestPixel,
    CellShape,
    InputConversion,
    default_white_level,
    select_planes,
    to_cell,
)
from nephros.data.input_files import read_bytes
from nephros.errors import FileError

_MIN_FILES_FOR_PROGRESS = 2000


@dataclass(frozen=True)
class ConvertedImages:
    """Images of one source as cells of one shape."""

    images: NDArray[np.uint8]
    """(n, h, w), or (n, h, w, 3) where one has color."""
    details: tuple[str, ...]
    """How all images were changed: scale and size."""
    warnings: tuple[str, ...]
    """How some images had to be read; one sentence each."""
    conversion: InputConversion
    """With the white level that was used, if any image has more than 8 bits."""


@dataclass(frozen=True)
class FolderImages(ConvertedImages):
    """All images of a folder, in the order of its files."""

    sha256: str
    """Of the files' names and bytes."""


def read_folder_images(
    root: Path,
    files: Sequence[ImageFile],
    *,
    size: int | None = None,
    conversion: InputConversion = DEFAULT_CONVERSION,
    shape: CellShape | None = None,
) -> FolderImages:
    """Read and convert the images of a folder.

    Args:
        root: the folder.
        files: its images.
        size: pixels per side of the result; None requires images of one size.
        conversion: how to convert them. Without a white level, the folder's brightest pixel becomes 255.
        shape: of the cells of a model that is to be evaluated; wins over `size`.

    Raises:
        FileError: an image can't be read, or doesn't fit the others.
    """
    digest, images, decoder = hashlib.sha256(), [], ImageDecoder()
    show_progress = len(files) > _MIN_FILES_FOR_PROGRESS
    with strict_pillow_warnings():
        for file in progress_bar(files, "Reading images", len(files)) if show_progress else files:
            data = read_bytes(file.path)
            digest.update(f"{file.path.relative_to(root).as_posix()}\0{len(data)}\0".encode(errors="surrogateescape"))
            digest.update(data)
            image = decoder.decode_image(file.path, data)
            images.append(select_planes(file.path, image, shape[0] if shape else 3, conversion.channel))
            if size is None and shape is None and (text := _size_text(images[-1])) != (first := _size_text(images[0])):
                raise FileError(
                    file.path,
                    f"{file.path} is {text} and {files[0].path.name} {first}; give `size` to resize all images.",
                )
    names = [str(file.path) for file in files]
    cells = convert_images(root, names, images, size=size, conversion=conversion, shape=shape)
    return FolderImages(cells.images, cells.details, cells.warnings, cells.conversion, digest.hexdigest())


def convert_images(
    root: Path,
    names: Sequence[str],
    images: Sequence[DecodedImage],
    *,
    size: int | None = None,
    conversion: InputConversion = DEFAULT_CONVERSION,
    shape: CellShape | None = None,
) -> ConvertedImages:
    """Convert all images of a source to cells; `names` names each in messages, and the rest is as in `read_folder_images`."""
    conversion, details = _with_white_level(root, images, conversion)
    if shape is None:
        height, width = images[0].pixels.shape[:2] if size is None else (size, size)
        shape = (3 if any(image.layout == "color" for image in images) else 1, height, width)
    cells, counts = [], Counter[str]()
    for name, image in zip(names, images, strict=True):
        cell, notes = to_cell(name, image, shape, conversion)
        cells.append(cell)
        counts.update(notes)
    resized = [note for note in counts if note.startswith("resized to")]
    details += [max(resized, key=len).partition(", stretched")[0]] if resized else []
    warnings = tuple(
        f"In {root}: {note} ({count:,} of {len(images):,} images)."
        for note, count in counts.items()
        if note not in resized and "scaled to 8-bit" not in note
    )
    return ConvertedImages(np.stack(cells), tuple(details), warnings, conversion)


def _size_text(image: DecodedImage) -> str:
    return f"{image.pixels.shape[0]}x{image.pixels.shape[1]} pixels"


def _with_white_level(
    root: Path, images: Sequence[DecodedImage], conversion: InputConversion
) -> tuple[InputConversion, list[str]]:
    """Return the conversion with a white level for images of more than 8 bits: one, so that cells stay comparable."""
    kinds = {_kind(image.pixels) for image in images}
    if kinds == {"8-bit"}:
        return conversion, []
    if conversion.white_level is None and len(kinds) > 1:
        raise FileError(
            root,
            f"{root} mixes {' and '.join(sorted(kinds, reverse=True))} images; save all of them with the same bit depth, or set "
            "`white_level` to the value that is white in those of more than 8 bits.",
        )
    deep = [image.pixels for image in images if image.pixels.dtype != np.uint8]
    brightest = BrightestPixel()
    for pixels in deep:
        brightest.add(pixels)
    white_level = conversion.white_level or default_white_level(brightest, np.result_type(*deep))
    kind = next(iter(kinds - {"8-bit"}))
    if white_level == brightest.value and not conversion.black_level:
        detail = f"{kind} pixels scaled so that the maximum, {white_level:g}, becomes 255"
    else:
        detail = f"{kind} pixels scaled so that {white_level:g} becomes 255"
    return replace(conversion, white_level=white_level), [detail]


def _kind(pixels: NDArray[Any]) -> str:
    if pixels.dtype == np.uint8:
        return "8-bit"
    return "floating-point" if pixels.dtype.kind == "f" else "16-bit"
