"""One live server for all tests of this folder that don't change it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.live_server import LiveServer, run_server


@pytest.fixture(scope="session")
def server(exported_model: Path, cells_npz: Path) -> Iterator[LiveServer]:
    """Serve the exported model, with the cells that it was trained on as reference cells."""
    with run_server(["--model", exported_model, "--reference-data", cells_npz]) as live_server:
        yield live_server
