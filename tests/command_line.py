"""Commands in the tests' own process, and what holds for every command that refuses its input."""

from __future__ import annotations

import pytest

from nephros.cli import main

Capture = pytest.CaptureFixture[str]


def run_cli(argv: list[str], capsys: Capture) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exc_info:
        main(argv)
    out, err = capsys.readouterr()
    return int(exc_info.value.code or 0), out, err


def assert_usage_error(argv: list[str], capsys: Capture, *expected: str) -> None:
    """Assert exit status 2 and one line on stderr that contains each of `expected`."""
    status, _, err = run_cli(argv, capsys)
    assert status == 2, err
    assert err.startswith("nephros: ")
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1, err
    for part in expected:
        assert part in err, err
