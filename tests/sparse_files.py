"""Large files that take up no space on the disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def lengthen(path: Path, n_bytes: int) -> None:
    """Make a file as long as `n_bytes` without writing to it; skip the test where the file system can't do that."""
    try:
        os.truncate(path, n_bytes)
    except OSError as error:
        pytest.skip(f"no file of {n_bytes:,} bytes can be made here ({error.strerror})")
    if 512 * getattr(path.stat(), "st_blocks", 0) > n_bytes // 2:
        pytest.skip("this file system has no sparse files")
