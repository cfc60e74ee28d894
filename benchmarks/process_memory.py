"""Memory of a process, by Linux's /proc; imports nothing large, which would count as well."""

from __future__ import annotations

from pathlib import Path


def process_memory(field: str, pid: int | str = "self") -> int:
    """Return the bytes of memory that a process uses (VmRSS) or has used at most (VmHWM); by default this one.

    getrusage's ru_maxrss won't do: a new process inherits it from its parent.
    """
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/{pid}/status has no {field}.")
