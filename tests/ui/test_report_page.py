"""A real run's report in a real browser, wide and narrow, light and dark."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from nephros.data.synthetic import make_synthetic
from nephros.recipe import ModelConfig, OptimizerConfig, Recipe
from nephros.workflows.report import report
from nephros.workflows.train import train
from tests.ui.conftest import CHROMIUM
from tests.ui.contrast import contrast_ratio, relative_luminance

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


SMALLEST_TEXT = """Math.min(...[...document.querySelectorAll('svg text')].map(text => {
    const svg = text.ownerSVGElement, scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
    return parseFloat(getComputedStyle(text).fontSize) * scale; }))"""
"""Size of the smallest text of the figures, in pixels."""


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train for two epochs on a few synthetic cells and return the report."""
    model = ModelConfig("course", base_channels=4, depth=2, hidden=(16,))
    recipe = Recipe(
        name="little", model=model, optimizer=OptimizerConfig(lr=0.1, momentum=0.9), epochs=2, batch_size=32
    )
    dataset = make_synthetic(400, 80, 120)
    folder = train(recipe, dataset, out=tmp_path_factory.mktemp("run") / "run", device="cpu", test=True)
    return report(folder.root, dataset)


def test_the_page_fits_and_shows_its_images_and_figures(opened_report: tuple[Any, str, list[str]]) -> None:
    page, _, problems = opened_report
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    wide = "[...document.querySelectorAll('main *, header *')].filter(e => !e.closest('.scroll')"
    wide += " && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"
    assert page.evaluate(wide) == []
    assert page.locator("#headline").is_visible()
    assert "accuracy on test" in page.locator("#headline").inner_text()
    assert page.locator(".example-cells img").count() == 8
    assert page.locator("article").count() == 8
    assert page.locator("article > ol > li").count() <= 16  # the others are folded
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0 && image.alt)")
    drawn = "[...document.querySelectorAll('svg')].map(svg => svg.getBoundingClientRect())"
    drawn += ".every(box => box.width > 200 && box.height > 100)"
    assert page.locator("svg").count() == 5
    assert page.evaluate(drawn)
    if page.viewport_size["width"] == 1280:
        assert page.evaluate("document.documentElement.scrollHeight") < 6500
        assert page.evaluate(SMALLEST_TEXT) >= 11
    assert problems == []


def test_text_and_figures_have_contrast_in_both_themes(opened_report: tuple[Any, str, list[str]]) -> None:
    page, theme, _ = opened_report
    computed_style_js = "selector => getComputedStyle(document.querySelector(selector))"
    background = relative_luminance(page.evaluate(f"({computed_style_js})('body').backgroundColor"))
    assert (background < 0.1) == (theme == "dark")
    for selector, min_contrast in (
        ("#confusion h2", 7),
        ("#confusion .section-intro p", 4.5),
        ("td", 7),
        ("caption", 4.5),
        (".range", 4.5),
        (".class-errors li p", 4.5),
        (".tiles.headings", 4.5),
        ("summary", 4.5),
        (".next dt", 4.5),
    ):
        text = relative_luminance(page.evaluate(f"({computed_style_js})('{selector}').color"))
        assert contrast_ratio(text, background) >= min_contrast, selector
    fills = page.evaluate("[...document.querySelectorAll('svg text')].map(text => getComputedStyle(text).fill)")
    assert len(fills) > 200
    luminances = {relative_luminance(fill) for fill in fills} - {
        background
    }  # paper is for text on dark cells of the matrix
    assert min(contrast_ratio(luminance, background) for luminance in luminances) >= 4.5


def test_headings_are_nested_and_scroll_regions_are_focusable(
    opened_report: tuple[Any, str, list[str]],
) -> None:
    page, _, _ = opened_report
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert page.evaluate("[...document.querySelectorAll('.scroll')].every(box => box.tabIndex === 0 && box.ariaLabel)")
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
