"""The page of a live `nephros serve` in a real browser: wide and narrow, light and dark, by mouse and by keyboard alone."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nephros.data.images.transforms import png_data_uri
from nephros.data.synthetic import make_synthetic
from tests.conftest import write_npz
from tests.server.live_server import LiveServer, run_server
from tests.server.prefix_proxy import run_proxy
from tests.ui.conftest import CHROMIUM, LAYOUTS, OpenPage, open_page
from tests.ui.contrast import contrast_ratio, relative_luminance

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]
PREDICT_URL = re.compile("/predict")
HOSTILE = "=cmd|'x' <b onclick=alert(1)>,\".png"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """Serve the bundled model, with synthetic reference cells."""
    reference = write_npz(tmp_path_factory.mktemp("reference") / "synthetic.npz", make_synthetic(200, 40, 40))
    with run_server(["--reference-data", reference]) as live_server:
        yield live_server


@pytest.fixture(scope="module")
def cell_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seventy image files, among them a broken, an inverted and an oddly named one, and an npz file of 100 cells."""
    root = tmp_path_factory.mktemp("cells")
    images = make_synthetic(10, 100, 10, seed=5).val.images
    for i, image in enumerate(images[:67]):
        Image.fromarray(image).save(root / f"cell-{i:02}.png")
    (root / "a-broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    Image.fromarray(255 - images[0]).save(root / "b-inverted.png")
    Image.fromarray(images[1]).save(root / HOSTILE)
    np.savez(root / "cells.npz", val_images=images)
    return root


@pytest.fixture(params=LAYOUTS, ids=lambda layout: f"{layout[0]}-{layout[1]}")
def page_in_each_layout(request: pytest.FixtureRequest, browser: Any, server: LiveServer) -> Iterator[OpenPage]:
    yield from _open_served_page(browser, server, *request.param)


@pytest.fixture
def desktop_page(browser: Any, server: LiveServer) -> Iterator[OpenPage]:
    yield from _open_served_page(browser, server, *LAYOUTS[0])


def _open_served_page(browser: Any, server: LiveServer, width: int, theme: str) -> Iterator[OpenPage]:
    with open_page(browser, server.address, width, theme, (server.address, "data:", "blob:")) as opened:
        opened.page.wait_for_selector("#drop-zone[data-ready=yes]")
        yield opened
        assert opened.problems == []


def _upload(page: Any, *files: Path) -> None:
    """Choose files and wait for all results."""
    summary = page.locator("#summary")
    previous = summary.inner_text() if summary.is_visible() else ""
    page.set_input_files("#files", [str(file) for file in files])
    _wait_for_results(page)
    assert summary.inner_text() != previous


def _wait_for_results(page: Any) -> None:
    page.wait_for_selector("#results", state="visible")
    page.wait_for_selector("#progress", state="hidden")


def _download_table(page: Any) -> list[dict[str, str]]:
    with page.expect_download() as download:
        page.locator("#download-csv").click()
    return list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8"))))


def test_cards_show_probabilities_sets_saliency_maps_and_similar_cells(
    page_in_each_layout: OpenPage, cell_folder: Path
) -> None:
    page = page_in_each_layout.page
    _upload(
        page,
        cell_folder / "cell-00.png",
        cell_folder / "a-broken.png",
        cell_folder / "b-inverted.png",
        cell_folder / HOSTILE,
    )
    cards = page.locator(".card")
    assert cards.count() == 4
    assert page.locator("#summary").inner_text().startswith("3 cells classified, 1 out of distribution, 1 failed")
    good = cards.nth(0)
    assert good.locator(".probabilities tbody tr").count() == 8
    assert good.locator(".probabilities tr.in-set").count() >= 1
    percentages = [float(text.strip("<% ")) for text in good.locator(".probabilities .value").all_inner_texts()]
    assert percentages == sorted(percentages, reverse=True)
    assert sum(percentages) == pytest.approx(100, abs=1)
    widths = good.locator(".bar-track i").evaluate_all("bars => bars.map(bar => bar.getBoundingClientRect().width)")
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 10
    assert "broken.png is damaged" in cards.nth(1).inner_text()
    assert "too bright" in cards.nth(2).locator(".ood-warning").inner_text()
    assert HOSTILE in cards.nth(3).inner_text()
    assert page.locator("b[onclick]").count() == 0
    image_data_js = "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data"
    count_painted_js = f"{image_data_js}.filter((v, i) => i % 4 === 3 && v > 0).length"
    assert good.locator("canvas").evaluate(count_painted_js) > 20
    assert good.locator(".similar-cells li").count() == 6
    assert "class" in good.locator(".similar-cells li").first.inner_text()
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    page.locator("#show-saliency").uncheck()
    assert good.locator("canvas").evaluate("c => getComputedStyle(c).visibility") == "hidden"


def test_the_page_fits_the_window_and_its_text_has_contrast(page_in_each_layout: OpenPage, cell_folder: Path) -> None:
    page = page_in_each_layout.page
    _upload(page, cell_folder / "cell-00.png", cell_folder / "a-broken.png", cell_folder / "b-inverted.png")
    page.locator(".options summary").click()
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    too_wide_js = "[...document.querySelectorAll('main *, header *')].filter(e => !e.closest('.scroll')"
    too_wide_js += " && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"
    assert page.evaluate(too_wide_js) == []
    background = relative_luminance(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert (background < 0.1) == (page_in_each_layout.theme == "dark")
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
        text = relative_luminance(page.evaluate(computed_color_js, selector))
        assert contrast_ratio(text, background) >= 4.5, selector
    hero_background = relative_luminance(
        page.evaluate("getComputedStyle(document.querySelector('.hero')).backgroundColor")
    )
    for selector in (".eyebrow", ".subtitle", ".drop p", ".options small", ".options label"):
        assert contrast_ratio(relative_luminance(page.evaluate(computed_color_js, selector)), hero_background) >= 4.5, (
            selector
        )
    n_unnamed_js = (
        "[...document.querySelectorAll('input, select, progress')].filter(e => !e.labels.length && !e.ariaLabel).length"
    )
    assert page.evaluate(n_unnamed_js) == 0
    page.goto(page.url + "api")
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_a_sample_can_be_predicted_and_the_table_downloaded_by_keyboard(page_in_each_layout: OpenPage) -> None:
    page = page_in_each_layout.page

    def tab_to(selector: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                assert page.evaluate("document.activeElement.matches(':focus-visible')")
                return
        raise AssertionError(f"{selector} can't be reached by keyboard")

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
    assert "99% coverage" in page.locator(".probabilities caption").inner_text()
    tab_to("#show-saliency")
    page.keyboard.press("Space")
    assert not page.locator("#show-saliency").is_checked()
    tab_to("#download-csv")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert download.value.suggested_filename == "nephros.csv"
    tab_to("#clear")
    page.keyboard.press("Enter")
    assert page.locator(".card").count() == 0
    assert page.evaluate("document.activeElement.id") == "files"


def test_many_files_show_progress_and_fill_the_table(desktop_page: OpenPage, cell_folder: Path) -> None:
    page = desktop_page.page
    page.evaluate("""() => {
        window.progressTexts = [];
        new MutationObserver(() => window.progressTexts.push(document.getElementById('progress-text').textContent))
            .observe(document.getElementById('progress-text'), { childList: true, characterData: true, subtree: true }) }""")
    files = sorted(cell_folder.glob("*.png"))
    _upload(page, *files)
    progress_texts = page.evaluate("window.progressTexts")
    assert len({text for text in progress_texts if text.endswith("of 70 files")}) >= 3
    assert progress_texts[-1] == "70 of 70 files"
    assert page.locator(".card").count() == 60
    page.locator("#show-more").click()
    assert page.locator(".card").count() == 70
    assert page.locator("#show-more").is_hidden()
    rows = _download_table(page)
    assert [row["file"].removeprefix("'") for row in rows] == [file.name for file in files]
    hostile = next(row for row in rows if "cmd" in row["file"])
    assert hostile["file"] == f"'{HOSTILE}"  # so that a spreadsheet takes it for text
    assert [bool(row["error"]) for row in rows] == [file.name == "a-broken.png" for file in files]
    for row in rows:
        if not row["error"]:
            assert sum(float(row[f"p_{c}"]) for c in range(8)) == pytest.approx(1, abs=1e-5)
            assert row["label"] in row["prediction_set"].split()


def test_every_row_of_a_dropped_npz_file_is_in_the_table(desktop_page: OpenPage, cell_folder: Path) -> None:
    page = desktop_page.page
    data = list((cell_folder / "cells.npz").read_bytes())
    drop_js = """data => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([new Uint8Array(data)], 'cells.npz'));
        const options = { dataTransfer: transfer, bubbles: true, cancelable: true };
        document.getElementById('drop-zone').dispatchEvent(new DragEvent('drop', options)) }"""
    page.evaluate(drop_js, data)
    page.wait_for_selector(".card")
    page.wait_for_selector("#progress", state="hidden")
    assert page.locator("#summary").inner_text().startswith("100 cells classified")
    assert "cells.npz, val, 0" in page.locator(".card").first.inner_text()
    rows = _download_table(page)
    assert [int(row["index"]) for row in rows] == list(range(100))


def test_the_files_of_a_dropped_folder_are_predicted(desktop_page: OpenPage, cell_folder: Path, tmp_path: Path) -> None:
    page = desktop_page.page
    inner = tmp_path / "mine" / "inner"
    inner.mkdir(parents=True)
    for number in range(2):
        (inner / f"cell-{number}.png").write_bytes((cell_folder / f"cell-0{number}.png").read_bytes())
    (tmp_path / "mine" / "notes.txt").write_text("not an image")
    client = page.context.new_cdp_session(page)
    box = page.locator("#drop-zone").bounding_box()
    data = {"items": [], "files": [str(tmp_path / "mine")], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        client.send("Input.dispatchDragEvent", {"type": kind, "x": box["x"] + 20, "y": box["y"] + 20, "data": data})
    _wait_for_results(page)
    assert page.locator("#summary").inner_text() == "2 cells classified."


def test_a_deleted_file_does_not_affect_the_others_of_its_group(
    desktop_page: OpenPage, cell_folder: Path, tmp_path: Path
) -> None:
    page = desktop_page.page
    files = [tmp_path / f"cell-{number:02}.png" for number in range(30)]
    for file in files:
        file.write_bytes((cell_folder / "cell-00.png").read_bytes())

    def delete_and_continue(route: Any) -> None:
        files[27].unlink(missing_ok=True)  # in the second group, which has not been uploaded yet
        route.continue_()

    page.route(PREDICT_URL, delete_and_continue)
    page.set_input_files("#files", [str(file) for file in files])
    _wait_for_results(page)
    assert page.locator("#summary").inner_text().startswith("29 cells classified, 1 failed")
    failed_uploads = [text for text in desktop_page.problems if "Failed to load resource: net::ERR" in text]
    assert len(failed_uploads) == 2  # the group, and then the file alone
    desktop_page.problems[:] = [text for text in desktop_page.problems if text not in failed_uploads]


def test_show_more_adds_previews_saliency_maps_and_similar_cells(desktop_page: OpenPage, cell_folder: Path) -> None:
    page = desktop_page.page
    _upload(page, cell_folder / "cells.npz")
    assert page.locator(".card").count() == 60
    page.locator("#show-more").click()
    page.wait_for_selector("#show-more", state="hidden")
    assert page.locator(".card .probabilities").count() == 100
    for selector, n_per_card in ((".preview img", 1), (".preview canvas", 1), (".similar-cells li", 6)):
        assert page.locator(f".card {selector}").count() == 100 * n_per_card
    stored = np.load(cell_folder / "cells.npz")["val_images"]
    for i in (0, 59, 60, 99):
        assert f"cells.npz, val, {i}" in page.locator(".card .filename").nth(i).inner_text()
        assert page.locator(".preview img").nth(i).get_attribute("src") == png_data_uri(stored[i])


def test_show_more_reports_a_file_that_cannot_be_uploaded_again(desktop_page: OpenPage, cell_folder: Path) -> None:
    page = desktop_page.page
    _upload(page, cell_folder / "cells.npz")
    page.route("**/predict/batch?*", lambda route: route.fulfill(status=413, json={"error": "It is too large now."}))
    page.locator("#show-more").click()
    page.wait_for_selector("#show-more", state="hidden")
    assert page.locator(".card .probabilities").count() == 100
    assert "It is too large now." in page.locator(".card").nth(60).inner_text()
    assert "It is too large now." not in page.locator(".card").nth(59).inner_text()
    assert any("413" in line for line in desktop_page.problems)
    desktop_page.problems.clear()


def _wait_for_request(page: Any, requests: list[Any]) -> None:
    """Return once the page has sent a request."""
    for _ in range(500):
        if requests:
            return
        page.wait_for_timeout(20)
    raise AssertionError("the page sent no request")


@pytest.mark.parametrize("pattern", ["cell-*.png", "cells.npz"])
def test_clearing_stops_the_predictions_and_empties_the_page(
    desktop_page: OpenPage, cell_folder: Path, pattern: str
) -> None:
    page = desktop_page.page
    requests: list[Any] = []
    page.route(PREDICT_URL, lambda route: requests.append(route))  # never fulfilled
    page.set_input_files("#files", [str(file) for file in sorted(cell_folder.glob(pattern))])
    page.wait_for_selector("#progress", state="visible")
    _wait_for_request(page, requests)
    page.locator("#clear").click()
    page.wait_for_timeout(300)
    assert page.locator(".card").count() == 0
    assert page.locator("#progress").is_hidden()
    assert page.locator("#results").is_hidden()
    assert page.evaluate("document.activeElement.id") == "files"
    assert len(requests) == 1
    page.unroute(PREDICT_URL)
    _upload(page, cell_folder / "cell-00.png")  # the page still works
    assert page.locator(".card").count() == 1
    assert page.locator("#summary").inner_text() == "1 cell classified."


def test_stopping_marks_every_remaining_file_as_stopped(desktop_page: OpenPage, cell_folder: Path) -> None:
    page = desktop_page.page
    requests: list[Any] = []
    page.route(PREDICT_URL, lambda route: requests.append(route))
    page.set_input_files("#files", [str(file) for file in sorted(cell_folder.glob("cell-*.png"))[:30]])
    _wait_for_request(page, requests)
    page.locator("#stop").click()
    page.wait_for_selector("#progress", state="hidden")
    assert page.locator(".card.failed").count() == 30
    assert "Stopped before it was classified" in page.locator(".card").last.inner_text()


def test_an_unreachable_server_is_reported_on_each_card(browser: Any, cell_folder: Path) -> None:
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


def test_the_page_works_below_a_prefix_with_a_token(browser: Any, cell_folder: Path) -> None:
    """Behind a proxy that strips the prefix and passes another Host header than the page's."""
    args = ["--root-path", "/lab/nephros", "--token", "secret", "--reference-data", "none"]
    with run_server(args) as server, run_proxy(server.port, "/lab/nephros") as address:
        own_prefixes = (f"{address}/", "data:", "blob:")
        with open_page(browser, f"{address}/?token=secret", 1280, "light", own_prefixes) as opened:
            page = opened.page
            page.wait_for_selector("#drop-zone[data-ready=yes]")
            assert page.url == f"{address}/"
            page.locator("#sample-groups button").first.click()
            _wait_for_results(page)
            assert page.locator(".card").count() == 1
            _upload(page, cell_folder / "cell-01.png")
            assert page.locator(".card").count() == 2
            _upload(page, cell_folder / "cells.npz")
            assert page.locator("#summary").inner_text().startswith("102 cells classified")
            page.get_by_role("link", name="the API").click()
            assert page.url == f"{address}/api"
            assert page.locator("h1").inner_text() == "The API"
            assert opened.problems == []
