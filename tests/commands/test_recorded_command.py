"""The command that a run or a study records, which other people read in its report."""

from __future__ import annotations

import pytest

from nephros.commands.parser import recorded_command

SHOWN = "postgresql+psycopg2://me@host/base"


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--storage", "postgresql://me:secret@host/base"], f"--storage {SHOWN}"),
        (["--storage=postgresql://me:secret@host/base"], f"--storage={SHOWN}"),
        (["--storage", "postgresql://me:it's secret@host/base"], f"--storage {SHOWN}"),
        (["--storage", "postgresql://me@host/base?password=secret"], f"--storage {SHOWN}"),
        (
            ["--storage=postgresql://me:secret@host/base", "--storage", "study.db"],
            f"--storage={SHOWN} --storage study.db",
        ),
        (["--storage", "study.db"], "--storage study.db"),
        (["--data", "s3://bucket/a b"], "--data 's3://bucket/a b'"),
    ],
)
def test_passwords_are_not_recorded(argv: list[str], expected: str) -> None:
    assert recorded_command("tune", ["poster", *argv]) == f"nephros tune poster {expected}"
