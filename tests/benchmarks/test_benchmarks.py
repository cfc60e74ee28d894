"""Every benchmark runs and prints its record; speed itself is not tested."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.classics import scaling_exponent
from nephros.runs import RunFolder

ROOT = Path(__file__).parents[2]
RECORD_KEYS = {
    "benchmark",
    "command",
    "created",
    "device",
    "data",
    "seed",
    "repeats",
    "hardware",
    "versions",
    "commit",
    "rows",
}
HARDWARE_KEYS = {"cpu", "cores", "threads", "flags", "gpu", "load_before"}
ROW_KEYS = {
    "input_side": {"recipe", "fed_images_per_s", "fixed_images_per_s", "share", "input_us_per_image"},
    "usual_loop": {"what", "nephros_images_per_s", "dataloader_0_workers_images_per_s", "best_workers", "ratio"},
    "mixed_precision": {"processor", "recipe", "amp"},
    "machine_share": {
        "recipe",
        "multiply_adds_per_image",
        "images_per_s",
        "matrix_gflops",
        "matrix_precision",
        "share",
    },
    "recorded_steps": {"recipe", "recorded_images_per_s", "usual_images_per_s", "speedup"},
    "replicas": {"recipe", "precision", "background_load", "cores_used_by", "images_per_s", "ratio_to_one_thread"},
    "step_profile": {"recipe", "precision", "convolutions forward", "batch normalization", "rest", "ms_per_step"},
    "help_time": {"command", "seconds"},
    "waiting": {"recipe", "background_load", "wait_policy", "images_per_s", "ratio_to_passive"},
    "predict": {"what"},
    "predict_modes": {"beside", "what", "images_per_s", "speedup_over_five_views"},
    "file_stages": {"precision", "stage", "us_per_file", "share"},
    "first_step": {"stage", "seconds", "processor_seconds"},
    "neighbors": {"what", "requests", "p50_ms", "p95_ms", "max_ms"},
    "serving": {"what", "clients", "p50_ms", "p95_ms", "images_per_s", "speedup_over_unbatched", "cells_per_call"},
}

pytestmark = pytest.mark.slow


def run_benchmark(name: str, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"benchmarks.{name}", *args]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def last_record(completed: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert completed.returncode == 0, completed.stderr
    record: dict[str, Any] = json.loads(completed.stdout.splitlines()[-1])
    return record


@pytest.mark.parametrize("name", ROW_KEYS)
def test_quick_run_prints_its_record(name: str) -> None:
    workers = ["--workers", "0", "1"] if name == "usual_loop" else []
    record = last_record(run_benchmark(name, "--quick", "--data", "synthetic", "--device", "cpu", *workers))
    assert record.keys() >= RECORD_KEYS
    assert record["benchmark"] == name
    assert record["quick"] is True
    assert record["hardware"].keys() >= HARDWARE_KEYS
    assert {"nephros", "python", "torch"} <= record["versions"].keys()
    assert "synthetic" in record["data"] or name == "help_time"
    assert record["rows"]
    for row in record["rows"]:
        assert row.keys() >= ROW_KEYS[name]
        summaries = [value for value in row.values() if isinstance(value, dict)]
        assert summaries or "fails" in row.get("remark", "") or "not installed" in row.get("remark", "")
        for summary in summaries:
            assert 0 <= summary["min"] <= summary["median"] <= summary["max"] < math.inf
            assert (
                summary["min"] > 0 or name == "file_stages"
            )  # a stage's time is a difference of two, which noise may leave at 0
    if name == "mixed_precision":
        _check_precisions(record["rows"])
    if name == "help_time":
        assert record["rows"][0]["imports_torch"] is False
    if name == "predict":
        _check_runtimes(record["rows"])


def _check_precisions(rows: list[dict[str, Any]]) -> None:
    full_precision, *_ = rows
    assert [row["amp"] for row in rows] == ["off", "bf16", "fp16"]
    assert full_precision["speed_ratio"]["median"] == 1
    assert full_precision["peak_mib"] > full_precision["before_mib"] > 0


def _check_runtimes(rows: list[dict[str, Any]]) -> None:
    shares = {row["what"]: row["target_share"] for row in rows if "share_of_matrix_rate" in row}
    assert shares.items() >= {"torch": 0.6, "ONNX Runtime": 0.6}.items()
    assert "OpenVINO" in {row["what"] for row in rows}  # with figures, or a remark that it is not installed
    bundled, tiny = (row for row in rows if "PNG files" in row["what"])
    assert tiny["predicted_per_s"]["median"] > bundled["predicted_per_s"]["median"]
    assert all(
        0 < row["decoding_fraction"]["median"] < 1 and row["command_images_per_s"] > 0 for row in (bundled, tiny)
    )


def test_finetuning_is_timed_beside_its_alternatives() -> None:
    record = last_record(run_benchmark("finetune", "--quick", "--device", "cpu"))
    assert "synthetic" in record["data"]
    finetune, scratch, pixels = record["rows"]
    assert finetune["seconds_per_second_of_finetune"] == 1
    for row in (finetune, scratch, pixels):
        assert 0 < row["test_accuracy"] <= 1
        assert 0 < row["seconds"] < math.inf


def test_nuclei_are_timed_by_stage_and_beside_other_ways() -> None:
    record = last_record(run_benchmark("nuclei_per_second", "--quick", "--device", "cpu"))
    assert len(record["rows"]) == 6
    for row in record["rows"]:
        stages = [row[f"{stage}_s"] for stage in ("read", "crop", "network", "write")]
        assert row["nuclei_per_s"] > 0
        assert row["peak_by_volume"] > 0
        assert all(seconds is None or seconds >= 0 for seconds in stages)
        assert (None in stages) == ("reading alone" in row["what"])


@pytest.mark.parametrize("name", [*ROW_KEYS, "finetune", "peak_memory", "tables", "speedrun", "peers", "ideas"])
def test_help(name: str) -> None:
    completed = run_benchmark(name, "--help")
    assert completed.returncode == 0
    assert completed.stdout.startswith("usage:")


def test_saved_records_become_a_table(tmp_path: Path) -> None:
    for _ in range(2):
        last_record(run_benchmark("help_time", "--repeats", "1", "--save", str(tmp_path)))
    assert len(json.loads((tmp_path / "help_time.json").read_text(encoding="utf-8"))) == 2
    completed = run_benchmark("tables", str(tmp_path))
    assert completed.returncode == 0
    assert completed.stdout.count("| nephros --help |") == 1


def test_quick_numbers_are_not_saved(tmp_path: Path) -> None:
    completed = run_benchmark("help_time", "--quick", "--save", str(tmp_path))
    assert completed.returncode == 2
    assert "--quick and --save" in completed.stderr


def test_scheduler_load_is_counted() -> None:
    rows = last_record(run_benchmark("driver_load", "--quick", "--device", "cpu"))["rows"]
    studies = [row for row in rows if "tasks" in row]
    assert [(row["R"], row["tasks"], row["epochs"]) for row in studies] == [(3, 6, 11), (9, 22, 69)]
    assert all(0 < row["cpu_ms_per_epoch"] <= row["cpu_ms_per_task"] for row in studies)
    sizes = {row["checkpoint_of"]: row["checkpoint_bytes"] for row in rows if "checkpoint_of" in row}
    assert 0 < sizes["course-1"] < sizes["poster"] < sizes["compact"]


def test_classical_baselines_are_measured_beside_their_peers() -> None:
    record = last_record(run_benchmark("classics", "--quick", "--data", "synthetic"))
    measured = [row for row in record["rows"] if "fit_seconds" in row]
    assert {row["method"] for row in measured} == {"knn", "svm-linear", "svm-rbf, exact"}
    for row in measured:
        assert all(row[key] > 0 for key in ("fit_seconds", "predict_seconds_per_1000", "file_mib"))
        assert row["memory_mib"] >= 0
    searches = {
        row["method"]: row["nephros_time_ratio"] for row in record["rows"] if row["method"].startswith("search")
    }
    assert searches["search by nephros"] == 1
    assert searches["search by scikit-learn"] > 0
    assert scaling_exponent([1000, 2000, 4000], [1.0, 4.0, 16.0]) == pytest.approx(2)


def test_stack_memory_is_measured() -> None:
    rows = last_record(run_benchmark("stack_memory", "--quick", "--device", "cpu"))["rows"]
    assert [row["what"].split(",")[0] for row in rows] == ["TIFF", "TIFF", "OME-Zarr"]
    assert all(row["nuclei"] > 0 and row["peak_mb"] > row["of_it_decoding_mb"] for row in rows)
    assert rows[2]["nuclei"] == rows[2]["nuclei_simulated"]
    assert rows[2]["of_it_decoding_mb"] > 0


def test_speedrun_trains_in_a_new_process_and_keeps_the_run(tmp_path: Path) -> None:
    args = ("speedrun", "--quick", "--only", "nephros-fast", "--device", "cpu", "--runs", str(tmp_path))
    (row,) = last_record(run_benchmark(*args))["rows"]
    metrics_path = RunFolder.open(tmp_path / "nephros-fast-0").file("test", "metrics.json")
    assert json.loads(metrics_path.read_text(encoding="utf-8"))["accuracy"] == row["test_accuracy"]
    assert last_record(run_benchmark(*args))["rows"] == [row]
    assert 0 < row["minutes"] < 5
    assert 0 < row["test_accuracy"] <= 1
    assert row["share"] == pytest.approx(
        6 * row["multiply_adds_per_image"] * row["training_images_per_s"] / row["matrix_gflops"] / 1e9
    )
    assert (row["target_accuracy"], row["target_minutes"], row["teacher"]) == (0.703, 5.0, None)
    (tmp_path / "nephros-fast-0.json").unlink()
    in_the_way = run_benchmark(*args)
    assert in_the_way.returncode == 2
    assert "--runs: nephros-fast-0 is there" in in_the_way.stderr


def test_speedrun_counts_the_time_of_soft_targets(tmp_path: Path) -> None:
    args = ("--quick", "--only", "nephros-taught", "--device", "cpu", "--runs", str(tmp_path))
    (row,) = last_record(run_benchmark("speedrun", *args))["rows"]
    info = RunFolder.open(tmp_path / "nephros-taught-0").info()
    assert [Path(teacher["run"]).name for teacher in info.teachers] == ["teacher"]
    assert row["teacher"] == "nephros-distilled"
    assert row["minutes"] > info.training_minutes


def test_peers_are_measured_beside_nephros() -> None:
    record = last_record(run_benchmark("peers", "--quick", "--workers", "0"))
    stacks = {row["stack"]: row for row in record["rows"]}
    assert set(stacks) == {"nephros", "plain, 0 workers", "timm-style, 0 workers"}
    assert all(row["images_per_s"]["min"] > 0 for row in stacks.values())
    assert stacks["nephros"]["nephros_speedup"]["median"] == 1


def test_an_idea_is_tried_beside_its_starting_point(tmp_path: Path) -> None:
    for name in ("start", "second"):
        completed = run_benchmark("ideas", name, "--seeds", "0", "--quick", "--out", str(tmp_path / "speedrun"))
        assert completed.returncode == 0, completed.stderr
    with (tmp_path / "speedrun.csv").open(encoding="utf-8") as table:
        assert [row["idea"] for row in csv.DictReader(table)] == ["start", "second"]
    record = json.loads((tmp_path / "speedrun" / "screen" / "second-0.json").read_text(encoding="utf-8"))
    assert 0 < record["val_accuracy"] < 1
    assert record["passes"] == 1
    assert run_benchmark("ideas", "nothing-of-the-kind").returncode == 2
