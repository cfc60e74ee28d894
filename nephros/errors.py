"""The errors that nephros raises for what comes from outside it: arguments, files, other processes.

    NephrosError
     ├─ InvalidArgument     a parameter has a value that it can't have (also a ValueError)
     │   └─ UnknownName     a parameter names something that doesn't exist
     ├─ FileError           a file or folder is missing, unreadable, damaged or of another kind
     ├─ IncompatibleError   two things that don't fit together, such as a data set and a model (also a ValueError)
     ├─ IncompleteError     a run or a study that has not got far enough for what was asked
     ├─ MissingDependency   an optional dependency is not installed (also an ImportError)
     ├─ LockedError         another process is working in the same place
     └─ DivergedError       a loss or a network's output became NaN or infinite

A message is one plain sentence that names the file or parameter, what is wrong with its value, and what to do next. It
knows nothing of the command line: a parameter stands in backticks under its Python name, such as `batch_size`, and a
next step as the Python call, such as `nephros.resume('runs/x')`. `nephros.commands.messages` turns both into flags and commands.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator
from typing import Any

_SIMILARITY = 0.7
"""Share of letters in common from which a name is suggested; below it a suggestion misleads more often than it helps."""
_MAX_VALUE_LENGTH = 120


class NephrosError(Exception):
    """Base of all errors that input from outside causes; the command line prints its message and exits with status 2."""


class InvalidArgument(NephrosError, ValueError):
    """A parameter has a value that it can't have: "`parameter` is VALUE, but it must be EXPECTED."""

    def __init__(self, parameter: str, value: Any, expected: str, *, hint: str = "", source: str = "") -> None:
        """Name the parameter (dotted where it is nested), its value, and what is allowed, such as ``"at least 1"``.

        `hint` is a further sentence: what to do, or why. `source` names the file that holds the value, if one does.
        """
        self.parameter, self.value, self.expected = parameter, value, expected
        self.hint, self.source = hint, source
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        # A parameter in a file is a key there, not an argument: no backticks, which would make a flag of it.
        name = f"{self.source}: {self.parameter}" if self.source else f"`{self.parameter}`"
        return f"{name} is {_shorten(self.value)}, but it must be {self.expected}.{_spaced(self.hint)}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


class UnknownName(InvalidArgument):
    """A parameter names something that doesn't exist; the message suggests the nearest name that does."""

    def __init__(self, parameter: str, value: str, options: Iterable[str], *, kind: str = "", hint: str = "") -> None:
        """Name the parameter, its value and the names that exist; `kind` says what they are (default: the parameter)."""
        self.options, self.kind = tuple(options), kind or parameter
        super().__init__(parameter, value, f"one of {', '.join(self.options)}", hint=hint)

    def _sentence(self) -> str:
        suggestion = did_you_mean(self.value, self.options)
        return f"There is no {self.kind} '{_shorten(self.value)}'.{suggestion}{_spaced(self.hint)}"


class FileError(NephrosError):
    """A file or folder is missing, can't be read or written, is damaged, or is of another kind than was asked for."""

    def __init__(self, path: object, message: str) -> None:
        """Take the path or URL for programs (`.path`), and the whole sentence for people, which names it too."""
        self.path: Any = path
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


class IncompatibleError(NephrosError, ValueError):
    """Two things are right by themselves but don't fit together, such as a data set and a model of other classes."""


class IncompleteError(NephrosError):
    """A run or a study has not got far enough for what was asked of it."""


class MissingDependency(NephrosError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""


class LockedError(NephrosError):
    """Another process is working in the same place."""


class DivergedError(NephrosError):
    """A training's loss, or a network's output, became NaN or infinite."""


@contextlib.contextmanager
def require_extra(message: str, *modules: str) -> Iterator[None]:
    """Raise MissingDependency with `message` if one of `modules`, which an extra installs, is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in modules:
            raise
        raise MissingDependency(message) from None


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the nearest of `options`, or an empty string when none is near.

    The only option that begins with `name`, such as --tta-views with --tta, is the nearest. Case counts for nothing.
    """
    name, folded = str(name).casefold(), {option.casefold(): option for option in options}
    longer = [text for text in folded if text.startswith(name)] if len(name.strip("-")) > 2 else []
    matches = longer if len(longer) == 1 else difflib.get_close_matches(name, folded, n=1, cutoff=_SIMILARITY)
    return f" Did you mean '{folded[matches[0]]}'?" if matches else ""


def _spaced(hint: str) -> str:
    return f" {hint}" if hint else ""


def _shorten(value: Any) -> str:
    try:
        text = "empty" if value == "" else str(value)
    except ValueError:  # Python writes no number of more than 4,300 digits
        text = "a number of thousands of digits"
    return text if len(text) <= _MAX_VALUE_LENGTH else text[: _MAX_VALUE_LENGTH - 1] + "…"


def _rebuild(kind: type[NephrosError], args: tuple[Any, ...], state: dict[str, Any]) -> NephrosError:
    """Unpickle an error whose constructor takes more than its message."""
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


@contextlib.contextmanager
def say_how_to_continue(sentence: str) -> Iterator[None]:
    """Add the sentence to an interruption, or to an error of the system such as a full disk, as a note.

    Python shows notes below a traceback, and the command line in its message.
    """
    try:
        yield
    except (KeyboardInterrupt, OSError) as error:
        error.add_note(sentence)
        raise
