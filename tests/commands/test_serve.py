"""SIGTERM ends `nephros serve` with status 0 at any time: while it imports, opens the model or the data, and before it serves."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

SLOWLY = """
import sys, time
def slowly(*_, **__):
    print("waiting", flush=True)
    time.sleep(60)
"""
SEAMS = {
    "imports": """
class Finder:
    def find_spec(self, name, *_):
        return slowly() if name == "uvicorn" else None
sys.meta_path.insert(0, Finder())
""",
    "model": "import nephros.exporters.loading as loading; loading.load_classifier = slowly",
    "data": "import nephros.workflows.serve as serve; serve._reference_cells = slowly",
    "before uvicorn": """
import uvicorn
load = uvicorn.Config.load
def slowly_first(config):
    print("waiting", flush=True)
    time.sleep(2)
    load(config)
uvicorn.Config.load = slowly_first
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("seam", SEAMS)
def test_sigterm_while_loading_exits_with_0(seam: str, exported_model: Path) -> None:
    code = f"{SLOWLY}{SEAMS[seam]}\nfrom nephros.cli import main; main(['serve', '--port', '0', *sys.argv[1:]])"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "--model", str(exported_model), "--reference-data", "none"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors.splitlines()[-1]) == (0, "Server stopped.")
    assert "Traceback" not in errors
