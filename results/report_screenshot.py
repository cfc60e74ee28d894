"""Take a screenshot of the top of a run's report: python results/report_screenshot.py RUN FILE.png"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from nephros.runs import RunFolder

WIDTH, HEIGHT = 1280, 1180


def take_screenshot(run: str, file: str) -> None:
    """Open the report in Chromium, `WIDTH` pixels wide, and save its first `HEIGHT` pixels as a PNG."""
    page_file = RunFolder.open(run).file("report.html").resolve()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(page_file.as_uri())
        page.screenshot(path=file)
        browser.close()


if __name__ == "__main__":
    take_screenshot(sys.argv[1], str(Path(sys.argv[2])))
