"""Pages of TIFF files of every kind that tifffile and Pillow write: each is read by itself, with the same pixels as alone."""

from __future__ import annotations

import io
import itertools
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from nephros.data.images.decoded_image import DecodedImage
from nephros.data.images.decoding import decode_image, decode_pages, strict_pillow_warnings
from nephros.data.images.tiff_directories import walk_directories, walk_file
from nephros.data.images.tiff_pages import TiffPages
from nephros.errors import FileError

RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 250, (3, 20, 24), dtype=np.uint8)
DEEP = RNG.integers(0, 4000, (3, 20, 24), dtype=np.uint16)
COLOR = RNG.integers(0, 250, (3, 20, 24, 3), dtype=np.uint8)
PLAIN_KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "big-endian": {"byteorder": ">"},
    "bigtiff": {"bigtiff": True},
    "deflate": {"compression": "zlib"},
    "strips": {"rowsperstrip": 3},
    "deflate in strips": {"compression": "zlib", "rowsperstrip": 7},
    "described": {"description": "a cell", "software": "a microscope", "resolution": (3.0, 3.0)},
}
OTHER_KINDS: dict[str, dict[str, Any]] = {
    "lzw": {"compression": "lzw"},
    "packbits": {"compression": "packbits"},
    "zstd": {"compression": "zstd"},
    "predictor": {"compression": "zlib", "predictor": True},
    "tiles": {"tile": (16, 16)},
    "deflate in tiles": {"compression": "zlib", "tile": (16, 16)},
    "white is zero": {"photometric": "miniswhite"},
    "lzw in strips of a big-endian bigtiff": {
        "compression": "lzw",
        "rowsperstrip": 3,
        "bigtiff": True,
        "byteorder": ">",
    },
    "subdirectories": {"subifds": 1},
}


def write_pages(pages: NDArray[Any], **options: Any) -> bytes:
    """Return a TIFF file with a directory per page; each page's reduced copy is in a subdirectory if there are some."""
    file = io.BytesIO()
    writer_options = {key: options.pop(key) for key in ("byteorder", "bigtiff") if key in options}
    with tifffile.TiffWriter(file, **writer_options) as writer:
        for page in pages:
            writer.write(page, contiguous=False, metadata=None, **options)
            for _ in range(options.get("subifds", 0)):
                writer.write(page[::2, ::2], contiguous=False, metadata=None)
    return file.getvalue()


def read(data: bytes) -> list[DecodedImage]:
    with strict_pillow_warnings():
        return list(decode_pages("cells.tif", data))


def check_pages_read_as_alone(data: bytes, pages: list[bytes]) -> None:
    with strict_pillow_warnings():
        alone = [decode_image("cell.tif", page) for page in pages]
    images = read(data)
    assert len(images) == len(alone)
    for image, expected in zip(images, alone, strict=True):
        assert (image.layout, image.notes, image.pixels.dtype) == (
            expected.layout,
            expected.notes,
            expected.pixels.dtype,
        )
        np.testing.assert_array_equal(image.pixels, expected.pixels)


@pytest.mark.parametrize("pixels", [GRAY, DEEP], ids=["8 bits", "16 bits"])
@pytest.mark.parametrize("kind", [*PLAIN_KINDS, *OTHER_KINDS])
def test_gray_pages_read_as_alone(kind: str, pixels: NDArray[Any]) -> None:
    options = (PLAIN_KINDS | OTHER_KINDS)[kind]
    data = write_pages(pixels, **options)
    check_pages_read_as_alone(data, [write_pages(page[None], **options) for page in pixels])
    np.testing.assert_array_equal([image.pixels for image in read(data)], pixels)
    tiff = TiffPages(data)
    plain = [tiff.plain_pixels(offset, 1000) for offset in walk_directories("x", data, 10).offsets]
    assert all((values is not None) == (kind in PLAIN_KINDS) for values in plain)
    for values, expected in zip(plain, pixels, strict=True):
        assert values is None or (values.dtype == expected.dtype and (values == expected).all())
    assert tiff.plain_pixels(walk_directories("x", data, 10).offsets[0], 20 * 24 - 1) is None  # too large


@pytest.mark.parametrize(
    ("pixels", "options"),
    [
        (COLOR, {"photometric": "rgb"}),
        (COLOR, {"photometric": "rgb", "compression": "lzw", "rowsperstrip": 5}),
        (COLOR, {"photometric": "rgb", "compression": "jpeg"}),
        (np.moveaxis(COLOR, 3, 1), {"photometric": "rgb", "planarconfig": "separate"}),
        (COLOR.astype(np.uint16) * 200, {"photometric": "rgb"}),
        (GRAY, {"photometric": "palette", "colormap": RNG.integers(0, 65535, (3, 256), dtype=np.uint16)}),
        (GRAY.astype(np.float32) / 7, {}),
        (DEEP.astype(np.uint32), {"compression": "zlib"}),
        (-DEEP.astype(np.int16), {}),
        (GRAY > 99, {}),
        (
            np.stack([GRAY, GRAY], -1),
            {"photometric": "minisblack", "extrasamples": ["unassalpha"], "planarconfig": "contig"},
        ),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, dict) else str(value.dtype),
)
def test_other_pages_read_as_alone(pixels: NDArray[Any], options: dict[str, Any]) -> None:
    check_pages_read_as_alone(write_pages(pixels, **options), [write_pages(page[None], **options) for page in pixels])


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "group4", "jpeg"])
@pytest.mark.parametrize("mode", ["L", "1", "RGB", "P", "I;16", "LA", "CMYK"])
def test_pages_by_pillow_read_as_alone(mode: str, compression: str) -> None:
    if (compression == "group4") != (mode == "1") or (compression == "jpeg" and mode not in ("L", "RGB")):
        compression = "raw"
    source = [Image.fromarray(page) for page in (DEEP if mode == "I;16" else COLOR)]
    images = [image if image.mode == mode else image.convert(mode) for image in source]

    def save(*pages: Image.Image) -> bytes:
        file = io.BytesIO()
        pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:], compression=compression)
        return file.getvalue()

    check_pages_read_as_alone(save(*images), [save(image) for image in images])


def test_pages_of_different_kinds_read_as_alone() -> None:
    file, alone = io.BytesIO(), []
    options = itertools.cycle((PLAIN_KINDS | OTHER_KINDS).values())
    with tifffile.TiffWriter(file) as writer:
        for page, chosen in zip([*GRAY, *DEEP, *COLOR, *GRAY[:, :9], *DEEP[:, :, :7]] * 2, options, strict=False):
            chosen = {k: v for k, v in chosen.items() if k not in ("byteorder", "bigtiff", "subifds", "photometric")}
            writer.write(page, contiguous=False, metadata=None, **chosen)
            alone.append(write_pages(page[None], **chosen))
    check_pages_read_as_alone(file.getvalue(), alone)


@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
def test_the_cost_of_a_page_does_not_grow_with_the_number_of_pages(
    compression: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoders see a file of one page, however many there are."""
    sizes: list[int] = []
    original = Image.open

    def open_image(file: Any, *args: Any, **kwargs: Any) -> Any:
        sizes.append(len(file.getvalue()))
        return original(file, *args, **kwargs)

    monkeypatch.setattr(Image, "open", open_image)
    data = write_pages(np.repeat(GRAY, 100, axis=0), compression=compression)
    assert len(read(data)) == 300
    assert sum(sizes) < 2 * len(data)
    assert len(sizes) == (300 if compression == "lzw" else 0)


def _directory(entries: list[tuple[int, int, int, int]], next_offset: int) -> bytes:
    return (
        struct.pack("<H", len(entries))
        + b"".join(struct.pack("<HHII", *e) for e in entries)
        + struct.pack("<I", next_offset)
    )


def _overlapping_directories(n_pages: int = 14_000, n_tags: int = 5_000) -> bytes:
    """Directories four bytes apart, all of the same many entries: their beginnings, then the pointers to the next ones."""
    counts = struct.pack("<HH", n_tags, 0) * n_pages
    pointers = struct.pack(f"<{n_pages}I", *(8 + 4 * (i + 1) for i in range(n_pages - 1)), 0)
    gap = 2 + 12 * n_tags - len(counts)
    return b"II*\0" + struct.pack("<I", 8) + counts + bytes(gap) + pointers


HOSTILE: dict[str, Callable[[], bytes]] = {
    "every page claims the whole file as a tag": lambda: b"".join(
        [b"II*\0", struct.pack("<I", 8)]
        + [_directory([(700 + k, 1, 900_000, 0) for k in range(5)], 8 + 66 * (i + 1)) for i in range(20_000)]
    ),
    "one page with thousands of tags that claim the whole file": lambda: (
        b"II*\0" + struct.pack("<I", 8) + _directory([(k, 1, 700_000, 0) for k in range(60_000)], 0)
    ),
    "directories that overlap": _overlapping_directories,
    "tags that claim gigabytes": lambda: (
        b"II*\0" + struct.pack("<I", 8) + _directory([(k, 16, 1 << 31, 0) for k in range(60_000)], 0)
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_directories_that_claim_more_than_the_file_are_refused(name: str) -> None:
    data = HOSTILE[name]()
    with pytest.raises(FileError, match="claim more than the whole file") as excinfo:
        read(data)
    assert excinfo.value.path == "cells.tif"


def test_chains_that_lead_back_end_there() -> None:
    data = bytearray(write_pages(GRAY))
    offsets = walk_directories("x", bytes(data), 10).offsets
    n_tags = struct.unpack_from("<H", data, offsets[2])[0]
    for target in offsets:
        struct.pack_into("<I", data, offsets[2] + 2 + 12 * n_tags, target)
        assert [image.pixels[0, 0] for image in read(bytes(data))] == [page[0, 0] for page in GRAY]


def test_pages_claim_few_pixels_or_many() -> None:
    assert walk_directories("x", write_pages(GRAY), 10).n_pixels == GRAY.size
    assert walk_directories("x", write_pages(GRAY, tile=(1024, 1024)), 10).n_pixels == 3 << 20
    assert walk_directories("x", b"II*\0", 10).offsets == []


@pytest.mark.parametrize("options", [{}, {"byteorder": ">"}, {"bigtiff": True}])
def test_a_file_on_disk_is_walked_as_its_bytes_are(options: dict[str, Any], tmp_path: Path) -> None:
    data = write_pages(GRAY, software="x" * 2000, **options)
    for content in (data, *(data[:n] for n in range(0, len(data), 37))):
        (tmp_path / "a.tif").write_bytes(content)
        assert walk_file(tmp_path / "a.tif", 10) == walk_directories("x", content, 10)


def read_or_error(data: bytes) -> list[DecodedImage] | str:
    """Return the pages of a file, or the message of its error."""
    try:
        return read(data)
    except FileError as error:
        return str(error)


@pytest.mark.parametrize("compression", [None, "lzw", "zlib"])
def test_strips_that_claim_too_few_or_too_many_bytes_never_give_other_pixels(compression: str | None) -> None:
    """The bytes of a page alone are followed by other bytes than in the whole file."""
    data = write_pages(GRAY, compression=compression, software="x" * 2000)
    offset = walk_directories("x", data, 10).offsets[1]
    numbers = [struct.unpack_from("<H", data, offset + 2 + 12 * i)[0] for i in range(data[offset])]
    entry = offset + 2 + 12 * numbers.index(279)
    for length in (0, 1, 50, len(data), 1 << 31):
        changed = bytearray(data)
        struct.pack_into("<HHII", changed, entry, 279, 4, 1, length)
        outcome = read_or_error(bytes(changed))
        if isinstance(outcome, str):
            assert outcome.startswith("cells.tif, page 1,")
        else:
            np.testing.assert_array_equal([page.pixels for page in outcome], GRAY)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([*PLAIN_KINDS, *OTHER_KINDS]),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_changed_bytes_give_pages_or_a_file_error(kind: str, changes: list[tuple[float, int]]) -> None:
    data = bytearray(write_pages(GRAY[:, :6, :6], **(PLAIN_KINDS | OTHER_KINDS)[kind]))
    for place, value in changes:
        data[int(place * len(data))] = value
    outcome = read_or_error(bytes(data))
    if isinstance(outcome, str):
        assert outcome.startswith("cells.tif")
        assert "\n" not in outcome


@pytest.mark.parametrize("offset", [2**63, 2**64 - 1, 2**62])
def test_a_page_far_beyond_the_end_is_refused(offset: int) -> None:
    header = b"II+\0\x08\0\0\0" + offset.to_bytes(8, "little")
    with pytest.raises(FileError, match="damaged"):
        list(decode_pages("a.tif", header + bytes(200)))
