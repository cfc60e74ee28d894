"""What a process runs on: software versions, the commit of a checkout, and available host memory."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import logging
import os
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path

logger = logging.getLogger(__name__)

__version__ = "0.1.0"

PROCESS_DEFAULTS = {
    # If other processes are busy, OpenMP threads that spin while waiting are many times slower than threads that sleep.
    "OMP_WAIT_POLICY": "PASSIVE",
    # Waking up is slow too: spinning for some microseconds first (GNU's OpenMP) makes two threads a quarter faster on an idle
    # machine, and somewhat slower on a busy one (python -m benchmarks.waiting).
    "GOMP_SPINCOUNT": "2000",
    # Some builds of ONNX Runtime send telemetry to Microsoft, and write a file for it, unless disabled before the import.
    "ORT_DISABLE_TELEMETRY": "1",
}
"""Environment variables of processes that are ours: the command line, its workers, and benchmarks. They count only before torch
is imported. A program that imports nephros keeps its environment."""


def set_process_defaults() -> None:
    """Set those of `PROCESS_DEFAULTS` that are not set; only for a process that is ours."""
    for name, value in PROCESS_DEFAULTS.items():
        os.environ.setdefault(name, value)


@contextlib.contextmanager
def temporary_default(name: str) -> Iterator[None]:
    """Within the block, a variable of `PROCESS_DEFAULTS` is set; afterwards it is as before."""
    if name in os.environ:
        yield
        return
    os.environ[name] = PROCESS_DEFAULTS[name]
    try:
        yield
    finally:
        del os.environ[name]


@functools.cache
def warn_of_spinning_threads(threads: int) -> None:
    """Log once that threads that spin while they wait are slow, where there are several and the machine is busy."""
    if threads < 2 or os.environ.get("OMP_WAIT_POLICY") or not hasattr(os, "getloadavg"):
        return
    n_cores, load = os.cpu_count() or 1, os.getloadavg()[0]
    if load > n_cores:
        logger.warning(
            "Other processes keep this machine busy (load %.1f on %d cores), and threads that spin while they wait for each "
            "other are then many times slower: set the environment variable OMP_WAIT_POLICY to PASSIVE before Python starts, or "
            "`threads` to 1.",
            load,
            n_cores,
        )


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


_CGROUP = Path("/sys/fs/cgroup")


def available_memory() -> int:
    """Return the bytes of host memory available to new arrays, within a container's limit; 4 GiB if unknown."""
    return min(_system_available(), _cgroup_available())


def _cgroup_available() -> int:
    """Return the bytes left to this process's control group (version 2), or a huge number without a limit.

    Files that were read stay in memory as long as nothing else needs it, so their pages count as available.
    """
    with contextlib.suppress(OSError, ValueError):
        limit, used = (int((_CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        lines = (_CGROUP / "memory.stat").read_text().splitlines()
        cached = sum(int(line.split()[1]) for line in lines if line.startswith(("active_file ", "inactive_file ")))
        return max(0, limit - used + cached)
    return 1 << 62


def _system_available() -> int:
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    with contextlib.suppress(AttributeError, ValueError, OSError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 4 << 30
