"""The annotation page with the nuclei of a stack: slices of the tissue, agreement of annotators, labels as GeoJSON and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from sklearn.metrics import cohen_kappa_score

from nephros.annotation.project import Project
from tests.annotation.conftest import write_stack
from tests.server.live_server import run_server
from tests.ui.annotate_page import open_annotate, wait_until
from tests.ui.conftest import CHROMIUM

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]
ANN = [0, 1, 0, 1, 0, 1, 0, 1]
BO = [0, 1, 0, 0, 0, 1, 1, 1]
"""Labels of the first cells."""
N_DISAGREE = sum(a != b for a, b in zip(ANN, BO, strict=True))
COLORS = ("#e69f00", "#56b4e9")


@pytest.fixture
def project_folder(tmp_path: Path) -> Path:
    """A project of a stack, some of whose nuclei were labeled by two annotators."""
    stack, mask, _ = write_stack(tmp_path, shape=(16, 128, 128))
    project = Project.create(tmp_path / "kidney")
    project.add_cells(stack, mask=str(mask))
    for name, color in zip(("Round", "Long"), COLORS, strict=True):
        project.labels.add_class(name, color)
    project.labels.apply(list(enumerate(ANN)), "Ann")
    project.labels.apply(list(enumerate(BO)), "Bo")
    project.close()
    return tmp_path / "kidney"


def test_slices_outline_and_neighbors(browser: Any, project_folder: Path) -> None:
    project = Project.open(project_folder)
    first = int(np.argmin(project.table.indices))
    location, tissue = project.location(first), project.tissue(first)
    labels = project.labels.current()
    project.close()
    assert location is not None
    assert tissue is not None
    with (
        run_server(["--project", project_folder, "--reference-data", "none"]) as server,
        open_annotate(browser, server.address, 390, "dark") as opened,
    ):
        page = opened.page
        page.get_by_label("Sort by").select_option(label="Position in the data")
        wait_until(page, f"document.querySelector('#active-cell').ariaLabel.startsWith('Cell {first},')")
        page.focus(".grid")
        page.keyboard.press("Enter")
        page.locator(".tissue img").wait_for()
        assert f"nucleus {location.id}" in page.locator(".cell-card").inner_text()
        assert (page.locator(".tissue path").get_attribute("d") or "").startswith("M")
        slider = page.locator(".tissue input")
        assert slider.input_value() == str(tissue.center)
        slider.focus()
        sources, circles = set(), dict[str, str]()
        for key in ["Home", *["ArrowRight"] * (len(tissue.slices) - 1)]:
            page.keyboard.press(key)
            sources.add(page.locator(".tissue img").get_attribute("src"))
            for circle in page.locator(".tissue circle").all():
                circles[circle.get_attribute("cx") or ""] = circle.evaluate("e => getComputedStyle(e).fill")
        assert len(sources) == len(tissue.slices) > 1
        rgb = [f"rgb({', '.join(str(int(color[i : i + 2], 16)) for i in (1, 3, 5))})" for color in COLORS]
        fills = {rgb[labels[neighbor.cell]] for neighbor in tissue.neighbors if labels[neighbor.cell] >= 0}
        assert fills <= set(circles.values())
        assert len(circles) == len({neighbor.x for neighbor in tissue.neighbors})
        assert opened.problems == []


def test_agreement_is_counted_and_its_cells_are_shown(browser: Any, project_folder: Path) -> None:
    with (
        run_server(["--project", project_folder, "--reference-data", "none"]) as server,
        open_annotate(browser, server.address) as opened,
    ):
        page = opened.page
        page.get_by_role("button", name="agreement").click()
        row = page.locator("dialog tbody tr", has_text="Ann, Bo")
        row.wait_for()  # all_inner_texts doesn't
        kappa = f"{cohen_kappa_score(ANN, BO):.2f}"
        assert row.locator("td").all_inner_texts() == [str(len(ANN)), str(N_DISAGREE), kappa]
        page.get_by_role("button", name="Show the cells on which they differ").click()
        page.get_by_text(f"{N_DISAGREE} cells", exact=True).wait_for()
        page.locator("dialog").wait_for(state="detached")
        page.focus(".grid")
        page.keyboard.press("Enter")
        history = page.locator(".cell-card", has_text="Ann")
        history.wait_for()
        assert "Bo" in history.inner_text()
        assert opened.problems == []


def test_labels_come_back_as_geojson(browser: Any, project_folder: Path, tmp_path: Path) -> None:
    with (
        run_server(["--project", project_folder, "--reference-data", "none"]) as server,
        open_annotate(browser, server.address) as opened,
    ):
        page = opened.page
        page.get_by_label("Your name").fill("Cleo")
        page.keyboard.press("Tab")
        page.get_by_role("button", name="Files").click()
        with page.expect_download() as download:
            page.get_by_role("link", name="GeoJSON").click()
        download.value.save_as(tmp_path / "labels.geojson")
        features = json.loads((tmp_path / "labels.geojson").read_text(encoding="utf-8"))["features"]
        assert len(features) == len(BO)
        page.set_input_files("#import-labels", tmp_path / "labels.geojson")
        page.locator("dialog").get_by_text(f"{len(BO)} labels set").wait_for()
        assert opened.problems == []
        (tmp_path / "bad.csv").write_text("a,b\n1,2\n", encoding="utf-8")
        page.set_input_files("#import-labels", tmp_path / "bad.csv")
        status = page.locator("dialog").get_by_text("bad.csv can't be read")
        status.wait_for()
        assert str(tmp_path) not in status.inner_text()
        assert "`" not in status.inner_text()
        page.keyboard.press("Escape")
        page.get_by_role("button", name="agreement").click()
        page.locator("dialog tbody tr", has_text="Bo, Cleo").wait_for()


def test_a_stack_that_does_not_state_its_voxel_size_is_read_with_the_users(browser: Any, tmp_path: Path) -> None:
    stack, mask, _ = write_stack(tmp_path, shape=(16, 128, 128))
    bare = tmp_path / "bare.ome.tif"
    tifffile.imwrite(bare, tifffile.imread(stack), metadata={"axes": "ZYX"}, ome=True)
    with (
        run_server(["--project", tmp_path / "new", "--reference-data", "none"]) as server,
        open_annotate(browser, server.address) as opened,
    ):
        page = opened.page
        page.set_input_files("#files", [bare, mask])
        message = page.get_by_role("status").filter(has_text="enter the voxel size under Options")
        message.wait_for()
        assert str(tmp_path) not in message.inner_text()
        page.get_by_text("Options", exact=True).click()
        page.get_by_label("Voxel size").fill("1, 0.5, 0.5")
        page.set_input_files("#files", [bare, mask])
        page.locator(".grid").wait_for()
        project = Project.open(tmp_path / "new")
        assert project.info.stacks[0].voxel_size == (1.0, 0.5, 0.5)
        assert opened.problems == []
