"""Take the screenshot of `nephros serve` that the README shows: ``python results/page_screenshot.py`` writes results/page.png.

All cells are synthetic: real ones are not part of this repository.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

from nephros.data.synthetic import make_synthetic

OUTPUT_FILE = Path(__file__).with_name("page.png")
WIDTH = 1280
N_CELLS = 100


def main() -> None:
    """Serve the bundled model, upload a hundred cells to the page, and save a screenshot of the results and one card."""
    with tempfile.TemporaryDirectory() as folder:
        folder_path, cells = Path(folder), make_synthetic(400, N_CELLS, 40, seed=3)
        arrays = {
            f"{name}_{kind}": getattr(split, kind) for name, split in cells.splits() for kind in ("images", "labels")
        }
        np.savez(folder_path / "synthetic-nuclei.npz", **arrays)
        files = []
        for number, image in enumerate(cells.val.images):
            files.append(str(folder_path / f"cell-{number}.png"))
            Image.fromarray(image).save(files[-1])
        args = [
            sys.executable,
            "-m",
            "nephros",
            "serve",
            "--port",
            "0",
            "--reference-data",
            str(folder_path / "synthetic-nuclei.npz"),
        ]
        with subprocess.Popen(args, stderr=subprocess.PIPE, text=True) as server:
            try:
                _take_screenshot(_server_url(server), files)
            finally:
                server.terminate()


def _server_url(server: subprocess.Popen[str]) -> str:
    assert server.stderr is not None
    for line in server.stderr:
        if match := re.search(r"http://\S+:\d+", line):
            return match[0]
    raise RuntimeError("the server ended before it was ready")


def _take_screenshot(url: str, files: list[str]) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 1200})
        page.goto(url)
        page.set_input_files("#files", files)
        page.wait_for_selector("#results", state="visible")
        page.wait_for_selector("#progress", state="hidden")
        page.locator(".grid").click(position={"x": 80, "y": 40})
        page.wait_for_selector(".similar-cells li")
        page.screenshot(path=OUTPUT_FILE, full_page=True)
        browser.close()


if __name__ == "__main__":
    main()
