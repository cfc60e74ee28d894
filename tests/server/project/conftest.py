"""A live server with a project of synthetic cells."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nephros.annotation.project import Project
from tests.conftest import square_images
from tests.server.live_server import LiveServer, run_server
from tests.server.project.project_client import ProjectClient

N_CELLS = 60


def make_project(root: Path, model: Path) -> Path:
    """Make a project of N_CELLS cells with two classes."""
    project = Project.create(root, model=model)
    np.savez(root.parent / "project-cells.npz", images=square_images(N_CELLS, 4, 3)[0])
    project.add_cells(root.parent / "project-cells.npz")
    project.labels.add_class("tubule")
    project.labels.add_class("glomerulus")
    project.close()
    return root


@pytest.fixture(scope="session")
def project_server(exported_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """Serve a project; tests use cells and classes of their own."""
    root = make_project(tmp_path_factory.mktemp("served") / "kidney", exported_model)
    with run_server(["--model", exported_model, "--reference-data", "none", "--project", root]) as server:
        yield server


@pytest.fixture
def client(project_server: LiveServer) -> ProjectClient:
    return ProjectClient(project_server)
