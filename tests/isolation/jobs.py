"""Functions that workers run in tests: they yield, hang, crash, eat memory and raise."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nephros.errors import FileError, InvalidArgument


def echo(*values: Any) -> Iterator[Any]:
    """Yield the values."""
    yield from values


def process_id() -> Iterator[int]:
    """Yield the process."""
    yield os.getpid()


def imported(module: str) -> Iterator[bool]:
    """Yield whether a module is imported already."""
    yield module in sys.modules


def arrays(n: int, size: int) -> Iterator[Any]:
    """Yield n arrays of so many bytes."""
    for i in range(n):
        yield np.full(size, i % 251, dtype=np.uint8), i


def hang(started: str = "") -> Iterator[int]:
    """Yield once, then never again, after making the file `started`."""
    yield 1
    _make(started)
    time.sleep(600)


def hang_holding_the_interpreter(started: str = "") -> Iterator[int]:
    """Never return from one call into C, after making the file `started`."""
    _make(started)
    yield sum(x for x in (2 ** (10**9),))


def _make(path: str) -> None:
    if path:
        Path(path).touch()


def sleep(seconds: float) -> Iterator[int]:
    """Yield after a while."""
    time.sleep(seconds)
    yield 1


def crash() -> Iterator[int]:
    """Read from nowhere."""
    yield 1
    ctypes.string_at(0)


def take_memory(n_bytes: int) -> Iterator[int]:
    """Yield the size of an array, all of which is written."""
    yield np.ones(n_bytes, dtype=np.uint8).nbytes


def print_text() -> Iterator[int]:
    """Print what would disturb messages."""
    print("disturbing", flush=True)
    os.write(1, b"disturbing")
    yield 1


def raise_file_error(path: str) -> Iterator[int]:
    """Yield, then raise."""
    yield 1
    raise FileError(Path(path), f"{path} is damaged.")


def raise_invalid_argument() -> Iterator[int]:
    """Raise an error with several fields."""
    raise InvalidArgument("channel", 7, "0 to 2", hint="Choose one.")
    yield 1


def raise_other() -> Iterator[int]:
    """Raise what no one expects."""
    yield 1
    raise ZeroDivisionError("a\nb")


def generator_of_nothing() -> Iterator[int]:
    """Yield nothing."""
    yield from ()
