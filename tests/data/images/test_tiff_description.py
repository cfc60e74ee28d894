"""Volumes of one nucleus: files whose pages are its slices, and files whose pages are something else."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import nephros
from nephros.data.folders.opening import open_folder
from nephros.data.images.decoding import decode_image, decode_pages
from nephros.data.images.tiff_description import axis_length, imagej_offset
from nephros.errors import FileError
from nephros.inference.reader import CellReader
from nephros.microscopy.detect import is_stack

VOLUME = np.random.default_rng(0).integers(0, 256, (7, 32, 32)).astype(np.uint8)
SLICES: dict[str, dict[str, Any]] = {
    "plain pages": {"metadata": None},
    "tifffile's": {"metadata": {"axes": "ZYX"}},
    "tifffile's default": {},
    "ImageJ": {"imagej": True, "metadata": {"axes": "ZYX"}},
    "OME": {"ome": True, "metadata": {"axes": "ZYX"}},
    "compressed": {"compression": "zstd", "metadata": {"axes": "ZYX"}},
    "JPEG XL": {"compression": "jpegxl", "metadata": None},
    "big-endian BigTIFF": {"byteorder": ">", "bigtiff": True, "metadata": {"axes": "ZYX"}},
}


def encode(volume: np.ndarray[Any, Any] = VOLUME, **kwargs: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, volume, photometric=kwargs.pop("photometric", "minisblack"), **kwargs)
    return file.getvalue()


@pytest.mark.parametrize("kind", SLICES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_slices_become_their_maximum(kind: str, dtype: type, tmp_path: Path) -> None:
    volume = VOLUME.astype(dtype) * (dtype(1) if dtype == np.uint8 else dtype(50))
    data = encode(volume, **SLICES[kind])
    assert not is_stack(io.BytesIO(data))
    (page,) = decode_pages("a.tif", data)
    for image in (page, decode_image("a.tif", data)):
        assert np.array_equal(image.pixels, volume.max(axis=0))
        assert "projected (maximum)" in image.notes[-1]
        assert ("BBBC051" in image.notes[-1]) == (kind in ("plain pages", "tifffile's default", "JPEG XL"))


@pytest.mark.parametrize("depth", [5, 12])
def test_other_depths_need_a_z_axis(depth: int) -> None:
    volume = np.random.default_rng(0).integers(0, 256, (depth, 32, 32)).astype(np.uint8)
    assert len(list(decode_pages("a.tif", encode(volume, metadata={"axes": "ZYX"})))) == 1
    assert len(list(decode_pages("a.tif", encode(volume, metadata=None)))) == depth


@pytest.mark.parametrize(
    ("volume", "kwargs"),
    [
        (VOLUME[:, :28, :28], {"metadata": None}),
        (VOLUME[:6], {"metadata": None}),
        (VOLUME, {"metadata": {"axes": "TYX"}}),
        (VOLUME, {"imagej": True, "metadata": {"axes": "TYX"}}),
    ],
    ids=["28x28 pixels", "six pages", "time points", "ImageJ's frames"],
)
def test_other_pages_are_cells(volume: np.ndarray[Any, Any], kwargs: dict[str, Any]) -> None:
    data = encode(volume, **kwargs)
    assert len(list(decode_pages("a.tif", data))) == len(volume)
    with pytest.raises(FileError, match="pages"):
        decode_image("a.tif", data)


def test_pages_in_color_are_no_slices() -> None:
    with pytest.raises(FileError):
        decode_image("a.tif", encode(np.stack([VOLUME] * 3, axis=-1), photometric="rgb", metadata=None))


def test_a_cut_volume_is_damaged() -> None:
    data = encode(metadata={"axes": "ZYX"})
    for n_bytes in (len(data) // 2, len(data) - 700):
        with pytest.raises(FileError):
            decode_image("a.tif", data[:n_bytes])


def test_prediction_and_training_see_the_same_cell(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for name in ("a", "b"):
        (tmp_path / "folder" / name).mkdir(parents=True)
        for k in range(3):
            volume = rng.integers(0, 256, (7, 32, 32)).astype(np.uint8)
            (tmp_path / "folder" / name / f"{k}.tif").write_bytes(encode(volume, imagej=True, metadata={"axes": "ZYX"}))
    dataset = open_folder(tmp_path / "folder", size=28)
    cells = [cell for _, batch in CellReader([tmp_path / "folder"], (1, 28, 28)).iter_batches() for cell in batch]
    trained_on = {image.tobytes() for _, split in dataset.splits() for image in split.images}
    assert {cell.tobytes() for cell in cells} == trained_on
    assert len(cells) == 6


def test_predict_gives_one_row_and_a_note(exported_model: Path, tmp_path: Path) -> None:
    (tmp_path / "nucleus.tif").write_bytes(encode(metadata=None))
    predictions = nephros.predict(tmp_path / "nucleus.tif", exported_model)
    assert len(predictions) == 1
    assert not predictions.errors
    assert any("BBBC051" in note for note in predictions.notes)


@pytest.mark.parametrize("shape", ["", ", ", "7,, 32", ",7", "7,", "7 32", "-7, 32"])
def test_a_damaged_shape_names_no_axis(shape: str) -> None:
    assert axis_length(f'{{"shape": [{shape}], "axes": "ZYX"}}', "Z") == 1


@pytest.mark.parametrize("offset", ["", "-", ".", "-.", "-32768.0.0", "-32768e3", "--32768", "-32768x"])
def test_a_damaged_calibration_adds_no_sign(offset: str) -> None:
    assert imagej_offset(f"ImageJ=1.53\ncf=0\nc0={offset}\nc1=1.0\n") == 0
    assert imagej_offset("ImageJ=1.53\ncf=0\nc0=-32768.0\nc1=1.0\n") == 32768
