"""The images of a folder as cells of one shape, converted by the rule by which `nephros.predict` converts its inputs."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
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

MAX_KEPT_BYTES = 512 << 20
"""Bytes of images of more than 8 bits that are kept until the brightest pixel of all is known."""
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
    digest, decoder = hashlib.sha256(), ImageDecoder()

    def decode(file: ImageFile, data: bytes) -> DecodedImage:
        image = decoder.decode_image(file.path, data)
        return select_planes(file.path, image, shape[0] if shape else 3, conversion.channel)

    def iter_images() -> Iterator[DecodedImage]:
        show_progress, first = len(files) > _MIN_FILES_FOR_PROGRESS, ""
        for file in progress_bar(files, "Reading images", len(files)) if show_progress else files:
            data = read_bytes(file.path)
            digest.update(f"{file.path.relative_to(root).as_posix()}\0{len(data)}\0".encode(errors="surrogateescape"))
            digest.update(data)
            image = decode(file, data)
            text = _size_text(image)
            first = first or text
            if size is None and shape is None and text != first:
                raise FileError(
                    file.path,
                    f"{file.path} is {text} and {files[0].path.name} {first}; give `size` to resize all images.",
                )
            yield image

    names = [str(file.path) for file in files]
    with strict_pillow_warnings():
        cells = convert_images(
            root,
            names,
            iter_images(),
            lambda index: decode(files[index], read_bytes(files[index].path)),
            size=size,
            conversion=conversion,
            shape=shape,
        )
    return FolderImages(cells.images, cells.details, cells.warnings, cells.conversion, digest.hexdigest())


def convert_images(
    root: Path,
    names: Sequence[str],
    images: Iterable[DecodedImage],
    reread: Callable[[int], DecodedImage],
    *,
    size: int | None = None,
    conversion: InputConversion = DEFAULT_CONVERSION,
    shape: CellShape | None = None,
) -> ConvertedImages:
    """Convert all images of a source to cells.

    Only cells are kept, and those images of more than 8 bits whose white level is known when all have been seen, up to
    MAX_KEPT_BYTES; from there on these are read again.

    Args:
        root: the source, for messages.
        names: one per image, for messages.
        images: at least one, in their order.
        reread: returns the image of an index again.
        size, conversion, shape: as in `read_folder_images`.
    """
    sides = shape[1:] if shape else None if size is None else (size, size)
    cells: dict[int, NDArray[np.uint8]] = {}
    kept: dict[int, DecodedImage | None] = {}
    pixels, counts, kept_bytes = _PixelKinds(), Counter[str](), 0
    for index, image in enumerate(images):
        sides = sides or (image.pixels.shape[0], image.pixels.shape[1])
        pixels.add(image.pixels)
        if image.pixels.dtype == np.uint8 or conversion.white_level is not None:
            cells[index] = _convert(names[index], image, _cell_shape(image, sides, shape), conversion, counts)
        else:
            kept_bytes += image.pixels.nbytes
            is_kept = kept_bytes <= MAX_KEPT_BYTES  # as a copy: a view of one plane would keep the others, too
            kept[index] = replace(image, pixels=np.ascontiguousarray(image.pixels)) if is_kept else None
    assert sides is not None, "there is an image"
    conversion, details = pixels.with_white_level(root, conversion)
    for index in list(kept):
        image = kept.pop(index) or reread(index)
        cells[index] = _convert(names[index], image, _cell_shape(image, sides, shape), conversion, counts)
    if any(cell.ndim == 3 for cell in cells.values()):
        for index, cell in cells.items():
            if cell.ndim == 2:
                gray = DecodedImage(cell, "gray")
                cells[index] = _convert(names[index], gray, (3, *sides), conversion, counts)
    resized = [note for note in counts if note.startswith("resized to")]
    details += [max(resized, key=len).partition(", stretched")[0]] if resized else []
    warnings = tuple(
        f"In {root}: {note} ({count:,} of {len(cells):,} images)."
        for note, count in counts.items()
        if note not in resized and "scaled to 8-bit" not in note
    )
    return ConvertedImages(
        np.stack([cells[index] for index in range(len(cells))]), tuple(details), warnings, conversion
    )


def _size_text(image: DecodedImage) -> str:
    return f"{image.pixels.shape[0]}x{image.pixels.shape[1]} pixels"


def _cell_shape(image: DecodedImage, sides: tuple[int, int], shape: CellShape | None) -> CellShape:
    """Return the shape of an image's cell; where the channels are open, gray stays gray until all images are known."""
    return shape or (3 if image.layout == "color" else 1, *sides)


def _convert(
    name: str, image: DecodedImage, shape: CellShape, conversion: InputConversion, counts: Counter[str]
) -> NDArray[np.uint8]:
    """Return an image's cell, and count how it was converted."""
    cell, notes = to_cell(name, image, shape, conversion)
    counts.update(notes)
    return np.ascontiguousarray(cell)


class _PixelKinds:
    """The kinds of pixels of all images of a source, and the brightest of those of more than 8 bits."""

    def __init__(self) -> None:
        self._kinds: set[str] = set()
        self._deep_types: set[np.dtype[Any]] = set()
        self._brightest = BrightestPixel()

    def add(self, pixels: NDArray[Any]) -> None:
        """Take an image into account."""
        self._kinds.add(_kind(pixels))
        if pixels.dtype != np.uint8:
            self._deep_types.add(pixels.dtype)
            self._brightest.add(pixels)

    def with_white_level(self, root: Path, conversion: InputConversion) -> tuple[InputConversion, list[str]]:
        """Return the conversion with a white level for images of more than 8 bits: one, so that cells stay comparable."""
        if self._kinds == {"8-bit"}:
            return conversion, []
        if conversion.white_level is None and len(self._kinds) > 1:
            kinds = " and ".join(sorted(self._kinds, reverse=True))
            raise FileError(
                root,
                f"{root} mixes {kinds} images; save all of them with the same bit depth, or set `white_level` to the value that "
                "is white in those of more than 8 bits.",
            )
        deep_type = np.result_type(*self._deep_types)
        white_level = conversion.white_level or default_white_level(self._brightest, deep_type)
        kind = next(iter(self._kinds - {"8-bit"}))
        if white_level == self._brightest.value and not conversion.black_level:
            detail = f"{kind} pixels scaled so that the maximum, {white_level:g}, becomes 255"
        else:
            detail = f"{kind} pixels scaled so that {white_level:g} becomes 255"
        return replace(conversion, white_level=white_level), [detail]


def _kind(pixels: NDArray[Any]) -> str:
    if pixels.dtype == np.uint8:
        return "8-bit"
    return "floating-point" if pixels.dtype.kind == "f" else "16-bit"
