"""OME-Zarr stores as stacks: versions, axes, names, levels, labels, missing chunks."""

from __future__ import annotations

import functools
import json
import os
import shutil
import tempfile
import warnings
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, GzipCodec

from nephros.errors import FileError, InvalidArgument, UnknownName
from nephros.microscopy.reader import open_stack
from nephros.microscopy.sequence_stack import stack_digest
from nephros.microscopy.stack import Stack
from tests.microscopy.zarr_samples import VOXEL_SIZE, multiscale, write_attributes, write_image

VOLUME = np.random.default_rng(0).integers(1, 4000, (2, 5, 40, 36)).astype(np.uint16)


def read(stack: Stack) -> np.ndarray[Any, Any]:
    values = np.stack(list(stack.slices()))
    assert (values.shape, values.dtype) == (stack.shape, stack.dtype)
    return values


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_channel_is_read_by_number_or_name(zarr_format: int, tmp_path: Path) -> None:
    path = write_image(tmp_path / "K4.ome.zarr", VOLUME, "CZYX", zarr_format=zarr_format, channels=("GFP", "DAPI"))
    for choice in (1, "1", "DAPI", "dapi"):
        stack = open_stack(path, choice)
        assert (stack.channel, stack.n_channels, stack.voxel_size, stack.notes) == (1, 2, VOXEL_SIZE, ())
    assert np.array_equal(read(stack), VOLUME[1])
    with pytest.raises(FileError, match=r"2 channels \(0 GFP, 1 DAPI\)"):
        open_stack(path)
    with pytest.raises(UnknownName) as unknown:
        open_stack(path, "DAPPI")
    assert (unknown.value.parameter, unknown.value.options) == ("channel", ("GFP", "DAPI"))
    with pytest.raises(InvalidArgument) as error:
        open_stack(path, 2)
    assert (error.value.parameter, error.value.value) == ("channel", 2)
    with pytest.raises(FileError, match="2 channels, and a mask has one"):
        open_stack(path, is_mask=True)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_stores_of_ome_zarrs_own_writer(version: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its modules warn of their own functions
        from ome_zarr.format import format_from_version
        from ome_zarr.writer import write_image as write_with_ome_zarr
        from ome_zarr.writer import write_labels

        fmt = format_from_version(version)
        path = tmp_path / "K4.ome.zarr"
        group = zarr.open_group(str(path), mode="w", zarr_format=fmt.zarr_format)
        window = {"min": 0, "max": 1, "start": 0, "end": 1}
        channels = [{"label": name, "color": "FFFFFF", "window": window} for name in ("GFP", "DAPI")]
        write_with_ome_zarr(
            VOLUME, group, axes=["c", "z", "y", "x"], fmt=fmt, omero={"channels": channels},
            scale={"c": 1, "z": 2000, "y": 500, "x": 500}, axes_units=dict.fromkeys("zyx", "nanometer"),
        )  # fmt: skip
        labels = (VOLUME[0] > 2000).astype(np.uint16)
        write_labels(labels, group, "nuclei", axes=["z", "y", "x"], fmt=fmt, scale={"z": 2000, "y": 500, "x": 500})
    stack = open_stack(path, "DAPI")
    assert (stack.voxel_size, stack.label_keys) == ((2.0, 0.5, 0.5), ("labels/nuclei",))
    assert np.array_equal(read(stack), VOLUME[1])
    assert np.array_equal(read(open_stack(path / "labels" / "nuclei", is_mask=True, shape=stack.shape)), labels)


@pytest.mark.parametrize("axes", ["TCZYX", "XYZ", "ZCYX", "CYX", "YX", "tzcxy"])
def test_dimensions_in_any_order(axes: str, tmp_path: Path) -> None:
    sizes = {"T": 3, "C": 2, "Z": 4, "Y": 20, "X": 17}
    axes = axes.upper()
    values = np.random.default_rng(1).integers(0, 200, [sizes[axis] for axis in axes]).astype(np.uint8)
    write_image(tmp_path / "a.zarr", values, axes, chunks=tuple(min(7, sizes[axis]) for axis in axes))
    choice: dict[str, Any] = {"channel": 1} if "C" in axes else {}
    choice |= {"time_point": 2} if "T" in axes else {}
    fixed = {"T": 2, "C": 1}
    expected = values[tuple(fixed.get(axis, slice(None)) for axis in axes)]
    kept = [axis for axis in axes if axis in "ZYX"]
    expected = expected.transpose([kept.index(axis) for axis in "ZYX" if axis in kept]).reshape(-1, 20, 17)
    stack = open_stack(tmp_path / "a.zarr", **choice)
    assert np.array_equal(read(stack), expected)
    assert (stack.time_point, stack.voxel_size) == (choice.get("time_point", 0), VOXEL_SIZE if "Z" in axes else None)
    if "T" in axes:
        with pytest.raises(FileError, match="time series; set `time_point` to one of 0 to 2"):
            open_stack(tmp_path / "a.zarr", 0)
        with pytest.raises(InvalidArgument) as error:
            open_stack(tmp_path / "a.zarr", 0, time_point=3)
        assert error.value.parameter == "time_point"


@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        (">u2", {"zarr_format": 2}),
        ("float32", {"zarr_format": 3}),
        ("int8", {"zarr_format": 3, "shards": (4, 32, 32), "chunks": (2, 16, 16)}),
        ("uint16", {"zarr_format": 3, "compressors": None}),
        ("uint16", {"zarr_format": 2, "order": "F", "compressors": None}),
        ("uint16", {"zarr_format": 3, "compressors": GzipCodec()}),
        ("uint64", {"zarr_format": 3, "compressors": BloscCodec(cname="zstd")}),
    ],
)
def test_types_and_codecs(dtype: str, options: dict[str, Any], tmp_path: Path) -> None:
    values = (VOLUME[0] % 100).astype(dtype)
    path = write_image(tmp_path / "a.zarr", values, **options)
    assert np.array_equal(read(open_stack(path)), values)


def test_slices_that_share_chunks_too_large_for_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nephros.microscopy import zarr_decoding
    from nephros.microscopy.zarr_stack import slices_in_worker

    path = write_image(tmp_path / "a.zarr", VOLUME[0], chunks=(4, 16, 16))
    monkeypatch.setattr(zarr_decoding, "MAX_SLAB_BYTES", 4 * 16 * 36 * 2 - 1)
    for limit in (4 * 16 * 36 * 2, 4 * 16 * 16 * 2):  # whole rows at a time, and less
        monkeypatch.setattr(zarr_decoding, "MAX_SLAB_BYTES", limit)
        slices = [
            item for item in slices_in_worker(str(path), "0", "ZYX", [0, 0, 0], 30.0) if isinstance(item, np.ndarray)
        ]
        assert np.array_equal(np.stack(slices), VOLUME[0])


@pytest.fixture
def deep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store whose slices share chunks too large for memory, and which is read in this process."""
    from nephros.microscopy import zarr_decoding, zarr_stack

    monkeypatch.setattr(zarr_decoding, "MAX_SLAB_BYTES", 4 * 16 * 36 * 2)
    monkeypatch.setattr(zarr_stack, "run_isolated", lambda _, function, *args: function(*args))
    return write_image(tmp_path / "a.zarr", VOLUME[0], chunks=(4, 16, 16))


def test_each_part_of_slices_that_share_chunks_has_the_time_of_a_slice(deep: Path) -> None:
    from nephros.microscopy.zarr_stack import slices_in_worker

    items = list(slices_in_worker(str(deep), "0", "ZYX", [0, 0, 0], 30.0))
    # Of a slab of four slices six boxes, and a slice by itself.
    assert [item is None for item in items] == [True] * 6 + [False] * 5
    assert np.array_equal(read(open_stack(deep)), VOLUME[0])


@pytest.mark.parametrize("is_full_at_once", [True, False])
def test_a_full_disk_is_not_called_a_damaged_store(
    is_full_at_once: bool, deep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_full_at_once and not os.path.exists("/dev/full"):
        pytest.skip("needs a device that is always full")
    monkeypatch.setattr(tempfile, "TemporaryFile", functools.partial(open, "/dev/full", "r+b"))
    if is_full_at_once:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=4 * 40 * 36 * 2 - 1))
    with pytest.raises(FileError, match=r"need 11,520 bytes in .*No space left on device.* TMPDIR") as error:
        read(open_stack(deep))
    assert "damaged" not in str(error.value)


def test_a_level_of_the_pyramid(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.zarr", VOLUME[0], n_levels=3)
    stack = open_stack(path, level=1)
    assert (stack.shape, stack.voxel_size, stack.level) == ((5, 20, 18), (1.0, 1.0, 1.0), 1)
    assert np.array_equal(read(stack), VOLUME[0, :, ::2, ::2])
    assert (open_stack(path).level, open_stack(path, level="auto").level) == (0, 0)
    assert open_stack(path, is_mask=True, shape=(5, 10, 9)).level == 2
    for level in (3, "fine", "-1"):
        with pytest.raises(InvalidArgument, match=r"0 \(5 x 40 x 36, 1 x 0.5 x 0.5 micrometers\), 1 \(5 x 20") as error:
            open_stack(path, level=level)
        assert error.value.parameter == "level"
    fine = multiscale("ZYX", 3)
    for dataset in fine["datasets"]:
        dataset["coordinateTransformations"][0]["scale"][1:] = [0.25 * 2 ** int(dataset["path"])] * 2
    write_attributes(path, {"multiscales": [fine]})
    assert open_stack(path, level="auto").level == 1
    np.save(tmp_path / "a.npy", VOLUME[0])
    with pytest.raises(InvalidArgument):
        open_stack(tmp_path / "a.npy", level=1)


@pytest.mark.parametrize(
    ("unit", "voxel_size"),
    [
        ("nanometer", None),
        ("millimeter", None),
        ("\N{MICRO SIGN}m", VOXEL_SIZE),
        ("um", VOXEL_SIZE),
        (None, None),
        ("pixel", None),
    ],
)
def test_units(unit: str | None, voxel_size: Any, tmp_path: Path) -> None:
    stack = open_stack(write_image(tmp_path / "a.zarr", VOLUME[0], unit=unit))
    assert stack.voxel_size == voxel_size
    assert voxel_size is not None or "voxels of 1 x 0.5 x 0.5" in stack.notes[0]


def test_scales_of_the_pyramid_and_of_the_level_multiply(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.zarr", VOLUME[0])
    whole = multiscale("ZYX", coordinateTransformations=[{"type": "scale", "scale": [2, 0.5, 0.5]}])
    write_attributes(path, {"multiscales": [whole]})
    assert open_stack(path).voxel_size == (2.0, 0.25, 0.25)


def test_positions_and_wells(tmp_path: Path) -> None:
    path = tmp_path / "series.zarr"
    for index, channel in enumerate(VOLUME):
        write_image(
            path / str(index), channel, attributes={"multiscales": [multiscale("ZYX", name=f"position {index}")]}
        )
    write_attributes(path, {"bioformats2raw.layout": 3})
    stack = open_stack(path)
    assert (stack.image, np.array_equal(read(stack), VOLUME[0])) == (0, True)
    assert "2 images" in stack.notes[0]
    assert "1 position 1" in stack.notes[0]
    assert np.array_equal(read(open_stack(path, image="position 1")), VOLUME[1])
    with pytest.raises(UnknownName):
        open_stack(path, image="position 7")
    plate = tmp_path / "plate.zarr"
    write_image(plate / "A" / "2" / "0", VOLUME[1])
    write_attributes(plate / "A" / "2", {"well": {"images": [{"path": "0"}]}})
    write_attributes(plate, {"plate": {"wells": [{"path": "A/2"}, {"path": "../A"}]}})
    assert np.array_equal(read(open_stack(plate)), VOLUME[1])
    assert open_stack(plate, image="A/2/0").notes == ()


def test_old_versions_without_axes(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.zarr", VOLUME[None], "TCZYX")
    old = multiscale("TCZYX")
    del old["axes"]
    write_attributes(path, {"multiscales": [old]})
    assert np.array_equal(read(open_stack(path, 1)), VOLUME[1])
    write_attributes(path, {"multiscales": [old | {"axes": list("tczyx")}]})
    assert np.array_equal(read(open_stack(path, 1)), VOLUME[1])


def test_arrays_without_ome_metadata(tmp_path: Path) -> None:
    zarr.create_array(str(tmp_path / "a.zarr"), data=VOLUME[0], zarr_format=2)
    stack = open_stack(tmp_path / "a.zarr")
    assert np.array_equal(read(stack), VOLUME[0])
    assert "taken for ZYX" in stack.notes[0]
    zarr.create_array(str(tmp_path / "b.zarr"), data=VOLUME, zarr_format=2)
    with pytest.raises(FileError, match="`axes`"):
        open_stack(tmp_path / "b.zarr")
    assert np.array_equal(read(open_stack(tmp_path / "b.zarr", 1, axes="CZYX")), VOLUME[1])
    for axes in ("ZYX", "CCYX", "CZYQ", "czyx"):
        with pytest.raises(InvalidArgument) as error:
            open_stack(tmp_path / "b.zarr", 1, axes=axes)
        assert (error.value.parameter, error.value.value) == ("axes", axes)
    array = zarr.create_array(str(tmp_path / "c.zarr"), data=VOLUME, dimension_names=list("czyx"))
    assert array.shape == VOLUME.shape
    assert np.array_equal(read(open_stack(tmp_path / "c.zarr", 1)), VOLUME[1])


@pytest.mark.parametrize("name", ["K4.ome.zarr.zip", "K4.ozx", "K4.zip"])
@pytest.mark.parametrize("top", ["", "K4.ome.zarr/"])
@pytest.mark.sampled(5)
def test_stores_in_zip_archives(name: str, top: str, tmp_path: Path) -> None:
    folder = write_image(tmp_path / "folder", VOLUME[0], zarr_format=3, shards=(4, 32, 32), chunks=(2, 16, 16))
    write_image(folder / "labels" / "nuclei", (VOLUME[0] > 2000).astype(np.uint8), zarr_format=3)
    write_attributes(folder / "labels", {"labels": ["nuclei"]}, zarr_format=3)
    files = sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.name != "zarr.json")
    with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            archive.write(path, top + path.relative_to(folder).as_posix())
    stack = open_stack(tmp_path / name)
    assert np.array_equal(read(stack), VOLUME[0])
    assert stack.label_keys == ("labels/nuclei",)
    assert np.array_equal(read(open_stack(tmp_path / name / "labels" / "nuclei", is_mask=True)), VOLUME[0] > 2000)
    assert len(stack_digest(tmp_path / name)) == 64


def test_missing_chunks_are_counted(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.zarr", VOLUME[0])
    shutil.rmtree(path / "0" / "3")
    (path / "0" / "0" / "0" / "0").unlink()
    stack = open_stack(path)
    assert "lacks 10 of 45 chunks" in stack.notes[0]
    values = read(stack)
    assert not values[3].any()
    assert np.array_equal(values[4], VOLUME[0, 4])
    for k in (0, 1, 2, 4):
        shutil.rmtree(path / "0" / str(k))
    with pytest.raises(FileError, match="none of the chunks"):
        open_stack(path)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("n_missing", [0, 2])
def test_a_chunk_that_vanishes_while_slices_are_read(zarr_format: int, n_missing: int, tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.zarr", VOLUME[0], zarr_format=zarr_format)
    chunks = path / "0" / ("c" if zarr_format == 3 else "")
    for x in range(n_missing):
        (chunks / "0" / "0" / str(x)).unlink()
    stack = open_stack(path)
    assert len(read(stack)) == len(VOLUME[0])  # what is missing from the start is a note
    (chunks / "4" / "0" / "0").unlink()
    slices = stack.slices()
    assert np.array_equal(next(slices)[16:], VOLUME[0, 0][16:])
    with pytest.raises(FileError, match="lost 1 of 45 chunks") as exc_info:
        list(slices)
    assert exc_info.value.path == path


def test_a_digest_knows_pixels_but_not_labels(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.zarr", VOLUME[0])
    before = stack_digest(path)
    write_image(path / "labels" / "nuclei", VOLUME[1])
    write_attributes(path / "labels", {"labels": ["nuclei"]})
    assert stack_digest(path) == before
    assert stack_digest(path / "labels" / "nuclei") != before
    (path / "0" / "0" / "0" / "0").write_bytes(b"other")
    assert stack_digest(path) != before


def test_masks_of_floating_point_numbers(tmp_path: Path) -> None:
    mask = (VOLUME[0] % 7).astype(np.float32)
    path = write_image(tmp_path / "a.zarr", mask)
    assert np.array_equal(read(open_stack(path, is_mask=True)), mask.astype(np.int32))


def test_a_folder_that_only_has_labels_is_a_mask(tmp_path: Path) -> None:
    write_image(tmp_path / "a.zarr" / "labels" / "nuclei", VOLUME[0])
    write_attributes(tmp_path / "a.zarr" / "labels", {"labels": ["nuclei"]})
    write_attributes(tmp_path / "a.zarr", {})
    for path in (tmp_path / "a.zarr", tmp_path / "a.zarr" / "labels"):
        assert np.array_equal(read(open_stack(path, is_mask=True)), VOLUME[0])
    with pytest.raises(FileError, match="labels/nuclei"):
        open_stack(tmp_path / "a.zarr")


def test_metadata_that_python_wrote_with_nan_are_read(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.zarr", VOLUME[0], channels=("DAPI",))
    attributes = json.loads((path / ".zattrs").read_text())
    attributes["omero"]["channels"][0]["window"] = {"min": float("nan")}
    (path / ".zattrs").write_text(json.dumps(attributes))
    assert open_stack(path, "DAPI").shape == (5, 40, 36)
