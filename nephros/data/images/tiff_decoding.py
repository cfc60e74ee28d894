"""Which TIFF pages Pillow can't decode, or doesn't give the stored values of, and how tifffile decodes these."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import struct
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from PIL import Image, TiffImagePlugin

from nephros.data.images.tiff_lzw import LZW, decode_lzw_page
from nephros.data.input_files import TIFF_MAGIC
from nephros.errors import FileError, require_extra

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tifffile import TiffFile, TiffFrame, TiffPage

_BIG_ENDIAN_BIGTIFF = b"MM\0+"
"""First bytes of files whose tags Pillow misreads."""
_BASIC_COMPRESSIONS = frozenset({1, 2, 3, 4, 5, 7, 8, 32773, 32946})
"""Codes of compressions that every build of Pillow decodes."""
_OPTIONAL_COMPRESSIONS = {34925: "lzma", 50000: "zstd"}
"""Codes of compressions that some builds decode, and Pillow's names for them."""
_COMPRESSION_NAMES = {
    6: "JPEG of TIFF 6.0", 33003: "JPEG 2000", 33004: "JPEG 2000", 33005: "JPEG 2000", 34712: "JPEG 2000", 34887: "LERC",
    34892: "lossy JPEG", 34925: "LZMA", 34926: "Zstandard", 34927: "WebP", 34933: "PNG", 34934: "JPEG XR", 48124: "Jetraw",
    50000: "Zstandard", 50001: "WebP", 50002: "JPEG XL", 50013: "Pixtiff", 52546: "JPEG XL", 65000: "EER", 65001: "EER",
    65002: "EER",
}  # fmt: skip
_PILLOW_BITS = (1, 2, 4, 8)
"""Bits per sample below 16 that Pillow decodes; and 12, where the file is little-endian."""
TAG_BITS, TAG_COMPRESSION, TAG_PHOTOMETRIC, TAG_SAMPLES = 258, 259, 262, 277
_TAG_EXTRA_SAMPLES, _TAG_SAMPLE_FORMAT = 338, 339
TAG_PLANAR_CONFIGURATION, PLANES_APART = 284, 2
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
"""Values of the tag PhotometricInterpretation."""
ASSOCIATED_ALPHA, UNASSOCIATED_ALPHA = 1, 2
"""Values of the tag ExtraSamples that mean transparency; 0 says nothing."""


def _compression_name(code: int) -> str:
    """Return what the compression with this code in a TIFF file is called."""
    return _COMPRESSION_NAMES.get(code, f"compression {code}")


def open_tags(header: bytes) -> TiffImagePlugin.ImageFileDirectory_v2:
    """Return a reader of tags for a TIFF file that begins with `header`, 8 bytes, or 16 of a BigTIFF."""
    is_big_endian_bigtiff = header.startswith(_BIG_ENDIAN_BIGTIFF)
    tags = TiffImagePlugin.ImageFileDirectory_v2(header[:8] if is_big_endian_bigtiff else header)
    if is_big_endian_bigtiff:  # Pillow looks for BigTIFF where only little-endian files say so
        tags._bigtiff = True
        (tags.next,) = struct.unpack(">Q", header[8:16])
    return tags


def first_page_tags(data: bytes) -> TiffImagePlugin.ImageFileDirectory_v2 | None:
    """Return the tags of a TIFF file's first page, with the offset of the next one; None where it is not a TIFF file."""
    if not data.startswith(TIFF_MAGIC):
        return None
    try:
        tags = open_tags(data[: 16 if b"+" in data[2:4] else 8])
        file = io.BytesIO(data)
        file.seek(tags.next)
        tags.load(file)
    except Exception:  # of changed bytes, every kind is raised
        return None
    return tags


def is_misread_by_pillow(data: bytes) -> bool:
    """Return whether a TIFF file is of a kind whose tags Pillow misreads."""
    return data.startswith(_BIG_ENDIAN_BIGTIFF)


def pillow_reads_stored_values(tags: TiffImagePlugin.ImageFileDirectory_v2) -> bool:
    """Return whether Pillow decodes a page with these tags, and gives all of its values as stored or, of WhiteIsZero, inverted.

    It cuts 16-bit color to 8 bits, takes signed and 32-bit unsigned integers for the other kind, divides colors by associated
    alpha, and drops samples.
    """
    if not _pillow_decodes(tags.get(TAG_COMPRESSION, 1)):
        return False
    photometric, extra = tags.get(TAG_PHOTOMETRIC, WHITE_IS_ZERO), tags.get(_TAG_EXTRA_SAMPLES, ())
    bits, n_samples = set(tags.get(TAG_BITS, (1,))), tags.get(TAG_SAMPLES, 1)
    if not set(tags.get(_TAG_SAMPLE_FORMAT, (1,))) <= {1, 4}:
        return False
    if n_samples == 1 and bits <= {16} | ({12} if tags.prefix == b"II" else set()):
        return photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO)
    n_expected = {RGB: 3, CMYK: 4, YCBCR: 3, LAB: 3}.get(photometric, 1)
    is_unnamed_alpha = photometric == RGB and n_samples == 4 and not extra  # as many programs write it
    has_known_samples = n_samples - len(extra) == n_expected and extra in ((), (UNASSOCIATED_ALPHA,))
    return bits <= set(_PILLOW_BITS) and (has_known_samples or is_unnamed_alpha)


@functools.cache
def _pillow_decodes(code: int) -> bool:
    """Return whether this build of Pillow decodes a compression; of the optional ones, whether it encodes a pixel."""
    if code not in _OPTIONAL_COMPRESSIONS:
        return code in _BASIC_COMPRESSIONS
    try:
        Image.new("L", (1, 1)).save(io.BytesIO(), "TIFF", compression=_OPTIONAL_COMPRESSIONS[code])
    except (OSError, ValueError, KeyError, RuntimeError):
        return False
    return True


@contextlib.contextmanager
def open_tiff(name: object, data: bytes) -> Iterator[TiffFile]:
    """Open a TIFF file of images of cells in tifffile.

    Args:
        name: names the file at the beginning of an error's message.
        data: the file's bytes.

    Raises:
        MissingDependency: tifffile is not installed.
        ValueError: tifffile has logged an error within the block, such as a tag that it can't read; of damaged bytes, nearly
            any other Exception.
    """
    tags = first_page_tags(data)
    code = 1 if tags is None else int(tags.get(TAG_COMPRESSION, 1))
    is_basic = _pillow_decodes(code)
    reason = (
        "has pixels whose stored values can be read only with"
        if is_basic
        else f"is compressed with {_compression_name(code)}, which needs"
    )
    message = f"{name} {reason} tifffile and imagecodecs: pip install 'nephros[stacks]'."
    with require_extra(message, "tifffile", "imagecodecs"):
        import tifffile

        if not is_basic:
            import imagecodecs  # noqa: F401
    logger, errors = logging.getLogger("tifffile"), _ErrorCounter()
    logger.addHandler(errors)
    try:
        with tifffile.TiffFile(io.BytesIO(data), _multifile=False) as file:
            yield file
    except FileError:
        if not errors.count:
            raise
    finally:
        logger.removeHandler(errors)
    if errors.count:
        raise ValueError("tags are damaged")


class _ErrorCounter(logging.Handler):
    """Counts errors that tifffile only logs: tags that it can't read, without which pixels would be misread."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.count, self._thread_id = 0, threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        """Count a record of this thread."""
        self.count += record.thread == self._thread_id


def decode_page(name: object, page: TiffPage | TiffFrame, n_bytes: int) -> NDArray[Any]:
    """Return the values of a page as they are stored, after checking that the file holds all of its bytes.

    Args:
        name: names the page at the beginning of an error's message.
        page: the page.
        n_bytes: size of the file.

    Raises:
        FileError: bytes are missing, or nothing here decodes the compression; damaged bytes raise nearly anything.
        MissingDependency: the compression needs imagecodecs, which is not installed.
    """
    # Several decoders return an image for the first half of its bytes.
    if any(start + size > n_bytes for start, size in zip(page.dataoffsets, page.databytecounts, strict=True)):
        raise FileError(
            str(name), f"{name} is cut short: it lacks the end of its pixels; copy it again from its source."
        )
    try:
        return decode_lzw_page(page) if int(page.compression) == LZW else page.asarray(maxworkers=1)
    except (ValueError, KeyError, ImportError) as error:
        compression = int(page.compression)
        reason = f"{name} is compressed with {_compression_name(compression)}, which"
        with require_extra(f"{reason} needs imagecodecs: pip install 'nephros[stacks]'.", "imagecodecs"):
            import imagecodecs  # noqa: F401
            import tifffile
        is_known = compression in {known.value for known in tifffile.COMPRESSION}
        if is_known and "imagecodecs" not in str(error) and "not supported" not in str(error):
            raise
        raise FileError(
            str(name), f"{reason} can't be decoded here; save it uncompressed or with LZW compression."
        ) from error
