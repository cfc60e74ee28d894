"""How much host memory is free."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def free_host_memory() -> int:
    """Return the bytes of host memory that new arrays can take; 4 GiB where the system doesn't say."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    with contextlib.suppress(AttributeError, ValueError, OSError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 4 << 30
