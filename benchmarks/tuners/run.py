"""One run of one tuner in processes of its own, and the record that it leaves: whole, or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.common import hardware
from benchmarks.tuners.best_trial import Choice, judge
from benchmarks.tuners.budget_config import Terms
from benchmarks.tuners.event_log import Event, Ledger
from nephros.environment import commit
from nephros.errors import UserError
from nephros.files import write_text

ROOT = Path(__file__).parents[2]
MODULES = {"ours": "ours", "random": "random_search", "optuna": "optuna_pruner", "ray": "ray_tune"}
"""Method -> its module in this folder."""
ASK = """
import importlib.metadata, json, platform, sys
print(json.dumps({"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in sys.argv[1:]}))
"""


@dataclass(frozen=True)
class Record:
    """A run that is over."""

    terms: Terms
    attempts: int
    """Times that it was started; above 1 the seconds leave out what was lost between them."""
    seconds: float
    """From the start of its first process to the end of its last."""
    events: list[Event]
    params: dict[str, dict[str, Any]]
    """Trial -> its values."""
    choice: Choice
    made: dict[str, Any]
    """When, where and with what."""

    @property
    def startup(self) -> float:
        """Seconds before the first epoch: imports, opening the data; the first epoch's validation is counted in."""
        return max(0.0, min(event.seconds - event.took for event in self.events))

    @classmethod
    def read(cls, file: Path) -> Record:
        """Read what `write` wrote."""
        held: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        held |= {"terms": Terms(**held["terms"]), "choice": Choice(**held["choice"])}
        return cls(**held | {"events": [Event(*values) for values in held["events"]]})

    def write(self, file: Path) -> None:
        """Write it, an epoch or a trial a line."""
        held = dataclasses.asdict(self) | {"events": [list(dataclasses.astuple(event)) for event in self.events]}
        lines = {key: json.dumps(value) for key, value in held.items()}
        lines["events"] = "[\n" + ",\n".join(json.dumps(event) for event in held["events"]) + "\n]"
        lines["params"] = (
            "{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in self.params.items()) + "\n}"
        )
        write_text(file, "{\n" + ",\n".join(f'"{key}": {text}' for key, text in lines.items()) + "\n}\n")


def perform(terms: Terms, python: str, file: Path) -> Record:
    """Run a tuner to its end and write its record; one of ours that was stopped goes on, any other begins anew.

    Raises UserError, naming the log, when the tuner fails.
    """
    folder = Path(terms.folder)
    if terms.method != "ours":
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    attempts = len(list(folder.glob("attempt-*.json"))) + 1
    before = max((event.seconds for event in Ledger(terms).events()), default=0.0)
    made: dict[str, Any] = {"created": datetime.now(UTC).isoformat(timespec="seconds"), "hardware": hardware()}
    terms = dataclasses.replace(terms, started=time.monotonic() - before)
    note = folder / f"attempt-{attempts}.json"
    terms.write(note)
    _process([python, "-m", f"benchmarks.tuners.{MODULES[terms.method]}", str(note)], note.with_suffix(".log"))
    ledger = Ledger(terms)
    seconds = ledger.now()
    made |= {"versions": _versions(python, terms.method), "commit": commit()}
    trained = {event.trial for event in ledger.events()}  # the budget's end may leave a trial without an epoch
    params = {trial: values for trial, values in ledger.params().items() if trial in trained}
    kept = dataclasses.replace(terms, folder="", started=0.0)  # of this machine and this attempt
    record = Record(kept, attempts, seconds, ledger.events(), params, judge(terms), made)
    record.write(file)
    shutil.rmtree(folder)
    return record


def _process(command: list[str], log: Path) -> None:
    """Run a command in a session of its own, and leave none of its processes behind."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with open(log, "w", encoding="utf-8") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out, start_new_session=True)
        try:
            code = process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    if code:
        last = (log.read_text(encoding="utf-8").strip().splitlines() or ["it said nothing"])[-1]
        raise UserError(f"{' '.join(command[1:3])} failed ({last}): see {log}.")


def _versions(python: str, method: str) -> dict[str, str]:
    """Return what a method ran with, as its own environment says."""
    packages = ["nephros", "torch", "numpy", "scikit-learn", "ray" if method == "ray" else "optuna"]
    done = subprocess.run([python, "-c", ASK, *packages], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def python_of(method: str, ray_python: str | None) -> str:
    """Return the Python that a method runs in."""
    if method != "ray":
        return sys.executable
    if ray_python is None:
        raise UserError(
            "--methods ray needs --ray-python: the python of an environment that has nephros and ray[tune]."
        )
    return ray_python
