"""What the tests of the page that classifies uploads share: its files, how it is opened, and how its gallery is used."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nephros.data.synthetic import make_synthetic
from tests.server.live_server import LiveServer
from tests.ui.conftest import LAYOUTS, TIMEOUT_MS, OpenPage, open_page

PAUSE_MS = 20
N_TRIES = TIMEOUT_MS // PAUSE_MS
AXE = Path(__file__).parents[2] / "frontend/node_modules/axe-core/axe.min.js"
HOSTILE = "=cmd|'x' <b onclick=alert(1)>,\".png"


def write_cells(root: Path) -> Path:
    """Write seventy image files, among them a broken, an inverted and an oddly named one, and an npz file of 100 cells."""
    images = make_synthetic(10, 100, 10, seed=5).val.images
    for i, image in enumerate(images[:67]):
        Image.fromarray(image).save(root / f"cell-{i:02}.png")
    (root / "a-broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    Image.fromarray(255 - images[0]).save(root / "b-inverted.png")
    Image.fromarray(images[1]).save(root / HOSTILE)
    np.savez(root / "cells.npz", val_images=images)
    return root


@contextlib.contextmanager
def open_classify_page(
    browser: Any, server: LiveServer, width: int = LAYOUTS[0][0], theme: str = LAYOUTS[0][1]
) -> Iterator[OpenPage]:
    """Open the page, and check at the end that nothing went wrong in it."""
    with open_page(browser, server.address, width, theme, (server.address, "data:", "blob:")) as opened:
        opened.page.wait_for_selector("#drop-zone[data-ready=yes]")
        yield opened
        assert opened.problems == []


def upload(page: Any, *files: Path) -> None:
    """Choose files and wait for all results."""
    summary = page.locator("#summary")
    previous = summary.inner_text() if summary.count() else ""
    page.set_input_files("#files", [str(file) for file in files])
    page.wait_for_selector("#results", state="visible")
    for _ in range(N_TRIES):
        if summary.inner_text() != previous:
            break
        page.wait_for_timeout(PAUSE_MS)
    wait_for_results(page)
    assert summary.inner_text() != previous


def wait_for_results(page: Any) -> None:
    """Return once there are results and none are under way."""
    page.wait_for_selector("#results", state="visible")
    page.wait_for_selector("#progress", state="hidden")


def drop(page: Any, files: Sequence[tuple[str, bytes]]) -> None:
    """Drop files on the page."""
    page.evaluate(
        """files => {
        const transfer = new DataTransfer();
        for (const [name, data] of files) transfer.items.add(new File([new Uint8Array(data)], name));
        const options = { dataTransfer: transfer, bubbles: true, cancelable: true };
        document.getElementById('drop-zone').dispatchEvent(new DragEvent('drop', options)) }""",
        [[name, list(data)] for name, data in files],
    )


def open_card(page: Any, position: int) -> Any:
    """Open the card of a cell of the gallery by keyboard, and return it."""
    page.locator(".grid").focus()
    page.keyboard.press("Home")
    for _ in range(position):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_selector(f"#active-cell[aria-posinset='{position + 1}']", state="attached")
    return page.locator(".cell-card")


def cell_names(page: Any) -> list[str]:
    """Return what a screen reader says of the cells of the gallery, in its order."""
    page.locator(".grid").focus()
    page.keyboard.press("Home")
    active = page.locator("#active-cell")
    n = int(active.get_attribute("aria-setsize"))
    names = []
    for position in range(n):
        page.wait_for_selector(f"#active-cell[aria-posinset='{position + 1}']", state="attached")
        names.append(active.get_attribute("aria-label"))
        page.keyboard.press("ArrowRight")
    return names


def download_table(page: Any) -> list[dict[str, str]]:
    """Save the table, and return its rows."""
    with page.expect_download() as download:
        page.locator("#download-csv").click()
    return list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8"))))


def tab_to(page: Any, selector: str) -> None:
    """Press Tab until an element has the focus, and check that it shows."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            assert page.evaluate("document.activeElement.matches(':focus-visible')")
            return
    raise AssertionError(f"{selector} can't be reached by keyboard")


def assert_accessible(page: Any) -> None:
    """Check that axe-core finds no violation."""
    violations = page.evaluate("axe.run().then(result => result.violations)")
    assert [(entry["id"], [node["html"][:160] for node in entry["nodes"]]) for entry in violations] == []
