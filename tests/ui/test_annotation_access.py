"""The annotation page below a reverse proxy's path prefix, and on a server that other machines may open with a token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nephros.annotation.project import Project
from nephros.data.synthetic import make_synthetic
from tests.server.live_server import run_server
from tests.server.prefix_proxy import run_proxy
from tests.ui.conftest import CHROMIUM, open_page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]
TOKEN, PREFIX = "0123456789abcdefghij", "/lab/nephros"


@pytest.fixture
def project_folder(tmp_path: Path) -> Path:
    """A project of a few cells and a class."""
    np.savez(tmp_path / "cells.npz", images=make_synthetic(10, 40, 10, seed=5).val.images)
    project = Project.create(tmp_path / "kidney")
    project.add_cells(tmp_path / "cells.npz")
    project.labels.add_class("Round")
    project.close()
    return tmp_path / "kidney"


def test_below_a_path_prefix(browser: Any, project_folder: Path) -> None:
    args = ["--project", project_folder, "--reference-data", "none", "--root-path", PREFIX]
    with run_server(args) as server, run_proxy(server.port, PREFIX) as address:
        _label_rename_and_export(browser, f"{address}/annotate", address, 1280)


def test_with_a_token_on_a_phone(browser: Any, project_folder: Path) -> None:
    args = ["--project", project_folder, "--reference-data", "none", "--host", "0.0.0.0"]
    with run_server([*args, "--allow-host", "127.0.0.1", "--token", TOKEN]) as server:
        assert server.request("GET", "/annotate")[0] == 401
        with open_page(
            browser, f"{server.address}/annotate?token=of-yesterday", 390, "dark", (server.address,)
        ) as opened:
            opened.page.get_by_role("heading", name="This address needs a token").wait_for()
            opened.page.get_by_text("Open the whole address").wait_for()
            assert opened.page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        assert server.request("GET", "/project")[0] == 401
        _label_rename_and_export(browser, f"{server.address}/annotate?token={TOKEN}", server.address, 390)


def _label_rename_and_export(browser: Any, url: str, prefix: str, width: int) -> None:
    """Read, write, rename a class and download, in a page that requests nothing outside of `prefix`."""
    with open_page(browser, url, width, "light", (prefix, "data:", "blob:")) as opened:
        page = opened.page
        page.wait_for_selector(".grid")
        assert TOKEN not in page.url
        page.get_by_label("Sort by").select_option(label="Position in the data")
        page.locator("#active-cell[aria-label^='Cell 0,']").wait_for(state="attached")
        page.focus(".grid")
        page.keyboard.press("1")
        page.get_by_text("1 of 40").wait_for()  # the server's events say so
        page.get_by_role("button", name="Edit Round").click()
        page.get_by_label("Name", exact=True).fill("Spherical")
        page.get_by_role("button", name="Save").click()
        page.get_by_role("button", name="Edit Spherical").wait_for()
        page.get_by_role("button", name="Files").click()
        with page.expect_download() as download:
            page.get_by_role("link", name="CSV").click()
        _, row = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
        assert row.startswith("0,Spherical,anonymous,")
        assert "/" not in row
        assert opened.problems == []
