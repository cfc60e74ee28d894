"""Available host memory."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def available_memory() -> int:
    """Return the bytes of host memory available to new arrays, within a container's limit; 4 GiB if unknown."""
    return min(_system_available(), _cgroup_available())


def _cgroup_available() -> int:
    """Return the bytes left to this process's control group (version 2), or a huge number without a limit."""
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
