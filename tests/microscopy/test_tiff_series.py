"""TIFF files whose metadata name more than is read, written by tifffile: refused where planes are missing, else noted."""

from __future__ import annotations

import json
import logging
import struct
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from nephros.errors import FileError, InvalidArgument
from nephros.microscopy import tiff_series
from nephros.microscopy.detect import is_stack
from nephros.microscopy.reader import open_stack
from nephros.microscopy.stack import Stack
from nephros.microscopy.synthetic import SyntheticStack
from tests.microscopy.tiff_samples import write_micromanager, write_stk

VOLUME = np.random.default_rng(0).integers(0, 4000, (6, 12, 16)).astype(np.uint16)
OTHER = np.random.default_rng(1).integers(0, 4000, (6, 12, 16)).astype(np.uint16)
PIXEL_SIZES = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 1.0}


def _write(path: Path, *images: tuple[str, np.ndarray[Any, Any]], **kwargs: Any) -> Path:
    with tifffile.TiffWriter(path, ome=True) as writer:
        for name, pixels in images:
            metadata = {"axes": "ZYX"[-pixels.ndim :], "Name": name, **PIXEL_SIZES}
            writer.write(pixels, photometric="minisblack", metadata=metadata, **kwargs)
    return path


def _read(stack: Stack) -> np.ndarray[Any, Any]:
    return np.stack(list(stack.slices()))


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_further_positions_are_named_and_can_be_chosen(compression: str | None, tmp_path: Path) -> None:
    path = _write(tmp_path / "a.ome.tif", ("position 1", VOLUME), ("position 2", OTHER), compression=compression)
    first, second = open_stack(path), open_stack(path, image=1)
    assert np.array_equal(_read(first), VOLUME)
    assert np.array_equal(_read(second), OTHER)
    assert (first.image, second.image) == (0, 1)
    assert second.voxel_size == (1.0, 0.5, 0.5)
    assert ["position 2" in note and "`image`" in note for note in first.notes] == [True]
    with pytest.raises(InvalidArgument) as exc_info:
        open_stack(path, image=2)
    assert (exc_info.value.parameter, exc_info.value.value) == ("image", 2)


def test_the_stack_is_taken_where_an_overview_or_label_comes_first(tmp_path: Path) -> None:
    images = ("overview", VOLUME[0, ::2, ::2]), ("label", VOLUME[1, :5]), ("stack", VOLUME)
    stack = open_stack(_write(tmp_path / "a.ome.tif", *images))
    assert (stack.image, stack.shape) == (2, VOLUME.shape)
    assert np.array_equal(_read(stack), VOLUME)
    assert "overview" in stack.notes[0]


def test_several_images_without_ome_are_named_and_can_be_chosen(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(VOLUME, photometric="minisblack", metadata={"axes": "ZYX"})
        writer.write(OTHER[:4], photometric="minisblack", metadata={"axes": "ZYX"})
    stack = open_stack(tmp_path / "a.tif")
    assert np.array_equal(_read(stack), VOLUME)
    assert "2 images" in stack.notes[0]
    assert np.array_equal(_read(open_stack(tmp_path / "a.tif", image=1)), OTHER[:4])


def test_pages_beyond_the_metadata_are_noted(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path, imagej=False) as writer:
        for k, page in enumerate([*VOLUME, *OTHER]):
            description = "ImageJ=1.54f\nimages=6\nslices=6\n" if k == 0 else None
            writer.write(page, photometric="minisblack", description=description, metadata=None, compression="zlib")
    stack = open_stack(path)
    assert np.array_equal(_read(stack), VOLUME)
    assert ["6 more pages" in note for note in stack.notes] == [True]


@pytest.mark.parametrize(
    "description",
    [
        "ImageJ=1.54f\nimages=12\nslices=12\n",
        "ImageJ=1.54f\nimages=12\nslices=6\nframes=2\nhyperstack=true\n",
        "ImageJ=1.54f\nimages=12\n",
        "ImageJ=1.54f\nimages=12\nchannels=2\nslices=6\nhyperstack=true\n",
    ],
)
@pytest.mark.parametrize("n_pages", [1, 6])
def test_imagej_files_that_lack_images_are_refused(description: str, n_pages: int, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        for k, page in enumerate(VOLUME[:n_pages]):
            writer.write(page, photometric="minisblack", description=description if k == 0 else None, metadata=None)
    with pytest.raises(FileError, match=r"a\.tif (lacks planes|is cut short|is a time series)"):
        open_stack(path, 0)


def test_a_damaged_file_in_another_thread_does_not_make_a_good_one_cut_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = _write(tmp_path / "good.ome.tif", ("kidney", VOLUME))
    choose, logger = tiff_series._choose, logging.getLogger("tifffile")

    def choose_while_another_thread_reads(*args: Any) -> int:
        thread = threading.Thread(target=logger.warning, args=("<tifffile.TiffPages @8> invalid page offset 9",))
        thread.start()
        thread.join()
        return choose(*args)

    monkeypatch.setattr(tiff_series, "_choose", choose_while_another_thread_reads)
    stack = open_stack(good)
    assert np.array_equal(_read(stack), VOLUME)
    assert stack.notes == ()


def test_files_that_are_open_at_one_time_leave_the_log_of_tifffile_as_it_was(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = [_write(tmp_path / f"{name}.ome.tif", ("kidney", VOLUME)) for name in "ab"]
    logger = logging.getLogger("tifffile")
    n_handlers = len(logger.handlers)
    first, second = (tiff_series.open_series(path, None) for path in paths)
    first.__enter__()
    second.__enter__()
    assert not logger.propagate
    first.__exit__(None, None, None)
    assert not logger.propagate  # the second one is still open
    second.__exit__(None, None, None)
    assert logger.propagate
    assert len(logger.handlers) == n_handlers
    logger.warning("heard")
    assert "heard" in caplog.text


def test_a_truncated_hyperstack_of_one_page_is_refused(tmp_path: Path) -> None:
    """ImageJ writes more than 4 GB behind a single page."""
    tifffile.imwrite(tmp_path / "a.tif", VOLUME, imagej=True, metadata={"axes": "ZYX"})
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        offset = file.pages.first.dataoffsets[0]
    data = (tmp_path / "a.tif").read_bytes()
    for n_slices in (1, 3, 5):
        (tmp_path / "cut.tif").write_bytes(data[: offset + n_slices * VOLUME[0].nbytes])
        with pytest.raises(FileError, match=r"cut\.tif (lacks planes|is cut short)"):
            open_stack(tmp_path / "cut.tif")


@pytest.mark.parametrize("is_imagej", [True, False])
def test_planes_behind_a_single_page_are_read(is_imagej: bool, tmp_path: Path) -> None:
    """As ImageJ writes more than 4 GB, and tifffile where it is asked to."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, VOLUME, photometric="minisblack", imagej=is_imagej, metadata={"axes": "ZYX"}, truncate=True)
    with tifffile.TiffFile(path) as file:
        assert (len(file.pages), len(file.series[0])) == (1, 1)
        end = file.pages.first.dataoffsets[0] + VOLUME.nbytes
    assert np.array_equal(_read(open_stack(path)), VOLUME)
    path.write_bytes(path.read_bytes()[: end - 1])
    with pytest.raises(FileError, match="is cut short"):
        open_stack(path)


def test_a_stack_of_metamorph_is_read(tmp_path: Path) -> None:
    path = write_stk(tmp_path / "a.stk", VOLUME, (1.5, 0.25, 0.5))
    stack = open_stack(path)
    assert np.array_equal(_read(stack), VOLUME)
    assert (stack.voxel_size, stack.notes) == ((1.5, 0.25, 0.5), ())
    with path.open("rb") as file:
        assert is_stack(file)


def _ome_xml(size_z: int, tiff_data: str, *, size_t: int = 1, root: str = "") -> str:
    return (
        f'<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" {root}>'
        '<Image ID="Image:0" Name="kidney"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="16" SizeY="12" '
        f'SizeZ="{size_z}" SizeC="1" SizeT="{size_t}" PhysicalSizeX="0.5" PhysicalSizeY="0.5" PhysicalSizeZ="1">'
        f'<Channel ID="Channel:0:0" SamplesPerPixel="1"/>{tiff_data}</Pixels></Image></OME>'
    )


def _write_with_xml(path: Path, xml: str) -> Path:
    with tifffile.TiffWriter(path) as writer:
        for k, page in enumerate(VOLUME):
            writer.write(page, photometric="minisblack", description=xml if k == 0 else None, metadata=None)
    return path


def test_ome_files_that_lack_planes_are_refused(tmp_path: Path) -> None:
    for k, xml in enumerate([
        _ome_xml(9, "<TiffData/>"),
        _ome_xml(9, '<TiffData IFD="0" PlaneCount="9"/>'),
        _ome_xml(9, '<TiffData IFD="0" FirstZ="3" PlaneCount="6"/>'),
        _ome_xml(6, '<TiffData IFD="40" PlaneCount="6"/>'),
    ]):  # fmt: skip
        with pytest.raises(FileError, match=rf"{k}\.ome\.tif (lacks planes|does not hold)"):
            open_stack(_write_with_xml(tmp_path / f"{k}.ome.tif", xml))


def _tiff_data(files: dict[str, str], *, per_file: int) -> str:
    return "".join(
        f'<TiffData IFD="0" FirstZ="{k * per_file}" PlaneCount="{per_file}"><UUID FileName="{name}">{uuid}</UUID></TiffData>'
        for k, (name, uuid) in enumerate(files.items())
    )


def test_one_file_of_a_set_is_refused_by_the_other_files_name(tmp_path: Path) -> None:
    files = {"a.ome.tif": "urn:uuid:1", "b.ome.tif": "urn:uuid:2"}
    xml = _ome_xml(12, _tiff_data(files, per_file=6), root='UUID="urn:uuid:1"')
    with pytest.raises(FileError, match=r"a\.ome\.tif is one file of several: .* b\.ome\.tif"):
        open_stack(_write_with_xml(tmp_path / "a.ome.tif", xml))


def test_a_whole_image_in_one_file_of_a_set_and_a_renamed_file_are_read(tmp_path: Path) -> None:
    xml = _ome_xml(6, _tiff_data({"a.ome.tif": "urn:uuid:1"}, per_file=6), root='UUID="urn:uuid:1"')
    other = _tiff_data({"b.ome.tif": "urn:uuid:2"}, per_file=6)
    image = xml[xml.index("<Image") : xml.index("</OME>")]
    second = image.replace("kidney", "liver").replace(_tiff_data({"a.ome.tif": "urn:uuid:1"}, per_file=6), other)
    stack = open_stack(_write_with_xml(tmp_path / "a.ome.tif", xml.replace("</OME>", second + "</OME>")))
    assert np.array_equal(_read(stack), VOLUME)
    assert "liver" in stack.notes[0]
    renamed = open_stack(_write_with_xml(tmp_path / "renamed.ome.tif", xml.replace('UUID="urn:uuid:1"', "", 1)))
    assert np.array_equal(_read(renamed), VOLUME)
    assert renamed.notes == ()


def test_a_stack_of_micro_manager_is_read_by_its_ome_metadata(tmp_path: Path) -> None:
    values = np.random.default_rng(2).integers(0, 4000, (2, 2, 3, 12, 16)).astype(np.uint16)
    path = write_micromanager(tmp_path / "kidney_MMStack_Pos0.ome.tif", values)
    with tifffile.TiffFile(path) as file:
        assert file.series[0].kind == "mmstack"
        assert np.array_equal(file.asarray(), values.swapaxes(1, 2))
    stack = open_stack(path, "DAPI", time_point=1)
    assert np.array_equal(_read(stack), values[1, 1])
    assert (stack.n_channels, stack.voxel_size, stack.notes) == (2, (1.0, 0.5, 0.5), ())


def test_what_tifffile_warns_of_becomes_a_note(tmp_path: Path) -> None:
    xml = _ome_xml(6, '<TiffData IFD="0" PlaneCount="6"/><TiffData IFD="0" FirstZ="70" PlaneCount="1"/>')
    stack = open_stack(_write_with_xml(tmp_path / "a.ome.tif", xml))
    assert np.array_equal(_read(stack), VOLUME)
    assert len(stack.notes) == 1
    assert "invalid TiffData index" in stack.notes[0]
    assert "\n" not in stack.notes[0]


def test_a_slice_that_was_never_written_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, VOLUME, photometric="minisblack", compression="zlib", metadata=None)
    with tifffile.TiffFile(path, mode="r+") as file:
        page = file.pages[4]
        assert isinstance(page, tifffile.TiffPage)
        for tag in ("StripOffsets", "StripByteCounts"):
            page.tags[tag].overwrite(0)
    with pytest.raises(FileError, match=r"a\.tif"):
        _read(open_stack(path))


def test_the_chosen_image_is_recorded_and_predicted(tmp_path: Path) -> None:
    import nephros

    first, second = (np.stack([pixels for pixels, _ in SyntheticStack((12, 90, 90), seed=k).slices()]) for k in (0, 1))
    path = _write(tmp_path / "a.ome.tif", ("position 1", first), ("position 2", second))
    result = nephros.prepare(path, tmp_path / "cells.npz", image=1)
    assert result.metadata.stack.image == 1
    assert any("position 1" in warning for warning in result.metadata.warnings)
    assert json.loads((tmp_path / "cells.json").read_text())["stack"]["image"] == 1
    single = nephros.prepare(_write(tmp_path / "b.ome.tif", ("position 2", second)), tmp_path / "single.npz")
    assert np.array_equal(result.images, single.images)
    assert any("position 2" in note for note in nephros.predict(path).notes)


@pytest.mark.parametrize("back_to", [0, 3])
def test_pages_in_a_circle_are_refused(back_to: int, tmp_path: Path) -> None:
    path = tmp_path / "circle.tif"
    tifffile.imwrite(path, VOLUME, photometric="minisblack", metadata=None)
    with tifffile.TiffFile(path) as file:
        offsets = [page.offset for page in file.pages]
    content = bytearray(path.read_bytes())
    (n_tags,) = struct.unpack_from("<H", content, offsets[-1])
    struct.pack_into("<I", content, offsets[-1] + 2 + 12 * n_tags, offsets[back_to])
    path.write_bytes(content)
    with pytest.raises(FileError) as caught:
        open_stack(path)
    assert Path(caught.value.path) == path
