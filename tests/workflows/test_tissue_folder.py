"""The folder that `nephros predict STACK --out FOLDER` writes: its files agree with each other, the mask and QuPath's format."""

from __future__ import annotations

import csv
import json
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from shapely.geometry import shape
from skimage.measure import regionprops

from nephros.errors import FileError, InvalidArgument
from nephros.escaping import unescape_from_csv
from nephros.inference.predictions import ModelSummary, Predictions
from nephros.inference.reader import CellSource
from nephros.microscopy.extract import extract_nuclei_from_file
from nephros.microscopy.located import LocatedNuclei
from nephros.microscopy.reader import open_stack
from nephros.microscopy.stack import StackOptions
from nephros.microscopy.synthetic import SyntheticStack
from nephros.tissue import footprints
from nephros.workflows.tissue_folder import save_cells
from tests.workflows.test_predict import run_predict

SIZES = {"PhysicalSizeZ": 1, "PhysicalSizeY": 0.5, "PhysicalSizeX": 0.4}
CLASS_NAMES = ("Leukocytes", "=cmd|' /C calc'!A0", "Collecting Duct, Connecting Tubule")
MODEL = ModelSummary("recipe", "data", "0.1.0", 1, "float32", "0" * 64)
OOD_REASON = "atypical image structure (distance 12.5, typical up to 9.65)"


@pytest.fixture(scope="module")
def tissue() -> tuple[NDArray[Any], NDArray[Any]]:
    """A stack, and a mask with ids far apart."""
    pixels, masks = zip(*SyntheticStack((9, 70, 90), (1.0, 0.5, 0.4)).slices(), strict=True)
    mask = np.stack(masks).astype(np.uint16)
    return np.stack(pixels), np.where(mask > 0, 1000 - 7 * mask, 0).astype(np.uint16)


def _write(folder: Path, tissue: tuple[NDArray[Any], NDArray[Any]], name: str = "K4") -> LocatedNuclei:
    """Write a stack with its mask, and return its nuclei."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.ome.tif"
    tifffile.imwrite(path, tissue[0], photometric="minisblack", ome=True, metadata={"axes": "ZYX", **SIZES})
    tifffile.imwrite(folder / f"{name}_mask.tif", tissue[1], photometric="minisblack")
    options = StackOptions(mask="{stem}_mask.tif")
    return extract_nuclei_from_file(path, (None, None), lambda items, what, total: items, options).located


def _predictions(*stacks: LocatedNuclei) -> Predictions:
    """Return random predictions of all nuclei; every fifth is out of distribution."""
    sources = [CellSource(located.display_path, i) for located in stacks for i in located.nuclei.ids.tolist()]
    probabilities = np.random.default_rng(0).dirichlet([1, 1, 1], len(sources)).astype(np.float32)
    reasons: list[tuple[str, ...]] = [(OOD_REASON,) if row % 5 == 0 else () for row in range(len(sources))]
    return Predictions(sources, probabilities, probabilities > 0.2, reasons, {}, CLASS_NAMES, ["a note"], MODEL, stacks)


@pytest.fixture(scope="module")
def saved(
    tissue: tuple[NDArray[Any], NDArray[Any]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Predictions]:
    folder = tmp_path_factory.mktemp("saved")
    predictions = _predictions(_write(folder / "stacks", tissue))
    return save_cells(predictions, folder / "K4"), predictions


def _table(folder: Path) -> list[dict[str, str]]:
    with (folder / "cells.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_table_joins_with_the_mask_by_id(
    saved: tuple[Path, Predictions], tissue: tuple[NDArray[Any], NDArray[Any]]
) -> None:
    folder, predictions = saved
    rows = {int(row["id"]): row for row in _table(folder)}
    regions = {region.label: region for region in regionprops(tissue[1])}
    assert rows.keys() == regions.keys()
    assert max(rows) > 900
    for nucleus_id, row in rows.items():
        region = regions[nucleus_id]
        assert np.allclose([float(row[axis]) for axis in "zyx"], region.centroid, atol=0.006)
        microns = [float(row[f"{axis}_um"]) for axis in "zyx"]
        assert np.allclose(microns, np.multiply(region.centroid, (1, 0.5, 0.4)), atol=0.006)
        assert int(row["volume_voxels"]) == region.area
        assert float(row["volume_um3"]) == pytest.approx(region.area * 0.2, abs=0.001)
        mean = tissue[0][tissue[1] == nucleus_id].mean()
        assert float(row["intensity_mean"]) == pytest.approx(mean, abs=0.001)
        assert row["stack"] == "K4.ome.tif"
    by_id = {source.index: row for source, row in zip(predictions.sources, predictions.rows(), strict=True)}
    for nucleus_id, row in rows.items():
        expected = by_id[nucleus_id]
        assert int(row["label"]) == expected.label
        assert expected.probabilities is not None
        assert [float(row[f"p[{name}]"]) for name in CLASS_NAMES] == expected.probabilities
        names = [CLASS_NAMES[label] for label in expected.prediction_set or []]
        assert unescape_from_csv(row["prediction_set"]) == "; ".join(names)
        assert row["is_ood"] == str(expected.is_ood).lower()
        assert row["ood_reasons"] == (OOD_REASON if expected.is_ood else "")


def test_nuclei_without_a_row_are_in_the_mask_but_not_in_the_classes(
    saved: tuple[Path, Predictions], tissue: tuple[NDArray[Any], NDArray[Any]], tmp_path: Path
) -> None:
    predictions = saved[1]
    kept = np.arange(0, len(predictions), 2)
    folder = save_cells(predictions[kept], tmp_path / "half")
    ids = [predictions.sources[row].index for row in kept.tolist()]
    assert np.array_equal(tifffile.imread(folder / "mask.ome.tif"), tissue[1])
    has_class = tifffile.imread(folder / "classes.ome.tif") > 0
    assert set(np.unique(tissue[1][has_class]).tolist()) == {int(row["id"]) for row in _table(folder)} == set(ids)


def test_no_cell_of_the_table_is_a_formula(saved: tuple[Path, Predictions]) -> None:
    with (saved[0] / "cells.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    formulas = [cell for row in (header, *rows) for cell in row if cell[:1] in ("=", "+", "@", "\t", "\r")]
    assert not formulas
    assert f"'{CLASS_NAMES[1]}" in {row[header.index("class_name")] for row in rows}


def test_pandas_and_parquet_have_the_same_columns_as_the_csv_file(saved: tuple[Path, Predictions]) -> None:
    pandas = pytest.importorskip("pandas", reason="an optional dependency of nephros")
    folder, predictions = saved
    frame, parquet = predictions.to_pandas(), pandas.read_parquet(folder / "cells.parquet")
    assert list(frame) == list(parquet) == list(_table(folder)[0])
    assert sorted(frame["id"]) == parquet["id"].tolist()
    assert parquet["is_ood"].dtype == bool
    assert parquet["volume_voxels"].dtype == np.int64
    merged = frame.merge(parquet, on=["id", "stack"], suffixes=("", "_file"))
    assert len(merged) == len(frame)
    assert (merged["x_um"] == merged["x_um_file"]).all()


def test_qupath_reads_detections_whose_outlines_are_the_nuclei(
    saved: tuple[Path, Predictions], tissue: tuple[NDArray[Any], NDArray[Any]]
) -> None:
    folder, _ = saved
    collection = json.loads((folder / "cells.geojson").read_text(encoding="utf-8"))
    assert collection["type"] == "FeatureCollection"
    rows = {row["id"]: row for row in _table(folder)}
    y, x = np.indices(tissue[1].shape[1:]) + 0.5
    colors: dict[str, list[int]] = {}
    for feature in collection["features"]:
        properties = feature["properties"]
        assert feature["type"] == "Feature"
        assert str(uuid.UUID(feature["id"])) == feature["id"]
        assert properties["objectType"] == "detection"
        row = rows.pop(properties["name"])
        classification = properties["classification"]
        assert classification["name"] == CLASS_NAMES[int(row["label"])]
        assert len(classification["color"]) == 3
        assert colors.setdefault(classification["name"], classification["color"]) == classification["color"]
        # QuPath takes numbers only, and no booleans.
        assert {type(value) for value in properties["measurements"].values()} <= {int, float}
        assert all(isinstance(value, str) for value in properties["metadata"].values())
        assert properties["measurements"]["x_um"] == float(row["x_um"])
        geometry = shape(feature["geometry"])
        assert geometry.is_valid
        footprint = (tissue[1] == int(row["id"])).any(axis=0)
        assert geometry.area == footprint.sum()
        box = np.nonzero(footprint)
        assert geometry.bounds == (box[1].min(), box[0].min(), box[1].max() + 1, box[0].max() + 1)
        assert geometry.contains(shape({"type": "Point", "coordinates": [x[footprint][0], y[footprint][0]]}))
    assert not rows
    assert len(set(map(tuple, colors.values()))) == len(colors) == 3


def test_outlines_by_slice_are_on_the_slice_of_the_centroid(saved: tuple[Path, Predictions]) -> None:
    folder, _ = saved
    rows = {row["id"]: row for row in _table(folder)}
    features = json.loads((folder / "cells_by_slice.geojson").read_text(encoding="utf-8"))["features"]
    planes = {feature["properties"]["name"]: feature["geometry"].get("plane") for feature in features}
    assert planes.keys() == rows.keys()
    for nucleus_id, plane in planes.items():
        z = round(float(rows[nucleus_id]["z"]))
        assert plane == ({"c": -1, "z": z, "t": 0} if z else None)


@pytest.mark.slow
@pytest.mark.parametrize("slices", [slice(0, 9), slice(4, 5)])
def test_outlines_by_slice_are_in_pixels_of_the_finest_level(
    slices: slice, tissue: tuple[NDArray[Any], NDArray[Any]], tmp_path: Path
) -> None:
    """As QuPath opens the stack, whichever level of its pyramid was read."""
    pixels, mask = tissue[0][slices], tissue[1][slices]
    with tifffile.TiffWriter(tmp_path / "K4.ome.tif", ome=True) as writer:
        finest = pixels.repeat(3, axis=1).repeat(2, axis=2)
        metadata = {"axes": "ZYX"[-finest.squeeze().ndim :], **SIZES}
        writer.write(finest.squeeze(), subifds=1, photometric="minisblack", metadata=metadata)
        writer.write(pixels.squeeze(), subfiletype=1, photometric="minisblack")
    tifffile.imwrite(tmp_path / "K4_mask.tif", mask, photometric="minisblack")
    options = StackOptions(mask="{stem}_mask.tif", level="auto", voxel_size=(1.0, 0.5 / 3, 0.2))
    result = extract_nuclei_from_file(tmp_path / "K4.ome.tif", (None, None), lambda items, what, total: items, options)
    folder = save_cells(_predictions(result.located), tmp_path / "out")
    assert json.loads((folder / "cells.json").read_text())["level"] == 1
    flat, deep = (
        json.loads((folder / f"{name}.geojson").read_text())["features"] for name in ("cells", "cells_by_slice")
    )
    assert len(flat) == len(deep) == len(np.unique(mask)) - 1
    for first, second in zip(flat, deep, strict=True):
        bounds = np.array(shape(first["geometry"]).bounds)
        assert np.array_equal(shape(second["geometry"]).bounds, bounds * [2, 3, 2, 3])
    assert ("plane" in deep[-1]["geometry"]) == (len(pixels) > 1)


def test_images_keep_voxel_sizes_and_channel(
    saved: tuple[Path, Predictions], tissue: tuple[NDArray[Any], NDArray[Any]]
) -> None:
    folder, _ = saved
    labels = {int(row["id"]): int(row["label"]) for row in _table(folder)}
    with tifffile.TiffFile(folder / "classes.ome.tif") as file:
        classes, metadata = file.asarray(), file.ome_metadata or ""
    expected = np.zeros_like(classes)
    for nucleus_id, label in labels.items():
        expected[tissue[1] == nucleus_id] = label + 1
    assert classes.dtype == np.uint8
    assert np.array_equal(classes, expected)
    pairs = tifffile.xml2dict(metadata)["OME"]["StructuredAnnotations"]["MapAnnotation"]["Value"]["M"]
    assert {pair["K"]: pair["value"] for pair in pairs} == {
        0: "no nucleus", 1: CLASS_NAMES[0], 2: CLASS_NAMES[1], 3: CLASS_NAMES[2]
    }  # fmt: skip
    assert "channel 0" in metadata
    for name, values in [("mask", tissue[1]), ("projection", tissue[0].max(axis=0)), ("classes", expected)]:
        image = open_stack(folder / f"{name}.ome.tif")
        assert image.voxel_size == pytest.approx((1, 0.5, 0.4))
        assert np.array_equal(np.stack(list(image.slices())).squeeze(), values)


@pytest.mark.slow
def test_several_stacks_have_a_subfolder_each(tissue: tuple[NDArray[Any], NDArray[Any]], tmp_path: Path) -> None:
    stacks = [
        _write(tmp_path / "a", tissue, "K4"),
        _write(tmp_path / "b", tissue, "K4"),
        _write(tmp_path / "b", tissue, "K5"),
    ]
    folder = save_cells(_predictions(*stacks), tmp_path / "out")
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["K4", "K4-2", "K5"]
    n = len(stacks[0].nuclei)
    rows = _table(folder)
    assert len(rows) == 3 * n
    assert {row["stack"] for row in rows} == {str(stacks[0].path), str(stacks[1].path), "K5.ome.tif"}
    assert len(_table(folder / "K4-2")) == n
    save_cells(_predictions(stacks[2]), folder)  # which replaces all of it
    assert (folder / "cells.geojson").is_file()
    assert not (folder / "K4").exists()


def test_some_rows_are_a_folder_too_and_rows_without_a_prediction_have_no_class(
    tissue: tuple[NDArray[Any], NDArray[Any]], tmp_path: Path
) -> None:
    predictions = _predictions(_write(tmp_path / "a", tissue))[[5, 2, 3]]
    probabilities = predictions.probabilities.copy()
    probabilities[1] = np.nan
    predictions = replace(predictions, probabilities=probabilities, errors={1: "not a number"})
    folder = save_cells(predictions, tmp_path / "out")
    rows = _table(folder)
    assert [int(row["id"]) for row in rows] == sorted(source.index for source in predictions.sources)
    (unclassified,) = [row for row in rows if row["class_name"] == ""]
    assert int(unclassified["id"]) == predictions.sources[1].index
    features = json.loads((folder / "cells.geojson").read_text(encoding="utf-8"))["features"]
    assert [f["properties"]["name"] for f in features if "classification" not in f["properties"]] == [
        unclassified["id"]
    ]
    classes = tifffile.imread(folder / "classes.ome.tif")
    assert set(np.unique(classes)) <= {0, 1, 2, 3}
    assert not classes[tissue[1] == int(unclassified["id"])].any()


def test_nuclei_too_large_for_an_outline_are_points(
    tissue: tuple[NDArray[Any], NDArray[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(footprints, "MAX_BOX_PIXELS", 250)
    folder = save_cells(_predictions(_write(tmp_path / "a", tissue)), tmp_path / "out")
    features = json.loads((folder / "cells.geojson").read_text(encoding="utf-8"))["features"]
    kinds = {feature["geometry"]["type"] for feature in features}
    assert kinds == {"Point", "Polygon"}
    rows = {row["id"]: row for row in _table(folder)}
    for feature in features:
        if feature["geometry"]["type"] == "Point":
            row = rows[feature["properties"]["name"]]
            assert feature["geometry"]["coordinates"] == [float(row["x"]) + 0.5, float(row["y"]) + 0.5]
    notes = json.loads((folder / "cells.json").read_text(encoding="utf-8"))["notes"]
    assert any("points in cells.geojson" in note for note in notes)


def _foreign_file(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")


def _other_format(folder: Path) -> None:
    (folder / "cells.json").write_text('{"format": "other"}')


def _damaged(folder: Path) -> None:
    (folder / "cells.json").write_text("{")


@pytest.mark.sampled(3)
@pytest.mark.parametrize("spoil", [_foreign_file, _other_format, _damaged])
def test_a_folder_with_other_files_is_left_alone(
    spoil: Callable[[Path], None], saved: tuple[Path, Predictions], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    save_cells(saved[1], out)
    spoil(out)
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    with pytest.raises(InvalidArgument) as exc_info:
        save_cells(saved[1], out)
    assert exc_info.value.parameter == "out"
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_a_mask_that_was_corrected_is_not_replaced(saved: tuple[Path, Predictions], tmp_path: Path) -> None:
    out = save_cells(saved[1], tmp_path / "out")
    save_cells(saved[1], out)
    corrected = np.zeros((9, 70, 90), np.uint16)
    tifffile.imwrite(out / "mask.ome.tif", corrected, photometric="minisblack", metadata={"axes": "ZYX"})
    with pytest.raises(FileError) as exc_info:
        save_cells(saved[1], out)
    assert exc_info.value.path == out / "mask.ome.tif"
    assert np.array_equal(tifffile.imread(out / "mask.ome.tif"), corrected)


@pytest.mark.slow
def test_a_failure_leaves_the_folder_as_it_was(
    tissue: tuple[NDArray[Any], NDArray[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictions = _predictions(_write(tmp_path / "a", tissue))
    out = save_cells(predictions, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def fail(*_args: object, **_kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nephros.workflows.tissue_folder.write_json", fail)
    with pytest.raises(FileError):
        save_cells(predictions, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "out"]


def test_what_a_folder_cannot_show_is_refused(saved: tuple[Path, Predictions], tmp_path: Path) -> None:
    images = replace(saved[1], located=())
    with pytest.raises(InvalidArgument) as exc_info:
        save_cells(images, tmp_path / "out")
    assert exc_info.value.parameter == "out"
    (tmp_path / "file").touch()
    with pytest.raises(InvalidArgument):
        save_cells(saved[1], tmp_path / "file")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_a_stack_that_changed_since_is_refused(tissue: tuple[NDArray[Any], NDArray[Any]], tmp_path: Path) -> None:
    predictions = _predictions(_write(tmp_path / "a", tissue))
    tifffile.imwrite(tmp_path / "a" / "K4_mask.tif", tissue[1][:, :-1], photometric="minisblack")
    with pytest.raises(FileError) as exc_info:
        save_cells(predictions, tmp_path / "out")
    assert exc_info.value.path == tmp_path / "a" / "K4_mask.tif"
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_command_writes_a_folder_with_a_page_and_prints_counts(
    tissue: tuple[NDArray[Any], NDArray[Any]], exported_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _write(tmp_path / "a", tissue)
    args = [tmp_path / "a", "--mask", "{stem}_mask.tif", "--model", exported_model]
    status, out, err = run_predict([*args, "--out", tmp_path / "K4", "--html"], capsys)
    assert status == 0, err
    assert out == f"{tmp_path / 'K4'}\n"
    rows = _table(tmp_path / "K4")
    assert err.startswith(f"{len(rows)} cells: ")
    assert "<canvas" in (tmp_path / "K4" / "overlay.html").read_text(encoding="utf-8")
    assert sorted(int(row["id"]) for row in rows) == np.unique(tissue[1])[1:].tolist()
    status, _, err = run_predict([*args, "--out", tmp_path / "cells.csv"], capsys)
    assert status == 0
    with (tmp_path / "cells.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [(row["id"], row["x"]) for row in table] == [(row["id"], row["x"]) for row in rows]
    before = sorted(path.name for path in tmp_path.iterdir())
    for wrong in (
        [*args, "--out", tmp_path / "a"],  # which has other files
        [*args, "--html"],
        [tmp_path / "a", "--mask", tmp_path / "a" / "K4_mask.tif", tmp_path / "a" / "K4.ome.tif"],
        [tmp_path / "a" / "cells.npz", "--out", tmp_path / "b"],
    ):
        assert run_predict([*wrong, "--model", exported_model], capsys)[0] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == before
