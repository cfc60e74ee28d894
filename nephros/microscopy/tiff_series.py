"""The images in a TIFF file, and whether it holds all planes that its own metadata promise."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np

from nephros.errors import FileError, InvalidArgument, MissingDependency, NephrosError, require_extra

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPageSeries

_TRUNCATION_MESSAGES = ("page offset", "page list", "failed to reshape", "corrupted file")
"""Parts of tifffile's log messages about missing pages, for which it raises nothing."""
_MAX_NAMED = 5
"""Images, or messages of tifffile, that one note names."""


@dataclass(frozen=True)
class OpenSeries:
    """One image of a TIFF file that is open."""

    file: TiffFile
    series: TiffPageSeries
    image: int
    """Index of the image in the file."""
    n_images: int
    notes: tuple[str, ...]
    """What else the file holds, and what tifffile warns of; one sentence each."""


@dataclass(frozen=True)
class _DeclaredImage:
    """An image that the metadata of a file name."""

    name: str
    shape: tuple[int, ...]
    """Sizes of its axes, without those of length 1 before the last two."""
    n_slices: int


def require_stacks_extra() -> contextlib.AbstractContextManager[None]:
    """Return the context in which the modules of the extra `stacks` are imported."""
    message = "Reading stacks needs tifffile and scikit-image: pip install 'nephros[stacks]'."
    return require_extra(message, "tifffile", "skimage", "imagecodecs")


@contextlib.contextmanager
def translate_read_errors(path: Path) -> Iterator[None]:
    """Turn what reading raises into a FileError.

    Every Exception counts: for changed bytes, tifffile and the decoders below it raise nearly every kind.
    """
    try:
        yield
    except NephrosError:
        raise
    except Exception as error:
        if "imagecodecs" in str(error):
            raise MissingDependency(
                f"{path} is compressed in a way that needs imagecodecs: pip install 'nephros[stacks]'."
            ) from error
        raise FileError(path, f"{path} is damaged or cut short; copy it again from its source.") from error


@contextlib.contextmanager
def open_series(path: Path, image: int | None) -> Iterator[OpenSeries]:
    """Open an image of a TIFF file: the one at index `image`, or by default the only one with several slices, else the first.

    Raises:
        FileError: the file is damaged, or its planes are in several files.
        InvalidArgument: it has no image `image`.
        MissingDependency: the extra `stacks` is not installed.
    """
    with require_stacks_extra():
        import tifffile
    with _capture_log(path) as messages, translate_read_errors(path), contextlib.ExitStack() as files:
        # A set of several files is not followed: the metadata of a run have no digest of the files beside it.
        file = files.enter_context(tifffile.TiffFile(path, _multifile=False))
        root = _parse_ome(file.ome_metadata)
        ome_images = [] if root is None else _children(root, "Image")
        if root is not None:
            _check_has_metadata(path, root)
        if root is not None and ome_images:
            declared = [_declared_in_ome(element) for element in ome_images]
            index = _choose(path, declared, image)
            is_edited = _keep_image(path, root, index, file.filename)
            if len(ome_images) > 1 or is_edited:
                omexml = ElementTree.tostring(root, encoding="unicode")
                file = files.enter_context(tifffile.TiffFile(path, omexml=omexml, _multifile=False))
            series = list(file.series)
            if series[0].kind != "ome" and _has_pixel_data(root):
                messages.refuse_truncated()
                raise FileError(
                    path,
                    f"{path} does not hold the pixels of its image {index} as its OME metadata describe them; save the image "
                    "again, as one file.",
                )
            chosen = series[0]
        else:
            series = list(file.series)
            messages.refuse_truncated()
            declared = [_DeclaredImage(one.name, tuple(one.shape), _n_slices(one)) for one in series]
            if len(series) > 1 and image is None and series[0].kind in ("generic", "uniform"):
                raise FileError(
                    path,
                    f"{path} has pages that differ in size or bit depth; save only the slices of one stack, or set `image` to "
                    f"one of these: {_listing(declared)}.",
                )
            index = _choose(path, declared, image)
            chosen = series[index]
        messages.refuse_truncated()
        notes = _notes(path, declared, index, file, chosen, messages.texts)
        yield OpenSeries(file, chosen, index, len(declared), notes)


class _LogMessages(logging.Handler):
    """Collects tifffile's messages about odd metadata and missing pages."""

    def __init__(self, path: Path) -> None:
        super().__init__(logging.WARNING)
        self._path = path
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one message, without the representation of the file that it begins with."""
        text = re.sub(r"<tifffile\.[^>]*>:?\s*", "", record.getMessage())
        text = "".join(character for character in text if character.isprintable()).strip()
        if text and text not in self.texts:
            self.texts.append(text)

    def refuse_truncated(self) -> None:
        """Raise FileError where a message is about missing pages."""
        if any(part in text for text in self.texts for part in _TRUNCATION_MESSAGES):
            raise FileError(
                self._path, f"{self._path} is cut short: its later pages are missing; copy it again from its source."
            )


@contextlib.contextmanager
def _capture_log(path: Path) -> Iterator[_LogMessages]:
    """Within the block, collect tifffile's log messages, which then go nowhere else."""
    messages, logger = _LogMessages(path), logging.getLogger("tifffile")
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(messages)
    try:
        yield messages
    finally:
        logger.removeHandler(messages)
        logger.propagate = propagate


def _parse_ome(text: str | None) -> ElementTree.Element | None:
    """Return the root of OME metadata, or None where there are none that can be parsed."""
    try:
        return ElementTree.fromstring(text) if text else None
    except ElementTree.ParseError:
        return None


def _children(element: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    """Return the children of that name in any namespace; images without Pixels don't count."""
    children = [child for child in element if child.tag.rpartition("}")[2] == name]
    return [child for child in children if name != "Image" or _children(child, "Pixels")]


def _check_has_metadata(path: Path, root: ElementTree.Element) -> None:
    for element in _children(root, "BinaryOnly"):
        raise FileError(
            path,
            f"{path} is one file of a set, and the set's metadata are in {element.get('MetadataFile') or 'another file'}; "
            "save the stack as one file.",
        )


def _has_pixel_data(root: ElementTree.Element) -> bool:
    """Return whether OME metadata say where in the file an image is; some programs leave that out."""
    return any(
        _children(pixels, "TiffData") for image in _children(root, "Image") for pixels in _children(image, "Pixels")
    )


def _declared_in_ome(element: ElementTree.Element) -> _DeclaredImage:
    pixels = _children(element, "Pixels")[0]
    t, c, z, y, x = (int(pixels.get(f"Size{axis}") or 1) for axis in "TCZYX")
    shape = (*(size for size in (t, c, z) if size > 1), y, x)
    return _DeclaredImage(element.get("Name") or "", shape, z)


def _keep_image(path: Path, root: ElementTree.Element, index: int, filename: str) -> bool:
    """Remove all images but one from OME metadata, and return whether a plane was said to be in another file than this.

    Raises:
        FileError: planes of this image are in other files.
    """
    images = _children(root, "Image")
    own_ids = {root.get("UUID")} - {None}
    uuids = [uuid for uuid in root.iter() if uuid.tag.rpartition("}")[2] == "UUID"]
    own_ids |= {uuid.text for uuid in uuids if (uuid.get("FileName") or "").lower() == filename.lower()}
    if len({uuid.text for uuid in uuids}) == 1:  # one file under another name
        own_ids |= {uuids[0].text}
    for image in images:
        if image is not images[index]:
            root.remove(image)
    other_names: list[str] = []
    for pixels in _children(images[index], "Pixels"):
        for data in _children(pixels, "TiffData"):
            for uuid in _children(data, "UUID"):
                if uuid.text in own_ids:
                    data.remove(uuid)
                else:
                    other_names.append(uuid.get("FileName") or str(uuid.text))
    if other_names:
        names = sorted(set(other_names))
        more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
        raise FileError(
            path,
            f"{path} is one file of several: planes of its image {index} are in {names[0]}{more}; save the stack as one file.",
        )
    return any(uuid.text != root.get("UUID") for uuid in uuids)


def _n_slices(series: TiffPageSeries) -> int:
    """Return the number of slices of a series: planes that are neither channels nor time points."""
    return int(np.prod([size for axis, size in zip(series.axes, series.shape, strict=True) if axis not in "CTSYX"]))


def _choose(path: Path, declared: list[_DeclaredImage], image: int | None) -> int:
    if image is not None:
        if not 0 <= image < len(declared):
            valid = f"from 0 to {len(declared) - 1}" if len(declared) > 1 else "0"
            listing = f"The file holds {_listing(declared)}." if len(declared) > 1 else ""
            raise InvalidArgument("image", image, f"{valid} for {path.name}", hint=listing)
        return image
    deep = [index for index, one in enumerate(declared) if one.n_slices > 1]
    return deep[0] if len(deep) == 1 else 0


def _listing(declared: list[_DeclaredImage]) -> str:
    """Return the images of a file as text, such as ``0 'position 1' (24 x 512 x 512)``."""
    names = [
        f"{index}{' ' + repr(one.name) if one.name else ''} ({' x '.join(map(str, one.shape))})"
        for index, one in enumerate(declared[:_MAX_NAMED])
    ]
    return ", ".join(names) + (f" and {len(declared) - _MAX_NAMED:,} more" if len(declared) > _MAX_NAMED else "")


def _notes(
    path: Path, declared: list[_DeclaredImage], index: int, file: TiffFile, series: TiffPageSeries, messages: list[str]
) -> tuple[str, ...]:
    notes = []
    if len(declared) > 1:
        notes.append(
            f"{path.name} holds {len(declared):,} images, and only image {index} is read: {_listing(declared)}; "
            "set `image` to read another."
        )
    elif (n_extra := len(file.pages) - series.size // max(1, series.keyframe.size)) > 0:
        notes.append(f"{path.name} has {n_extra:,} more pages than its metadata name; they are not read.")
    notes += [f"{path.name}: tifffile warns that {text}." for text in messages[:_MAX_NAMED]]
    return tuple(notes)


def check_all_planes(path: Path, file: TiffFile, series: TiffPageSeries) -> None:
    """Check that a file holds every plane that its metadata promise.

    Raises:
        FileError: it holds fewer, or fewer bytes than they need.
    """
    outer = series.axes[:-2]
    planes_per_page = max(1, int(np.prod(series.keyframe.shape[:-2])))
    promised = int(np.prod(series.shape[:-2]))
    n_pages = len(series) if series.dataoffset is not None else sum(page is not None for page in series)
    n_planes = n_pages * planes_per_page
    if series.kind != "ome" and (imagej := file.imagej_metadata):
        sizes = [int(imagej.get(key) or 1) for key in ("channels", "slices", "frames")]
        promised = max(promised, int(imagej.get("images") or 1), int(np.prod(sizes)))
    if n_planes < promised:
        raise FileError(
            path,
            f"{path} lacks planes: its metadata promise {promised:,}{f' (axes {outer})' if outer else ''}, and it holds "
            f"{n_planes:,}; it is cut short, or one file of several. Copy it again, or save the stack as one file.",
        )
    n_bytes, file_bytes = series.size * np.dtype(series.dtype or "u1").itemsize, path.stat().st_size
    if series.dataoffset is not None and series.dataoffset + n_bytes > file_bytes:
        raise FileError(
            path, f"{path} is cut short: its header promises more than its {file_bytes:,} bytes; copy it again."
        )
