"""Pages in a real browser, wide and narrow, light and dark; a test file of a report defines the fixture `page_file`."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
TIMEOUT_MS = 600_000
"""After which a test fails that waits for something in a page: no machine is so slow."""
LAYOUTS = [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]
"""Width in pixels, and color scheme."""


class OpenPage(NamedTuple):
    """A page in the browser, its color scheme, and what went wrong: console messages, errors, requests to other hosts."""

    page: Any
    theme: str
    problems: list[str]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as api:
        browser = api.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextlib.contextmanager
def open_page(browser: Any, url: str, width: int, theme: str, own_prefixes: tuple[str, ...]) -> Iterator[OpenPage]:
    """Open a page that may request only URLs with one of `own_prefixes`."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
    context.set_default_timeout(TIMEOUT_MS)
    page, problems = context.new_page(), []
    page.on("console", lambda message: problems.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: problems.append(f"error: {error}"))
    page.on("request", lambda req: None if req.url.startswith(own_prefixes) else problems.append(req.url))
    page.goto(url)
    yield OpenPage(page, theme, problems)
    context.close()


@pytest.fixture(params=LAYOUTS, ids=lambda layout: f"{layout[0]}-{layout[1]}")
def opened_report(request: pytest.FixtureRequest, browser: Any, page_file: Path) -> Iterator[OpenPage]:
    """Open the report of a test file, in each layout."""
    width, theme = request.param
    with open_page(browser, page_file.as_uri(), width, theme, ("file:", "data:")) as opened:
        yield opened
