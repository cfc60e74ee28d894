"""Readers stand the inputs of the corpus, and ten seconds of new ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import SEEDS, TARGETS

SLOW_TARGETS = ("checkpoint", "stack", "study")
"""A trainer is built, many stacks are read in processes, and a study is trained."""
_CASES = [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW_TARGETS else []) for name in TARGETS]


@pytest.mark.parametrize("name", _CASES)
def test_a_good_file_is_read(name: str, tmp_path: Path) -> None:
    target = TARGETS[name]
    path = tmp_path / f"input{target.suffix}"
    path.write_bytes(target.example())
    if target.example_is_readable:
        target.read(path)


@pytest.mark.parametrize("name", _CASES)
def test_the_corpus_breaks_no_reader(name: str, tmp_path: Path) -> None:
    inputs = [*TARGETS[name].seeds(), *(path.read_bytes() for path in sorted((SEEDS / name).glob("*")))]
    assert inputs
    for data in inputs:
        TARGETS[name].run(data, tmp_path)


def test_every_folder_of_the_corpus_has_its_target() -> None:
    assert {path.name for path in SEEDS.iterdir() if path.is_dir()} <= set(TARGETS)
    assert not [path.name for path in SEEDS.iterdir() if path.is_file()], (
        "inputs that broke a reader: mend it, then move them"
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="atheris runs on Linux")
def test_new_inputs_break_no_reader(name: str) -> None:
    command = [sys.executable, "-m", "tests.fuzz", name, "--seconds", "10"]
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    n_inputs = int(completed.stdout.split()[1])
    assert n_inputs > 0
