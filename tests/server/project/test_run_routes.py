"""Jobs and runs of a project: fine-tuning is started and stopped, a report can't reach the server, and exports are files."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import get_args

import pytest

from nephros.annotation.job_commands import METHODS
from nephros.annotation.project_runs import EXPORT_FILES, EXPORTS_FOLDER
from nephros.runs import RunFolder
from nephros.server.project.schemas import FinetuneMethod
from tests.server.live_server import run_server
from tests.server.project.conftest import make_project
from tests.server.project.project_client import ProjectClient


@pytest.mark.slow
def test_fine_tuning_starts_reports_and_can_be_stopped(client: ProjectClient) -> None:
    client.label("tuner", {i: i % 2 for i in range(28, 40)})
    with client.events() as events:
        next(events)
        status, started = client.send("POST", "/project/finetune", {"name": "first"})
        assert (status, started["job"]["kind"], started["job"]["run"]) == (202, "finetune", "first")
        job_id = started["job"]["id"]
        assert job_id in {job["id"] for job in client.get("/project/jobs")}
        assert client.send("POST", "/project/finetune", {"name": "first"})[0] == 400
        assert client.send("POST", "/project/finetune", {"name": "../x"})[0] == 400
        assert client.send("POST", "/project/finetune", {"methods": ["head", "head"]})[0] == 400
        no_methods: tuple[object, ...] = ([], ["none"], ["head,scratch"], "head", ["HEAD"], [1], {})
        for methods in no_methods:
            assert client.send("POST", "/project/finetune", {"methods": methods})[0] == 422
        stopped = client.change("DELETE", f"/project/jobs/{job_id}")
        assert stopped["job"]["state"] == "canceled"
        while True:
            name, data = next(events)
            if name == "job" and data["id"] == job_id and data["state"] == "canceled":
                break
    assert client.get("/project/runs") == []
    assert client.server.request("GET", "/project/runs/first/report")[0] == 404


def test_methods_of_requests_are_those_of_jobs() -> None:
    assert get_args(FinetuneMethod) == METHODS


def test_jobs_and_runs_that_do_not_exist_are_not_found(client: ProjectClient) -> None:
    assert client.send("DELETE", "/project/jobs/finetune-999")[0] == 404
    assert client.server.request("GET", "/project/runs/none/report")[0] == 404
    assert client.server.request("GET", "/project/runs/none/export/onnx")[0] == 404
    assert client.send("POST", "/project/runs/none/export/onnx")[0] == 404
    assert client.server.request("GET", "/project/runs/none/export/pt")[0] == 422


@pytest.mark.slow
def test_a_run_has_a_sandboxed_report_and_exports(run_folder: RunFolder, exported_model: Path, tmp_path: Path) -> None:
    root = make_project(tmp_path / "kidney", exported_model)
    shutil.copytree(run_folder.root, root / "runs" / "copied")
    (root / "runs" / "copied" / "report.html").write_text("<script>alert(1)</script>")
    with run_server(["--model", exported_model, "--reference-data", "none", "--project", root]) as server:
        client = ProjectClient(server)
        (run,) = client.get("/project/runs")
        assert run["name"] == "copied"
        status, headers, body = server.request("GET", "/project/runs/copied/report")
        assert (status, body) == (200, b"<script>alert(1)</script>")
        policy = headers["content-security-policy"]
        assert policy.startswith("sandbox allow-scripts")
        assert "allow-same-origin" not in policy
        assert "connect-src" not in policy
        assert "default-src 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert server.request("GET", "/project/runs/copied/export/onnx")[0] == 404
        target = root / "runs" / "copied" / EXPORTS_FOLDER / EXPORT_FILES["onnx"]
        target.parent.mkdir()
        shutil.copy(exported_model, target)
        status, headers, body = server.request("GET", "/project/runs/copied/export/onnx")
        assert (status, headers["content-disposition"]) == (200, 'attachment; filename="copied.onnx"')
        assert body == exported_model.read_bytes()
