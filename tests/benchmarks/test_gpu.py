"""The script for a machine with one GPU: jobs and deadlines, what is left to do, what comes home, and a dry run on the CPU."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.common import build_parser, parse_config
from benchmarks.gpu import networks
from benchmarks.gpu.__main__ import main, read_stages, waits_for_parts
from benchmarks.gpu.draws import draw_folder, missing_cells, rows_so_far
from benchmarks.gpu.home import MANIFEST, kept_files, pack, unpack
from benchmarks.gpu.job import GPU_TESTS, probe
from benchmarks.gpu.jobs import Job, end_jobs, run_jobs
from benchmarks.gpu.merge import RECORD, merge, merge_record, merge_records
from benchmarks.gpu.networks import (
    NETWORKS,
    command_of,
    epochs_that_fit,
    first_epochs,
    is_complete,
    quick_recipe,
    train_one,
)
from benchmarks.gpu.parts import join_parts, split_file
from benchmarks.gpu.sharing import CONTROL, shared_gpu
from benchmarks.gpu.stages import STAGES, Setting, group_deadlines, groups, stage_jobs
from nephros.escaping import without_folders
from nephros.experiments.transfer import TransferRow, transfer_tasks
from nephros.models import MODELS
from nephros.presets import RECIPES
from nephros.recipe_io import get_recipe, override_fields
from nephros.training.lr_schedule import LRSchedule
from nephros.workflows.transfer import read_rows, write_rows
from tests.conftest import squares_dataset, write_npz

ROOT = Path(__file__).parents[2]
_WIDE = "runs/frontier/wide-128"
Capture = pytest.CaptureFixture[str]


def _job(name: str, code: str, *, after: Path | None = None, is_draw: bool = False, seconds: float = 600.0) -> Job:
    def command(_: float) -> list[str]:
        return [sys.executable, "-c", code]

    return Job(name, command, lambda: after is None or after.exists(), time.monotonic() + seconds, is_draw)


def _rows(cell: tuple[str, int, int], accuracy: float = 0.5) -> list[TransferRow]:
    return [TransferRow(*cell, method, accuracy, 0.5, 1.0) for method in ("head", "finetune")]


def test_a_job_begins_after_the_one_that_it_waits_for(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    jobs = [
        _job("student", f"assert open({str(file)!r}).read() == 'done'", after=file),
        _job("teacher", f"import os; p = {str(file)!r}; open(p + '~', 'w').write('done'); os.rename(p + '~', p)"),
    ]  # fmt: skip
    run_jobs(jobs, tmp_path, workers=1)
    assert [job.state for job in jobs] == ["done", "done"]


def test_the_deadline_ends_what_runs_and_draws_fill_the_workers_that_are_left(tmp_path: Path, capsys: Capture) -> None:
    jobs = [_job(f"draw-{i}", "import time; time.sleep(3600)", is_draw=True, seconds=1) for i in range(3)]
    jobs.append(_job("network", "print('here')"))
    jobs.append(_job("too late", "print('here')"))
    jobs[-1].min_seconds = 601
    saves = []
    run_jobs(jobs, tmp_path, workers=2, save=lambda: saves.append(1))
    assert [jobs[i].state for i in (0, 2, 3, 4)] == ["cut", "waiting", "done", "waiting"]
    assert (tmp_path / "network.log").read_text() == "here\n"
    assert saves == [1]
    events = [line.split(maxsplit=1)[1] for line in capsys.readouterr().out.splitlines()]
    assert sum("begins" in event for event in events) == sum(" after " in event for event in events) >= 2
    assert any(event.startswith("draw-0: cut after") for event in events)


def test_a_job_that_fails_begins_again_as_often_as_it_may(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "tried"
    fails_once = f"import pathlib; p = pathlib.Path({str(file)!r}); e = p.exists(); p.touch(); assert e, 'a fault'"
    jobs = [_job("source", fails_once), _job("broken", "raise SystemExit('no GPU')"), _job("tests", "1 / 0")]
    jobs[0].max_starts = jobs[1].max_starts = 2
    run_jobs(jobs, tmp_path, workers=2)
    assert [(job.state, job.n_starts) for job in jobs] == [("done", 2), ("exit code 1", 2), ("exit code 1", 1)]
    lines = capsys.readouterr().out.splitlines()
    assert sum("source begins" in line for line in lines) == 2
    assert "AssertionError: a fault" in lines
    assert lines.count("no GPU") == 3  # the second end shows the first one's line, too


def test_draws_begin_only_where_one_could_end_by_those_that_did(tmp_path: Path) -> None:
    jobs = [_job(f"draw-{i}", "import time; time.sleep(2)", is_draw=True, seconds=9 if i == 0 else 3) for i in range(3)]
    jobs[0].min_seconds = 8.0
    run_jobs(jobs, tmp_path, workers=1)
    assert [job.state for job in jobs] == ["done", "waiting", "waiting"]
    assert jobs[1].min_seconds == pytest.approx(0.9 * jobs[0].seconds)


def test_a_job_of_several_draws_tells_how_long_one_takes(tmp_path: Path) -> None:
    jobs = [_job("draws", "", is_draw=True), _job("later", "", after=tmp_path / "weights", is_draw=True)]
    jobs[0].n_parts = 5
    run_jobs(jobs, tmp_path, workers=2)
    assert jobs[1].min_seconds == pytest.approx(0.9 * jobs[0].seconds / 5)


def test_jobs_are_asked_to_end_together_and_saving_may_fail(tmp_path: Path) -> None:
    code = "import time\ntry:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    time.sleep(1.5); print('ended')"
    handler = (
        "import signal; from benchmarks.gpu.job import interrupt; signal.signal(signal.SIGTERM, interrupt); print()\n"
    )
    jobs = [_job(str(i), handler + code) for i in range(3)]
    for job in jobs:
        job.begin(tmp_path / job.name)
    while not all((tmp_path / job.name).stat().st_size for job in jobs):
        time.sleep(0.1)
    start = time.monotonic()
    end_jobs(jobs)
    assert time.monotonic() - start < 4  # and not three times as long
    assert [(tmp_path / job.name).read_text() for job in jobs] == ["\nended\n"] * 3
    done = _job("done", "")
    run_jobs([done], tmp_path, workers=1, save=lambda: 1 / 0)
    assert done.state == "done"


@pytest.mark.parametrize("works", [[True], [False, True], [False, False]])
def test_a_service_that_does_not_work_is_stopped(
    works: list[bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = tmp_path / "calls"
    program = tmp_path / CONTROL
    program.write_text(f'#!/bin/sh\necho "$@" "$CUDA_MPS_PIPE_DIRECTORY" >> {calls}\n[ "$1" = -d ] || cat >> {calls}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    tries: list[bool] = []

    def try_out() -> bool:
        tries.append("CUDA_MPS_PIPE_DIRECTORY" in os.environ)
        return works[len(tries) - 1]

    if not any(works):
        with pytest.raises(RuntimeError), shared_gpu(try_out):
            pass
    else:
        with shared_gpu(try_out) as is_shared:
            assert is_shared == works[0] == ("CUDA_MPS_PIPE_DIRECTORY" in os.environ)
    assert tries == [True, False][: len(works)]
    assert "CUDA_MPS_PIPE_DIRECTORY" not in os.environ
    first, second, third = calls.read_text().splitlines()
    assert first.startswith("-d /")
    assert (second.strip(), third) == (first.removeprefix("-d "), "quit")


def test_a_probe_says_how_fast_one_job_is(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr(networks, "measure_rate", lambda *_: 165_466 / 6)
    probe("cpu")
    assert capsys.readouterr().out.endswith("27,578 images/s with nothing beside it, which is 6.0 s per epoch\n")
    assert (ROOT / GPU_TESTS[0]).is_file()


def test_the_plan_says_what_is_done_in_which_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    for variable in ("NEPHROS_DATA", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    (tmp_path / "cells").write_bytes(bytes(100))
    split_file(tmp_path / "cells", tmp_path / "parts", 60)
    (tmp_path / "parts/cells.001").unlink()
    options = ["--runs", str(tmp_path / "runs"), "--parts", str(tmp_path / "parts"), "--minutes", "8"]
    options += ["--workers", "14"]
    options += ["--stages", "tests,transfer,seeds,rates", "--tasks", "rare-nephros", "frequent-nephros", "--plan"]
    monkeypatch.setattr(sys, "argv", ["gpu", *options, "--draws", str(tmp_path / "none.csv")])
    main()
    assert capsys.readouterr().out.splitlines() == [
        f"8 minutes, 14 jobs at a time, in {tmp_path / 'runs'}; tissuemnist is waited for: cells.001.",
        "Side by side, until 5.0 min:",
        "  tests (at most 2 min): tests",
        "  transfer: source-rare-nephros, source-frequent-nephros, 60 draws as workers become free: rare-nephros-10, "
        "frequent-nephros-500 last",
        "  seeds: nephros-0, nephros-1, nephros-2",
        "Alone, one after another, until 8.0 min:",
        "  rates: recorded_steps, machine_share, mixed_precision",
    ]
    assert not (tmp_path / "runs").exists()


def test_jobs_that_can_never_begin_are_not_waited_for(tmp_path: Path) -> None:
    jobs = [_job("source", "raise SystemExit(3)"), _job("draw", "", after=tmp_path / "weights", is_draw=True)]
    start = time.monotonic()
    run_jobs(jobs, tmp_path, workers=2)
    assert [job.state for job in jobs] == ["exit code 3", "waiting"]
    assert time.monotonic() - start < 60


def test_stages_are_limited_and_rates_run_alone() -> None:
    stages = read_stages("rates,student,transfer=6")
    assert [(stage.name, stage.minutes) for stage in stages] == [("transfer", 6.0), ("student", None), ("rates", 3.0)]
    grouped = groups(stages)
    assert [[stage.name for stage in group] for group in grouped] == [["transfer", "student"], ["rates"]]
    assert group_deadlines(grouped, 1000.0) == [820.0, 1000.0]
    assert [*STAGES][-1] == "rates"
    with pytest.raises(ValueError, match="sudent is no stage"):
        read_stages("sudent")


def test_every_network_is_a_recipe_of_ours_and_in_a_stage() -> None:
    for name, network in NETWORKS.items():
        recipe = override_fields(get_recipe(network.recipe), network.overrides)
        assert bool(recipe.distillation_weight) == bool(network.teachers), name
        assert recipe.model.network in MODELS
        assert (quick_recipe(network).epochs, quick_recipe(network).amp) == (1, "off")
    assert sorted(name for stage in STAGES.values() for name in stage.networks) == sorted(NETWORKS)


def test_first_epochs_have_the_rates_of_the_whole_recipe() -> None:
    whole = RECIPES["medmnist-resnet18"]
    for epochs in (6, 60):
        first = first_epochs(whole, epochs)
        schedules = [LRSchedule(recipe.schedule, recipe.epochs) for recipe in (first, whole)]
        rates = [[schedule.multiplier(epoch, 0.5) for epoch in range(epochs)] for schedule in schedules]
        assert rates[0] == rates[1]
    command = command_of(
        NETWORKS["medmnist-resnet18-0"], dataclasses.replace(first_epochs(whole, 60), amp="bf16"), [], "cuda"
    )
    assert f"--schedule.milestones [{50 / 60}] --epochs 60 --amp bf16 --out runs/gpu/" in command
    assert first_epochs(whole, 100) == whole


@pytest.mark.parametrize(("seconds", "epochs"), [(-5, 1), (25 * (1.6 * 10 + 1.5), 25), (10_000, 60)])
def test_epochs_are_those_that_fit(seconds: float, epochs: int) -> None:
    assert epochs_that_fit(100.0, 1000, seconds, 60) == epochs


def test_the_draws_of_a_source_without_any_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEPHROS_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    write_npz(tmp_path / "breastmnist.npz", squares_dataset(n=100, classes=2))
    done = [("rare-nephros-fast", 10, 0)]
    cells = missing_cells(transfer_tasks(), done)
    assert cells[:3] == [("rare-nephros", 10, 0), ("frequent-nephros", 10, 0), ("rare-nephros", 20, 0)]
    assert cells[12] == ("rare-nephros", 10, 1)
    assert {size for key, size, _ in cells if key == "breast-nephros-fast"} == {10, 20}
    assert not any("pneumonia" in key for key, _, _ in cells)
    assert cells[-1] == ("frequent-nephros-fast", 500, 4)
    assert done[0] not in cells
    assert len(cells) == 60 + 2 * 10 + 60 + 59
    known = cells.index(("known-rare-nephros-fast", 10, 0))
    assert known > cells.index(("frequent-nephros", 500, 4))


def test_data_is_put_together_once_its_parts_are_there(tmp_path: Path) -> None:
    file, folder = tmp_path / "cells.npz", tmp_path / "parts"
    file.write_bytes(bytes(range(256)) * 10)
    parts = split_file(file, folder, 1000)
    assert [part.stat().st_size for part in parts] == [1000, 1000, 560]
    setting = Setting(tmp_path, str(folder / "cells.npz"), "cpu", True)
    content = parts[1].read_bytes()
    parts[1].write_bytes(content[:10])
    assert waits_for_parts(folder, setting)
    parts[1].write_bytes(bytes(1000))  # as it may be while it is written
    assert waits_for_parts(folder, setting)
    assert not (folder / "cells.npz").exists()
    parts[1].write_bytes(content)
    assert not waits_for_parts(folder, setting)
    assert (folder / "cells.npz").read_bytes() == file.read_bytes()
    parts[1].write_bytes(content[::-1])
    with pytest.raises(ValueError, match="send them again"):
        join_parts(folder, tmp_path / "elsewhere")


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_what_comes_home_is_the_same_there(tmp_path: Path) -> None:
    runs, home, back = tmp_path / "runs", tmp_path / "home", tmp_path / "back"
    _write(runs / "gpu/a/weights.safetensors", b"w" * 5000)
    _write(runs / "gpu/a/checkpoint.pt", b"of a run with weights")
    _write(runs / "nephros/b/checkpoint.pt", b"c" * 5000)
    _write(runs / "nephros/c/checkpoint.pt", b"too large" * 9000)
    _write(runs / "logs/b.log", b"text")
    assert len([*kept_files(runs)]) == 4
    manifest = pack(runs, home, archive_bytes=18_000)
    assert manifest["left_out"] == ["nephros/c/checkpoint.pt"]
    assert {entry["archive"] for entry in manifest["files"].values()} == {"archive-0.tar.gz", "archive-1.tar.gz"}
    names = ["gpu/a/weights.safetensors", "logs/b.log", "nephros/b/checkpoint.pt"]
    assert sorted(unpack(home, back)) == names
    assert unpack(home, back) == []
    assert all((back / name).read_bytes() == (runs / name).read_bytes() for name in names)
    damaged = json.loads((home / MANIFEST).read_text())
    damaged["files"]["logs/b.log"]["sha256"] = "0" * 64
    (home / MANIFEST).write_text(json.dumps(damaged))
    with pytest.raises(ValueError, match=r"logs/b\.log"):
        unpack(home, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_run_that_can_not_be_read_comes_home(tmp_path: Path) -> None:
    _write(tmp_path / "runs/gpu/a/run.json", b"{")
    manifest = pack(tmp_path / "runs", tmp_path / "home")
    assert [*manifest["runs"]["gpu/a"]] == ["error"]
    assert unpack(tmp_path / "home", tmp_path / "back") == ["gpu/a/run.json"]


def test_draws_and_records_are_added_to_those_that_are_there(tmp_path: Path) -> None:
    old, new = ("rare-nephros-fast", 20, 0), ("rare-nephros", 10, 0)
    tables, runs = tmp_path / "tables", tmp_path / "there"
    write_rows(tables / "transfer-draws.csv", _rows(old, 0.6))
    for cell in (old, new):
        write_rows(draw_folder(runs, *cell[:2]) / "transfer/rows.csv", _rows(cell))
    assert {row.cell for row in rows_so_far(runs, None)} == {old, new}
    pack(runs, tmp_path / "home")
    for _ in range(2):
        merge(tmp_path / "home", tmp_path / "runs", tables, tmp_path / "records")
    assert read_rows(tables / "transfer-draws.csv") == [*_rows(old, 0.6), *_rows(new)]
    assert read_rows(tmp_path / "runs/transfer/rows.csv") == [*_rows(old, 0.6), *_rows(new)]
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    first.write_text('[{"created": 1}, {"created": 2}]')
    second.write_text('[{"created": 2}, {"created": 3}]')
    merge_records(second, first)
    assert json.loads(first.read_text()) == [{"created": 1}, {"created": 2}, {"created": 3}]


def test_records_name_no_folder_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = '{"path": "/srv/data/cells.npz", "run": "/tmp/gpu/frontier/wide-128", "command": "nephros train nephros"}'
    expected = '{"path": "cells.npz", "run": "wide-128", "command": "nephros train nephros"}'
    for name in RECORD:
        _write(tmp_path / "run" / name, record.encode())
    monkeypatch.setattr("benchmarks.gpu.merge.is_complete", lambda _: True)
    merge_record(tmp_path / "run", tmp_path / "record")
    assert [(tmp_path / "record" / name).read_text() for name in RECORD] == [expected] * len(RECORD)
    for file in (ROOT / "results").rglob("*.json"):
        text = file.read_text(encoding="utf-8")
        assert without_folders(text) == text, file


def test_a_student_is_taught_by_what_is_complete_and_resumed_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[dict[str, Any]] = []
    monkeypatch.setattr(
        networks, "train", lambda recipe, data, **options: trained.append({"recipe": recipe, **options})
    )
    monkeypatch.setattr(networks, "measure_rate", lambda *_: 240.0)
    monkeypatch.setattr(networks, "load_dataset", lambda _: squares_dataset(n=2400))
    monkeypatch.setattr(networks, "is_complete", lambda run: run.name == "wide-128")
    train_one("second-64", tmp_path, "tissuemnist", "cpu", 115 + 17.5 * 7.9, quick=False)
    train_one("student-128", tmp_path, "tissuemnist", "cpu", 1e6, quick=False)
    train_one("nephros-1", tmp_path, "tissuemnist", "cpu", 1.0, quick=False)
    first, second, seed = trained
    assert (first["teachers"], first["init"]) == (["nephros-large"], "nephros-distilled")
    assert (first["recipe"].epochs, first["recipe"].batch_size, first["recipe"].optimizer.lr) == (7, 512, 0.02)
    assert first["out"] == tmp_path / "frontier/second-64"
    assert (second["teachers"], second["init"]) == ([tmp_path / "frontier/wide-128"], tmp_path / "frontier/wide-128")
    assert second["recipe"].epochs == RECIPES["nephros-large"].epochs
    assert seed["recipe"] == dataclasses.replace(RECIPES["nephros"], seed=1)
    assert seed["test"] is True
    assert not first["test"]
    commands = [options["command"] for options in trained[1:]]
    assert commands == [
        f"nephros train nephros-large --batch_size 512 --distillation_weight 0.8 --seed 22 --teachers {_WIDE} --init {_WIDE} "
        "--out runs/frontier/student-128 --device cpu",
        "nephros train nephros --seed 1 --out runs/nephros/nephros-1 --device cpu --test",
    ]


@pytest.mark.parametrize("quick", [False, True])
def test_rates_are_measured_by_commands_that_the_benchmarks_take(quick: bool, tmp_path: Path) -> None:
    setting = Setting(tmp_path, "tissuemnist", "cpu", quick)
    for job in stage_jobs(STAGES["rates"], setting, time.monotonic()):
        _, _, module, *args = job.command(0.0)
        config = parse_config(build_parser(""), module, args)
        assert (config.quick, config.save) == (quick, None if quick else tmp_path / "records")


@pytest.mark.slow
def test_a_dry_run_on_the_cpu_trains_draws_and_comes_home(tmp_path: Path) -> None:
    data = write_npz(tmp_path / "cells.npz", squares_dataset(n=200, classes=8))
    options = ["--runs", str(tmp_path / "runs"), "--data", str(data), "--device", "cpu", "--quick", "--minutes", "9"]
    options += ["--stages", "transfer,student", "--tasks", "rare-nephros-fast", "--workers", "2"]
    command = [sys.executable, "-m", "benchmarks.gpu", *options, "--draws", str(tmp_path / "none.csv")]
    completed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=560, check=False)
    logs = "\n".join(file.read_text()[-2000:] for file in (tmp_path / "runs/logs").glob("*.log"))
    assert completed.returncode == 0, completed.stderr + logs
    *_, first, second, third, fourth, _home = completed.stdout.splitlines()
    states = dict(line.split()[:2] for line in (first, second, third, fourth))
    expected = ["source-rare-nephros-fast", "second-128", "second-64", "rare-nephros-fast-10"]
    assert states == dict.fromkeys(expected, "done"), completed.stdout + logs
    merge(tmp_path / "runs/home", tmp_path / "merged", tmp_path / "tables", tmp_path / "records")
    for run in ("frontier/second-128", "frontier/second-64", "transfer/rare-nephros-fast"):
        assert is_complete(tmp_path / "merged" / run)
        assert (tmp_path / "merged" / run / "weights.safetensors").is_file()
    record = tmp_path / "tables/frontier-runs/second-64"
    names = {path.relative_to(record).as_posix() for path in record.rglob("*") if path.is_file()}
    assert names == {"run.json", "recipe.yaml", "history.csv", "val/metrics.json"}
    assert {row.cell[1:] for row in read_rows(tmp_path / "tables/transfer-draws.csv")} == {(10, 0)}
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=560, check=False)
    assert again.returncode == 0
    assert again.stdout.count("nothing that is not done") == 2
    assert "begins" not in again.stdout
