"""The page of classified tissue in a real browser: it zooms, hides classes, and shows the card of a clicked nucleus."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nephros.reporting.tissue import page as tissue_page
from nephros.reporting.tissue.page import write_tissue_page
from tests.ui.conftest import CHROMIUM

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]

CLASS_NAMES = ("Leukocytes", "</script><b>Podocytes", "Thick Ascending Limb")
BOXES = [(20, 20), (20, 150), (150, 20), (150, 150)]
"""Upper left corners, y and x, of nuclei of 40 x 40 pixels."""


def _row(number: int) -> dict[str, Any]:
    label = number % 3
    row = {
        "id": 10 * (number + 1), "label": label, "class_name": CLASS_NAMES[label], "prediction_set": CLASS_NAMES[label],
        "is_ood": number == 1, "ood_reasons": "unlike others" if number == 1 else "", "volume_voxels": 1600, "volume_um3": None,
        "at_border": False, "z": 1.0, "y": 5.0, "x": 7.0, "z_um": None, "y_um": None, "x_um": None,
    }  # fmt: skip
    return row | {f"p[{name}]": 0.8 if k == label else 0.1 for k, name in enumerate(CLASS_NAMES)}


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the page of four square nuclei, one of them out of distribution, with tiles at several levels."""
    visible = np.zeros((220, 220), np.int32)
    for number, (y, x) in enumerate(BOXES, start=1):
        visible[y : y + 40, x : x + 40] = number
    projection = np.random.default_rng(0).random((220, 220), np.float32) + 3 * (visible > 0)
    path = tmp_path_factory.mktemp("tissue") / "overlay.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tissue_page, "TILE", 64)
        rows = [_row(number) for number in range(4)]
        write_tissue_page(path, projection, visible, rows, CLASS_NAMES, title="<K4>", pixel_um=0.5, notes=["a note"])
    return path


def _pixel(page: Any, y: float, x: float) -> list[int]:
    """Return the color of the canvas at a position of the projection, after all drawing."""
    script = """async ([x, y]) => {
      for (const level of data.levels) for (const row of level) for (const tile of row) if (tile.decode) await tile.decode();
      draw();
      const scale = view.scale * devicePixelRatio, copy = document.createElement("canvas");
      copy.width = copy.height = 1;
      const pixel = copy.getContext("2d", { willReadFrequently: true });
      pixel.drawImage(canvas, -Math.round((x - view.x) * scale), -Math.round((y - view.y) * scale));
      return [...pixel.getImageData(0, 0, 1, 1).data];
    }"""
    return list(page.evaluate(script, [x, y]))[:3]


def _is_colored(page: Any, number: int) -> bool:
    y, x = BOXES[number]
    color = _pixel(page, y + 20, x + 20)
    return max(color) - min(color) > 12


def _click(page: Any, number: int) -> None:
    y, x = BOXES[number]
    position = page.evaluate("([x, y]) => [(x - view.x) * view.scale, (y - view.y) * view.scale]", [x + 20, y + 20])
    page.locator("#canvas").click(position={"x": position[0], "y": position[1]})


def test_the_page_fits_and_requests_nothing(opened_report: tuple[Any, str, list[str]]) -> None:
    page, _, problems = opened_report
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert page.locator("h1").inner_text() == "<K4>"
    assert [_is_colored(page, number) for number in range(4)] == [True] * 4
    assert page.locator("#bar-text").inner_text() in ("10 µm", "20 µm", "50 µm")
    assert page.evaluate("data.levels.length") == 3
    assert problems == []


def test_a_click_shows_the_card_of_a_nucleus(opened_report: tuple[Any, str, list[str]]) -> None:
    page, _, problems = opened_report
    _click(page, 1)
    card = page.locator("#card").inner_text()
    assert f"Nucleus 20: {CLASS_NAMES[1]}" in card
    assert "80.0%" in card
    assert "unlike others" in card
    page.locator("#find-id").fill("40")
    assert "Nucleus 40" in page.locator("#card").inner_text()
    page.locator("#find-id").fill("41")
    assert page.locator("#find-id").evaluate("field => field.classList.contains('missing')")
    assert problems == []


def test_classes_and_out_of_distribution_can_be_hidden(opened_report: tuple[Any, str, list[str]]) -> None:
    page, _, problems = opened_report
    page.locator("#classes input").nth(0).uncheck()
    assert [_is_colored(page, number) for number in range(4)] == [False, True, True, False]
    page.locator("input[value=in]").check()
    assert [_is_colored(page, number) for number in range(4)] == [False, False, True, False]
    page.locator("input[value=out]").check()
    assert [_is_colored(page, number) for number in range(4)] == [False, True, False, False]
    _click(page, 2)  # a hidden nucleus can't be clicked
    assert "Click a nucleus" in page.locator("#card").inner_text()
    assert problems == []


def test_it_zooms_and_moves(opened_report: tuple[Any, str, list[str]]) -> None:
    page, _, problems = opened_report
    before = page.evaluate("({...view})")
    page.locator("#in").click()
    assert page.evaluate("view.scale") == pytest.approx(1.5 * before["scale"])
    page.locator("#canvas").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("view.x") > before["x"]
    page.locator("#fit").click()
    assert page.evaluate("view.scale") == pytest.approx(before["scale"])
    page.locator("#canvas").hover(position={"x": 100, "y": 100})
    page.mouse.wheel(0, -300)
    page.wait_for_function("scale => view.scale > scale", arg=before["scale"])
    x = page.evaluate("view.x")
    page.mouse.down()
    page.mouse.move(40, 40, steps=4)
    page.mouse.up()
    assert page.evaluate("view.x") != x
    assert "Click a nucleus" in page.locator("#card").inner_text(), "a drag is no click"
    assert problems == []
