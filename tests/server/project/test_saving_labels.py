"""Labels are saved whatever else the server does meanwhile."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.conftest import square_images
from tests.server.live_server import encode_image, run_server
from tests.server.project.conftest import N_CELLS, make_project
from tests.server.project.project_client import ProjectClient

pytestmark = pytest.mark.slow
WAITING_IMPORTS = """
import time
from nephros.annotation import project
add_cells = project.add_cells
def add_when_allowed(root, *args, **options):
    while not (root / 'go').exists():
        time.sleep(0.01)
    return add_cells(root, *args, **options)
project.add_cells = add_when_allowed
"""
"""Makes each import as slow as the segmentation of a stack, until the project has a file `go`."""


def test_a_label_does_not_wait_for_imports(exported_model: Path, tmp_path: Path) -> None:
    root = make_project(tmp_path / "kidney", exported_model)
    images = [encode_image(image) for image in square_images(3, 4, 77)[0]]
    arguments = ["--model", exported_model, "--reference-data", "none", "--project", root]
    with run_server(arguments, WAITING_IMPORTS) as server:
        client = ProjectClient(server)
        (root / "go").touch()
        status, response = client.upload("/project/cells", [("c.png", images[2])])
        assert (status, response["n_added"]) == (200, 1), response
        (root / "go").unlink()
        jobs = []
        for file in (("K4.czi", b"no stack"), ("a.png", images[0]), ("b.png", images[1])):
            status, response = client.upload("/project/cells", [file])
            assert status == 202, response
            jobs.append(response["job"]["id"])
        saved = client.label("ann", {0: 0, 1: 1})
        assert client.get("/project")["seq"] == saved["seq"]
        client.change("DELETE", f"/project/jobs/{jobs[1]}")
        (root / "go").touch()
        assert _final_states(client, jobs) == ["failed", "canceled", "done"]
        assert client.get("/project")["n_cells"] == N_CELLS + 2


def _final_states(client: ProjectClient, jobs: list[str]) -> list[str]:
    while True:
        states = {job["id"]: job["state"] for job in client.get("/project/jobs")}
        if not {states[job] for job in jobs} & {"queued", "running"}:
            return [states[job] for job in jobs]
        time.sleep(0.02)
