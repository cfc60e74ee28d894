"""The page of a real `nephros serve` in a real browser: wide and narrow, light and dark, by mouse and by keyboard alone."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nephros.data.display import png_data_uri
from nephros.data.synthetic import make_synthetic
from tests.conftest import write_npz
from tests.server.live_server import LiveServer, run_server
from tests.ui.conftest import CHROMIUM
from tests.ui.contrast import contrast_ratio, relative_luminance

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]
PREDICT_URL = re.compile("/predict")
HOSTILE = "=cmd|'x' <b onclick=alert(1)>,\".png"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """Serve the model in the box, made-up cells as the known ones."""
    known = write_npz(tmp_path_factory.mktemp("known") / "synthetic.npz", make_synthetic(200, 40, 40))
    with run_server(["--reference-data", known]) as found:
        yield found


@pytest.fixture(scope="module")
def cell_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seventy cells, three of which are bad or odd, and an npz."""
    root = tmp_path_factory.mktemp("cells")
    images = make_synthetic(10, 100, 10, seed=5).val.images
    for i, image in enumerate(images[:67]):
        Image.fromarray(image).save(root / f"cell-{i:02}.png")
    (root / "a-broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    Image.fromarray(255 - images[0]).save(root / "b-inverted.png")
    Image.fromarray(images[1]).save(root / HOSTILE)
    np.savez(root / "cells.npz", val_images=images)
    return root


@dataclass
class OpenPage:
    """A page that is open, and what went wrong or was asked of other hosts."""

    page: Any
    theme: str
    problems: list[str]

    def upload(self, *files: Path) -> None:
        """Choose files and wait until all have an answer."""
        before = self.page.locator("#summary").inner_text() if self.page.locator("#summary").is_visible() else ""
        self.page.set_input_files("#files", [str(file) for file in files])
        self.page.wait_for_selector("#results", state="visible")
        self.page.wait_for_selector("#progress", state="hidden")
        assert self.page.locator("#summary").inner_text() != before


@pytest.fixture(params=[(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")], ids=lambda p: f"{p[0]}-{p[1]}")
def page_in_each_layout(request: pytest.FixtureRequest, browser: Any, server: LiveServer) -> Iterator[OpenPage]:
    width, theme = request.param
    yield from _open_page(browser, server, width, theme)


@pytest.fixture
def desktop_page(browser: Any, server: LiveServer) -> Iterator[OpenPage]:
    yield from _open_page(browser, server, 1280, "light")


def _open_page(browser: Any, server: LiveServer, width: int, theme: str) -> Iterator[OpenPage]:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
    page = context.new_page()
    opened_page = OpenPage(page, theme, [])
    page.on("console", lambda message: opened_page.problems.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: opened_page.problems.append(f"error: {error}"))
    allowed_prefixes = (server.address, "data:", "blob:")
    page.on(
        "request",
        lambda asked: None if asked.url.startswith(allowed_prefixes) else opened_page.problems.append(asked.url),
    )
    page.goto(server.address)
    page.wait_for_selector("#drop-zone[data-ready=yes]")
    yield opened_page
    assert opened_page.problems == []
    context.close()


def test_cells_get_pictures_bars_sets_heat_maps_and_neighbours(
    page_in_each_layout: OpenPage, cell_folder: Path
) -> None:
    page = page_in_each_layout.page
    page_in_each_layout.upload(
        cell_folder / "cell-00.png", cell_folder / "a-broken.png", cell_folder / "b-inverted.png", cell_folder / HOSTILE
    )
    cards = page.locator(".card")
    assert cards.count() == 4
    assert page.locator("#summary").inner_text().startswith("3 cells classified, 1 out of distribution, 1 failed")
    good = cards.nth(0)
    assert good.locator(".probabilities tbody tr").count() == 8
    assert good.locator(".probabilities tr.in-set").count() >= 1
    shares = [float(text.strip("<% ")) for text in good.locator(".probabilities .value").all_inner_texts()]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(100, abs=1)
    widths = good.locator(".bar-track i").evaluate_all("bars => bars.map(bar => bar.getBoundingClientRect().width)")
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 10
    assert "broken.png is damaged" in cards.nth(1).inner_text()
    assert "too bright" in cards.nth(2).locator(".ood-warning").inner_text()
    assert HOSTILE in cards.nth(3).inner_text()
    assert page.locator("b[onclick]").count() == 0
    painted = "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.filter((v, i) => i % 4 === 3 && v > 0).length"
    assert good.locator("canvas").evaluate(painted) > 20
    assert good.locator(".similar-cells li").count() == 6
    assert "class" in good.locator(".similar-cells li").first.inner_text()
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    page.locator("#show-saliency").uncheck()
    assert good.locator("canvas").evaluate("c => getComputedStyle(c).visibility") == "hidden"


def test_the_page_fits_and_its_text_stands_out(page_in_each_layout: OpenPage, cell_folder: Path) -> None:
    page = page_in_each_layout.page
    page_in_each_layout.upload(
        cell_folder / "cell-00.png", cell_folder / "a-broken.png", cell_folder / "b-inverted.png"
    )
    page.locator(".options summary").click()
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    wide = "[...document.querySelectorAll('main *, header *')].filter(e => !e.closest('.scroll')"
    wide += " && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"
    assert page.evaluate(wide) == []
    paper = relative_luminance(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert (paper < 0.1) == (page_in_each_layout.theme == "dark")
    computed_color_js = "selector => getComputedStyle(document.querySelector(selector)).color"
    for selector in (
        "h2",
        ".filename",
        ".note",
        ".probabilities th",
        ".probabilities .in-set th",
        ".similar-cells li",
        ".ood-warning b",
        "#summary",
        "footer p",
        ".sample-strip small",
    ):
        if page.locator(selector).count():
            text = relative_luminance(page.evaluate(computed_color_js, selector))
            assert contrast_ratio(text, paper) >= 4.5, selector
    night = relative_luminance(page.evaluate("getComputedStyle(document.querySelector('.hero')).backgroundColor"))
    for selector in (".eyebrow", ".subtitle", ".drop p", ".options small", ".options label"):
        assert contrast_ratio(relative_luminance(page.evaluate(computed_color_js, selector)), night) >= 4.5, selector
    unnamed = (
        "[...document.querySelectorAll('input, select, progress')].filter(e => !e.labels.length && !e.ariaLabel).length"
    )
    assert page.evaluate(unnamed) == 0
    page.goto(page.url + "api")
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_a_sample_is_taken_and_the_table_downloaded_by_keyboard_alone(page_in_each_layout: OpenPage) -> None:
    page = page_in_each_layout.page

    def tab_to(selector: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                outlined = "document.activeElement.matches(':focus-visible')"
                assert page.evaluate(outlined)
                return
        raise AssertionError(f"{selector} can't be reached")

    tab_to("#files")
    tab_to("summary")
    page.keyboard.press("Enter")
    tab_to("#coverage")
    page.keyboard.press("End")
    assert page.locator("#coverage").input_value() == "0.99"
    tab_to(".sample-strip button")
    page.keyboard.press("Enter")
    page.wait_for_selector(".card .probabilities")
    page.wait_for_selector("#progress", state="hidden")
    assert "99 % coverage" in page.locator(".probabilities caption").inner_text()
    tab_to("#show-saliency")
    page.keyboard.press("Space")
    assert not page.locator("#show-saliency").is_checked()
    tab_to("#download-csv")
    with page.expect_download() as caught:
        page.keyboard.press("Enter")
    assert caught.value.suggested_filename == "nephros.csv"
    tab_to("#clear")
    page.keyboard.press("Enter")
    assert page.locator(".card").count() == 0
    assert page.evaluate("document.activeElement.id") == "files"


def test_many_files_show_progress_and_a_whole_table(desktop_page: OpenPage, cell_folder: Path) -> None:
    page = desktop_page.page
    page.evaluate("""() => {
        window.progressTexts = [];
        new MutationObserver(() => window.progressTexts.push(document.getElementById('progress-text').textContent))
            .observe(document.getElementById('progress-text'), { childList: true, characterData: true, subtree: true }) }""")
    files = sorted(cell_folder.glob("*.png"))
    desktop_page.upload(*files)
    steps = page.evaluate("window.progressTexts")
    assert len({step for step in steps if step.endswith("of 70 files")}) >= 3
    assert steps[-1] == "70 of 70 files"
    assert page.locator(".card").count() == 60
    page.locator("#show-more").click()
    assert page.locator(".card").count() == 70
    assert page.locator("#show-more").is_hidden()
    with page.expect_download() as caught:
        page.locator("#download-csv").click()
    rows = list(csv.DictReader(io.StringIO(Path(caught.value.path()).read_text(encoding="utf-8"))))
    assert [row["file"].removeprefix("'") for row in rows] == [file.name for file in files]
    hostile = next(row for row in rows if "cmd" in row["file"])
    assert hostile["file"] == f"'{HOSTILE}"  # a spreadsheet takes it for text
    assert [bool(row["error"]) for row in rows] == [file.name == "a-broken.png" for file in files]
    for row in rows:
        if not row["error"]:
            assert sum(float(row[f"p_{c}"]) for c in range(8)) == pytest.approx(1, abs=1e-5)
            assert row["label"] in row["prediction_set"].split()


def test_an_npz_is_dropped_and_every_row_is_in_the_table(desktop_page: OpenPage, cell_folder: Path) -> None:
    page = desktop_page.page
    data = list((cell_folder / "cells.npz").read_bytes())
    drop = """data => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([new Uint8Array(data)], 'cells.npz'));
        const options = { dataTransfer: transfer, bubbles: true, cancelable: true };
        document.getElementById('drop-zone').dispatchEvent(new DragEvent('drop', options)) }"""
    page.evaluate(drop, data)
    page.wait_for_selector(".card")
    page.wait_for_selector("#progress", state="hidden")
    assert page.locator("#summary").inner_text().startswith("100 cells classified")
    assert "cells.npz, val, 0" in page.locator(".card").first.inner_text()
    with page.expect_download() as caught:
        page.locator("#download-csv").click()
    rows = list(csv.DictReader(io.StringIO(Path(caught.value.path()).read_text(encoding="utf-8"))))
    assert [int(row["index"]) for row in rows] == list(range(100))


def test_a_folder_is_dropped_and_what_is_in_it_is_answered(
    desktop_page: OpenPage, cell_folder: Path, tmp_path: Path
) -> None:
    inner = tmp_path / "mine" / "inner"
    inner.mkdir(parents=True)
    for number in range(2):
        (inner / f"cell-{number}.png").write_bytes((cell_folder / f"cell-0{number}.png").read_bytes())
    (tmp_path / "mine" / "notes.txt").write_text("not a picture")
    client = desktop_page.page.context.new_cdp_session(desktop_page.page)
    box = desktop_page.page.locator("#drop-zone").bounding_box()
    data = {"items": [], "files": [str(tmp_path / "mine")], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        client.send("Input.dispatchDragEvent", {"type": kind, "x": box["x"] + 20, "y": box["y"] + 20, "data": data})
    desktop_page.page.wait_for_selector("#results", state="visible")
    desktop_page.page.wait_for_selector("#progress", state="hidden")
    assert desktop_page.page.locator("#summary").inner_text() == "2 cells classified."


def test_a_file_that_has_gone_does_not_take_its_neighbours_along(
    desktop_page: OpenPage, cell_folder: Path, tmp_path: Path
) -> None:
    files = [tmp_path / f"cell-{number:02}.png" for number in range(30)]
    for file in files:
        file.write_bytes((cell_folder / "cell-00.png").read_bytes())

    def first(route: Any) -> None:
        files[27].unlink(missing_ok=True)  # chosen, but of the second group, which is not sent yet
        route.continue_()

    desktop_page.page.route(PREDICT_URL, first)
    desktop_page.page.set_input_files("#files", [str(file) for file in files])
    desktop_page.page.wait_for_selector("#results", state="visible")
    desktop_page.page.wait_for_selector("#progress", state="hidden")
    assert desktop_page.page.locator("#summary").inner_text().startswith("29 cells classified, 1 failed")
    lost = [words for words in desktop_page.problems if words.startswith("console: Failed to load resource: net::ERR")]
    assert len(lost) == 2  # the group, and then the file alone
    desktop_page.problems = [words for words in desktop_page.problems if words not in lost]


def test_more_cells_of_an_npz_get_their_own_pictures_heat_maps_and_neighbours(
    desktop_page: OpenPage, cell_folder: Path
) -> None:
    page = desktop_page.page
    desktop_page.upload(cell_folder / "cells.npz")
    assert page.locator(".card").count() == 60
    page.locator("#show-more").click()
    page.wait_for_selector("#show-more", state="hidden")
    assert page.locator(".card .probabilities").count() == 100
    for part, each in ((".preview img", 1), (".preview canvas", 1), (".similar-cells li", 6)):
        assert page.locator(f".card {part}").count() == 100 * each
    stored = np.load(cell_folder / "cells.npz")["val_images"]
    for i in (0, 59, 60, 99):
        assert f"cells.npz, val, {i}" in page.locator(".card .filename").nth(i).inner_text()
        assert page.locator(".preview img").nth(i).get_attribute("src") == png_data_uri(stored[i])


def test_more_cells_of_a_file_that_can_t_be_sent_again_say_so(desktop_page: OpenPage, cell_folder: Path) -> None:
    page = desktop_page.page
    desktop_page.upload(cell_folder / "cells.npz")
    page.route("**/predict/batch?*", lambda route: route.fulfill(status=413, json={"error": "It is too large now."}))
    page.locator("#show-more").click()
    page.wait_for_selector("#show-more", state="hidden")
    assert page.locator(".card .probabilities").count() == 100
    assert "It is too large now." in page.locator(".card").nth(60).inner_text()
    assert "It is too large now." not in page.locator(".card").nth(59).inner_text()
    assert any("413" in line for line in desktop_page.problems)
    desktop_page.problems.clear()


def _wait_for_request(page: Any, routes: list[Any]) -> None:
    """Return when the page has sent something."""
    for _ in range(500):
        if routes:
            return
        page.wait_for_timeout(20)
    raise AssertionError("nothing was sent")


@pytest.mark.parametrize("what", ["cell-*.png", "cells.npz"])
def test_clearing_stops_the_work_and_leaves_an_empty_page(desktop_page: OpenPage, cell_folder: Path, what: str) -> None:
    page = desktop_page.page
    held: list[Any] = []
    page.route(PREDICT_URL, lambda route: held.append(route))  # no answer comes
    page.set_input_files("#files", [str(file) for file in sorted(cell_folder.glob(what))])
    page.wait_for_selector("#progress", state="visible")
    _wait_for_request(page, held)
    page.locator("#clear").click()
    page.wait_for_timeout(300)
    assert page.locator(".card").count() == 0
    assert page.locator("#progress").is_hidden()
    assert page.locator("#results").is_hidden()
    assert page.evaluate("document.activeElement.id") == "files"
    assert len(held) == 1
    page.unroute(PREDICT_URL)
    desktop_page.upload(cell_folder / "cell-00.png")  # the next work is none the worse
    assert page.locator(".card").count() == 1
    assert page.locator("#summary").inner_text() == "1 cell classified."


def test_stopping_says_of_each_file_that_it_was_stopped(desktop_page: OpenPage, cell_folder: Path) -> None:
    page = desktop_page.page
    held: list[Any] = []
    page.route(PREDICT_URL, lambda route: held.append(route))
    page.set_input_files("#files", [str(file) for file in sorted(cell_folder.glob("cell-*.png"))[:30]])
    _wait_for_request(page, held)
    page.locator("#stop").click()
    page.wait_for_selector("#progress", state="hidden")
    assert page.locator(".card.failed").count() == 30
    assert "Stopped before it was classified" in page.locator(".card").last.inner_text()


def test_a_server_that_has_gone_is_said_of_each_file(browser: Any, cell_folder: Path) -> None:
    with run_server(["--reference-data", "none"]) as server:
        context = browser.new_context()
        page = context.new_page()
        page.goto(server.address)
        page.wait_for_selector("#drop-zone[data-ready=yes]")
        assert "nephros serve --reference-data" in page.locator("#reference-info").text_content()
    page.set_input_files("#files", str(cell_folder / "cell-00.png"))
    page.wait_for_selector(".card.failed")
    assert "The server or the file is no longer available" in page.locator(".card.failed").inner_text()
    context.close()
