"""Reading stacks: axes, channels and voxel sizes, and files that are not stacks."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nephros.errors import FileError, InvalidArgument, NephrosError
from nephros.microscopy import reader
from nephros.microscopy.reader import open_stack
from tests.sparse_files import lengthen

VOLUME = np.random.default_rng(0).integers(0, 4000, (5, 12, 16)).astype(np.uint16)


def _read_stack(path: Path, channel: int | None = None) -> np.ndarray[Any, Any]:
    stack = open_stack(path, channel)
    values = np.stack(list(stack.slices()))
    assert values.shape == stack.shape
    assert values.dtype == stack.dtype
    return values


def _write_tiff(path: Path, volume: np.ndarray[Any, Any] = VOLUME, **kwargs: Any) -> Path:
    tifffile.imwrite(path, volume, photometric=kwargs.pop("photometric", "minisblack"), **kwargs)
    return path


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"bigtiff": True},
        {"byteorder": ">"},
        {"compression": "zlib"},
        {"compression": "lzw"},
        {"compression": "zlib", "byteorder": ">"},
        {"compression": "lzw", "predictor": 2},
        {"compression": "zstd"},
        {"compression": "lzma"},
        {"compression": "lerc"},
        {"compression": "jpegxl"},
        {"compression": "jpeg2000"},
        {"bigtiff": True, "byteorder": ">"},
        {"tile": (16, 16), "compression": "zlib"},
        {"metadata": None},
        {"imagej": True, "metadata": {"axes": "ZYX"}},
        {"ome": True, "metadata": {"axes": "ZYX"}},
    ],
)
def test_slices_of_one_channel_are_read(kwargs: dict[str, Any], tmp_path: Path) -> None:
    name = "stack.ome.tif" if kwargs.pop("ome", False) else "stack.tif"
    assert np.array_equal(_read_stack(_write_tiff(tmp_path / name, **kwargs)), VOLUME)


@pytest.mark.parametrize("compression", ["lzw", "deflate", "zstd"])
def test_compressed_floats_are_read(compression: str, tmp_path: Path) -> None:
    values = VOLUME.astype(np.float32) / 7
    for predictor in (False, 3):
        path = _write_tiff(tmp_path / f"{predictor}.tif", values, compression=compression, predictor=predictor)
        assert np.array_equal(_read_stack(path), values)


def test_a_compression_that_is_cut_or_unknown_is_named(tmp_path: Path) -> None:
    data = _write_tiff(tmp_path / "a.tif", VOLUME[:1], compression="jpegxr").read_bytes()
    (tmp_path / "cut.tif").write_bytes(data[: len(data) - 1000])  # its decoder returns an image for the first half
    _assert_rejected(tmp_path / "cut.tif", "cut short")
    plain = _write_tiff(tmp_path / "a.tif", VOLUME[:1]).read_bytes()
    tag = b"\x03\x01\x03\0\x01\0\0\0"  # 259, of type 3, once
    at = plain.index(tag) + len(tag)
    (tmp_path / "jetraw.tif").write_bytes(plain[:at] + (48124).to_bytes(2, "little") + plain[at + 2 :])
    _assert_rejected(tmp_path / "jetraw.tif", "compressed with Jetraw, which can't be decoded here")


@pytest.mark.parametrize("axes", ["ZCYX", "CZYX"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_channel_is_selected_by_its_index(axes: str, compression: str | None, tmp_path: Path) -> None:
    both = np.stack([VOLUME, VOLUME[::-1] + 1], axis=axes.index("C"))
    path = _write_tiff(tmp_path / "two.ome.tif", both, metadata={"axes": axes}, compression=compression)
    assert np.array_equal(_read_stack(path, 0), VOLUME)
    assert np.array_equal(_read_stack(path, 1), VOLUME[::-1] + 1)
    with pytest.raises(FileError, match="2 channels; set `channel`"):
        open_stack(path)
    with pytest.raises(InvalidArgument) as exc_info:
        open_stack(path, 2)
    assert (exc_info.value.parameter, exc_info.value.value) == ("channel", 2)
    with pytest.raises(FileError, match="2 channels, and a mask has one"):
        open_stack(path, is_mask=True)


def test_an_image_is_one_slice_and_a_npy_array_is_a_stack(tmp_path: Path) -> None:
    assert np.array_equal(_read_stack(_write_tiff(tmp_path / "one.tif", VOLUME[0])), VOLUME[:1])
    np.save(tmp_path / "a.npy", VOLUME.astype(np.uint8))
    assert np.array_equal(_read_stack(tmp_path / "a.npy"), VOLUME.astype(np.uint8))


def test_voxel_sizes_of_ome_and_imagej_are_read(tmp_path: Path) -> None:
    sizes = {"PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.26, "PhysicalSizeZ": 1.5}
    ome = _write_tiff(tmp_path / "a.ome.tif", metadata={"axes": "ZYX", **sizes})
    assert open_stack(ome).voxel_size == pytest.approx((1.5, 0.26, 0.25))
    metadata = {"axes": "ZYX", "spacing": 0.8, "unit": "um"}
    imagej = _write_tiff(tmp_path / "a.tif", imagej=True, resolution=(1 / 0.4, 1 / 0.3), metadata=metadata)
    assert open_stack(imagej).voxel_size == pytest.approx((0.8, 0.3, 0.4), rel=1e-4)


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"PhysicalSizeX": 1, "PhysicalSizeY": 1},
        dict.fromkeys(["PhysicalSizeX", "PhysicalSizeY", "PhysicalSizeZ"], 1e9),
    ],
)
def test_missing_or_implausible_voxel_sizes_are_ignored(sizes: dict[str, float], tmp_path: Path) -> None:
    assert open_stack(_write_tiff(tmp_path / "a.ome.tif", metadata={"axes": "ZYX", **sizes})).voxel_size is None


def _assert_rejected(path: Path, pattern: str) -> None:
    with pytest.raises(FileError, match=pattern) as exc_info:
        _read_stack(path)
    assert "\n" not in str(exc_info.value)
    assert path.name in str(exc_info.value)


def test_files_that_are_not_stacks_are_refused(tmp_path: Path) -> None:
    _assert_rejected(tmp_path / "gone.tif", "does not exist")
    _assert_rejected(tmp_path, "is a folder with 0 image files")
    (tmp_path / "empty.tif").write_bytes(b"")
    _assert_rejected(tmp_path / "empty.tif", "is empty")
    (tmp_path / "text.tif").write_text("cells")
    _assert_rejected(tmp_path / "text.tif", "neither a TIFF file nor")


@pytest.mark.parametrize(
    ("volume", "kwargs", "expected"),
    [
        (np.zeros((8, 8, 3), np.uint8), {"photometric": "rgb"}, "color image"),
        (VOLUME, {"ome": True, "metadata": {"axes": "TYX"}}, "time series"),
        (VOLUME.reshape(5, 2, 6, 16), {}, "don't tell slices from channels"),
        (VOLUME.astype(np.complex64), {}, "complex64"),
    ],
    ids=["rgb", "time series", "four axes", "complex"],
)
def test_tiff_files_of_other_kinds_are_refused(
    volume: np.ndarray[Any, Any], kwargs: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    _assert_rejected(_write_tiff(tmp_path / "other.tif", volume, **kwargs), expected)


@pytest.mark.parametrize(
    ("array", "expected"), [(np.array([{}], dtype=object), "pickled"), (np.zeros(3), "slices, rows, columns")]
)
def test_npy_arrays_of_other_kinds_are_refused(array: np.ndarray[Any, Any], expected: str, tmp_path: Path) -> None:
    np.save(tmp_path / "other.npy", array, allow_pickle=True)
    _assert_rejected(tmp_path / "other.npy", expected)


def test_pages_of_different_sizes_are_refused(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "mixed.tif") as writer:
        writer.write(VOLUME[0], metadata=None)
        writer.write(VOLUME[0, :6], metadata=None)
    _assert_rejected(tmp_path / "mixed.tif", "differ in size")


@pytest.mark.parametrize("kwargs", [{}, {"compression": "zlib"}, {"compression": "lzw"}])
@pytest.mark.parametrize("fraction", [0.2, 0.6, 0.95])
def test_a_truncated_file_is_refused(kwargs: dict[str, Any], fraction: float, tmp_path: Path) -> None:
    data = _write_tiff(tmp_path / "a.tif", **kwargs).read_bytes()
    (tmp_path / "a.tif").write_bytes(data[: int(fraction * len(data))])
    _assert_rejected(tmp_path / "a.tif", "cut short|damaged")
    np.save(tmp_path / "a.npy", VOLUME)
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-1])
    _assert_rejected(tmp_path / "a.npy", "cut short")


def test_a_header_that_promises_terabytes_is_refused(tmp_path: Path) -> None:
    path = _write_tiff(tmp_path / "bomb.tif", VOLUME[0], metadata=None)
    with tifffile.TiffFile(path, mode="r+") as file:
        for tag in ("ImageWidth", "ImageLength"):
            file.pages.first.tags[tag].overwrite(1 << 20, dtype="I")
    _assert_rejected(path, "cut short|too large for memory")


def test_slices_too_large_for_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_SLICE_PIXELS", 12 * 16 - 1)
    _assert_rejected(_write_tiff(tmp_path / "a.tif"), "cut it into tiles")


@pytest.mark.parametrize("dtype", ["uint16", "int32", "int64", "float64"])
def test_a_mask_may_have_slices_of_as_many_pixels_as_its_stack(dtype: str, tmp_path: Path) -> None:
    """Of a mosaic, with ids as StarDist and cellpose (int32) or napari (int64) write them."""
    shape = (1, 16_000, 16_000)
    path = tmp_path / "a.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
        n_bytes = file.tell() + np.dtype(dtype).itemsize * 16_000 * 16_000
    lengthen(path, n_bytes)
    assert open_stack(path, is_mask=dtype != "uint16").shape == shape


def _tiff_bytes(**kwargs: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, VOLUME, photometric="minisblack", **kwargs)
    return file.getvalue()


SEEDS = [
    _tiff_bytes(),
    _tiff_bytes(compression="zlib"),
    _tiff_bytes(compression="lzw"),
    _tiff_bytes(ome=True, metadata={"axes": "ZYX"}),
]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.sampled_from(SEEDS),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_changed_bytes_are_read_or_refused(data: bytes, changes: list[tuple[float, int]], tmp_path: Path) -> None:
    changed = bytearray(data)
    for k, (position, value) in enumerate(changes):
        # Half of the changes are in the header and the first tags, where they do most damage.
        changed[int(position * (len(data) - 1)) if k % 2 else int(position * min(400, len(data) - 1))] = value
    path = tmp_path / "fuzzed.tif"
    path.write_bytes(changed)
    message = ""
    try:
        for values in open_stack(path).slices():
            assert values.ndim == 2
    except NephrosError as error:
        message = str(error)
    assert not message or ("fuzzed.tif" in message and "\n" not in message)
