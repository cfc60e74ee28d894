"""LZW-compressed TIFF pages of every kind of pixels and layout."""

from __future__ import annotations

import io
import random
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from nephros.data.images.tiff_decoding import decode_page
from nephros.data.images.tiff_lzw import decompress_lzw

RNG = np.random.default_rng(0)
WIDE: NDArray[np.uint16] = RNG.integers(0, 65536, (45, 52, 3), dtype=np.uint16)

PAGES: dict[str, tuple[NDArray[Any], dict[str, Any]]] = {
    "16-bit color": (WIDE, {"photometric": "rgb"}),
    "big-endian": (WIDE, {"photometric": "rgb", "byteorder": ">"}),
    "predictor": (WIDE, {"photometric": "rgb", "predictor": True}),
    "planes": (np.moveaxis(WIDE, 2, 0), {"photometric": "rgb", "planarconfig": "separate"}),
    "strips": (WIDE, {"photometric": "rgb", "rowsperstrip": 7}),
    "strips in planes": (
        np.moveaxis(WIDE, 2, 0),
        {"photometric": "rgb", "planarconfig": "separate", "rowsperstrip": 7},
    ),
    "tiles": (WIDE, {"photometric": "rgb", "tile": (16, 32)}),
    "tiles, predictor": (WIDE, {"photometric": "rgb", "tile": (16, 32), "predictor": True}),
    "8-bit": ((WIDE[..., 0] >> 8).astype(np.uint8), {}),
    "floats": (WIDE[..., 0].astype(np.float32), {}),
    "floats, predictor": (WIDE[..., 0].astype(np.float32), {"predictor": True}),
    "signed": (WIDE[..., 0].astype(np.int32), {}),
    "64 bits": (WIDE[..., 0].astype(np.float64), {}),
}


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_as_they_were_written(name: str) -> None:
    pixels, kwargs = PAGES[name]
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, compression="lzw", **{"photometric": "minisblack", **kwargs})
    with tifffile.TiffFile(io.BytesIO(file.getvalue())) as tiff:
        for page in tiff.pages:
            decoded = decode_page("a", page, len(file.getvalue()))
            assert np.array_equal(decoded, pixels)
            assert decoded.dtype == pixels.dtype.newbyteorder("=")


@pytest.mark.parametrize("n_bytes", [1, 2, 255, 100_000])
def test_bytes_are_decompressed(n_bytes: int) -> None:
    data = RNG.integers(0, 7, n_bytes, dtype=np.uint8).tobytes()
    assert decompress_lzw(bytes(imagecodecs.lzw_encode(data)), n_bytes) == data


def test_damaged_bytes_are_an_error_or_other_bytes() -> None:
    data = RNG.integers(0, 256, 900, dtype=np.uint8).tobytes()
    compressed = bytes(imagecodecs.lzw_encode(data))
    with pytest.raises(OSError, match=r"."):
        decompress_lzw(compressed[:100], 900)
    generator = random.Random(0)
    for _ in range(300):
        changed = bytearray(compressed)
        for _ in range(4):
            changed[generator.randrange(len(changed))] = generator.randrange(256)
        try:
            assert len(decompress_lzw(bytes(changed), 900)) == 900
        except OSError:
            continue
