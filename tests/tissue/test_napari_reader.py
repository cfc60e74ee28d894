"""The napari plugin: its manifest is valid, and its reader's layers are those of a folder of predictions."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml

import nephros.tissue
from nephros.errors import FileError
from nephros.tissue import napari_reader
from nephros.tissue.napari_reader import get_reader, read_layers

MANIFEST = Path(nephros.tissue.__file__).with_name("napari.yaml")
HEADER = "id,stack,z,y,x,label,class_name,p[A],p[B],prediction_set,is_ood,ood_reasons,at_border\n"
ROWS = "3,K4.ome.tif,0.50,1.00,1.50,0,'=A,0.9,0.1,'=A,false,,true\n9,K4.ome.tif,1.00,3.00,4.00,1,B,0.2,0.8,B,true,far,false\n"


def _write_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    mask = np.zeros((2, 5, 6), np.uint16)
    mask[:, :3, :4], mask[1, 2:, 3:] = 3, 9
    tifffile.imwrite(folder / "mask.ome.tif", mask, photometric="minisblack", metadata={"axes": "ZYX"})
    tifffile.imwrite(folder / "projection.ome.tif", mask.max(axis=0) * 2, metadata={"axes": "YX"})
    (folder / "cells.csv").write_text(HEADER + ROWS)
    description = {
        "format": "nephros-cells-1", "stack": "../stacks/K4.ome.tif", "channel": None, "image": None, "axes": None,
        "shape_zyx": [2, 5, 6], "voxel_size_um": [1.0, 0.5, 0.4], "class_colors": {"=A": "#e69f00", "B": "#56b4e9"},
    }  # fmt: skip
    (folder / "cells.json").write_text(json.dumps(description))
    return folder


def test_the_manifest_names_the_reader() -> None:
    manifest = yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))
    (reader,) = manifest["contributions"]["readers"]
    (command,) = manifest["contributions"]["commands"]
    assert manifest["name"] == "nephros"
    assert reader["accepts_directories"]
    assert command["id"] == reader["command"]
    assert command["python_name"] == f"{napari_reader.__name__}:{get_reader.__name__}"


@pytest.mark.slow
@pytest.mark.skipif(find_spec("npe2") is None, reason="npe2 is missing; the extra dev has it")
def test_napari_takes_the_manifest() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "npe2", "validate", str(MANIFEST)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_reader_takes_folders_of_predictions_only(tmp_path: Path) -> None:
    folder = _write_folder(tmp_path / "K4")
    assert get_reader(str(folder)) is read_layers
    assert get_reader(str(tmp_path)) is None
    assert get_reader(str(folder / "cells.csv")) is None
    assert get_reader([str(folder)]) is None
    (folder / "cells.json").write_text('{"format": "other"}')
    assert get_reader(str(folder)) is None


def test_layers_join_mask_table_and_colors(tmp_path: Path) -> None:
    folder = _write_folder(tmp_path / "K4")
    (projection, image, kind), (mask, labels, _), (points, centroids, _) = read_layers(str(folder))
    assert kind == "image"
    assert projection.shape == (5, 6)
    assert image["scale"] == (0.5, 0.4)
    assert mask.dtype == np.int32
    assert set(np.unique(mask)) == {0, 3, 9}
    assert labels["scale"] == (1.0, 0.5, 0.4)
    assert labels["features"]["index"].tolist() == [3, 9]
    assert labels["features"]["class_name"] == ["=A", "B"]
    assert labels["colormap"][3] == "#e69f00"
    assert labels["colormap"][9] == "#56b4e9"
    assert points.tolist() == [[0.5, 1.0, 1.5], [1.0, 3.0, 4.0]]
    assert centroids["symbol"] == ["disc", "ring"]
    assert centroids["features"]["p[B]"] == [0.1, 0.8]


def test_the_stack_is_shown_where_it_is_beside_the_folder(tmp_path: Path) -> None:
    folder = _write_folder(tmp_path / "K4")
    (tmp_path / "stacks").mkdir()
    path = tmp_path / "stacks" / "K4.ome.tif"
    volume = np.arange(60, dtype=np.uint16).reshape(2, 5, 6)
    tifffile.imwrite(path, volume, photometric="minisblack", metadata={"axes": "ZYX"})
    data, arguments, _ = read_layers(str(folder))[0]
    assert np.array_equal(data, volume)
    assert arguments["scale"] == (1.0, 0.5, 0.4)
    tifffile.imwrite(
        path, volume[:, :4], photometric="minisblack", metadata={"axes": "ZYX"}
    )  # another one of that name
    assert read_layers(str(folder))[0][0].shape == (5, 6)


def test_of_a_large_stack_all_layers_are_projections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _write_folder(tmp_path / "K4")
    (tmp_path / "stacks").mkdir()
    volume = np.arange(60, dtype=np.uint16).reshape(2, 5, 6)
    tifffile.imwrite(
        tmp_path / "stacks" / "K4.ome.tif", volume, photometric="minisblack", metadata={"axes": "ZYX"}
    )  # half as large as the labels
    monkeypatch.setattr(napari_reader, "MAX_VOLUME_BYTES", 239)
    (image, _, _), (labels, labels_arguments, _), (points, _, _) = layers = read_layers(str(folder))
    mask = tifffile.imread(folder / "mask.ome.tif").max(axis=0)
    assert np.array_equal(image, mask * 2)
    assert np.array_equal(labels, mask)
    assert points.tolist() == [[1.0, 1.5], [3.0, 4.0]]
    assert [arguments["scale"] for _, arguments, _ in layers] == [(0.5, 0.4)] * 3
    assert labels_arguments["units"] == ("micrometer",) * 2
    monkeypatch.setattr(napari_reader, "MAX_VOLUME_BYTES", 240)
    assert [data.shape for data, _, _ in read_layers(str(folder))] == [(2, 5, 6), (2, 5, 6), (2, 3)]


def test_large_ids_stay_what_they_are(tmp_path: Path) -> None:
    folder = _write_folder(tmp_path / "K4")
    mask = tifffile.imread(folder / "mask.ome.tif").astype(np.float64)  # OME-TIFF has no integers of 64 bits
    mask[mask == 9] = 1 << 40
    tifffile.imwrite(folder / "mask.ome.tif", mask, photometric="minisblack", metadata={"axes": "ZYX"})
    assert np.unique(read_layers(str(folder))[1][0]).tolist() == [0, 3, 1 << 40]


def test_the_time_point_that_was_predicted_is_shown(tmp_path: Path) -> None:
    folder = _write_folder(tmp_path / "K4")
    (tmp_path / "stacks").mkdir()
    series = np.arange(120, dtype=np.uint16).reshape(2, 2, 5, 6)
    tifffile.imwrite(tmp_path / "stacks" / "K4.ome.tif", series, photometric="minisblack", metadata={"axes": "TZYX"})
    assert read_layers(str(folder))[0][0].ndim == 2  # written before cells.json had it
    description = json.loads((folder / "cells.json").read_text())
    (folder / "cells.json").write_text(json.dumps(description | {"level": None, "time_point": 1}))
    assert np.array_equal(read_layers(str(folder))[0][0], series[1])


def test_a_folder_of_several_stacks_has_the_layers_of_each(tmp_path: Path) -> None:
    for name in ("a", "b"):
        _write_folder(tmp_path / "all" / name)
    (tmp_path / "all" / "cells.json").write_text('{"format": "nephros-cells-1", "stacks": ["a", "b"]}')
    assert len(read_layers(str(tmp_path / "all"))) == 6


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    folder = _write_folder(tmp_path / "K4")
    (folder / "cells.csv").write_text(HEADER + "x\n")
    with pytest.raises(FileError) as exc_info:
        read_layers(str(folder))
    assert exc_info.value.path == folder / "cells.csv"


@pytest.mark.slow
def test_the_reader_needs_no_napari_and_no_torch() -> None:
    code = "import sys; sys.modules['napari'] = sys.modules['torch'] = None; import nephros.tissue.napari_reader"
    subprocess.run([sys.executable, "-c", code], check=True)
