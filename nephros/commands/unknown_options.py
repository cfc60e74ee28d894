"""What is said of an option that a command doesn't have: the one that is meant, or the command that has it."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar

from nephros.commands.registry import all_commands, load_command
from nephros.errors import did_you_mean
from nephros.recipe_io import FIELD_SYNONYMS
from nephros.text_tables import join_words

_SYNONYMS = {name.replace("_", "-"): (f"--{field}",) for name, field in FIELD_SYNONYMS.items()} | {
    "checkpoint-path": ("--resume",),
    "ckpt": ("--resume",),
    "cuda": ("--device",),
    "gpu": ("--device",),
    "gpus": ("--device",),
    "group": ("--groups",),
    "label": ("--classes", "--mask"),
    "labels": ("--classes", "--mask"),
    "masks": ("--mask",),
    "num-workers": ("--workers",),
    "o": ("--out",),
    "output": ("--out",),
    "output-dir": ("--out",),
    "quantize": ("--int8",),
    "val": ("--split",),
}
"""Names that other tools use -> our options, of which the first that a command has is meant."""
_MAX_COMMANDS = 3

_is_inspected: ContextVar[bool] = ContextVar("is_inspected", default=False)
"""Whether a command is called for its options only."""


class _Inspected(Exception):
    """Ends a command that has declared its options."""

    def __init__(self, flags: Sequence[str]) -> None:
        super().__init__()
        self.flags = list(flags)


def end_if_inspected(flags: Sequence[str]) -> None:
    """End the command here, which has declared these options, where it is called for them only."""
    if _is_inspected.get():
        raise _Inspected(flags)


def options_of_command(command: str) -> list[str]:
    """Return the options of a command, such as ``data get``, which is not run."""
    token = _is_inspected.set(True)
    try:
        load_command(command)([])
    except _Inspected as inspected:
        return inspected.flags
    finally:
        _is_inspected.reset(token)
    raise AssertionError(f"{command} has no parser")


def unknown_option_message(argument: str, flags: Sequence[str]) -> str:
    """Return a sentence on an argument that a command with these options doesn't have, and what may be meant by it."""
    if not argument.startswith("-"):
        return f"'{argument}' is one argument too many."
    synonyms = _SYNONYMS.get(argument.lstrip("-").replace("_", "-").lower(), ())
    if meant := [flag for flag in synonyms if flag in flags]:
        return f"Unknown option '{argument}'. Did you mean '{meant[0]}'?"
    # An option of another command is no misspelling: the nearest of this command's may do something else.
    if commands := _commands_with_option(argument):
        names = [f"`nephros {command}`" for command in commands]
        listed = join_words(names) if len(names) <= _MAX_COMMANDS else f"{', '.join(names[:_MAX_COMMANDS])} and others"
        return f"Unknown option '{argument}': it is an option of {listed}."
    return f"Unknown option '{argument}'.{did_you_mean(argument, _with_values(flags))}"


def _commands_with_option(argument: str) -> list[str]:
    option = argument.replace("_", "-")
    return [
        command
        for command in all_commands()
        if option in {flag.replace("_", "-") for flag in _with_values(options_of_command(command))}
    ]


def _with_values(flags: Sequence[str]) -> list[str]:
    """Return the options without those that stand for a group of fields, which take no value."""
    return [flag for flag in flags if not any(other.startswith(f"{flag}.") for other in flags)]
