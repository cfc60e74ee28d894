"""GeoJSON that the page sends: a file for one stack, a zip archive of a file each for several."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

from nephros.annotation.project import Project
from tests.annotation.conftest import write_stack
from tests.server.live_server import run_server


def test_stacks_have_a_file_each(exported_model: Path, tmp_path: Path) -> None:
    stacks = [write_stack(tmp_path, name, (9, 80, 64), seed=seed)[0] for seed, name in enumerate(("K4", "K5"))]
    project = Project.create(tmp_path / "kidney", model=exported_model)
    project.add_cells(stacks, mask="{stem}_mask.tif")
    project.labels.add_class("tubule")
    project.labels.apply([(0, 0)], "ann")
    last = project.n_cells - 1
    with run_server(["--model", exported_model, "--reference-data", "none", "--project", project.root]) as server:
        status, headers, content = server.request("GET", "/project/labels.geojson")
        assert (status, headers["content-type"]) == (200, "application/geo+json")
        assert headers["content-disposition"] == 'attachment; filename="kidney.geojson"'
        assert len(json.loads(content)["features"]) == 1
        project.labels.apply([(last, 0)], "ann")
        status, headers, content = server.request("GET", "/project/labels.geojson")
        assert (status, headers["content-type"]) == (200, "application/zip")
        assert headers["content-disposition"] == 'attachment; filename="kidney.geojson.zip"'
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            assert archive.namelist() == ["K4.geojson", "K5.geojson"]
            assert [len(json.loads(archive.read(name))["features"]) for name in archive.namelist()] == [1, 1]
    project.close()
