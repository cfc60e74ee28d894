"""Stacks that are dropped on the page: with a mask, without one, and with what their files leave open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nephros
from tests.server.live_server import LiveServer, run_server
from tests.server.stack_samples import MASK, MASK_FILE, PIXELS, STACK, encode_tiff
from tests.ui.classify_page import download_table, drop, open_card, open_classify_page, upload, wait_for_results
from tests.ui.conftest import CHROMIUM

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with run_server(["--reference-data", "none"]) as live_server:
        yield live_server


@pytest.mark.parametrize("width", [1280, 390])
def test_a_stack_and_its_mask_become_a_gallery_and_a_table(
    browser: Any, server: LiveServer, tmp_path: Path, width: int
) -> None:
    for name, data in (STACK, MASK_FILE):
        (tmp_path / name).write_bytes(data)
    expected = nephros.predict(tmp_path / STACK[0], mask=tmp_path / MASK_FILE[0]).to_columns()
    with open_classify_page(browser, server, width) as opened:
        page = opened.page
        drop(page, [MASK_FILE, STACK])
        wait_for_results(page)
        n = len(expected["id"])
        assert page.locator("#summary").inner_text().startswith(f"{n} cells classified")
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        rows = download_table(page)
        assert [int(row["id"]) for row in rows] == expected["id"]
        assert [row["class_name"] for row in rows] == expected["class_name"]
        for name in ("z", "y_um", "volume_um3", "p_0"):
            assert [float(row[name]) for row in rows] == pytest.approx(expected[name], abs=2e-6)
        card = open_card(page, 2)
        assert f"{STACK[0]}, nucleus {expected['id'][2]}" in card.inner_text()
        assert f"z {expected['z'][2]:.1f}" in card.inner_text()
        card.locator("#show-saliency").check()
        card.locator("canvas.saliency").wait_for()
        card.get_by_role("button", name="Close the card").click()
        page.get_by_text("How the nuclei were segmented").click()
        assert f"{n} nuclei by the mask {MASK_FILE[0]}" in page.locator(".notes").inner_text()


def test_a_stack_without_a_mask_is_recognized_and_segmented(browser: Any, server: LiveServer, tmp_path: Path) -> None:
    (tmp_path / STACK[0]).write_bytes(STACK[1])
    expected = nephros.predict(tmp_path / STACK[0])
    with open_classify_page(browser, server) as opened:
        page = opened.page
        upload(page, tmp_path / STACK[0])
        assert page.locator("#summary").inner_text().startswith(f"{len(expected)} cells classified")
        assert page.locator(".failed").count() == 0


def test_the_page_says_what_a_stack_leaves_open(browser: Any, server: LiveServer) -> None:
    files = [("K5.tif", encode_tiff(PIXELS)), ("K5_mask.tif", MASK_FILE[1])]
    with open_classify_page(browser, server) as opened:
        page = opened.page
        drop(page, files)
        page.wait_for_selector(".failed")
        wait_for_results(page)
        message = page.locator(".failed").inner_text()
        assert message.startswith("K5.tif")
        assert "enter the voxel size under Options" in message
        page.locator("#clear").click()
        page.locator(".options summary").click()
        page.locator("#voxel-size").fill("1, 0.5, 0.5")
        drop(page, files)
        wait_for_results(page)
        n = len(np.unique(MASK)) - 1
        assert page.locator("#summary").inner_text().startswith(f"{n} cells classified")


def test_stopping_a_stack_leaves_the_page_ready(browser: Any, server: LiveServer) -> None:
    with open_classify_page(browser, server) as opened:
        page = opened.page
        requests: list[Any] = []
        page.route("**/predict/stack?*", lambda route: requests.append(route))  # never fulfilled
        drop(page, [STACK, MASK_FILE])
        page.get_by_text("uploading").wait_for()
        page.locator("#stop").click()
        page.wait_for_selector("#progress", state="hidden")
        assert page.locator(".failed").count() == 2
        page.unroute("**/predict/stack?*")
        page.locator("#clear").click()
        drop(page, [STACK, MASK_FILE])
        wait_for_results(page)
        assert page.locator(".failed").count() == 0
