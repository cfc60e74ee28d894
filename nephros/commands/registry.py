"""The names of all commands, and the function that runs each; a command's module is imported when it is needed."""

from __future__ import annotations

import importlib
from collections.abc import Callable

COMMANDS = (
    "train",
    "finetune",
    "evaluate",
    "tune",
    "predict",
    "serve",
    "annotate",
    "export",
    "report",
    "compare",
    "reproduce",
    "models",
    "recipes",
    "data",
)
"""The modules of `nephros.commands`, whose function of the same name runs the command; `data get` is `data.data_get`."""
DATA_COMMANDS = ("list", "info", "get", "prepare", "overlay")


def all_commands() -> list[str]:
    """Return the commands as they are typed, such as ``data get``."""
    return [*(name for name in COMMANDS if name != "data"), *(f"data {name}" for name in DATA_COMMANDS)]


def load_command(command: str) -> Callable[[list[str]], int]:
    """Return the function that runs a command, such as ``data get``, with its arguments."""
    module = importlib.import_module(f"nephros.commands.{command.split()[0]}")
    function: Callable[[list[str]], int] = getattr(module, command.replace(" ", "_"))
    return function
