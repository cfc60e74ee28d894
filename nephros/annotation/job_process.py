"""A child process of a project's server, `python -m nephros.annotation.job_process MODULE ...`, which runs a module.

It has low priority, and ends when its input closes: a server that is killed leaves no process behind.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import sys
import threading

NICENESS = 10


def main() -> None:
    """Run the module in the first argument, such as ``nephros``, with the other arguments."""
    threading.Thread(target=_end_with_input, daemon=True).start()
    if hasattr(os, "nice"):
        with contextlib.suppress(OSError):
            os.nice(NICENESS)
    module = sys.argv.pop(1)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _end_with_input() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
