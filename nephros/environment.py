"""What a process runs on: software versions, the commit of a checkout, and available host memory."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

__version__ = "0.1.0"


def package_versions() -> dict[str, str]:
    """Return package -> version for nephros, Python and the libraries that affect numbers."""
    versions = {"nephros": __version__, "python": platform.python_version()}
    for package in ("torch", "numpy", "scikit-learn"):
        versions[package] = importlib.metadata.version(package)
    return versions


@functools.cache
def git_commit() -> str | None:
    """Return the checkout's commit, with ``+changes`` appended if tracked files differ; None outside a checkout."""
    package_dir = Path(__file__).parent
    if not (package_dir.parent / ".git").exists():
        return None
    try:
        outputs = [
            subprocess.run(
                ["git", "-C", str(package_dir), *args], capture_output=True, text=True, timeout=10, check=True
            ).stdout
            for args in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no", "."])
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    return outputs[0].strip() + ("+changes" if outputs[1].strip() else "")


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
