"""The library's messages in the words of the command line."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

import nephros
from nephros.commands.messages import COMMANDS_BY_FUNCTION, library_messages, to_command_line, use_flags
from nephros.commands.registry import COMMANDS, DATA_COMMANDS


@pytest.fixture(autouse=True)
def _running_command() -> Iterator[None]:
    use_flags({"batch_size": "--batch_size", "run": "RUN", "no_published": "--no-published"})
    yield
    use_flags({})


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("`batch_size` is 0.", "--batch_size is 0."),
        ("`run` is missing.", "RUN is missing."),
        ("`published=False` leaves them out.", "--no-published leaves them out."),
        ("`size` is no parameter of this command.", "`size` is no parameter of this command."),
        ("Call `nephros.resume('runs/x')`.", "Call `nephros train --resume runs/x`."),
        ("Call `nephros.resume('my runs/x')`.", "Call `nephros train --resume 'my runs/x'`."),
        ("Call `nephros.evaluate(RUN, split='val')`.", "Call `nephros evaluate RUN --split val`."),
        ("Call `nephros.compare(['a', 'b'], ensemble=True)`.", "Call `nephros compare a b --ensemble`."),
        ("Call `nephros.show_study('one')`.", "Call `nephros tune --show one`."),
        ("Call `nephros.annotate` or `nephros.prepare`.", "Call `nephros annotate` or `nephros data prepare`."),
        ("Call `predictions.predict` of `file.report`.", "Call `predictions.predict` of `file.report`."),
        ("Call `nephros.unknown('x')`.", "Call `nephros.unknown('x')`."),
        ("`not python at all(`", "`not python at all(`"),
        (
            "Check `black_level` and `batch_size` of `nephros.prepare(STACK)`, not `size`.",
            "Check --black-level and --batch-size of `nephros data prepare STACK`, not `size`.",
        ),
    ],
)
def test_parameters_become_options_and_calls_become_commands(message: str, expected: str) -> None:
    assert to_command_line(message) == expected


def test_every_translated_function_is_public_and_every_command_exists() -> None:
    assert set(COMMANDS_BY_FUNCTION) <= set(nephros.__all__)
    for command in COMMANDS_BY_FUNCTION.values():
        assert command.split(" --")[0] in {*COMMANDS, *(f"data {name}" for name in DATA_COMMANDS)}


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (logging.DEBUG, ["debug: details", "epoch 1", "warning: --batch_size is large"]),
        (logging.INFO, ["epoch 1", "warning: --batch_size is large"]),
        (logging.WARNING, ["warning: --batch_size is large"]),
    ],
)
def test_log_records_are_plain_lines_on_stderr(
    level: int, expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("nephros.some.module")
    with library_messages(level):
        logger.debug("details")
        logger.info("epoch %d", 1)
        logger.warning("`batch_size` is large")
    logger.warning("after the command")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == expected
