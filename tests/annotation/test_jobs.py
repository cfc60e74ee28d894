"""Fine-tuning and exports of a project as child processes: their progress, their end, and what is left of them."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nephros.annotation import job_commands
from nephros.annotation.export import MIN_LABELS_PER_CLASS
from nephros.annotation.job_commands import finetune_command, progress_after, readable_line
from nephros.annotation.jobs import JOB_FILE, FinetuneJobs, Job, _methods_of
from nephros.annotation.project import Project
from nephros.annotation.project_runs import ProjectRun
from nephros.errors import IncompatibleError, IncompleteError, InvalidArgument, UnknownName
from nephros.exporters.loading import load_classifier
from nephros.finetuning.choice import METHODS
from tests.annotation.model_project import make_project, nuclei, wait_until


def _labeled_project(root: Path, n_labels: int = 60) -> Project:
    images, classes = nuclei(80)
    project = make_project(root, images)
    project.labels.apply([(cell, int(classes[cell])) for cell in range(n_labels)], "Ann")
    return project


def _state(jobs: FinetuneJobs, job: Job) -> str:
    return next(other.state for other in jobs.jobs() if other.id == job.id)


def test_methods_are_those_of_finetuning() -> None:
    assert job_commands.METHODS == METHODS


def test_progress_grows_with_each_method_and_ignores_other_lines() -> None:
    progress = 0.0
    for method in METHODS:
        line = f"{method}: accuracy 0.812 in cross-validation (12 s)"
        assert progress_after("epoch 3: accuracy 0.5", METHODS, progress) == progress
        assert progress_after(line, METHODS, progress) > progress
        progress = progress_after(line, METHODS, progress)
        assert progress_after("head: accuracy 0.9 in cross-validation (1 s)", METHODS, progress) == progress
    assert progress == pytest.approx(0.85)
    assert progress_after("head: accuracy 0.9", ["head"], 0) == pytest.approx(0.85)
    assert progress_after("scratch: accuracy 0.9", ["head"], 0.3) == 0.3


@pytest.mark.parametrize(
    ("methods", "progress"),
    [
        ([], {"head": 0.04, "last-stage": 0.30, "network": 0.69, "scratch": 0.85}),
        (["network", "head"], {"head": 0.08, "network": 0.85}),
        (["self-training"], {"self-training": 0.85}),
    ],
)
def test_progress_counts_the_methods_that_are_compared_in_their_order(
    tmp_path: Path, methods: list[str], progress: dict[str, float]
) -> None:
    compared = _methods_of(finetune_command("nephros-distilled", tmp_path / "run-1", methods))
    assert compared == [*progress]
    for method, share in progress.items():
        assert progress_after(f"{method}: accuracy 0.8", compared, 0) == pytest.approx(share, abs=0.005)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("  scoring train\n", "scoring train"),
        ("report: /data/kidney/runs/a/report.html\n", "report: runs/a/report.html"),
        ("nephros: /data/kidney/runs/a.npz: 3 < 4 (/data/kidney2/b)\n", "runs/a.npz: 3 < 4 (/data/kidney2/b)"),
        ("\n", ""),
        ("┏━━━━━━━━┳━━━━━━━━━━┓\n", ""),
        ("│ head   │ 0.250    │\n", ""),
    ],
)
def test_messages_are_for_people_who_have_a_page_alone(line: str, text: str) -> None:
    assert readable_line(line, Path("/data/kidney")) == text


@pytest.mark.parametrize("name", ["../up", "a/b", "", " a", "a\n", "x" * 61, ".hidden", "a.", "é"])
def test_names_that_are_no_folder_are_refused(tmp_path: Path, name: str) -> None:
    jobs = FinetuneJobs(_labeled_project(tmp_path))
    with pytest.raises(InvalidArgument) as raised:
        jobs.start(name)
    assert raised.value.parameter == "name"
    assert jobs.jobs() == []
    assert not list(tmp_path.glob("kidney/jobs/*"))


def test_what_can_not_be_started(tmp_path: Path) -> None:
    project = _labeled_project(tmp_path, n_labels=0)
    jobs = FinetuneJobs(project)
    with pytest.raises(IncompleteError):
        jobs.start()
    project.labels.apply([(cell, cell % 2) for cell in range(2 * MIN_LABELS_PER_CLASS)], "Ann")
    project.labels.apply([(20, 2), (21, 2)], "Ann")
    with pytest.raises(IncompleteError, match=r"class 2 \(2\)\."):
        jobs.start()
    for methods in (["no-such-method"], ["head", "scratch,network"], ["head", "head"]):
        with pytest.raises(InvalidArgument) as raised:
            jobs.start(methods=methods)
        assert raised.value.parameter == "methods"
    assert jobs.jobs() == []
    for run, export_format in (("run-1", "onnx"), ("../jobs", "csv"), ("", "")):
        with pytest.raises(UnknownName):
            jobs.export(run, export_format)
        with pytest.raises(UnknownName):
            jobs.exported_file(run, export_format)
    with pytest.raises(UnknownName):
        jobs.cancel("finetune-1")
    assert jobs.runs() == []


@pytest.mark.parametrize("content", ["", "{", "[]", '{"id": "finetune-1"}', '{"id": "../x"}'])
def test_a_damaged_job_is_left_out(tmp_path: Path, content: str) -> None:
    project = _labeled_project(tmp_path)
    folder = project.path("jobs", "finetune-1")
    folder.mkdir(parents=True)
    (folder / JOB_FILE).write_text(content)
    assert FinetuneJobs(project).jobs() == []


def test_a_job_whose_server_ended_is_interrupted(tmp_path: Path) -> None:
    project = _labeled_project(tmp_path)
    job = Job("finetune-4", "finetune", "mine", "running", 0.3, "head: accuracy", "2026-11-26T08:00:00+00:00")
    folder, run = project.path("jobs", job.id), project.path("runs", "mine")
    folder.mkdir(parents=True)
    run.mkdir(parents=True)
    (run / "recipe.yaml").write_text("half a run")
    (folder / JOB_FILE).write_text(json.dumps(dataclasses.asdict(job)))
    jobs = FinetuneJobs(project)
    assert [other.state for other in jobs.jobs()] == ["interrupted"]
    assert not run.exists()
    assert json.loads((folder / JOB_FILE).read_text())["state"] == "interrupted"
    assert [other.state for other in FinetuneJobs(project).jobs()] == ["interrupted"]


def test_a_folder_that_a_killed_server_left_without_a_job_keeps_its_number(tmp_path: Path) -> None:
    project = _labeled_project(tmp_path)
    project.path("jobs", "finetune-3").mkdir(parents=True)
    jobs = FinetuneJobs(project)
    assert jobs.jobs() == []
    assert jobs._new_job("finetune", "run-1").id == "finetune-4"
    assert jobs._new_job("export", "run-1", "csv").id == "export-5"


def test_a_server_that_is_killed_while_training_data_is_written_leaves_an_interrupted_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = _labeled_project(tmp_path)
    jobs_after_kill: list[Job] = []

    def write_and_look(project: Project, out: Path) -> None:
        out.parent.mkdir()
        out.write_bytes(b"training data")
        jobs_after_kill.extend(FinetuneJobs(project).jobs())  # as the next server finds them
        assert not out.exists()
        raise IncompleteError("This server ends.")

    monkeypatch.setattr("nephros.annotation.jobs.write_training_data", write_and_look)
    with pytest.raises(IncompleteError):
        FinetuneJobs(project).start("mine")
    assert [(job.id, job.run, job.state) for job in jobs_after_kill] == [("finetune-1", "mine", "interrupted")]


@pytest.mark.parametrize(("ends_by", "state"), [("cancel", "canceled"), ("close", "interrupted")])
def test_a_job_that_is_stopped_while_its_files_are_written_is_not_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends_by: str, state: str
) -> None:
    project = _labeled_project(tmp_path)
    jobs = FinetuneJobs(project)

    def write_and_stop(_: Project, out: Path) -> None:
        jobs.cancel("finetune-1") if ends_by == "cancel" else jobs.close()
        with pytest.raises(InvalidArgument):
            jobs.start("mine")  # its name is not free before its files are gone
        out.parent.mkdir()
        out.write_bytes(b"training data")

    monkeypatch.setattr("nephros.annotation.jobs.write_training_data", write_and_stop)
    assert jobs.start("mine").state == state
    assert [job.state for job in jobs.jobs()] == [state]
    assert json.loads(project.path("jobs", "finetune-1", JOB_FILE).read_text())["state"] == state
    assert jobs._threads == []
    assert not list(project.path("runs").iterdir())


def test_a_job_of_closed_jobs_is_interrupted(tmp_path: Path) -> None:
    jobs = FinetuneJobs(_labeled_project(tmp_path))
    jobs.close()
    assert jobs.start().state == "interrupted"
    assert jobs._threads == []


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("damaged")])
def test_a_job_whose_files_can_not_be_written_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    project = _labeled_project(tmp_path)
    jobs = FinetuneJobs(project)
    events: list[Job] = []
    jobs.add_listener(events.append)

    def refuse(*_: object, **__: object) -> None:
        raise error

    run = ProjectRun("run-1", project.path("runs", "run-1"), "", "head", None, 60)
    run.path.mkdir(parents=True)
    monkeypatch.setattr(jobs, "_check_run", lambda _: run)
    monkeypatch.setattr("nephros.annotation.jobs.write_training_data", refuse)
    monkeypatch.setattr("nephros.annotation.jobs.np.savez", refuse)
    with pytest.raises(type(error)):
        jobs.start()
    with pytest.raises(type(error)):
        jobs.export("run-1", "csv")
    assert [(job.kind, job.state) for job in jobs.jobs()] == [("finetune", "failed"), ("export", "failed")]
    assert all(str(error) == job.message for job in jobs.jobs())
    assert [event.state for event in events] == ["failed", "failed"]
    assert not list(project.path("jobs").glob("*/cells.npz"))
    assert [other.state for other in FinetuneJobs(project).jobs()] == ["failed", "failed"]


@pytest.mark.slow
def test_from_labels_to_a_run_and_its_exports(tmp_path: Path) -> None:
    project = _labeled_project(tmp_path)
    jobs = FinetuneJobs(project)
    events: list[Job] = []
    jobs.add_listener(events.append)
    job = jobs.start("Kidney 1", methods=["head"])
    with pytest.raises(InvalidArgument):
        jobs.start("kidney 1")
    wait_until(lambda: _state(jobs, job) not in ("queued", "running"))
    assert _state(jobs, job) == "done", jobs.jobs()
    progress = [event.progress for event in events if event.progress is not None]
    assert progress == sorted(progress)
    assert {0.0, 0.85, 1.0} <= set(progress)
    (run,) = jobs.runs()
    assert (run.name, run.method, run.n_labels) == ("Kidney 1", "head", 60)
    assert run.accuracy is not None
    assert (run.path / "report.html").is_file()
    with pytest.raises(InvalidArgument):
        jobs.start("kidney 1")
    with pytest.raises(IncompatibleError):
        jobs.export(run.name, "geojson")
    assert jobs.exported_file(run.name, "csv") is None
    exports = [jobs.export(run.name, export_format) for export_format in ("csv", "onnx")]
    wait_until(lambda: all(_state(jobs, other) not in ("queued", "running") for other in exports))
    assert [_state(jobs, other) for other in exports] == ["done", "done"], jobs.jobs()
    table, model = jobs.exported_file(run.name, "csv"), jobs.exported_file(run.name, "onnx")
    assert table is not None
    assert model is not None
    with table.open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == 80
    assert set(load_classifier(model).class_names) == {"class 0", "class 1", "class 2"}
    jobs.close()
    assert [other.state for other in FinetuneJobs(project).jobs()] == ["done"] * 3
    assert not list(project.path("jobs").glob("*/cells.npz"))


@pytest.mark.slow
def test_a_job_that_fails_says_why_and_one_that_is_canceled_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = _labeled_project(tmp_path)
    jobs = FinetuneJobs(project)
    with monkeypatch.context() as patch:
        patch.setattr("nephros.annotation.jobs.finetune_command", lambda *_: ["nephros", "finetune", "absent.npz"])
        failing = jobs.start()
    wait_until(lambda: _state(jobs, failing) == "failed")
    assert "absent.npz" in jobs.jobs()[0].message
    running, waiting = jobs.start("first"), [jobs.start(), jobs.start()]
    wait_until(lambda: _state(jobs, running) == "running")
    process = jobs._processes[running.id]
    for job in (running, *waiting):
        jobs.cancel(job.id)
    assert process.poll() is not None
    assert [job.state for job in jobs.jobs()] == ["failed", "canceled", "canceled", "canceled"]
    jobs.close()
    assert not list(project.path("runs").glob("*"))
    jobs.cancel(running.id)  # it has ended: nothing happens
    assert _state(jobs, running) == "canceled"


@pytest.mark.slow
def test_a_child_ends_when_its_server_is_gone() -> None:
    read_end, write_end = os.pipe()
    module = [sys.executable, "-m", "nephros.annotation.job_process", "http.server", "0", "--bind", "127.0.0.1"]
    with subprocess.Popen(module, stdin=read_end, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        os.close(read_end)
        assert process.poll() is None
        os.close(write_end)
        process.wait(timeout=600)
    assert process.returncode == 1
