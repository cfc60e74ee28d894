"""The software versions and the commit that a result depends on."""

from __future__ import annotations

import functools
import importlib.metadata
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
