"""Processes that tests kill."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable


def kill(pids: Iterable[int]) -> None:
    """Kill child processes, and return when they are dead: until then, they look as if they could take another job."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # the parent's own `wait` still sees it
