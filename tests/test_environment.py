"""Importing nephros leaves the user's process as it is; processes that are ours get their settings."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nephros import environment
from nephros.environment import PROCESS_DEFAULTS

PRINT_ENV = "import os, json; print(json.dumps(dict(os.environ)))"


def _environment(code: str) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if name not in PROCESS_DEFAULTS}
    completed = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    result: dict[str, str] = json.loads(completed.stdout.splitlines()[-1])
    return result


@pytest.mark.slow
def test_a_library_sets_no_variable() -> None:
    plain = _environment(PRINT_ENV)
    use = (
        "import numpy as np, nephros; [getattr(nephros, name) for name in nephros.__all__]; "
        "nephros.load_classifier().predict(np.zeros((2, 28, 28), np.uint8)); "
    )
    assert _environment(use + PRINT_ENV) == plain


@pytest.mark.slow
def test_the_command_line_and_the_benchmarks_set_them() -> None:
    code = (
        "import nephros.cli, contextlib, io\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()): nephros.cli.main(['--version'])\n"
    )
    for start in (code, "import benchmarks\n"):
        result = _environment(start + PRINT_ENV)
        assert {name: result.get(name) for name in PROCESS_DEFAULTS} == PROCESS_DEFAULTS


def test_the_users_settings_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    environment.set_process_defaults()
    assert (os.environ["OMP_WAIT_POLICY"], os.environ["GOMP_SPINCOUNT"]) == ("ACTIVE", "2000")
    with environment.temporary_default("ORT_DISABLE_TELEMETRY"):
        assert os.environ["ORT_DISABLE_TELEMETRY"] == "0"
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY")
    with environment.temporary_default("ORT_DISABLE_TELEMETRY"):
        assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
    assert "ORT_DISABLE_TELEMETRY" not in os.environ


@pytest.mark.parametrize(
    ("threads", "load", "policy", "n_warnings"),
    [(2, 99.0, "", 1), (1, 99.0, "", 0), (2, 0.1, "", 0), (2, 99.0, "PASSIVE", 0)],
)
def test_spinning_threads_are_warned_of_once_where_that_matters(
    threads: int, load: float, policy: str, n_warnings: int, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    environment.warn_of_spinning_threads.cache_clear()
    with caplog.at_level(logging.WARNING, logger="nephros"):
        for _ in range(2):
            environment.warn_of_spinning_threads(threads)
    environment.warn_of_spinning_threads.cache_clear()
    assert len(caplog.records) == n_warnings


def test_pages_of_files_count_as_available_in_a_control_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_CGROUP", tmp_path)
    monkeypatch.setattr(environment, "_system_available", lambda: 1000)
    for name, text in (("memory.max", "900"), ("memory.current", "880"), ("memory.stat", "anon 80\nactive_file 300\n")):
        (tmp_path / name).write_text(text)
    assert environment.available_memory() == 320
    (tmp_path / "memory.stat").write_text("inactive_file 500\nactive_file 300\nslab 7\n")
    assert environment.available_memory() == 820
    (tmp_path / "memory.current").write_text("5000")
    assert environment.available_memory() == 0
    (tmp_path / "memory.max").write_text("max")
    assert environment.available_memory() == 1000
