"""Labels are saved whatever else the server does; where they can't be, the response is one after which pages try again."""

from __future__ import annotations

import contextlib
import sqlite3
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
TINY_DISK = """
from nephros.annotation import label_database
label_database.LOCK_TIMEOUT_S = 0.2
prepare = label_database._prepare
def prepare_without_room(connection):
    prepare(connection)
    n_pages = connection.execute('pragma page_count').fetchone()[0]
    connection.execute(f'pragma max_page_count = {n_pages}')
label_database._prepare = prepare_without_room
"""
"""The file of labels can't grow."""


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


def test_labels_that_can_not_be_saved_now_are_not_refused_for_good(exported_model: Path, tmp_path: Path) -> None:
    root = make_project(tmp_path / "kidney", exported_model)
    arguments = ["--model", exported_model, "--reference-data", "none", "--project", root]
    changes = [{"cell": cell, "class": 0} for cell in range(N_CELLS)]
    with run_server(arguments, TINY_DISK) as server:
        client = ProjectClient(server)
        with contextlib.closing(sqlite3.connect(root / "labels.sqlite", isolation_level=None)) as other_program:
            other_program.execute("begin immediate")
            status, error = client.send("POST", "/project/labels", {"annotator": "ann", "changes": changes[:1]})
            assert (status, "locked" in error["error"]) == (503, True), error
        status, error = client.send("POST", "/project/labels", {"annotator": "a" * 80, "changes": changes})
        assert status == 507
        assert error == {"error": "Labels can't be saved to labels.sqlite: the disk is full; free some space."}
        assert client.get("/project")["seq"] == 0
        assert client.label("ann", {0: 0})["seq"] == 1
