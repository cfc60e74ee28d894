"""How much host memory is free."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def available_memory() -> int:
    """Return the bytes of host memory that new arrays can take, a container's limit included; 4 GiB where nothing says."""
    return min(_system_available(), _cgroup_available())


def _cgroup_available() -> int:
    """Return what this process's control group (version 2) may still take; a huge number where there is no limit."""
    cgroup = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):
        return int((cgroup / "memory.max").read_text()) - int((cgroup / "memory.current").read_text())
    return 1 << 62


def _system_available() -> int:
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    with contextlib.suppress(AttributeError, ValueError, OSError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 4 << 30
