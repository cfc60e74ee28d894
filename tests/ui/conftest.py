"""A real browser for pages: each test file gives the `page_file` that is to be opened."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=[(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")], ids=lambda p: f"{p[0]}-{p[1]}")
def opened_report(
    request: pytest.FixtureRequest, browser: Any, page_file: Path
) -> Iterator[tuple[Any, str, list[str]]]:
    """Open the report; yield the browser's page, the theme and what went wrong or was asked for over the network."""
    width, theme = request.param
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
    page, problems = context.new_page(), []
    page.on("console", lambda message: problems.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: problems.append(f"error: {error}"))
    allowed_prefixes = ("file:", "data:")
    page.on("request", lambda req: None if req.url.startswith(allowed_prefixes) else problems.append(req.url))
    page.goto(page_file.as_uri())
    yield page, theme, problems
    context.close()
