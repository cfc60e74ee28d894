"""Stacks in a folder: the same voxels as in one file, from `prepare` to `overlay`, and in `predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

import nephros
from nephros.errors import FileError, InvalidArgument, MissingDependency
from nephros.inference.discovery import InputDiscovery
from nephros.inference.predictor import Predictor
from nephros.microscopy.reader import open_stack
from nephros.microscopy.sequence_stack import stack_digest
from nephros.microscopy.stack import StackOptions
from nephros.microscopy.synthetic import SyntheticStack

VOLUME = np.random.default_rng(0).integers(0, 4000, (12, 30, 34)).astype(np.uint16)


def write_slices(folder: Path, volume: np.ndarray[Any, Any] = VOLUME, name: str = "img_z{}.tif", **kwargs: Any) -> Path:
    folder.mkdir(exist_ok=True)
    for z, pixels in enumerate(volume):
        tifffile.imwrite(folder / name.format(z), pixels, photometric="minisblack", **kwargs)
    return folder


@pytest.mark.parametrize("kwargs", [{}, {"compression": "zstd"}, {"byteorder": ">"}, {"imagej": True}, {"ome": True}])
def test_a_folder_is_read_as_the_same_stack(kwargs: dict[str, Any], tmp_path: Path) -> None:
    stack = open_stack(write_slices(tmp_path / "stack", **kwargs))
    assert np.array_equal(np.stack(list(stack.slices())), VOLUME)  # twelve slices, so not in alphabetical order
    assert (stack.shape, stack.dtype, stack.n_channels, stack.voxel_size) == (VOLUME.shape, VOLUME.dtype, 1, None)
    assert "img_z0.tif to img_z11.tif" in stack.notes[0]


def test_a_channel_is_chosen_and_the_voxel_size_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "stack"
    metadata = {"spacing": 0.8, "unit": "um"}
    write_slices(folder, name="k_z{:03d}_DAPI.tif", imagej=True, resolution=(4, 2), metadata=metadata)
    write_slices(folder, VOLUME[::-1], "k_z{:03d}_FITC.tif")
    with pytest.raises(FileError, match=r"2 channels \(0 DAPI, 1 FITC\); set `channel`"):
        open_stack(folder)
    assert np.array_equal(np.stack(list(open_stack(folder, 1).slices())), VOLUME[::-1])
    assert open_stack(folder, 0).voxel_size == pytest.approx((0.8, 0.5, 0.25))
    with pytest.raises(InvalidArgument) as exc_info:
        open_stack(folder, 2)
    assert exc_info.value.parameter == "channel"
    with pytest.raises(FileError, match="a mask has one"):
        open_stack(folder, is_mask=True)
    mask = open_stack(write_slices(tmp_path / "mask", name="t{}.tif"), is_mask=True)
    assert np.array_equal(np.stack(list(mask.slices())), VOLUME)  # a mask has nothing but slices
    with pytest.raises(FileError, match=r"several time points .*`axes`"):
        open_stack(tmp_path / "mask")
    assert open_stack(tmp_path / "mask", axes="ZYX").shape == VOLUME.shape


def test_pngs_of_any_color_type_that_are_gray_are_slices(tmp_path: Path) -> None:
    gray = (VOLUME // 16).astype(np.uint8)
    for z, pixels in enumerate(gray):
        image = Image.fromarray(pixels)
        green = Image.merge("RGB", [Image.new("L", image.size), image, Image.new("L", image.size)])
        (image if z % 3 == 0 else image.convert("RGB") if z % 3 == 1 else green).save(tmp_path / f"{z}.png")
    assert np.array_equal(np.stack(list(open_stack(tmp_path).slices())), gray)
    (tmp_path / "0.png").unlink()
    (tmp_path / "1.png").unlink()
    stack = open_stack(tmp_path)
    assert (stack.channel, stack.n_channels) == (1, 3)  # the plane that the first file, 2.png, is colored with
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 34, 3), dtype=np.uint8)).save(tmp_path / "3.png")
    with pytest.raises(FileError, match=r"3\.png is a color image"):
        list(open_stack(tmp_path).slices())


def test_a_color_plane_is_chosen_by_channel(tmp_path: Path) -> None:
    colors = np.random.default_rng(0).integers(0, 255, (3, 30, 34, 3), dtype=np.uint8)
    for z, pixels in enumerate(colors):
        Image.fromarray(pixels).save(tmp_path / f"z{z}.png")
        tifffile.imwrite(tmp_path / f"z{z}.tif", pixels, photometric="rgb") if z == 1 else None
    (tmp_path / "z1.png").unlink()
    with pytest.raises(FileError, match=r"set `channel`"):
        open_stack(tmp_path)
    stack = open_stack(tmp_path, 2)
    assert (stack.n_channels, stack.channel) == (3, 2)
    assert np.array_equal(np.stack(list(stack.slices())), colors[..., 2])
    with pytest.raises(InvalidArgument):
        open_stack(tmp_path, 3)


def test_what_a_display_would_change_is_noted(tmp_path: Path) -> None:
    for z, pixels in enumerate(VOLUME[:3]):
        tifffile.imwrite(tmp_path / f"z{z}.tif", pixels, photometric="miniswhite")
    stack = open_stack(tmp_path)
    assert np.array_equal(np.stack(list(stack.slices())), VOLUME[:3])
    assert any("white" in note for note in stack.notes)


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (np.zeros((30, 33), np.uint16), "33x30 pixels of type uint16"),
        (np.zeros((30, 34), np.uint8), "of type uint8"),
        (np.zeros((2, 30, 34), np.uint16), "2 pages"),
    ],
)
def test_a_slice_that_is_unlike_the_others_is_named(
    pixels: np.ndarray[Any, Any], expected: str, tmp_path: Path
) -> None:
    folder = write_slices(tmp_path / "stack")
    tifffile.imwrite(folder / "img_z7.tif", pixels, photometric="minisblack", metadata=None)
    with pytest.raises(FileError, match=rf"img_z7\.tif has .*{expected}"):
        list(open_stack(folder).slices())


def test_gaps_cut_files_and_options_for_files_are_refused(tmp_path: Path) -> None:
    folder = write_slices(tmp_path / "stack")
    for options in ({"image": 1}, {"axes": "ZCYX"}):
        with pytest.raises(InvalidArgument) as exc_info:
            open_stack(folder, **options)
        assert exc_info.value.parameter in options
    data = (folder / "img_z4.tif").read_bytes()
    (folder / "img_z4.tif").write_bytes(data[:-200])
    with pytest.raises(FileError, match=r"img_z4\.tif"):
        list(open_stack(folder).slices())
    (folder / "img_z4.tif").unlink()
    with pytest.raises(FileError, match="lacks slice 4"):
        open_stack(folder)


def test_the_digest_depends_on_names_and_bytes_only(tmp_path: Path) -> None:
    folder = write_slices(tmp_path / "stack")
    digest = stack_digest(folder)
    (folder / "notes.txt").write_text("x")
    assert stack_digest(folder.rename(tmp_path / "moved")) == digest
    data = (tmp_path / "moved/img_z3.tif").read_bytes()
    (tmp_path / "moved/img_z3.tif").write_bytes(data + b"\0")
    assert stack_digest(tmp_path / "moved") != digest
    assert stack_digest(tmp_path / "moved/img_z3.tif") != digest


def test_prepare_and_overlay_take_folders(exported_model: Path, tmp_path: Path) -> None:
    pixels, labels = (np.stack(arrays) for arrays in zip(*SyntheticStack((16, 120, 100)).slices(), strict=True))
    project = tmp_path / "project"
    project.mkdir()
    stack, mask = write_slices(project / "stack", pixels), write_slices(project / "mask", labels.astype(np.uint16))
    tifffile.imwrite(tmp_path / "one.tif", pixels, photometric="minisblack", metadata={"axes": "ZYX"})
    size = (1.0, 0.5, 0.5)
    prepared = nephros.prepare(stack, project / "cells.npz", mask=mask, voxel_size=size)
    whole = nephros.prepare(tmp_path / "one.tif", tmp_path / "one.npz", mask=mask, voxel_size=size)
    assert np.array_equal(prepared.images, whole.images)
    assert any("read as one stack of 16 slices" in warning for warning in prepared.metadata.warnings)
    nephros.predict(project / "cells.npz", exported_model).save(project / "p.csv")
    nephros.overlay(project / "cells.json", project / "p.csv", tmp_path / "a.png")
    moved = project.rename(tmp_path / "renamed")
    nephros.overlay(moved / "cells.json", moved / "p.csv", tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with pytest.raises(FileError, match="in the folder of an input"):
        nephros.prepare(moved / "stack", moved / "stack/cells.npz", voxel_size=size)


def test_predict_tells_a_stack_from_cells(predictor: Predictor, tmp_path: Path) -> None:
    pixels = np.stack([slice_pixels for slice_pixels, _ in SyntheticStack((16, 256, 256)).slices()])
    stack = write_slices(tmp_path / "stack", pixels)
    (stack / "notes.txt").write_text("x")
    tifffile.imwrite(tmp_path / "one.tif", pixels, photometric="minisblack", metadata={"axes": "ZYX"})
    size = (1.0, 0.5, 0.5)
    from_folder, from_file = (
        nephros.predict(path, predictor, voxel_size=size) for path in (stack, tmp_path / "one.tif")
    )
    assert len(from_folder) == len(from_file) > 5
    assert np.array_equal(from_folder.probabilities, from_file.probabilities)
    assert {source.file for source in from_folder.sources} == {str(stack)}
    assert any("read as one stack" in note for note in from_folder.notes)
    (stack / "img_z4.tif").unlink()
    incomplete = nephros.predict(stack, predictor, voxel_size=size)
    assert "lacks slice 4" in incomplete.errors[0]


@pytest.mark.parametrize(("name", "side"), [("img_z{}.tif", 90), ("{}.tif", 256)])
def test_what_holds_for_stacks_only_makes_one_of_a_folder(
    name: str, side: int, predictor: Predictor, tmp_path: Path
) -> None:
    slices = list(SyntheticStack((9, side, side)).slices())
    folder = write_slices(tmp_path / "stack", np.stack([pixels for pixels, _ in slices]), name)
    mask = np.stack([ids for _, ids in slices])
    tifffile.imwrite(tmp_path / "m.tif", mask.astype(np.uint16), photometric="minisblack")
    size = (1.0, 0.5, 0.5)
    predictions = nephros.predict(folder, predictor, mask=tmp_path / "m.tif", voxel_size=size)
    assert not predictions.errors
    assert {(source.file, source.index) for source in predictions.sources} <= {
        (str(folder), nucleus_id) for nucleus_id in np.unique(mask[mask > 0]).tolist()
    }
    assert any("read as one stack" in note for note in predictions.notes)
    (item,) = InputDiscovery([folder], expects_stacks=True).items
    assert item == folder
    assert StackOptions(voxel_size=size).tells_of_one_stack
    assert not StackOptions(channel=0).tells_of_one_stack  # also the plane of a color image
    assert not StackOptions(voxel_size=size, mask="{stem}_mask.tif").tells_of_one_stack  # a mask per file


def test_numbered_stacks_are_not_said_to_be_slices(tmp_path: Path) -> None:
    pixels = np.zeros((3, 256, 256), np.uint8)
    for number in (4, 5, 6):
        tifffile.imwrite(tmp_path / f"K{number}.tif", pixels, photometric="minisblack", metadata={"axes": "ZYX"})
    discovery = InputDiscovery([tmp_path], expects_stacks=True)
    assert (len(discovery.items), discovery.notes) == (3, [])


@pytest.mark.parametrize(
    ("name", "side", "is_noted"), [("cell_z{}.tif", 28, True), ("cell_{}.tif", 28, False), ("{}.tif", 256, True)]
)
def test_cells_and_unclear_folders_are_cells_with_a_note(name: str, side: int, is_noted: bool, tmp_path: Path) -> None:
    folder = write_slices(tmp_path / "cells", np.zeros((3, side, side), np.uint8), name)
    discovery = InputDiscovery([folder])
    assert len(discovery.items) == 3
    assert bool(discovery.notes) == is_noted
    assert not is_noted or "nephros.prepare" in discovery.notes[0]


def test_a_folder_of_small_numbered_images_may_be_cells(tmp_path: Path) -> None:
    folder = write_slices(tmp_path / "cells", np.zeros((3, 28, 28), np.uint8) + 1, "cell_{}.tif")
    assert any("nephros.predict" in note for note in open_stack(folder).notes)


def test_folders_need_the_extra_for_tiff_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_slices(tmp_path / "stack")
    monkeypatch.setitem(__import__("sys").modules, "tifffile", None)
    with pytest.raises(MissingDependency, match=r"nephros\[stacks\]"):
        open_stack(folder)


@pytest.mark.parametrize(
    ("name", "image_format"), [("a.png", "PNG"), ("a.tif", "PNG"), ("a.jpg", "JPEG"), ("mask.tiff", "JPEG")]
)
def test_a_single_image_is_a_stack_of_one_slice_whatever_its_suffix(
    name: str, image_format: str, tmp_path: Path
) -> None:
    pixels = np.add.outer(np.arange(30), np.arange(34)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / name, image_format)
    stack = open_stack(tmp_path / name)
    (values,) = stack.slices()
    assert stack.shape == (1, 30, 34)
    assert np.abs(values.astype(int) - pixels).max() <= (0 if image_format == "PNG" else 8)
    for options in ({"image": 1}, {"axes": "ZYX"}, {"channel": 1}):
        with pytest.raises(InvalidArgument):
            open_stack(tmp_path / name, **options)


def test_sixteen_bit_masks_of_other_programs_are_read(tmp_path: Path) -> None:
    mask = np.arange(30 * 34, dtype=np.uint16).reshape(30, 34) * 60
    Image.fromarray(mask).save(tmp_path / "tissue_cp_masks.png")  # as cellpose writes them
    assert np.array_equal(next(iter(open_stack(tmp_path / "tissue_cp_masks.png", is_mask=True).slices())), mask)


def test_a_whole_slide_in_color_is_named(tmp_path: Path) -> None:
    tile = np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8)
    with tifffile.TiffWriter(tmp_path / "slide.svs") as writer:
        for pixels in (tile, tile[::4, ::4], tile[::2, ::2]):
            description = "Aperio Image Library v11.2.1\n46000x32914 (256x256) JPEG/RGB|AppMag = 20|MPP = 0.4990"
            tile_size = (128, 128) if len(pixels) > 100 else None
            writer.write(pixels, photometric="rgb", metadata=None, description=description, tile=tile_size)
    for channel in (None, 0):
        with pytest.raises(FileError, match=r"whole-slide image in color \(Aperio SVS\)"):
            open_stack(tmp_path / "slide.svs", channel)
