"""One run of one tuner in its own processes, and its record, which is written atomically."""

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

from benchmarks.common import hardware_info
from benchmarks.tuners.best_trial import BestTrial, evaluate_best
from benchmarks.tuners.budget_config import BudgetConfig
from benchmarks.tuners.event_log import EpochEvent, EventLog
from nephros.environment import git_commit
from nephros.errors import NephrosError
from nephros.files import write_text

ROOT = Path(__file__).parents[2]
METHOD_MODULES = {"nephros": "nephros_study", "random": "random_search", "optuna": "optuna_pruner", "ray": "ray_tune"}
"""Method -> its module in this folder."""
VERSIONS_SCRIPT = """
import importlib.metadata, json, platform, sys
print(json.dumps({"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in sys.argv[1:]}))
"""


@dataclass(frozen=True)
class TunerRun:
    """The record of a finished run."""

    config: BudgetConfig
    attempts: int
    """Times that the run was started; above 1, the seconds don't include the breaks."""
    seconds: float
    """Wall time from the start of the first process to the end of the last."""
    events: list[EpochEvent]
    params: dict[str, dict[str, Any]]
    """Trial -> its values by dotted field."""
    best_trial: BestTrial
    provenance: dict[str, Any]
    """Time, hardware, versions and commit."""

    @property
    def startup(self) -> float:
        """Seconds before the first epoch (imports, opening the data), and of the first epoch's validation."""
        return max(0.0, min(event.seconds - event.training_seconds for event in self.events))

    @classmethod
    def read(cls, file: Path) -> TunerRun:
        """Read a record that `write` wrote."""
        data: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        data |= {"config": BudgetConfig(**data["config"]), "best_trial": BestTrial(**data["best_trial"])}
        return cls(**data | {"events": [EpochEvent(*values) for values in data["events"]]})

    def write(self, file: Path) -> None:
        """Write the record, one line per epoch and per trial."""
        data = dataclasses.asdict(self) | {"events": [list(dataclasses.astuple(event)) for event in self.events]}
        lines = {key: json.dumps(value) for key, value in data.items()}
        lines["events"] = "[\n" + ",\n".join(json.dumps(event) for event in data["events"]) + "\n]"
        lines["params"] = (
            "{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in self.params.items()) + "\n}"
        )
        write_text(file, "{\n" + ",\n".join(f'"{key}": {text}' for key, text in lines.items()) + "\n}\n")


def run_tuner(config: BudgetConfig, python: str, file: Path) -> TunerRun:
    """Run a tuner to its end and write its record; an interrupted nephros study is resumed, any other run starts anew.

    Raises NephrosError, naming the log, when the tuner fails.
    """
    folder = Path(config.folder)
    if config.method != "nephros":
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    attempts = len(list(folder.glob("attempt-*.json"))) + 1
    earlier_seconds = max((event.seconds for event in EventLog(config).events()), default=0.0)
    provenance: dict[str, Any] = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": hardware_info(),
    }
    config = dataclasses.replace(config, started_at=time.monotonic() - earlier_seconds)
    config_file = folder / f"attempt-{attempts}.json"
    config.write(config_file)
    _run_process(
        [python, "-m", f"benchmarks.tuners.{METHOD_MODULES[config.method]}", str(config_file)],
        config_file.with_suffix(".log"),
    )
    event_log = EventLog(config)
    seconds = event_log.elapsed_seconds()
    provenance |= {"versions": _versions(python, config.method), "commit": git_commit()}
    trained = {event.trial for event in event_log.events()}  # a trial may get no epoch before the budget is spent
    params = {trial: values for trial, values in event_log.params().items() if trial in trained}
    stored_config = dataclasses.replace(
        config, folder="", started_at=0.0
    )  # these hold for this machine and attempt only
    tuner_run = TunerRun(
        stored_config, attempts, seconds, event_log.events(), params, evaluate_best(config), provenance
    )
    tuner_run.write(file)
    shutil.rmtree(folder)
    return tuner_run


def _run_process(command: list[str], log: Path) -> None:
    """Run a command in a new session, and kill what is left of its processes at the end."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with open(log, "w", encoding="utf-8") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=out, stderr=out, start_new_session=True)
        try:
            exit_code = process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    if exit_code:
        last_line = (log.read_text(encoding="utf-8").strip().splitlines() or ["no output"])[-1]
        raise NephrosError(f"{' '.join(command[1:3])} failed ({last_line}): see {log}.")


def _versions(python: str, method: str) -> dict[str, str]:
    """Return the package versions in a method's environment."""
    packages = ["nephros", "torch", "numpy", "scikit-learn", "ray" if method == "ray" else "optuna"]
    completed = subprocess.run([python, "-c", VERSIONS_SCRIPT, *packages], capture_output=True, text=True, check=True)
    package_versions: dict[str, str] = json.loads(completed.stdout)
    return package_versions


def python_for(method: str, ray_python: str | None) -> str:
    """Return the Python that a method runs in."""
    if method != "ray":
        return sys.executable
    if ray_python is None:
        raise NephrosError(
            "--methods ray needs --ray-python: the python of an environment that has nephros and ray[tune]."
        )
    return ray_python
