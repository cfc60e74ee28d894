"""Fine-tuning from the annotation page: live jobs, and a run's report and exports; and labels that come back as GeoJSON."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from nephros.annotation.project import Project
from nephros.runs import RunFolder
from tests.annotation.conftest import write_stack
from tests.server.live_server import run_server
from tests.ui.conftest import CHROMIUM, open_page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]
N_LABELS = 6
NO_LIMIT_MS = 0.0
"""Playwright waits for as long as the machine needs."""


@pytest.fixture
def project_folder(tmp_path: Path, run_folder: RunFolder, cells_npz: Path) -> Path:
    """A project of a stack, with labels and a copied run that has a report."""
    stack, mask, _ = write_stack(tmp_path, shape=(9, 80, 64))
    project = Project.create(tmp_path / "kidney")
    project.add_cells(stack, mask=str(mask))
    for name in ("Round", "Long"):
        project.labels.add_class(name)
    project.labels.apply([(cell, cell % 2) for cell in range(N_LABELS)], "Ann")
    project.close()
    runs = tmp_path / "kidney/runs"
    shutil.copytree(run_folder.root, runs / "copied")
    (runs / "copied/report.html").write_text("<h1>Report of a run</h1>", encoding="utf-8")
    shutil.copy(cells_npz, runs / "copied.npz")
    return tmp_path / "kidney"


def test_jobs_runs_and_exports(browser: Any, project_folder: Path, tmp_path: Path) -> None:
    with (
        run_server(["--project", project_folder, "--reference-data", "none"]) as server,
        open_page(browser, f"{server.address}/annotate", 1280, "light", (server.address, "data:", "blob:")) as opened,
    ):
        page = opened.page
        page.set_default_timeout(NO_LIMIT_MS)
        page.get_by_role("button", name="Fine-tune").click()
        page.get_by_text(f"on the {N_LABELS} labels").wait_for()
        page.get_by_placeholder("Name (optional)").fill("second")
        page.get_by_role("button", name="Start").click()
        job = page.locator("dialog li[data-state]", has_text="finetune second")
        job.get_by_role("button", name="Cancel").click()
        page.locator("dialog li[data-state=canceled]", has_text="finetune second").wait_for()
        assert page.locator("dialog li[data-state]").count() == 1
        files = {}
        for name in ("Table", "GeoJSON"):
            with page.expect_download(timeout=NO_LIMIT_MS) as download:
                page.get_by_role("button", name=name, exact=True).click()
            files[name] = Path(download.value.path()).read_text(encoding="utf-8")
            page.locator("dialog button:disabled").wait_for(state="detached")
        rows = list(csv.DictReader(files["Table"].splitlines()))
        assert [int(row["cell"]) for row in rows] == list(range(len(rows)))
        assert rows[0]["stack"] == "K4"
        assert str(tmp_path) not in files["Table"]
        assert json.loads(files["GeoJSON"])["type"] == "FeatureCollection"
        with page.context.expect_page(timeout=NO_LIMIT_MS) as report:
            page.get_by_role("link", name="Report").click()
        report.value.get_by_role("heading", name="Report of a run").wait_for()
        assert opened.problems == []


def test_labels_come_back_and_the_card_shows_the_tissue(browser: Any, project_folder: Path, tmp_path: Path) -> None:
    with (
        run_server(["--project", project_folder, "--reference-data", "none"]) as server,
        open_page(browser, f"{server.address}/annotate", 390, "dark", (server.address, "data:", "blob:")) as opened,
    ):
        page = opened.page
        page.set_default_timeout(NO_LIMIT_MS)
        page.get_by_label("Your name").fill("Bo")
        page.keyboard.press("Tab")
        page.get_by_role("button", name="Files").click()
        with page.expect_download(timeout=NO_LIMIT_MS) as download:
            page.get_by_role("link", name="GeoJSON").click()
        download.value.save_as(tmp_path / "labels.geojson")
        page.set_input_files("#import-labels", tmp_path / "labels.geojson")
        page.locator("dialog").get_by_text(f"labels: {N_LABELS},").wait_for()
        assert opened.problems == []
        (tmp_path / "bad.csv").write_text("a,b\n1,2\n", encoding="utf-8")
        page.set_input_files("#import-labels", tmp_path / "bad.csv")
        status = page.locator("dialog").get_by_text("bad.csv can't be read")
        status.wait_for()
        assert str(tmp_path) not in status.inner_text()
        assert "`" not in status.inner_text()
        page.keyboard.press("Escape")
        page.get_by_role("button", name="agreement").click()
        page.locator("dialog tbody tr", has_text="Ann, Bo").wait_for()
        page.keyboard.press("Escape")
        page.locator("dialog").wait_for(state="detached")
        page.focus(".grid")
        page.keyboard.press("Enter")
        page.locator(".tissue img").wait_for()
        assert page.locator(".tissue path").get_attribute("d")
        before = page.locator(".tissue img").get_attribute("src")
        page.locator(".tissue input").focus()
        page.keyboard.press("Home")
        page.locator(".tissue", has_text="Slice").wait_for()
        assert page.locator(".tissue img").get_attribute("src") != before
