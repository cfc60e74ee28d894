"""The predictions of a run as GeoJSON: shapely reads it, and it joins with the mask and the table by the ids of the nuclei."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely.geometry

from nephros.annotation import run_geojson
from nephros.annotation.project import Project
from nephros.errors import IncompleteError
from nephros.escaping import escape_for_csv
from tests.annotation.conftest import write_stack
from tests.conftest import square_images

NAMES = ("<b>tubule</b>", "=SUM(A1)", 'glomérule, "quoted"')


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project of a few crops, which come first, and of a stack; its first class has a color of its own."""
    stack, mask, _ = write_stack(tmp_path, shape=(9, 80, 64))
    np.savez(tmp_path / "crops.npz", images=square_images(3, 3, 0)[0])
    project = Project.create(tmp_path / "kidney")
    project.add_cells(tmp_path / "crops.npz")
    project.add_cells(stack, mask=str(mask))
    for name in NAMES:
        project.labels.add_class(name)
    project.labels.recolor(0, "#123456")
    return project


def _export(project: Project, names: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    table, out = folder / "predictions.csv", folder / "predictions.geojson"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "class_name", "p_0"])
        writer.writerows(["cells.npz", escape_for_csv(name), 0.9] for name in names)
    project.close()
    monkeypatch.setattr(sys, "argv", ["run_geojson", str(project.root), str(table), str(out)])
    run_geojson.main()
    features: list[Any] = json.loads(out.read_text(encoding="utf-8"))["features"]
    return features


def test_outlines_join_with_mask_and_table(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids, n_cells = project.table.indices[3:], project.n_cells
    mask = write_stack(tmp_path, shape=(9, 80, 64))[2]
    names = [NAMES[cell % 3] for cell in range(n_cells)]
    features = _export(project, names, tmp_path, monkeypatch)
    assert {int(feature["properties"]["name"]) for feature in features} == set(np.unique(mask[mask > 0]).tolist())
    by_id = dict(zip(ids.tolist(), names[3:], strict=True))
    for feature in features:
        nucleus, outline = int(feature["properties"]["name"]), shapely.geometry.shape(feature["geometry"])
        assert feature["properties"]["classification"]["name"] == by_id[nucleus]
        assert outline.is_valid
        assert outline.area == (mask == nucleus).any(axis=0).sum()
    colors = {
        feature["properties"]["classification"]["name"]: feature["properties"]["classification"]["color"]
        for feature in features
    }
    assert colors[NAMES[0]] == [0x12, 0x34, 0x56]
    assert len({tuple(color) for color in colors.values()}) == len(NAMES)


def test_classes_that_were_renamed_or_merged_since_keep_the_names_of_the_run(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.labels.rename(0, "tubule")
    project.labels.merge(1, 2)
    names = [NAMES[cell % 2] for cell in range(project.n_cells)]
    features = _export(project, names, tmp_path, monkeypatch)
    assert len(features) == project.n_cells - 3
    assert {feature["properties"]["classification"]["name"] for feature in features} == set(NAMES[:2])


def test_nothing_is_written_where_no_nucleus_has_a_prediction(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(IncompleteError):
        _export(project, [""] * project.n_cells, tmp_path, monkeypatch)
    assert not (tmp_path / "predictions.geojson").exists()
