"""A made-up study's report in a real browser, wide and narrow, light and dark."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from nephros.reporting.study.page import write_study_report
from tests.reporting.study_simulator import Plan, simulate
from tests.ui.conftest import CHROMIUM

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the report of a study with 143 configurations, of which some failed."""
    return write_study_report(simulate(Plan(max_epochs=81, fail=0.1, stop=0.1)), tmp_path_factory.mktemp("study"))


def test_the_page_fits_is_quiet_and_shows_its_pictures(seen: tuple[Any, str, list[str]]) -> None:
    page, _, trouble = seen
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    wide = "[...document.querySelectorAll('main *, header *')].filter(e => !e.closest('.scroll')"
    wide += " && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"
    assert page.evaluate(wide) == []
    assert "accuracy on all of validation" in page.locator("#headline").inner_text()
    assert page.locator(".answer tbody tr").count() == 7
    assert page.locator(".all tbody tr").count() == 143
    drawn = "[...document.querySelectorAll('svg')].map(svg => svg.getBoundingClientRect())"
    drawn += ".every(box => box.width > 200 && box.height > 100)"
    assert page.locator("svg").count() == 5
    assert page.evaluate(drawn)
    assert trouble == []


def test_the_long_table_scrolls_in_its_box_with_its_head_in_sight(seen: tuple[Any, str, list[str]]) -> None:
    page, _, _ = seen
    box = page.locator(".tall")
    assert box.evaluate("box => box.scrollHeight > box.clientHeight && box.clientHeight <= innerHeight")
    box.evaluate("box => { box.scrollIntoView(); box.scrollTop = box.scrollHeight; }")
    top = page.locator(".all thead th").first.evaluate("th => th.getBoundingClientRect().top")
    assert top >= box.evaluate("box => box.getBoundingClientRect().top") - 1
    assert page.locator(".all tbody tr").last.is_visible()


def test_text_and_figures_stand_out_from_the_page_in_both_themes(seen: tuple[Any, str, list[str]]) -> None:
    page, theme, _ = seen
    colour = "selector => getComputedStyle(document.querySelector(selector))"
    background = _luminance(page.evaluate(f"({colour})('body').backgroundColor"))
    assert (background < 0.1) == (theme == "dark")
    for selector, least in (
        ("#survival h2", 7),
        ("#survival .side p", 4.5),
        (".all caption", 4.5),
        (".all .eliminated td", 4.5),
        (".all .own td", 4.5),
    ):
        text = _luminance(page.evaluate(f"({colour})('{selector}').color"))
        assert _contrast(text, background) >= least, selector
    night = _luminance(page.evaluate(f"({colour})('.slide').backgroundColor"))
    for selector in (".lead .big", ".answer .new", ".answer .range", ".answer caption", ".heads dt"):
        assert _contrast(_luminance(page.evaluate(f"({colour})('{selector}').color")), night) >= 4.5, selector
    fills = page.evaluate("[...document.querySelectorAll('svg text')].map(text => getComputedStyle(text).fill)")
    assert len(fills) > 150
    assert min(_contrast(_luminance(fill), background) for fill in set(fills)) >= 4.5


def test_headings_never_skip_a_level_and_boxes_can_be_reached_by_keyboard(seen: tuple[Any, str, list[str]]) -> None:
    page, _, _ = seen
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert page.evaluate("[...document.querySelectorAll('.scroll')].every(box => box.tabIndex === 0 && box.ariaLabel)")
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    for link in page.locator("nav a").all():
        assert page.locator(link.get_attribute("href")).count() == 1


def _luminance(colour: str) -> float:
    """Return the relative luminance of a CSS ``rgb(r, g, b)`` colour, as WCAG 2 defines it."""
    parts = [float(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: float, other: float) -> float:
    dark, light = sorted((one, other))
    return (light + 0.05) / (dark + 0.05)
