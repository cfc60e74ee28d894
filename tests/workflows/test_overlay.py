"""`nephros data overlay`: the image, and the page beside it, show what the table of predictions says."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

import nephros
from nephros.errors import FileError
from nephros.inference.predictions_csv import read_predictions_csv
from nephros.microscopy.output_files import read_nuclei_csv
from nephros.microscopy.synthetic import SyntheticStack
from tests.command_line import assert_usage_error, run_cli


def _page_data(path: Path) -> dict[str, Any]:
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text(encoding="utf-8"))
    assert match is not None
    data: dict[str, Any] = json.loads(match[1])
    return data


@pytest.mark.slow
def test_the_page_shows_the_nuclei_of_the_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels, labels = (np.stack(arrays) for arrays in zip(*SyntheticStack((9, 70, 90)).slices(), strict=True))
    sizes = {"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 1.0}
    tifffile.imwrite(tmp_path / "s.ome.tif", pixels, photometric="minisblack", metadata=sizes)
    tifffile.imwrite(tmp_path / "m.tif", (7 * labels).astype(np.uint16), photometric="minisblack")
    nephros.prepare(tmp_path / "s.ome.tif", tmp_path / "cells.npz", mask=tmp_path / "m.tif")
    predictions = nephros.predict(tmp_path / "cells.npz")
    predictions.save(tmp_path / "p.csv")
    args = ["data", "overlay", str(tmp_path / "cells.json"), "--predictions", str(tmp_path / "p.csv")]
    status, out, err = run_cli([*args, "--out", str(tmp_path / "tissue.png"), "--html"], capsys)
    assert status == 0, err
    assert out.split() == [str(tmp_path / "tissue.png"), str(tmp_path / "tissue.html")]
    data = _page_data(tmp_path / "tissue.html")
    assert (data["width"], data["height"], data["pixel_um"]) == (90, 70, 0.5)
    assert len(data["classes"]) == len(predictions.class_names)
    for label in set(predictions.labels.tolist()):
        assert data["classes"][label]["name"] == predictions.class_names[label]
    with (tmp_path / "cells.csv").open(newline="", encoding="utf-8") as file:
        table = {int(row["id"]): row for row in csv.DictReader(file)}
    assert len(data["nuclei"]) > len(table) / 2  # others are hidden below
    for card in data["nuclei"]:
        row = table[card["id"]]
        expected = predictions[int(row["index"])]
        assert (card["label"], card["p"]) == (expected.label, expected.probabilities)
        assert card["ood"] == "; ".join(expected.ood_reasons)
        assert card["set"].count(";") == len(expected.prediction_set or []) - 1
        assert card["um"] == [float(row[f"{axis}_um"]) for axis in "zyx"]
        assert card["voxels"] == int(row["volume_voxels"]) == (labels * 7 == card["id"]).sum()
        assert card["border"] == (row["at_border"] == "true")
    for name in ("cells.csv", "cells.json"):  # which the overlay needs
        before = (tmp_path / name).read_bytes()
        predict = ["predict", str(tmp_path / "cells.npz"), "--out", str(tmp_path / name)]
        assert_usage_error(predict, capsys, "--out", name, "cells.npz")
        assert (tmp_path / name).read_bytes() == before
    args = ["predict", str(tmp_path / "cells.npz"), "--overlay", str(tmp_path / "again.png"), "--html"]
    status, _, err = run_cli([*args, "--out", str(tmp_path / "again.csv")], capsys)
    assert status == 0, err
    assert _page_data(tmp_path / "again.html") == data
    nephros.overlay(tmp_path / "cells.json", tmp_path / "p.csv", tmp_path / "image.png")
    assert not (tmp_path / "image.html").exists()


@pytest.mark.slow
def test_a_table_older_than_the_nuclei_is_painted_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels, labels = (np.stack(arrays) for arrays in zip(*SyntheticStack((9, 70, 90)).slices(), strict=True))
    tifffile.imwrite(tmp_path / "m.tif", labels.astype(np.uint16), photometric="minisblack")
    for name, values in (("first", pixels), ("second", pixels.max() - pixels)):
        path = tmp_path / f"{name}.tif"
        tifffile.imwrite(path, values, photometric="minisblack")
        nephros.prepare(path, tmp_path / "cells.npz", mask=tmp_path / "m.tif", voxel_size=(1.0, 0.5, 0.5))
        if name == "first":
            nephros.predict(tmp_path / "cells.npz").save(tmp_path / "first.csv")
    nephros.predict(tmp_path / "cells.npz").save(tmp_path / "second.csv")
    args = ["data", "overlay", str(tmp_path / "cells.json"), "--out", str(tmp_path / "tissue.png"), "--predictions"]
    status, _, err = run_cli([*args, str(tmp_path / "first.csv")], capsys)
    assert status == 0
    assert "warning: " in err
    assert "first.csv is older than cells.json" in err
    assert "`nephros predict NPZ`" in err
    status, _, err = run_cli([*args, str(tmp_path / "second.csv")], capsys)
    assert (status, err) == (0, "")


Voxels = np.ndarray[Any, Any]


def _write_one_by_one(folder: Path, pixels: Voxels) -> tuple[Path, dict[str, Any]]:
    with tifffile.TiffWriter(folder / "K4.tif") as file:
        for plane in pixels:
            file.write(plane, photometric="minisblack")
    return folder / "K4.tif", {}


def _write_blue_slices(folder: Path, pixels: Voxels) -> tuple[Path, dict[str, Any]]:
    """As Leica's and Zeiss' programs export a channel in pseudo-color; the first slice is black."""
    pixels[0] = 0
    (folder / "K4").mkdir()
    for z, plane in enumerate(pixels):
        Image.fromarray(np.stack([np.zeros_like(plane), np.zeros_like(plane), plane], axis=-1)).save(
            folder / "K4" / f"z{z:03d}.png"
        )
    return folder / "K4", {}


def _write_time_points(folder: Path, pixels: Voxels) -> tuple[Path, dict[str, Any]]:
    """A mask that is a time series, too, as Fiji and TrackMate write them."""
    labels = tifffile.imread(folder / "m.tif")
    for name, values in (("K4.tif", np.stack([pixels[::-1], pixels])), ("labels.tif", np.stack([0 * labels, labels]))):
        tifffile.imwrite(folder / name, values, imagej=True, metadata={"axes": "TZYX"})
    return folder / "K4.tif", {"time_point": 1, "mask": folder / "labels.tif"}


@pytest.mark.parametrize("write", [_write_one_by_one, _write_blue_slices, _write_time_points])
def test_the_stack_is_opened_as_it_was_prepared(
    write: Callable[[Path, Voxels], tuple[Path, dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels, labels = (np.stack(arrays) for arrays in zip(*SyntheticStack((9, 70, 90)).slices(), strict=True))
    pixels = (pixels * (255 / pixels.max())).astype(np.uint8)
    tifffile.imwrite(tmp_path / "m.tif", labels.astype(np.uint16), photometric="minisblack")
    path, options = write(tmp_path, pixels)
    sizes: dict[str, Any] = {"voxel_size": (1.0, 0.5, 0.5), "mask": tmp_path / "m.tif"}
    result = nephros.prepare(path, tmp_path / "cells.npz", **sizes | options)
    rows = "".join(f"{index},0,tubule\n" for index in range(len(result.ids)))
    (tmp_path / "p.csv").write_text(f"index,label,class_name\n{rows}")
    saved: list[Any] = []
    monkeypatch.setattr("nephros.workflows.overlay.save_overlay", lambda *args: saved.append(args))
    nephros.overlay(tmp_path / "cells.json", tmp_path / "p.csv", tmp_path / "tissue.png")
    ((_, projection, visible_nuclei, _),) = saved
    assert np.array_equal(projection, pixels.max(axis=0))
    assert np.array_equal(visible_nuclei > 0, labels.any(axis=0))


def test_a_table_without_probabilities_has_classes_and_unknown_values(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("index,label,class_name\n1,0,'=A\n0,2,C\n")
    rows, class_names = read_predictions_csv(tmp_path / "p.csv", {"cells.npz"}, 2)
    assert class_names == ["=A", "class 1", "C"]
    assert [row["class_name"] for row in rows] == ["C", "=A"]
    assert rows[0]["p[C]"] is None
    assert rows[0]["is_ood"] is False
    (tmp_path / "cells.csv").write_text("id,intensity_mean,x_um\n4,2.5,\n")
    assert read_nuclei_csv(tmp_path / "cells.csv")[0].items() >= {"id": 4, "x_um": None, "volume_voxels": None}.items()


@pytest.mark.parametrize("row", ["0,0,2 7,0.5,0.5", "0,0,0,nan,1", "0,0,x,0.5,0.5", "0,0,0,inf,0", "0,0,0,one,0"])
def test_damaged_predictions_name_the_file(row: str, tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text(f"index,label,prediction_set,p_0,p_1\n{row}\n")
    with pytest.raises(FileError) as exc_info:
        read_predictions_csv(path, {"cells.npz"}, 1)
    assert exc_info.value.path == path


def test_a_table_of_other_nuclei_is_told_by_its_number_of_rows(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("file,index,label\n" + "".join(f"cells.npz,{index},0\n" for index in range(3)))
    for n in (2, 4):
        with pytest.raises(FileError, match=f"has 3 rows for .*, which has {n} nuclei"):
            read_predictions_csv(path, {"cells.npz"}, n)
    with pytest.raises(FileError, match="has 0 rows for other"):
        read_predictions_csv(path, {"other.npz"}, 3)
