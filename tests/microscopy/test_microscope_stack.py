"""Stacks in CZI, ND2, LIF and IMS files: what is read, what is refused, and files that lie."""

from __future__ import annotations

import contextlib
import importlib.util
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from nephros.errors import FileError, InvalidArgument, MissingDependency, NephrosError, UnknownName
from nephros.microscopy.detect import read_bytes_unless_stack
from nephros.microscopy.formats.registry import FORMATS, microscope_format
from nephros.microscopy.microscope_stack import open_microscope_stack
from nephros.microscopy.reader import open_stack
from nephros.microscopy.stack import Stack, StackOptions
from tests.command_line import run_cli
from tests.microscopy import microscope_samples as samples

VALUES = np.random.default_rng(0).integers(1, 4000, (2, 2, 2, 5, 24, 20)).astype(np.uint16)
"""Time points, positions, channels, slices, rows, columns."""


def write(path: Path, values: Any = VALUES, **options: Any) -> Path:
    """Write time points and positions (t, p, c, z, y, x) in the format of the suffix; IMS has no positions."""
    positions = [values[:, p] for p in range(values.shape[1])]
    if path.suffix == ".czi":
        return samples.write_czi(path, positions, **options)
    if path.suffix == ".lif":
        return samples.write_lif(path, {f"position {p}": values for p, values in enumerate(positions)}, **options)
    if path.suffix == ".ims":
        return samples.write_ims(path, positions[0], **options)
    return samples.write_nd2(path, values, **options)


def open_here(path: Path, *, is_mask: bool = False, **choices: Any) -> Stack:
    """Open a file in this process, which is faster than in one of its own."""
    return open_microscope_stack(path, microscope_format(path), StackOptions(**choices), is_mask)


def read(stack: Stack) -> Any:
    return np.stack(list(stack.slices()))


@pytest.fixture(params=sorted(FORMATS))
def suffix(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(FORMATS[request.param].module, reason="its reader is in an extra")
    return f".{request.param}"


def test_image_channel_and_time_point_are_chosen_by_number_or_name(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"K4{suffix}")
    position = 0 if suffix == ".ims" else 1
    stack = open_here(path, channel="dapi", time_point=1, image=position)
    assert np.array_equal(read(stack), VALUES[1, position, 1])
    assert (stack.shape, str(stack.dtype), stack.n_channels, stack.voxel_size) == (
        (5, 24, 20),
        "uint16",
        2,
        samples.VOXEL_SIZE,
    )
    assert (stack.channel, stack.image, stack.time_point) == (1, position, 1)
    assert np.array_equal(read(open_here(path, channel=0, time_point=0, image="0")), VALUES[0, 0, 0])
    if suffix in (".lif", ".nd2"):
        assert np.array_equal(read(open_here(path, channel=0, time_point=0, image="position 1")), VALUES[0, 1, 0])
    if suffix != ".ims":
        assert "holds 2 images, and only image 0 is read" in open_here(path, channel=0, time_point=0).notes[0]
    with pytest.raises(FileError, match=r"2 channels \(0 GFP, 1 DAPI\)"):
        open_here(path, time_point=0)
    with pytest.raises(FileError, match="`time_point` to one of 0 to 1"):
        open_here(path, channel=0)
    choices: list[dict[str, Any]] = [
        {"channel": "Cy5"},
        {"channel": 2},
        {"image": 9},
        {"time_point": 2},
        {"axes": "ZYX"},
    ]
    for choice in choices:
        with pytest.raises(InvalidArgument) as error:
            open_here(path, **({"channel": 0, "time_point": 0} | choice))
        assert error.value.parameter == next(iter(choice))


def test_scenes_of_a_czi_file_have_names(tmp_path: Path) -> None:
    pytest.importorskip("pylibCZIrw", reason="its reader is in an extra")
    path = write(tmp_path / "a.czi", VALUES[:1], scene_names=["cortex", "medulla"])
    stack = open_stack(path, "DAPI", image="Medulla")
    assert (stack.image, stack.channel) == (1, 1)
    assert np.array_equal(read(stack), VALUES[0, 1, 1])
    assert "0 cortex, 1 medulla" in open_here(path, channel=0).notes[0]
    with pytest.raises(UnknownName) as error:
        open_here(path, channel=0, image="papilla")
    assert (error.value.parameter, error.value.options) == ("image", ("cortex", "medulla"))


def test_a_mask_has_one_channel(suffix: str, tmp_path: Path) -> None:
    mask = VALUES[:1, :1, :1] % 7
    path = write(tmp_path / f"mask{suffix}", mask, channels=["ids"])
    assert np.array_equal(read(open_here(path, is_mask=True)), mask[0, 0, 0])
    with pytest.raises(FileError, match="a mask has one"):
        open_here(write(tmp_path / f"both{suffix}", VALUES[:1]), is_mask=True)


@pytest.mark.parametrize("sides", [(1.0, 0.0, 0.0), (0.0, 0.5, 0.5)])
def test_a_file_without_voxel_size(suffix: str, sides: tuple[float, ...], tmp_path: Path) -> None:
    options: dict[str, Any] = {"voxel_size": sides}
    if suffix == ".ims":
        options = {"extent": [side * 5 for side in sides]}
    elif suffix == ".nd2":
        options["is_calibrated"] = sides[2] > 0
    assert open_here(write(tmp_path / f"a{suffix}", VALUES[:1, :1], **options), channel=0).voxel_size is None


def test_a_resolution_level_of_an_imaris_file_is_chosen(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="its reader is in an extra")
    values = VALUES[:1, 0]
    sides = (1.0, 0.2, 0.2)
    extent = [side * n for side, n in zip(sides, values.shape[2:], strict=True)]
    path = samples.write_ims(tmp_path / "a.ims", values, steps=(1, 2, 4), extent=extent)
    finest = open_here(path, channel=0)
    assert (finest.level, finest.level_shapes) == (0, ((5, 24, 20), (5, 12, 10), (5, 6, 5)))
    for choice, step in ((0, 1), (1, 2), ("2", 4), ("auto", 2)):  # 0.4 micrometers are the coarsest up to 0.5
        stack = open_stack(path, 1, level=choice)
        assert np.array_equal(read(stack), values[0, 1, :, ::step, ::step])
        assert stack.voxel_size == (1.0, 0.2 * step, 0.2 * step)
    with pytest.raises(InvalidArgument) as error:
        open_stack(path, 1, level=3)
    assert (error.value.parameter, "5 x 6 x 5" in str(error.value)) == ("level", True)
    mask = samples.write_ims(tmp_path / "mask.ims", values[:, :1], channels=["ids"], steps=(1, 2), extent=extent)
    assert read(open_stack(mask, is_mask=True, shape=(5, 12, 10))).shape == (5, 12, 10)
    with h5py.File(path, "a") as file:  # only what is read has to be whole
        del file["DataSet/ResolutionLevel 1/TimePoint 0"]
    assert open_here(path, channel=0).level_shapes == ((5, 24, 20),)


def test_a_pyramid_level_of_a_czi_file_is_chosen(tmp_path: Path) -> None:
    pytest.importorskip("pylibCZIrw", reason="its reader is in an extra")
    values = VALUES[:1, 0]
    path = samples.write_czi(tmp_path / "a.czi", [values], steps=(2, 4), voxel_size=(1.0, 0.2, 0.2))
    finest = open_here(path, channel=0)
    assert (finest.level, finest.level_shapes) == (0, ((5, 24, 20), (5, 12, 10), (5, 6, 5)))
    for choice, step in ((0, 1), (1, 2), ("2", 4), ("auto", 2)):  # 0.4 micrometers are the coarsest up to 0.5
        stack = open_here(path, channel="DAPI", level=choice)
        assert np.array_equal(read(stack), values[0, 1, :, ::step, ::step])
        assert stack.voxel_size == (1.0, 0.2 * step, 0.2 * step)
    with pytest.raises(InvalidArgument) as error:
        open_here(path, channel=1, level=3)
    assert (error.value.parameter, "5 x 6 x 5" in str(error.value)) == ("level", True)
    mask = samples.write_czi(tmp_path / "mask.czi", [values[:, :1]], channels=["ids"], steps=(2,))
    assert open_stack(mask, is_mask=True, shape=(5, 12, 10)).level == 1


def test_a_level_of_a_czi_file_is_what_it_stores(tmp_path: Path) -> None:
    """Not the finest, enlarged or left out: the pixels of the level differ from it. Sides that are no multiples are cut."""
    pytest.importorskip("pylibCZIrw", reason="its reader is in an extra")
    values = VALUES[:1, 0, :1, :1, :23, :19].copy()
    path = samples.write_czi(tmp_path / "a.czi", [values], channels=["DAPI"], steps=(3,))
    level = np.ascontiguousarray(values[..., ::3, ::3]).tobytes()
    data = path.read_bytes()
    assert data.count(level) == 1
    path.write_bytes(data.replace(level, bytes(np.full(len(level) // 2, 7, np.uint16))))
    stack = open_here(path, level=1)
    assert (stack.shape, stack.voxel_size) == ((1, 7, 6), (1.0, 1.5, 1.5))
    assert (read(stack) == 7).all()


@pytest.mark.parametrize("suffix", [".czi", ".lif", ".nd2", ".tif"])
def test_files_without_a_pyramid_have_no_other_level(suffix: str, tmp_path: Path) -> None:
    if suffix == ".tif":
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, VALUES[0, 0, 0], photometric="minisblack")
    else:
        pytest.importorskip(FORMATS[suffix[1:]].module, reason="its reader is in an extra")
        path = write(tmp_path / f"a{suffix}", VALUES[:1, :1, :1], channels=["DAPI"])
    assert open_stack(path, level="auto").level == 0
    with pytest.raises(InvalidArgument) as error:
        open_stack(path, level=1)
    assert error.value.parameter == "level"


@pytest.mark.parametrize(("unit", "factor"), [("nm", 1e-3), ("mm", 1e3), ("pixel", None)])
def test_units_of_an_imaris_file(unit: str, factor: float | None, tmp_path: Path) -> None:
    pytest.importorskip("h5py", reason="its reader is in an extra")
    sides = [side / (factor or 1) for side in samples.VOXEL_SIZE]
    extent = [side * n for side, n in zip(sides, VALUES.shape[3:], strict=True)]
    size = open_here(write(tmp_path / "a.ims", VALUES[:1], unit=unit, extent=extent), channel=0).voxel_size
    assert size is None if factor is None else np.allclose(size or (), samples.VOXEL_SIZE)


def test_missing_slices_are_counted(tmp_path: Path) -> None:
    pytest.importorskip("nd2", reason="its reader is in an extra")
    values = VALUES[:1, :1]
    path = write(tmp_path / "a.nd2", values, skipped_frames=[1])
    stack = open_here(path, channel=1)
    assert "lacks 1 of its 5 slices" in stack.notes[0]
    expected = values[0, 0, 1].copy()
    expected[1] = 0
    assert np.array_equal(read(stack), expected)
    with pytest.raises(FileError, match="lacks 4 of the 5 slices"):
        open_here(write(tmp_path / "b.nd2", values, skipped_frames=[1, 2, 3, 4]), channel=0)
    pytest.importorskip("pylibCZIrw", reason="its reader is in an extra")
    path = write(tmp_path / "a.czi", values, skipped_slices=[2])
    assert "lacks 1 of its 5 slices" in open_here(path, channel=0).notes[0]


def _claim(suffix: str, path: Path) -> Path:
    """Write a file that claims 10^12 voxels and holds 2,400."""
    values = VALUES[:1, :1]
    if suffix == ".nd2":
        return write(path, values, n_slices=2_000_000_000)
    if suffix == ".lif":
        return write(path, values, Z=1_000_000, X=1_000)
    if suffix == ".ims":
        return write(path, values, size={"Z": 1_000_000, "X": 1_000})
    from pylibCZIrw import czi

    with czi.create_czi(str(path)) as file:
        for z, x in ((0, 0), (900_000, 100_000)):
            file.write(values[0, 0, 0, 0, ..., None], location=(x, 0), plane={"C": 0, "Z": z, "T": 0})
    return path


def test_claims_of_a_trillion_voxels(suffix: str, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"claims|lacks"):
        open_stack(_claim(suffix, tmp_path / f"a{suffix}"), channel=0)


@pytest.mark.parametrize("share", [0.0, 0.03, 0.5, 0.99])
def test_files_that_are_cut_short(suffix: str, share: float, tmp_path: Path) -> None:
    path = write(tmp_path / f"a{suffix}", VALUES[:1, :1])
    data = path.read_bytes()
    path.write_bytes(data[: max(10, int(len(data) * share))])
    with pytest.raises(FileError) as error:
        read(open_stack(path, channel=0))
    assert str(path) in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_files_with_changed_bytes_are_read_or_refused(suffix: str, seed: int, tmp_path: Path) -> None:
    path = write(tmp_path / f"a{suffix}", VALUES[:1, :1])
    data, draw = bytearray(path.read_bytes()), random.Random(seed)
    for _ in range(40):
        data[draw.randrange(10, len(data))] = draw.randrange(256)
    path.write_bytes(data)
    with contextlib.suppress(NephrosError):  # any other error, or a crash, fails
        assert read(open_stack(path, channel=0)).size


def test_imaris_files_that_lead_elsewhere(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="its reader is in an extra")
    other = write(tmp_path / "other.ims", VALUES[:1])
    key = "DataSet/ResolutionLevel 0/TimePoint 0/Channel 0"
    (tmp_path / "raw").write_bytes(bytes(1 << 16))

    def link(file: Any) -> None:
        file[key] = h5py.ExternalLink(str(other), key)

    def raw(file: Any) -> None:
        group = file.create_group(key)
        group.create_dataset("Data", (5, 24, 20), np.uint16, external=[(str(tmp_path / "raw"), 0, 1 << 16)])

    def virtual(file: Any) -> None:
        layout = h5py.VirtualLayout((8, 32, 32), np.uint16)
        layout[:] = h5py.VirtualSource(str(other), f"{key}/Data", (8, 32, 32))
        file.create_group(key).create_virtual_dataset("Data", layout)

    changes: list[Callable[[Any], None]] = [link, raw, virtual]
    for number, change in enumerate(changes):
        path = write(tmp_path / f"{number}.ims", VALUES[:1])
        with h5py.File(path, "a") as file:
            del file[key]
            change(file)
        with pytest.raises(FileError):
            open_here(path, channel=0)


def test_color_images_are_refused(tmp_path: Path) -> None:
    czi = pytest.importorskip("pylibCZIrw", reason="its reader is in an extra").czi
    with czi.create_czi(str(tmp_path / "a.czi")) as file:
        file.write(np.zeros((8, 8, 3), np.uint8), plane={"C": 0, "Z": 0, "T": 0})
    with pytest.raises(FileError, match="Bgr24"):
        open_here(tmp_path / "a.czi")


@pytest.mark.parametrize("key", sorted(FORMATS))
def test_a_reader_that_is_not_installed(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heads = {"czi": b"ZISRAWFILE", "nd2": b"\xda\xce\xbe\x0a", "lif": b"\x70\0\0\0\0\0\0\0\x2a", "ims": b"\x89HDF"}
    path = tmp_path / f"a.{key}"
    path.write_bytes(heads[key] + bytes(2000))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency) as error:
        open_stack(path)
    assert f"pip install 'nephros[{'czi' if key == 'czi' else 'formats'}]'" in str(error.value)


def test_a_large_file_is_not_read_as_an_image(suffix: str, tmp_path: Path) -> None:
    assert read_bytes_unless_stack(write(tmp_path / f"a{suffix}", VALUES[:1, :1])) is None


@pytest.mark.slow
def test_prepare_and_predict(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels, mask = samples.tissue()
    path = write(tmp_path / f"K4{suffix}", pixels[None, None])
    write(tmp_path / f"K4_mask{suffix}", mask[None, None, None], channels=["ids"])
    options = ["--channel", "DAPI", "--mask", f"{{stem}}_mask{suffix}"]
    status, out, err = run_cli(["data", "prepare", str(path), *options, "--out", str(tmp_path / "cells.npz")], capsys)
    assert (status, "1 x 0.5 x 0.5 micrometers (file metadata)" in out) == (0, True), err
    with np.load(tmp_path / "cells.npz") as arrays:
        assert arrays["ids"].tolist() == np.unique(mask)[1:].tolist()
    status, _, err = run_cli(["predict", str(path), *options, "--out", str(tmp_path / "K4")], capsys)
    assert (status, (tmp_path / "K4" / "cells.geojson").is_file()) == (0, True), err
