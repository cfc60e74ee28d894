"""Fine-tuning from the annotation page to its end: live progress, the run's report, and its files."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely.geometry
import tifffile

from nephros.annotation.project import Project
from nephros.exporters.loading import load_classifier
from tests.annotation.conftest import write_stack
from tests.server.live_server import run_server
from tests.ui.annotate_page import open_annotate
from tests.ui.conftest import CHROMIUM

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]
N_LABELS = 12
CLASSES = ("Round", "Long")
NO_LIMIT_MS = 0.0
"""Playwright waits for as long as the machine needs."""
RECORD_TEXTS = """() => {
    window.seen = [];
    const dialog = document.querySelector("dialog");
    const record = () => window.seen.push(...[...dialog.querySelectorAll("li[data-state]")].map((row) =>
        [row.dataset.state, row.innerText, row.querySelector("progress") !== null]));
    new MutationObserver(record).observe(dialog, { subtree: true, childList: true, characterData: true, attributes: true });
}"""


@pytest.fixture
def project_folder(tmp_path: Path) -> Path:
    """A project of a stack, some of whose nuclei have labels."""
    stack, mask, _ = write_stack(tmp_path, shape=(16, 128, 128))
    project = Project.create(tmp_path / "kidney")
    assert project.add_cells(stack, mask=str(mask)).n_added > N_LABELS
    for name in CLASSES:
        project.labels.add_class(name)
    project.labels.apply([(cell, cell % 2) for cell in range(N_LABELS)], "Ann")
    project.close()
    return tmp_path / "kidney"


def test_fine_tuning_to_its_end(browser: Any, project_folder: Path, tmp_path: Path) -> None:
    mask = tifffile.imread(tmp_path / "K4_mask.tif")
    with (
        run_server(["--project", project_folder, "--reference-data", "none"]) as server,
        open_annotate(browser, server.address) as opened,
    ):
        page = opened.page
        page.set_default_timeout(NO_LIMIT_MS)
        page.get_by_role("button", name="Fine-tune").click()
        page.get_by_text(f"on the {N_LABELS} labels").wait_for()
        page.evaluate(RECORD_TEXTS)
        page.get_by_role("radio", name="Quick").check()
        page.get_by_placeholder("Name (optional)").fill("first")
        page.get_by_role("button", name="Start").click()
        page.locator("dialog li[data-state=done]", has_text="Fine-tuning first").wait_for()
        texts = [text for state, text, has_bar in page.evaluate("window.seen") if state == "running" and has_bar]
        assert any("Fine-tuning first" in text and "%" in text for text in texts)
        assert not any(str(tmp_path) in text for text in texts)

        with page.context.expect_page(timeout=NO_LIMIT_MS) as report:
            page.get_by_role("link", name="Report").click()
        assert report.value.get_by_role("heading", level=1).inner_text()
        assert report.value.get_by_text("Round").count() > 0
        report.value.close()

        files = {name: _export(page, name, tmp_path) for name in ("ONNX", "Table", "GeoJSON")}
        titles = page.locator("dialog li[data-state=done] b").all_inner_texts()
        assert {f"Export of first as {name}" for name in files} <= set(titles)
        assert opened.problems == []

    assert set(load_classifier(files["ONNX"]).class_names) == set(CLASSES)
    with files["Table"].open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["cell"]) for row in rows] == list(range(len(rows)))
    assert sorted(int(row["id"]) for row in rows) == np.unique(mask[mask > 0]).tolist()
    features = json.loads(files["GeoJSON"].read_text(encoding="utf-8"))["features"]
    assert {
        (feature["properties"]["name"], feature["properties"]["classification"]["name"]) for feature in features
    } == {(row["id"], row["class_name"]) for row in rows}
    assert all(shapely.geometry.shape(feature["geometry"]).is_valid for feature in features)
    assert not any(str(tmp_path) in files[name].read_text(encoding="utf-8") for name in ("Table", "GeoJSON"))


def _export(page: Any, name: str, folder: Path) -> Path:
    """Press the button of a format, and return the file that is downloaded."""
    with page.expect_download(timeout=NO_LIMIT_MS) as download:
        page.get_by_role("button", name=name, exact=True).click()
    path: Path = folder / download.value.suggested_filename
    download.value.save_as(path)
    page.locator("dialog button:disabled").wait_for(state="detached")
    return path


def test_a_full_job_is_canceled(browser: Any, project_folder: Path) -> None:
    with (
        run_server(["--project", project_folder, "--reference-data", "none"]) as server,
        open_annotate(browser, server.address) as opened,
    ):
        page = opened.page
        page.set_default_timeout(NO_LIMIT_MS)
        page.get_by_role("button", name="Fine-tune").click()
        page.get_by_role("radio", name="Full").check()
        page.get_by_role("button", name="Start").click()
        job = page.locator("dialog li[data-state]", has_text="Fine-tuning run-1")
        job.get_by_role("button", name="Cancel").click()
        page.locator("dialog li[data-state=canceled]", has_text="Fine-tuning run-1").wait_for()
        page.locator("dialog").get_by_text("None yet.").wait_for()
        assert not (project_folder / "runs/run-1").exists()
        assert opened.problems == []
