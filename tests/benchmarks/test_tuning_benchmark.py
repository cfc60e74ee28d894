"""The comparison of tuners: its accounts and arithmetic, and every method's quick run; how good any is, is not tested."""

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

from benchmarks.tuners.best_trial import Choice, best_of
from benchmarks.tuners.budget_config import Terms
from benchmarks.tuners.curves import at, best_so_far, reaches, together
from benchmarks.tuners.event_log import Event, Ledger
from benchmarks.tuners.ours import Account
from benchmarks.tuners.pictures import draw
from benchmarks.tuners.run import Record
from benchmarks.tuners.table import markdown, rows
from nephros.training.history import Epoch
from nephros.tuning.checkpoint_store import Store
from nephros.tuning.executors import EpochDone
from nephros.tuning.study_state import Config, Records
from nephros.tuning.trial import Outcome

ROOT = Path(__file__).parents[2]
RAY = os.environ.get("NEPHROS_RAY_PYTHON")
"""The python of an environment that has nephros and ray[tune]."""


def terms(folder: Path, method: str = "ours", seed: int = 0) -> Terms:
    return Terms(method, "course-1", "synthetic", 160, seed, 3, 3, "val_loss", 2, str(folder), time.monotonic())


def record(folder: Path, method: str, seed: int, values: list[float | None]) -> Record:
    events = [Event(10.0 * (i + 1), f"{i // 3}", i % 3 + 1, value, 9.0) for i, value in enumerate(values)]
    hardware = {"cpu": "some", "cores": 2, "load_before": 0.0}
    made = {"created": "now", "commit": None, "versions": {"torch": "2"}, "hardware": hardware}
    params = {event.trial: {"optimizer.lr": 0.1} for event in events}
    choice = Choice("0", 1, 0.5, 0.5, 0.4)
    return Record(terms(folder, method, seed), 1, 10.0 * len(values) + 5, events, params, choice, made)


def test_the_budget_is_that_of_hyperband_and_is_never_overdrawn(tmp_path: Path) -> None:
    assert terms(tmp_path).epochs == 3 + 2 + 2 * 3
    assert dataclasses.replace(terms(tmp_path), max_epochs=27).epochs == 357
    first, second = Ledger(terms(tmp_path)), Ledger(terms(tmp_path))
    assert sum(ledger.take() for _ in range(20) for ledger in (first, second)) == 11


def test_a_ledger_is_shared_and_bears_half_a_line(tmp_path: Path) -> None:
    Ledger(terms(tmp_path)).begin("a", {"optimizer.lr": 0.1})
    Ledger(terms(tmp_path)).tell("a", 1, 0.25, 2.0)
    Ledger(terms(tmp_path)).tell("a", 2, None, 0.0)
    with open(tmp_path / "events.jsonl", "a", encoding="utf-8") as file:
        file.write('{"seconds": 3')
    ledger = Ledger(terms(tmp_path))
    assert [(event.trial, event.epoch, event.value) for event in ledger.events()] == [("a", 1, 0.25), ("a", 2, None)]
    assert ledger.params() == {"a": {"optimizer.lr": 0.1}}


def epoch(number: int, accuracy: float) -> Epoch:
    return Epoch(number, 0.1, 1.0, 0.5, 1.0, accuracy, 0.5, 0.5, 2.0, 100.0)


def test_ours_notes_each_epoch_once_also_when_it_goes_on(tmp_path: Path) -> None:
    first, second, third = epoch(1, 0.2), epoch(2, 0.3), epoch(3, 0.4)
    account = Account(Ledger(terms(tmp_path)))
    account.hear(EpochDone((1, 0), first))
    account.hear(Outcome((1, 0), (first,)))
    store = Store(str(tmp_path / "checkpoints"))
    store.save("1-0.pt", {"history": [dataclasses.asdict(row) for row in (first, second)]})
    records = Records(None, {(1, 0): Config(1, 0, 0, {"optimizer.lr": 0.1})})  # type: ignore[arg-type]
    for _ in range(2):
        account = Account(Ledger(terms(tmp_path)))
        account.changed(records, [])
        account.recall(store, records)
        account.hear(Outcome((1, 0), (first, second, third), error="The training loss became nan."))
    events = Ledger(terms(tmp_path)).events()
    assert [(event.epoch, event.value) for event in events] == [(1, 0.2), (2, 0.3), (3, 0.4), (4, None)]
    assert {event.trial for event in events} == set(Ledger(terms(tmp_path)).params()) == {"s1#0"}


def test_curves(tmp_path: Path) -> None:
    epochs, seconds, best = best_so_far(record(tmp_path, "ours", 0, [0.2, None, 0.1, 0.5]))
    assert epochs.tolist() == [1, 2, 3, 4]
    assert seconds.tolist() == [10, 20, 30, 40]
    assert best.tolist() == [0.2, 0.2, 0.2, 0.5]
    assert np.isnan(at(epochs, best, 0.5))
    assert at(epochs, best, 3.9) == 0.2
    assert reaches(seconds, best, 0.3) == 40
    assert reaches(seconds, best, 0.6) is None
    median, low, high = together([(epochs, best), (epochs, best + 0.1)], np.array([1.0, 9.0]))
    assert median.tolist() == pytest.approx([0.25, 0.55])
    assert (low[1], high[1]) == pytest.approx((0.5, 0.6))


def test_the_best_epoch_is_the_earliest_of_equal_ones(tmp_path: Path) -> None:
    found = best_of(record(tmp_path, "ours", 0, [0.2, None, 0.5, 0.5]).events)
    assert (found.value, found.seconds) == (0.5, 30.0)


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = record(tmp_path, "ours", 0, [0.2, None, 0.5])
    made.write(tmp_path / "ours-0.json")
    assert Record.read(tmp_path / "ours-0.json") == made


def test_table_and_picture(tmp_path: Path) -> None:
    records = [
        record(tmp_path, "ours", 0, [0.2, 0.5, 0.5]),
        record(tmp_path, "random", 0, [0.1, 0.2, 0.4]),
        record(tmp_path, "ours", 1, [0.2, 0.2, 0.3]),
        record(tmp_path, "random", 1, [0.1, 0.2, 0.4, 0.4]),
    ]
    ours, random = rows(records)
    assert ours["best_at_the_end"] == {"median": 0.4, "min": 0.3, "max": 0.5}
    assert ours["epochs_to_the_best_of_random_search"] == "2, never"
    assert random["seconds_to_it"] == "30, 30"
    assert ours["of_them_start_up"]["median"] == 1.0
    text = markdown("Title", [ours, random], records)
    assert "| method | nephros | random search |" in text
    assert "otherwise" not in text
    draw(records, "Made up", tmp_path / "tuning.png")
    assert (tmp_path / "tuning.svg").exists()


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks.tuning", "--quick", *words]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*words), cwd=ROOT, capture_output=True, text=True, timeout=580, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ours", "random", "optuna", "ray"])
def test_quick_run_spends_the_budget_and_is_not_repeated(method: str, tmp_path: Path) -> None:
    if method == "ray" and RAY is None:
        pytest.skip("NEPHROS_RAY_PYTHON names no environment that has nephros and ray[tune]")
    words = ["--methods", method, "--out", str(tmp_path), *(["--ray-python", RAY] if RAY else [])]
    done = run(*words)
    assert done.returncode == 0, done.stderr
    found = Record.read(tmp_path / f"{method}-0.json")
    assert len(found.events) == found.terms.epochs == 11
    assert max(event.epoch for event in found.events) == 3
    assert {event.trial for event in found.events} == set(found.params)
    assert found.choice.again == found.choice.value
    assert 0 < found.startup < found.seconds
    printed = json.loads(done.stdout.splitlines()[-1])
    assert printed["benchmark"] == "tuning"
    assert printed["rows"][0]["epochs_spent"]["median"] == 11
    written = (tmp_path / f"{method}-0.json").read_bytes()
    again = run(*words)
    assert again.returncode == 0, again.stderr
    assert "11 epochs" not in again.stderr
    assert (tmp_path / f"{method}-0.json").read_bytes() == written
    assert not list((tmp_path / ".work").iterdir())


def study(out: Path) -> list[str]:
    """Return the command of our study with epochs long enough to be interrupted in."""
    size = ["--data", "synthetic", "--max-epochs", "3", "--subset", "4000", "--seeds", "0"]
    return [sys.executable, "-m", "benchmarks.tuning", "--methods", "ours", *size, "--out", str(out)]


@pytest.mark.slow
def test_ours_goes_on_after_it_was_killed(tmp_path: Path) -> None:
    def hear_interrupts() -> None:  # which a shell's background jobs, and what they start, ignore
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    quiet = subprocess.DEVNULL
    process = subprocess.Popen(study(tmp_path), cwd=ROOT, stderr=quiet, stdout=quiet, preexec_fn=hear_interrupts)
    events = tmp_path / ".work" / "ours-0" / "events.jsonl"
    until = time.monotonic() + 240
    while not events.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)  # on which it ends the method's processes too
    process.wait(timeout=60)
    assert not (tmp_path / "ours-0.json").exists()
    done = subprocess.run(study(tmp_path), cwd=ROOT, capture_output=True, text=True, timeout=580, check=False)
    assert done.returncode == 0, done.stderr
    found = Record.read(tmp_path / "ours-0.json")
    assert len({(event.trial, event.epoch) for event in found.events}) == len(found.events) == 11
    assert found.attempts == 2


def test_ray_needs_its_environment() -> None:
    done = run("--methods", "ray")
    assert done.returncode == 2
    assert "--ray-python" in done.stderr


@pytest.mark.slow
def test_quick_overhead() -> None:
    words = [sys.executable, "-m", "benchmarks.tuning_overhead", "--quick", "--data", "synthetic"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=580, check=False)
    assert done.returncode == 0, done.stderr
    found = {row["what"]: row for row in json.loads(done.stdout.splitlines()[-1])["rows"]}
    assert found["an epoch of the bare loop, seconds"]["in_this_process"]["min"] > 0
    assert found["writing the checkpoint, ms"]["in_this_process"]["min"] > 0
    assert "in_one_worker_process" in found["overhead a trial, ms"]
