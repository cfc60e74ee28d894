"""The comparison of tuners: its event log and statistics, and each method's quick run, whatever its results."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.tuners.best_trial import BestTrial, best_event
from benchmarks.tuners.budget_config import BudgetConfig
from benchmarks.tuners.comparison_plot import plot_comparison
from benchmarks.tuners.curves import best_so_far, cost_to_reach, median_and_range, value_at
from benchmarks.tuners.event_log import EpochEvent, EventLog
from benchmarks.tuners.nephros_study import EventLogCallback
from benchmarks.tuners.run import TunerRun
from benchmarks.tuners.table import markdown, rows
from nephros.training.history import EpochMetrics
from nephros.tuning.checkpoint_store import CheckpointStore
from nephros.tuning.executors import EpochDone
from nephros.tuning.study_state import Config, StudyState
from nephros.tuning.trial import Outcome

ROOT = Path(__file__).parents[2]
RAY = os.environ.get("NEPHROS_RAY_PYTHON")
"""The python of an environment that has nephros and ray[tune]."""


def make_config(folder: Path, method: str = "nephros", seed: int = 0) -> BudgetConfig:
    return BudgetConfig(method, "course-1", "synthetic", 160, seed, 3, 3, "val_loss", 2, str(folder), time.monotonic())


def make_run(folder: Path, method: str, seed: int, values: list[float | None]) -> TunerRun:
    events = [EpochEvent(10.0 * (i + 1), f"{i // 3}", i % 3 + 1, value, 9.0) for i, value in enumerate(values)]
    hardware = {"cpu": "some", "cores": 2, "load_before": 0.0}
    provenance = {"created": "now", "commit": None, "versions": {"torch": "2"}, "hardware": hardware}
    params = {event.trial: {"optimizer.lr": 0.1} for event in events}
    best_trial = BestTrial("0", 1, 0.5, 0.5, 0.4)
    return TunerRun(
        make_config(folder, method, seed), 1, 10.0 * len(values) + 5, events, params, best_trial, provenance
    )


def test_the_budget_is_that_of_hyperband_and_is_never_exceeded(tmp_path: Path) -> None:
    assert make_config(tmp_path).total_epochs == 3 + 2 + 2 * 3
    assert dataclasses.replace(make_config(tmp_path), max_epochs=27).total_epochs == 357
    first, second = EventLog(make_config(tmp_path)), EventLog(make_config(tmp_path))
    assert sum(event_log.claim_epoch() for _ in range(20) for event_log in (first, second)) == 11


def test_an_event_log_is_shared_and_survives_half_a_line(tmp_path: Path) -> None:
    EventLog(make_config(tmp_path)).log_trial("a", {"optimizer.lr": 0.1})
    EventLog(make_config(tmp_path)).log_epoch("a", 1, 0.25, 2.0)
    EventLog(make_config(tmp_path)).log_epoch("a", 2, None, 0.0)
    with open(tmp_path / "events.jsonl", "a", encoding="utf-8") as file:
        file.write('{"seconds": 3')
    event_log = EventLog(make_config(tmp_path))
    assert [(event.trial, event.epoch, event.value) for event in event_log.events()] == [("a", 1, 0.25), ("a", 2, None)]
    assert event_log.params() == {"a": {"optimizer.lr": 0.1}}


def epoch(number: int, accuracy: float) -> EpochMetrics:
    return EpochMetrics(number, 0.1, 1.0, 0.5, 1.0, accuracy, 0.5, 0.5, 2.0, 100.0)


def test_a_study_logs_each_epoch_once_even_when_resumed(tmp_path: Path) -> None:
    first, second, third = epoch(1, 0.2), epoch(2, 0.3), epoch(3, 0.4)
    callback = EventLogCallback(EventLog(make_config(tmp_path)))
    callback.on_event(EpochDone((1, 0), first))
    callback.on_event(Outcome((1, 0), (first,)))
    store = CheckpointStore(str(tmp_path / "checkpoints"))
    store.save("1-0.pt", {"history": [dataclasses.asdict(row) for row in (first, second)]})
    study_state = StudyState(None, {(1, 0): Config(1, 0, 0, {"optimizer.lr": 0.1})})  # type: ignore[arg-type]
    for _ in range(2):
        callback = EventLogCallback(EventLog(make_config(tmp_path)))
        callback.on_update(study_state, [])
        callback.recover(store, study_state)
        callback.on_event(Outcome((1, 0), (first, second, third), error="The training loss became nan."))
    events = EventLog(make_config(tmp_path)).events()
    assert [(event.epoch, event.value) for event in events] == [(1, 0.2), (2, 0.3), (3, 0.4), (4, None)]
    assert {event.trial for event in events} == set(EventLog(make_config(tmp_path)).params()) == {"s1#0"}


def test_curves_of_the_best_so_far(tmp_path: Path) -> None:
    epochs, seconds, best = best_so_far(make_run(tmp_path, "nephros", 0, [0.2, None, 0.1, 0.5]))
    assert epochs.tolist() == [1, 2, 3, 4]
    assert seconds.tolist() == [10, 20, 30, 40]
    assert best.tolist() == [0.2, 0.2, 0.2, 0.5]
    assert np.isnan(value_at(epochs, best, 0.5))
    assert value_at(epochs, best, 3.9) == 0.2
    assert cost_to_reach(seconds, best, 0.3) == 40
    assert cost_to_reach(seconds, best, 0.6) is None
    median, low, high = median_and_range([(epochs, best), (epochs, best + 0.1)], np.array([1.0, 9.0]))
    assert median.tolist() == pytest.approx([0.25, 0.55])
    assert (low[1], high[1]) == pytest.approx((0.5, 0.6))


def test_the_best_epoch_is_the_earliest_of_equal_ones(tmp_path: Path) -> None:
    best = best_event(make_run(tmp_path, "nephros", 0, [0.2, None, 0.5, 0.5]).events)
    assert (best.value, best.seconds) == (0.5, 30.0)


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    tuner_run = make_run(tmp_path, "nephros", 0, [0.2, None, 0.5])
    tuner_run.write(tmp_path / "nephros-0.json")
    assert TunerRun.read(tmp_path / "nephros-0.json") == tuner_run


def test_the_table_and_the_plot_show_all_methods(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path, "nephros", 0, [0.2, 0.5, 0.5]),
        make_run(tmp_path, "random", 0, [0.1, 0.2, 0.4]),
        make_run(tmp_path, "nephros", 1, [0.2, 0.2, 0.3]),
        make_run(tmp_path, "random", 1, [0.1, 0.2, 0.4, 0.4]),
    ]
    nephros, random = rows(runs)
    assert nephros["final_best"] == {"median": 0.4, "min": 0.3, "max": 0.5}
    assert nephros["epochs_to_random_search_best"] == "2, never"
    assert random["seconds_to_random_search_best"] == "30, 30"
    assert nephros["startup_seconds"]["median"] == 1.0
    text = markdown("Title", [nephros, random], runs)
    assert "| method | nephros | random search |" in text
    assert "Trained again" not in text
    plot_comparison(runs, "Synthetic", tmp_path / "tuning.png")
    assert (tmp_path / "tuning.svg").exists()


def command(*args: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks.tuning", "--quick", *args]


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*args), cwd=ROOT, capture_output=True, text=True, timeout=580, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["nephros", "random", "optuna", "ray"])
def test_quick_run_spends_the_budget_and_is_not_repeated(method: str, tmp_path: Path) -> None:
    if method == "ray" and RAY is None:
        pytest.skip("NEPHROS_RAY_PYTHON names no environment that has nephros and ray[tune]")
    args = ["--methods", method, "--out", str(tmp_path), *(["--ray-python", RAY] if RAY else [])]
    completed = run(*args)
    assert completed.returncode == 0, completed.stderr
    saved = TunerRun.read(tmp_path / f"{method}-0.json")
    assert len(saved.events) == saved.config.total_epochs == 11
    assert max(event.epoch for event in saved.events) == 3
    assert {event.trial for event in saved.events} == set(saved.params)
    assert saved.best_trial.retrained_value == saved.best_trial.value
    assert 0 < saved.startup < saved.seconds
    printed = json.loads(completed.stdout.splitlines()[-1])
    assert printed["benchmark"] == "tuning"
    assert printed["rows"][0]["epochs_spent"]["median"] == 11
    written = (tmp_path / f"{method}-0.json").read_bytes()
    repeated = run(*args)
    assert repeated.returncode == 0, repeated.stderr
    assert "11 epochs" not in repeated.stderr
    assert (tmp_path / f"{method}-0.json").read_bytes() == written
    assert not list((tmp_path / ".work").iterdir())


def study_command(out: Path) -> list[str]:
    """Return the command of a nephros study with epochs long enough to be interrupted."""
    size = ["--data", "synthetic", "--max-epochs", "3", "--subset", "4000", "--seeds", "0"]
    return [sys.executable, "-m", "benchmarks.tuning", "--methods", "nephros", *size, "--out", str(out)]


@pytest.mark.slow
def test_a_killed_study_is_resumed(tmp_path: Path) -> None:
    def restore_sigint() -> None:  # background jobs of a shell ignore it, and so would the processes they start
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    quiet = subprocess.DEVNULL
    process = subprocess.Popen(study_command(tmp_path), cwd=ROOT, stderr=quiet, stdout=quiet, preexec_fn=restore_sigint)
    events = tmp_path / ".work" / "nephros-0" / "events.jsonl"
    deadline = time.monotonic() + 240
    while not events.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)  # on SIGINT it ends the method's processes too
    process.wait(timeout=60)
    assert not (tmp_path / "nephros-0.json").exists()
    completed = subprocess.run(
        study_command(tmp_path), cwd=ROOT, capture_output=True, text=True, timeout=580, check=False
    )
    assert completed.returncode == 0, completed.stderr
    saved = TunerRun.read(tmp_path / "nephros-0.json")
    assert len({(event.trial, event.epoch) for event in saved.events}) == len(saved.events) == 11
    assert saved.attempts == 2


@pytest.mark.slow
def test_ray_needs_the_python_of_its_environment() -> None:
    completed = run("--methods", "ray")
    assert completed.returncode == 2
    assert "--ray-python" in completed.stderr


@pytest.mark.slow
def test_the_quick_overhead_benchmark_has_all_rows() -> None:
    args = [sys.executable, "-m", "benchmarks.tuning_overhead", "--quick", "--data", "synthetic"]
    completed = subprocess.run(args, cwd=ROOT, capture_output=True, text=True, timeout=580, check=False)
    assert completed.returncode == 0, completed.stderr
    rows_by_name = {row["what"]: row for row in json.loads(completed.stdout.splitlines()[-1])["rows"]}
    assert rows_by_name["bare-loop epoch, seconds"]["in_this_process"]["min"] > 0
    assert rows_by_name["writing the checkpoint, ms"]["in_this_process"]["min"] > 0
    assert "in_one_worker_process" in rows_by_name["overhead per trial, ms"]
