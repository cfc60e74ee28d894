"""What software a result was made with."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import subprocess
from pathlib import Path

__version__ = "0.1.0"


def versions() -> dict[str, str]:
    """Return the versions of nephros, Python and the libraries that numbers depend on."""
    found = {"nephros": __version__, "python": platform.python_version()}
    for package in ("torch", "numpy", "scikit-learn"):
        found[package] = importlib.metadata.version(package)
    return found


@functools.cache
def commit() -> str | None:
    """Return the commit of the nephros checkout, marked ``+changes`` where files differ; None outside a checkout."""
    folder = Path(__file__).parent
    if not (folder.parent / ".git").exists():
        return None
    try:
        run = [
            subprocess.run(
                ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10, check=True
            ).stdout
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no", "."])
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    return run[0].strip() + ("+changes" if run[1].strip() else "")
