"""What tests do with the annotation page: open it, wait for it, label by keys."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from tests.ui.conftest import TIMEOUT_MS, OpenPage, open_page

PAUSE_MS = 20
N_TRIES = TIMEOUT_MS // PAUSE_MS


@contextlib.contextmanager
def open_annotate(browser: Any, address: str, width: int = 1280, theme: str = "light") -> Iterator[OpenPage]:
    """Open the annotation page of a server, once it shows the gallery or where to drop cells."""
    with open_page(browser, f"{address}/annotate", width, theme, (address, "data:", "blob:")) as opened:
        opened.page.wait_for_selector(".grid, #drop-zone")
        yield opened


def wait_until_saved(page: Any) -> None:
    """Return once the page shows that the server has all labels on its disk."""
    page.wait_for_selector(".save-state[data-state=saved]")


def wait_until(page: Any, expression: str, argument: Any = None) -> None:
    """Return once a JavaScript expression is true; the page's CSP forbids what Playwright's own wait does."""
    for _ in range(N_TRIES):
        if page.evaluate(expression, argument):
            return
        page.wait_for_timeout(PAUSE_MS)
    raise AssertionError(f"never true: {expression}")


def label_by_keys(page: Any, keys: str) -> None:
    """Press keys in the gallery, one label after another."""
    page.focus(".grid")
    for key in keys:
        before = page.locator("#active-cell").get_attribute("aria-posinset")
        page.keyboard.press(key)
        wait_until(page, "before => document.querySelector('#active-cell').ariaPosInSet !== before", before)
