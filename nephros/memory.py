"""How much host memory is free."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def free_host_memory() -> int:
    """Return the bytes of host memory that new arrays can take, a container's limit included; 4 GiB where nothing says."""
    return min(_machine(), _container())


def _container() -> int:
    """Return what this process's control group (version 2) may still take; a huge number where there is no limit."""
    group = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):
        return int((group / "memory.max").read_text()) - int((group / "memory.current").read_text())
    return 1 << 62


def _machine() -> int:
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    with contextlib.suppress(AttributeError, ValueError, OSError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 4 << 30
