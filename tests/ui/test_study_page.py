"""A simulated study's report in a real browser, wide and narrow, light and dark."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from nephros.reporting.study.page import write_study_report
from tests.reporting.study_simulator import SimulationConfig, simulate
from tests.ui.conftest import CHROMIUM
from tests.ui.contrast import contrast_ratio, relative_luminance
from tests.ui.test_report_page import SMALLEST_TEXT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the report of a study with 143 configurations, of which some failed."""
    return write_study_report(
        simulate(SimulationConfig(max_epochs=81, fail_rate=0.1, early_stop_rate=0.1)), tmp_path_factory.mktemp("study")
    )


def test_the_page_fits_shows_its_figures_and_requests_nothing(opened_report: tuple[Any, str, list[str]]) -> None:
    page, _, problems = opened_report
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    wide = "[...document.querySelectorAll('main *, header *')].filter(e => !e.closest('.scroll')"
    wide += " && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"
    assert page.evaluate(wide) == []
    assert "accuracy on the whole validation split" in page.locator("#headline").inner_text()
    assert page.locator(".best-config tbody tr").count() == 7
    assert page.locator(".configs tbody tr").count() == 143
    svgs_have_size = "[...document.querySelectorAll('svg')].map(svg => svg.getBoundingClientRect())"
    svgs_have_size += ".every(box => box.width > 200 && box.height > 100)"
    assert page.locator("svg").count() == 5
    assert page.evaluate(svgs_have_size)
    if page.viewport_size["width"] == 1280:
        assert page.evaluate(SMALLEST_TEXT) >= 11
    assert problems == []


def test_the_long_table_scrolls_with_its_header_in_view(opened_report: tuple[Any, str, list[str]]) -> None:
    page, _, _ = opened_report
    box = page.locator(".scroll-y")
    assert box.evaluate("box => box.scrollHeight > box.clientHeight && box.clientHeight <= innerHeight")
    box.evaluate("box => { box.scrollIntoView(); box.scrollTop = box.scrollHeight; }")
    top = page.locator(".configs thead th").first.evaluate("th => th.getBoundingClientRect().top")
    assert top >= box.evaluate("box => box.getBoundingClientRect().top") - 1
    assert page.locator(".configs tbody tr").last.is_visible()


def test_a_click_on_a_heading_sorts_the_table(opened_report: tuple[Any, str, list[str]]) -> None:
    page, _, problems = opened_report
    assert page.locator(".sort-hint").is_visible()

    def column(i: int) -> list[str]:
        texts: list[str] = page.evaluate(
            f"[...document.querySelectorAll('.configs tbody tr')].map(r => r.cells[{i}].innerText)"
        )
        return texts

    headings = [text.replace("\n", "") for text in page.locator(".configs thead th").all_inner_texts()]
    ranks = column(0)
    rate, score = headings.index("optimizer.lr"), headings.index("at 81")
    button = page.locator(".configs thead button")
    button.nth(rate).click()
    assert column(rate) == sorted(column(rate), key=float)
    assert page.locator("th[aria-sort]").get_attribute("aria-sort") == "ascending"
    button.nth(rate).click()
    assert column(rate) == sorted(column(rate), key=float, reverse=True)
    button.nth(score).click()
    scores = column(score)
    values = [float(text.rstrip("%")) for text in scores if text]
    assert values == sorted(values, reverse=True)
    assert not any(scores[len(values) :])
    assert page.locator("th[aria-sort]").count() == 1
    button.nth(0).press("Enter")
    assert column(0) == ranks
    assert problems == []


def test_text_and_figures_stand_out_from_the_page_in_both_themes(opened_report: tuple[Any, str, list[str]]) -> None:
    page, theme, _ = opened_report
    computed_style_js = "selector => getComputedStyle(document.querySelector(selector))"
    background = relative_luminance(page.evaluate(f"({computed_style_js})('body').backgroundColor"))
    assert (background < 0.1) == (theme == "dark")
    for selector, min_contrast in (
        ("#survival h2", 7),
        ("#survival .section-intro p", 4.5),
        (".configs caption", 4.5),
        (".configs .pruned td", 4.5),
        (".configs .highlight td", 4.5),
    ):
        text = relative_luminance(page.evaluate(f"({computed_style_js})('{selector}').color"))
        assert contrast_ratio(text, background) >= min_contrast, selector
    night = relative_luminance(page.evaluate(f"({computed_style_js})('.hero').backgroundColor"))
    for selector in (
        ".lead .big",
        ".best-config .searched",
        ".best-config .range",
        ".best-config caption",
        ".metrics dt",
    ):
        assert (
            contrast_ratio(relative_luminance(page.evaluate(f"({computed_style_js})('{selector}').color")), night)
            >= 4.5
        ), selector
    fills = page.evaluate("[...document.querySelectorAll('svg text')].map(text => getComputedStyle(text).fill)")
    assert len(fills) > 150
    assert min(contrast_ratio(relative_luminance(fill), background) for fill in set(fills)) >= 4.5


def test_headings_skip_no_level_and_scroll_regions_are_reachable_by_keyboard(
    opened_report: tuple[Any, str, list[str]],
) -> None:
    page, _, _ = opened_report
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert page.evaluate("[...document.querySelectorAll('.scroll')].every(box => box.tabIndex === 0 && box.ariaLabel)")
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    for link in page.locator("nav a").all():
        assert page.locator(link.get_attribute("href")).count() == 1
