"""The annotation page of a live `nephros serve --project` in a real browser: from the drop of cells to exported labels."""

from __future__ import annotations

import csv
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nephros.annotation.project import Project
from nephros.data.synthetic import make_synthetic
from tests.server.live_server import LiveServer, run_server
from tests.ui.annotate_page import label_by_keys, open_annotate, wait_until, wait_until_saved
from tests.ui.conftest import CHROMIUM, LAYOUTS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]
N_CELLS = 240
HTML_NAME = "<img src=x onerror=alert(1)> & <b>bold</b>"
AXE = Path(__file__).parents[2] / "frontend/node_modules/axe-core/axe.min.js"


@pytest.fixture(scope="module")
def cells_npz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An npz file of synthetic cells."""
    file = tmp_path_factory.mktemp("cells") / "cells.npz"
    np.savez(file, val_images=make_synthetic(10, N_CELLS, 10, seed=5).val.images)
    return file


@pytest.fixture
def project_folder(tmp_path: Path, cells_npz: Path) -> Path:
    """A project with cells, two classes and no label."""
    project = Project.create(tmp_path / "kidney")
    project.add_cells(cells_npz)
    for name in ("Round", "Long"):
        project.labels.add_class(name)
    return tmp_path / "kidney"


@pytest.fixture
def server(project_folder: Path) -> Iterator[LiveServer]:
    with run_server(["--project", project_folder, "--reference-data", "none"]) as live_server:
        yield live_server


def _stored_labels(server: LiveServer) -> list[str]:
    status, _, text = server.request("GET", "/project/labels.csv")
    assert status == 200
    rows = list(csv.DictReader(text.decode("utf-8-sig").splitlines()))
    return [row["class"] for row in rows if row["class"]]


def test_from_the_drop_of_cells_to_a_classifier_and_exported_labels(
    browser: Any, tmp_path: Path, cells_npz: Path
) -> None:
    with (
        run_server(["--project", tmp_path / "new", "--reference-data", "none"]) as server,
        open_annotate(browser, server.address) as opened,
    ):
        page = opened.page
        drop_js = """data => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(data)], 'cells.npz'));
            const options = { dataTransfer: transfer, bubbles: true, cancelable: true };
            document.getElementById('drop-zone').dispatchEvent(new DragEvent('drop', options)) }"""
        page.evaluate(drop_js, list(cells_npz.read_bytes()))
        page.wait_for_selector(".grid")
        assert page.locator("#n-labels").inner_text() == f"0 of {N_CELLS}"
        for name in ("Round", HTML_NAME):
            page.fill("#new-class", name)
            page.keyboard.press("Enter")
            page.get_by_role("button", name=f"Edit {name}").wait_for()
        label_by_keys(page, "1212121212")
        wait_until_saved(page)
        wait_until(page, "document.querySelector('#accuracy').innerText.includes('%')")
        assert page.locator("#n-labels").inner_text() == f"10 of {N_CELLS}"
        page.keyboard.press("Enter")
        page.wait_for_selector(".cell-card .probabilities tbody tr")
        assert page.locator(".cell-card .probabilities tbody tr").count() == 2
        assert page.locator(".cell-card .similar-cells li").count() > 0
        page.get_by_role("button", name="Files").click()
        with page.expect_download() as download:
            page.get_by_role("link", name="CSV").click()
        text = Path(download.value.path()).read_text(encoding="utf-8-sig")
        assert text.count("onerror") == 5  # as text, however the table quotes it
        assert page.locator("img[onerror]").count() == 0
        assert opened.problems == []


def test_labels_survive_a_reload_and_can_be_undone(browser: Any, server: LiveServer) -> None:
    with open_annotate(browser, server.address) as opened:
        page = opened.page
        label_by_keys(page, "112")
        wait_until_saved(page)
        page.reload()
        page.wait_for_selector(".grid")
        wait_until(page, "document.querySelector('#n-labels').innerText.startsWith('3 ')")
        label_by_keys(page, "2")
        page.keyboard.press("z")
        wait_until_saved(page)
        wait_until(page, "document.querySelector('#n-labels').innerText.startsWith('3 ')")
        assert sorted(_stored_labels(server)) == ["Long", "Round", "Round"]
        page.keyboard.press("y")
        wait_until(page, "document.querySelector('#n-labels').innerText.startsWith('4 ')")
        assert opened.problems == []


def test_unsaved_labels_are_shown_as_such_and_saved_after_the_server_was_killed(
    browser: Any, project_folder: Path
) -> None:
    args = ["--project", project_folder, "--reference-data", "none"]
    with run_server(args) as server, open_annotate(browser, server.address) as opened:
        page = opened.page
        label_by_keys(page, "12")
        wait_until_saved(page)
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        page.wait_for_selector(".save-state[data-state=waiting]")
        label_by_keys(page, "11")
        wait_until(page, "document.querySelector('.save-state').innerText.startsWith('2 labels not saved')")
        with run_server([*args, "--port", str(server.port)]) as restarted:
            wait_until_saved(page)
            assert sorted(_stored_labels(restarted)) == ["Long", "Round", "Round", "Round"]


def test_a_page_starts_anew_when_the_server_was_started_with_another_project(
    browser: Any, project_folder: Path, cells_npz: Path, tmp_path: Path
) -> None:
    args = ["--reference-data", "none", "--project"]
    liver = Project.create(tmp_path / "liver")
    liver.add_cells(cells_npz)
    liver.labels.add_class("Hepatocyte")
    liver.close()
    with run_server([*args, project_folder]) as server, open_annotate(browser, server.address) as opened:
        page, port = opened.page, str(server.port)
        label_by_keys(page, "1")
        wait_until_saved(page)
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        page.wait_for_selector(".save-state[data-state=waiting]")
        label_by_keys(page, "1")
        with run_server([*args, tmp_path / "liver", "--port", port]) as other:
            page.locator("h1", has_text="liver").wait_for()
            page.wait_for_selector(".grid")
            assert page.get_by_role("button", name="Undo").is_disabled()
            assert _stored_labels(other) == []
        with run_server([*args, project_folder, "--port", port]) as again:
            page.locator("h1", has_text="kidney").wait_for()
            wait_until_saved(page)
            page.locator("#n-labels", has_text=f"2 of {N_CELLS}").wait_for()
            assert _stored_labels(again) == ["Round", "Round"]


def test_two_pages_see_each_others_labels(browser: Any, server: LiveServer) -> None:
    with open_annotate(browser, server.address) as first, open_annotate(browser, server.address) as second:
        for opened, name in ((first, "Ada"), (second, "Bo")):
            opened.page.get_by_label("Your name").fill(name)
            opened.page.keyboard.press("Tab")
            opened.page.get_by_label("Sort by").select_option(label="Position in the data")
            wait_until(opened.page, "document.querySelector('#active-cell').ariaLabel.startsWith('Cell 0')")
        label_by_keys(first.page, "1")
        wait_until(second.page, "document.querySelector('#n-labels').innerText.startsWith('1 ')")
        label_by_keys(second.page, "2")  # the same cell
        second.page.get_by_role("button", name=re.compile("agreement")).click()
        second.page.wait_for_selector("dialog table tbody tr")
        row = second.page.locator("dialog tbody tr").inner_text()
        assert "Ada" in row
        assert "Bo" in row
        wait_until(first.page, "document.body.innerText.includes('agreement')")
        second.page.keyboard.press("Escape")
        second.page.wait_for_selector("dialog", state="detached")
        second.page.get_by_role("button", name="Undo").click()
        wait_until(second.page, "document.querySelector('.class-numbers').innerText.startsWith('1')")
        (cell,) = server.json("GET", "/project/cells?cells=0")[1]
        assert (cell["label"], cell["labels_by"]) == (0, {"Ada": 0})
        assert first.problems == []
        assert second.problems == []


def test_classes_are_renamed_recolored_and_merged(browser: Any, server: LiveServer) -> None:
    with open_annotate(browser, server.address) as opened:
        page = opened.page
        label_by_keys(page, "12")
        page.get_by_role("button", name="Edit Round").click()
        page.get_by_label("Name", exact=True).fill("Spherical")
        page.get_by_label("Color #cc79a7").check()
        page.get_by_role("button", name="Save").click()
        page.get_by_role("button", name="Edit Spherical").wait_for()
        swatch = page.locator(".class-panel .class-row .swatch").first
        assert swatch.evaluate("e => getComputedStyle(e).backgroundColor") == "rgb(204, 121, 167)"
        page.get_by_role("button", name="Edit Spherical").click()
        page.get_by_label("Merge into").select_option(label="Long")
        page.get_by_role("button", name="Merge", exact=True).click()
        wait_until(page, "document.querySelectorAll('.class-panel .class-row').length === 1")
        assert _stored_labels(server) == ["Long", "Long"]
        assert opened.problems == []


def test_all_shown_are_labeled_at_once_and_the_filter_hides_them(browser: Any, server: LiveServer) -> None:
    with open_annotate(browser, server.address) as opened:
        page = opened.page
        page.get_by_role("button", name="Label all shown").click()
        page.locator("dialog").get_by_role("button", name="Long").click()
        wait_until(page, f"document.querySelector('#n-labels').innerText.startsWith('{N_CELLS} ')")
        page.locator(".menu summary").click()
        page.get_by_label("Unlabeled").check()
        page.get_by_text("No cell passes the filters").wait_for()
        page.get_by_role("button", name="Undo").click()
        wait_until(page, "document.querySelector('#n-labels').innerText.startsWith('0 ')")
        assert opened.problems == []


@pytest.mark.parametrize(("width", "theme"), LAYOUTS, ids=lambda value: str(value))
def test_the_page_fits_and_is_accessible(browser: Any, server: LiveServer, width: int, theme: str) -> None:
    if not AXE.is_file():
        pytest.skip("axe-core comes with frontend/node_modules: run make check where Node 20 is")
    with open_annotate(browser, server.address, width, theme) as opened:
        page = opened.page
        page.evaluate(AXE.read_text())
        for name in ("Thick ascending limb of Henle", "Collecting duct"):
            page.fill("#new-class", name)
            page.keyboard.press("Enter")
            page.get_by_role("button", name=f"Edit {name}").wait_for()
        label_by_keys(page, "1212121212")
        wait_until(page, "document.querySelector('#accuracy').innerText.includes('%')")
        _assert_accessible(page)
        page.keyboard.press("Enter")
        page.wait_for_selector(".cell-card .probabilities")
        _assert_accessible(page)
        page.get_by_role("button", name="Close the card").click()
        for name in ("Fine-tune", "Files"):
            page.get_by_role("button", name=name).click()
            page.wait_for_selector("dialog[open]")
            _assert_accessible(page)
            page.keyboard.press("Escape")
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def _assert_accessible(page: Any) -> None:
    violations = page.evaluate("axe.run().then(result => result.violations)")
    assert [(entry["id"], [node["html"][:160] for node in entry["nodes"]]) for entry in violations] == []


def test_everything_can_be_done_by_keyboard(browser: Any, server: LiveServer) -> None:
    with open_annotate(browser, server.address) as opened:
        page = opened.page

        def tab_to(selector: str) -> None:
            for _ in range(60):
                page.keyboard.press("Tab")
                if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                    return
            raise AssertionError(f"{selector} can't be reached by keyboard")

        tab_to("#new-class")
        page.keyboard.type("Third")
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Edit Third").wait_for()
        tab_to(".grid")
        page.keyboard.press("Shift+ArrowRight")
        page.keyboard.press("Shift+ArrowRight")
        assert page.locator("#shown").inner_text().startswith("3 selected")
        page.keyboard.press("3")
        wait_until(page, "document.querySelector('#n-labels').innerText.startsWith('3 ')")
        page.keyboard.press("Enter")
        page.wait_for_selector(".cell-card h2")
        page.keyboard.press("Escape")
        page.wait_for_selector(".cell-card", state="detached")
        page.keyboard.press("u")
        page.keyboard.press("?")
        page.wait_for_selector("dialog[open]")
        page.keyboard.press("Escape")
        page.wait_for_selector("dialog", state="detached")
        assert page.evaluate("document.activeElement.matches('.grid')")
        wait_until_saved(page)
        assert _stored_labels(server) == ["Third"] * 3
        assert opened.problems == []
