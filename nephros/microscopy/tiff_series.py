"""The images in a TIFF file, and whether it holds all planes that its own metadata promise."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nephros.data.images.tiff_directories import walk_file
from nephros.errors import FileError, NephrosError, require_extra
from nephros.microscopy.choices import choose_index
from nephros.microscopy.location import StackLocation
from nephros.microscopy.ome import DeclaredImage, OmeMetadata, read_ome
from nephros.microscopy.tiff_levels import fold_levels, level_series, n_top_pages

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPageSeries

_TRUNCATION_MESSAGES = ("page offset", "page list", "failed to reshape", "corrupted file")
"""Parts of tifffile's log messages about missing pages, for which it raises nothing."""
MAX_PAGES = 1_000_000
_MAX_CLAIMED_PLANES, _MAX_CLAIMED_PLANES_PER_PAGE, _MAX_CLAIMED_PIXELS = 10_000, 64, 1 << 32
"""Planes that OME metadata may claim, in all and per page, and pixels of a plane: tifffile does something for each plane."""
_MAX_NAMED = 5
"""Images, or messages of tifffile, that one note names."""


@dataclass(frozen=True)
class OpenSeries:
    """One image of a TIFF file that is open, with the levels of its pyramid."""

    file: TiffFile
    series: TiffPageSeries
    image: int
    """Index of the image in the file."""
    n_images: int
    notes: tuple[str, ...]
    """What else the file holds, and what tifffile warns of; one sentence each."""


def require_stacks_extra() -> contextlib.AbstractContextManager[None]:
    """Return the context in which the modules of the extra `stacks` are imported."""
    message = "Reading stacks needs tifffile and scikit-image: pip install 'nephros[stacks]'."
    return require_extra(message, "tifffile", "skimage", "imagecodecs")


@contextlib.contextmanager
def translate_read_errors(path: StackLocation) -> Iterator[None]:
    """Turn what reading raises into a FileError.

    Every Exception counts: for changed bytes, tifffile and the decoders below it raise nearly every kind.
    """
    try:
        yield
    except NephrosError:
        raise
    except Exception as error:
        raise FileError(str(path), f"{path} is damaged or cut short; copy it again from its source.") from error


@contextlib.contextmanager
def open_series(path: Path, image: int | str | None) -> Iterator[OpenSeries]:
    """Open an image of a TIFF file: the one of this index or name; by default the only one with several slices, else the first.

    Raises:
        FileError: the file is damaged, or its planes are in several files.
        InvalidArgument: it has no image `image`.
        MissingDependency: the extra `stacks` is not installed.
    """
    with require_stacks_extra():
        import tifffile
    _check_directories(path)
    page_note = ""
    messages = _LogMessages(path)
    with _TIFFFILE_LOGGER.collecting(messages), translate_read_errors(path), contextlib.ExitStack() as files:
        # A set of several files is not followed: the metadata of a run have no digest of the files beside it.
        file = files.enter_context(tifffile.TiffFile(path, _multifile=False))
        ome, ome_fault = read_ome(path, file.pages.first.description)
        if ome is not None:
            declared = ome.images
            index = _choose(path, declared, image)
            omexml = ome.text_for(index, path)
            _check_claims(path, ome, index, len(file.pages))
            if omexml:
                file = files.enter_context(tifffile.TiffFile(path, omexml=omexml, _multifile=False))
            # Of Micro-Manager's files tifffile prefers their own index, which makes one image of all positions.
            file.is_mmstack = False
            series = list(file.series)
            if series[0].kind != "ome" and ome.locates_pixels:
                messages.refuse_truncated()
                raise FileError(
                    path,
                    f"{path} does not hold the pixels of its image {index} as its OME metadata describe them; save the image "
                    "again, as one file.",
                )
            chosen = series[0]
        else:
            if ome_fault:
                file = files.enter_context(tifffile.TiffFile(path, is_ome=False, _multifile=False))
            series = list(file.series)
            if image is None and _are_single_pages(series):
                page_note = f"{path.name} holds {len(series):,} images of one page each, which are taken for slices."
                file = files.enter_context(tifffile.TiffFile(path, is_ome=False, is_shaped=False, _multifile=False))
                series = list(file.series)
            messages.refuse_truncated()
            series = fold_levels(series)
            declared = [DeclaredImage(item.name, tuple(item.shape), _n_slices(item)) for item in series]
            if len(series) > 1 and image is None and series[0].kind in ("generic", "uniform"):
                raise FileError(
                    path,
                    f"{path} has pages that differ in size or bit depth; save only the slices of one stack, or set `image` to "
                    f"one of these: {_listing(declared)}.",
                )
            index = _choose(path, declared, image)
            chosen = series[index]
        _refuse_color_slide(path, file, chosen)
        messages.refuse_truncated()
        notes = _notes(path, declared, index, file, chosen, messages.texts, ome_fault)
        yield OpenSeries(file, chosen, index, len(declared), (*notes, *([page_note] if page_note else [])))


def _are_single_pages(series: list[TiffPageSeries]) -> bool:
    """Return whether these are pages that tifffile wrote one by one, as a loop over slices does, and not images of their own."""
    first = series[0]
    return len(series) > 1 and all(
        (item.kind, item.axes, item.shape, item.dtype) == ("shaped", "YX", first.shape, first.dtype) for item in series
    )


def _check_directories(path: Path) -> None:
    """Raise FileError for a file whose directories claim more than it holds, or form a circle, which tifffile never leaves."""
    if walk_file(path, MAX_PAGES).is_circular:
        raise FileError(path, f"{path} is damaged: a page leads back to an earlier one; copy it again from its source.")


def _check_claims(path: Path, ome: OmeMetadata, index: int, n_pages: int) -> None:
    """Raise FileError where the metadata of an image claim far more than its file can hold."""
    n_planes, (height, width) = ome.n_claimed_planes(index, n_pages), ome.images[index].shape[-2:]
    if n_planes > max(_MAX_CLAIMED_PLANES, _MAX_CLAIMED_PLANES_PER_PAGE * n_pages):
        raise FileError(
            path,
            f"{path} lacks planes: its OME metadata claim {n_planes:,}, and it has {n_pages:,} pages; it is damaged, or one file "
            "of several. Save the stack as one file.",
        )
    if ome.has_negative_places(index):
        raise FileError(path, f"{path} has OME metadata that place planes at negative numbers; save the stack again.")
    if height * width > _MAX_CLAIMED_PIXELS:
        raise FileError(
            path, f"{path} has OME metadata that claim planes of {width:,} x {height:,} pixels; save it again."
        )


_SLIDE_FORMATS = {
    "is_svs": "Aperio SVS", "is_ndpi": "Hamamatsu NDPI", "is_scn": "Leica SCN", "is_bif": "Ventana BIF", "is_philips": "Philips",
    "is_qpi": "PerkinElmer QPTIFF",
}  # fmt: skip
"""tifffile's flag for a format of whole slides -> its name."""


def _refuse_color_slide(path: Path, file: TiffFile, series: TiffPageSeries) -> None:
    """Raise FileError for a whole slide in color, which is stained tissue in bright field; one in fluorescence may be a stack."""
    name = next((name for flag, name in _SLIDE_FORMATS.items() if getattr(file, flag, False)), None)
    if name is not None and "S" in series.axes:
        raise FileError(
            path,
            f"{path} is a whole-slide image in color ({name}), not a fluorescence stack; export the region of interest from a "
            "fluorescence channel as TIFF, for example with QuPath.",
        )


class _LogMessages(logging.Handler):
    """Collects tifffile's messages about odd metadata and missing pages in a file that the thread opens which makes this."""

    def __init__(self, path: Path) -> None:
        super().__init__(logging.WARNING)
        self._path, self._thread_id = path, threading.get_ident()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one message of this thread, without the representation of the file that it begins with."""
        if record.thread != self._thread_id:
            return
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


class _QuietLogger:
    """tifffile's logger, whose messages go to no other logger's handlers as long as any thread collects them."""

    def __init__(self) -> None:
        self._logger, self._lock = logging.getLogger("tifffile"), threading.RLock()
        self._n_blocks, self._propagate = 0, True

    @contextlib.contextmanager
    def collecting(self, messages: _LogMessages) -> Iterator[None]:
        """Within the block, collect the messages of its thread. Blocks of several threads may end in any order."""
        with self._lock:
            if self._n_blocks == 0:
                self._propagate, self._logger.propagate = self._logger.propagate, False
            self._n_blocks += 1
        self._logger.addHandler(messages)
        try:
            yield
        finally:
            self._logger.removeHandler(messages)
            with self._lock:
                self._n_blocks -= 1
                if self._n_blocks == 0:
                    self._logger.propagate = self._propagate


_TIFFFILE_LOGGER = _QuietLogger()


def _n_slices(series: TiffPageSeries) -> int:
    """Return the number of slices of a series: planes that are neither channels nor time points."""
    return int(np.prod([size for axis, size in zip(series.axes, series.shape, strict=True) if axis not in "CTSYX"]))


def _choose(path: Path, declared: list[DeclaredImage], image: int | str | None) -> int:
    if image is not None:
        return choose_index("image", image, [item.name for item in declared], len(declared), path.name)
    deep = [index for index, image in enumerate(declared) if image.n_slices > 1]
    return deep[0] if len(deep) == 1 else 0


def _listing(declared: list[DeclaredImage]) -> str:
    """Return the images of a file as text, such as ``0 'position 1' (24 x 512 x 512)``."""
    names = [
        f"{index}{' ' + repr(image.name) if image.name else ''} ({' x '.join(map(str, image.shape))})"
        for index, image in enumerate(declared[:_MAX_NAMED])
    ]
    return ", ".join(names) + (f" and {len(declared) - _MAX_NAMED:,} more" if len(declared) > _MAX_NAMED else "")


def _notes(
    path: Path,
    declared: list[DeclaredImage],
    index: int,
    file: TiffFile,
    series: TiffPageSeries,
    messages: list[str],
    ome_fault: str,
) -> tuple[str, ...]:
    notes = []
    if len(declared) > 1:
        notes.append(
            f"{path.name} holds {len(declared):,} images, and only image {index} is read: {_listing(declared)}; "
            "set `image` to read another."
        )
    elif (n_extra := len(file.pages) - n_top_pages(level_series(series))) > 0:
        notes.append(f"{path.name} has {n_extra:,} more pages than its metadata name; they are not read.")
    if ome_fault:
        notes.append(f"{path.name}: {ome_fault}, so its pages are taken for the slices of one channel.")
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
    # Planes that follow each other need no page each: ImageJ above 4 GB, and MetaMorph, write one for all. Whether the
    # file is long enough for them is seen below.
    n_planes = promised if series.dataoffset is not None else planes_per_page * sum(page is not None for page in series)
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
