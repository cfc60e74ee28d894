"""The library's messages in the words of the command line: parameters become flags, Python calls become commands."""

from __future__ import annotations

import ast
import contextlib
import logging
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from nephros.escaping import escape_for_terminal

COMMANDS_BY_FUNCTION = {
    "annotate": "annotate",
    "best_recipe": "train --from-study",
    "compare": "compare",
    "describe": "data info",
    "download": "data get",
    "evaluate": "evaluate",
    "export": "export",
    "finetune": "finetune",
    "get_recipe": "recipes",
    "list_datasets": "data list",
    "overlay": "data overlay",
    "predict": "predict",
    "prepare": "data prepare",
    "report": "report",
    "reproduce": "reproduce",
    "resume": "train --resume",
    "resume_study": "tune --resume",
    "serve": "serve",
    "show_study": "tune --show",
    "train": "train",
    "tune": "tune",
}
"""The command that does what a public function does."""


_flags: dict[str, str] = {}
"""Of the running command: the flag, or the name of the positional argument, that sets a parameter."""


def use_flags(flags: Mapping[str, str]) -> None:
    """Take the running command's flags by parameter; a process runs one command at a time."""
    _flags.clear()
    _flags.update(flags)


def to_command_line(message: str) -> str:
    """Return a message of the library as the command line says it.

    A parameter of the running command in backticks becomes its flag, without the backticks; `NAME=False` becomes --no-name. A
    public function in backticks, alone or in a call, becomes the command that does the same, and parameters "of" the call its
    flags. Whatever else stands in backticks stays.
    """

    def replace_owned(match: re.Match[str]) -> str:
        return re.sub(r"`(\w+)`", lambda name: "--" + name[1].replace("_", "-"), match[1]) + match[2]

    def replace(match: re.Match[str]) -> str:
        parameter = re.sub(r"^(\w+)=False$", r"no_\1", match[1])
        return _flags.get(parameter) or _command(match[1]) or match[0]

    message = re.sub(r"((?:`\w+`(?:, | and | or )?)+)( of `nephros\.\w+\()", replace_owned, message)
    return re.sub(r"`([^`]+)`", replace, message)


def _command(code: str) -> str:
    """Return the command, in backticks, for ``nephros.evaluate`` or its call ``nephros.evaluate('runs/a')``; else nothing."""
    try:
        call = ast.parse(code, mode="eval").body
        if isinstance(call, ast.Attribute):  # the function without a call
            call = ast.Call(call, [], [])
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and code.startswith("nephros.")):
            return ""
        argv = ["nephros", *COMMANDS_BY_FUNCTION[call.func.attr].split()]
        for argument in call.args:
            value = _literal(argument)
            argv += map(str, value) if isinstance(value, list | tuple) else [str(value)]
        for keyword in call.keywords:
            value = _literal(keyword.value)
            argv += [f"--{keyword.arg}".replace("_", "-"), *([] if value is True else [str(value)])]
    except (SyntaxError, ValueError, KeyError):
        return ""
    return f"`{shlex.join(argv)}`"


def _literal(node: ast.expr) -> object:
    """Return a literal's value, or the name of a placeholder such as RUN."""
    return node.id if isinstance(node, ast.Name) else ast.literal_eval(node)


def print_line(text: str, *, to_stderr: bool = False) -> None:
    """Print one line, with whatever a terminal would obey as an escape."""
    print(escape_for_terminal(text), file=sys.stderr if to_stderr else sys.stdout)


def print_path(path: str | Path) -> None:
    """Print the path of a file that was written: as it is where a program reads it, as `print_line` on a terminal."""
    if sys.stdout.isatty():
        print_line(str(path))
    else:
        print(path)


class _StderrHandler(logging.Handler):
    """Writes each message of the library to stderr as one plain line."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; what is more than information says its level first."""
        prefix = f"{record.levelname.lower()}: " if record.levelno != logging.INFO else ""
        # The stream of the moment: tests and notebooks put another one in its place.
        print(prefix + escape_for_terminal(to_command_line(record.getMessage())), file=sys.stderr, flush=True)


@contextlib.contextmanager
def library_messages(level: int) -> Iterator[None]:
    """Within the block, the library's log records from `level` on go to stderr."""
    logger, handler = logging.getLogger("nephros"), _StderrHandler(level)
    previous = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(previous)
