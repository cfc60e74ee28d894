"""LZW-compressed TIFF pages of any kind of pixels, decompressed by libtiff: changed bytes crash the decoder in imagecodecs.

Pillow has libtiff, and knows few kinds of pixels. It is given each strip or tile as an 8-bit image of one row.
"""

from __future__ import annotations

import copy
import io
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL.TiffImagePlugin import TiffImageFile

if TYPE_CHECKING:
    from tifffile import TiffFrame, TiffPage

LZW = 5
"""Code of this compression."""
_UNCOMPRESSED = 1


def decode_lzw_page(page: TiffPage | TiffFrame) -> NDArray[Any]:
    """Return the pixels of a page, as `TiffPage.asarray` does. For damaged bytes, several exceptions are raised."""
    keyframe = page.aspage()
    plain = copy.copy(keyframe)
    vars(plain).pop("decode", None)  # it is made for the compression
    plain.compression, plain.fillorder = type(keyframe.compression)(_UNCOMPRESSED), type(keyframe.fillorder)(1)
    pixels = np.zeros(keyframe.shaped, keyframe.dtype)
    file = keyframe.parent.filehandle
    for index, (offset, n_bytes) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=True)):
        file.seek(offset)
        _, place, shape = plain.decode(None, index)
        n_rows, row_samples = int(np.prod(shape[:-2])), shape[-2] * shape[-1]
        size = n_rows * ((row_samples * keyframe.bitspersample + 7) // 8)
        segment, _, _ = plain.decode(decompress_lzw(file.read(n_bytes), size, int(keyframe.fillorder)), index)
        separate, depth, row, column, _ = place
        target = pixels[separate, depth : depth + shape[0], row : row + shape[1], column : column + shape[2]]
        if segment is not None:
            target[:] = segment[tuple(map(slice, target.shape))]
    return pixels.reshape(keyframe.shape)


def decompress_lzw(data: bytes, n_bytes: int, fill_order: int = 1) -> bytes:
    """Return the `n_bytes` bytes that LZW compressed to `data`; OSError where these are damaged or fewer.

    `fill_order` is TIFF's tag of the order of bits.
    """
    tags = {256: n_bytes, 257: 1, 258: 8, 259: LZW, 262: 1, 266: fill_order, 273: 0, 277: 1, 278: 1, 279: len(data)}
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    file = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + data
    with TiffImageFile(io.BytesIO(file)) as image:
        return image.tobytes()
