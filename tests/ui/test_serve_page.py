"""The page of a live `nephros serve` in a real browser: wide and narrow, light and dark, by mouse and by keyboard alone."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nephros.data.synthetic import make_synthetic
from nephros.inference.bundled import bundled_names
from tests.conftest import write_npz
from tests.server.live_server import LiveServer, run_server
from tests.server.prefix_proxy import run_proxy
from tests.ui.classify_page import (
    AXE,
    HOSTILE,
    N_TRIES,
    PAUSE_MS,
    assert_accessible,
    cell_names,
    download_table,
    drop,
    open_card,
    open_classify_page,
    tab_to,
    upload,
    wait_for_results,
    write_cells,
)
from tests.ui.conftest import CHROMIUM, LAYOUTS, OpenPage, open_page
from tests.ui.contrast import contrast_ratio, relative_luminance

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]
PREDICT_URL = re.compile("/predict")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """Serve the bundled models, with synthetic reference cells."""
    reference = write_npz(tmp_path_factory.mktemp("reference") / "synthetic.npz", make_synthetic(200, 40, 40))
    with run_server(["--reference-data", reference]) as live_server:
        yield live_server


@pytest.fixture(scope="module")
def cell_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cells(tmp_path_factory.mktemp("cells"))


@pytest.fixture(params=LAYOUTS, ids=lambda layout: f"{layout[0]}-{layout[1]}")
def page_in_each_layout(request: pytest.FixtureRequest, browser: Any, server: LiveServer) -> Iterator[OpenPage]:
    with open_classify_page(browser, server, *request.param) as opened:
        yield opened


@pytest.fixture
def desktop_page(browser: Any, server: LiveServer) -> Iterator[OpenPage]:
    with open_classify_page(browser, server) as opened:
        yield opened


def test_cards_show_probabilities_sets_saliency_maps_and_similar_cells(
    page_in_each_layout: OpenPage, cell_folder: Path
) -> None:
    page = page_in_each_layout.page
    names = ("cell-00.png", "a-broken.png", "b-inverted.png", HOSTILE)
    upload(page, *(cell_folder / name for name in names))
    assert page.locator("#summary").inner_text().startswith("3 cells classified, 1 out of distribution, 1 failed")
    assert "a-broken.png is damaged" in page.locator(".failed").inner_text()
    card = open_card(page, 0)
    assert card.locator(".probabilities tbody tr").count() == 8
    assert card.locator(".probabilities tr.in-set").count() >= 1
    percentages = [float(text.strip("<% ")) for text in card.locator(".probabilities .value").all_inner_texts()]
    assert percentages == sorted(percentages, reverse=True)
    assert sum(percentages) == pytest.approx(100, abs=1)
    widths = card.locator(".bar-track i").evaluate_all("bars => bars.map(bar => bar.getBoundingClientRect().width)")
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 10
    card.locator(".similar-cells li").nth(5).wait_for()
    assert card.locator(".similar-cells li").count() == 6
    assert "class" in card.locator(".similar-cells li").first.inner_text()
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert card.locator("canvas.saliency").count() == 0
    card.locator("#show-saliency").check()
    card.locator("canvas.saliency").wait_for()
    image_data_js = "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data"
    count_painted_js = f"{image_data_js}.filter((v, i) => i % 4 === 3 && v > 0).length"
    assert card.locator("canvas.saliency").evaluate(count_painted_js) > 20
    card.locator("#show-saliency").uncheck()
    card.locator("canvas.saliency").wait_for(state="detached")
    page.keyboard.press("Escape")
    card.wait_for(state="detached")
    assert page.evaluate("document.activeElement.matches('.grid')")
    assert "too bright" in open_card(page, 1).locator(".ood-warning").inner_text()
    assert HOSTILE in open_card(page, 2).inner_text()
    assert page.locator("b[onclick]").count() == 0


def test_the_page_fits_the_window_and_its_text_has_contrast(page_in_each_layout: OpenPage, cell_folder: Path) -> None:
    page = page_in_each_layout.page
    selectors = [".sample-strip small", "footer p", "h2"]
    background = relative_luminance(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    computed_color_js = "selector => getComputedStyle(document.querySelector(selector)).color"

    def check_contrast(selectors: list[str]) -> None:
        for selector in selectors:
            text = relative_luminance(page.evaluate(computed_color_js, selector))
            assert contrast_ratio(text, background) >= 4.5, selector

    check_contrast(selectors)
    upload(page, cell_folder / "cell-00.png", cell_folder / "a-broken.png", cell_folder / "b-inverted.png")
    page.locator(".options summary").click()
    open_card(page, 1)
    page.wait_for_selector(".similar-cells li")
    page.locator("#show-saliency").check()
    page.wait_for_selector(".card-image .note")
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    too_wide_js = "[...document.querySelectorAll('main *, header *')].filter(e => !e.closest('.scroll')"
    too_wide_js += " && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"
    assert page.evaluate(too_wide_js) == []
    assert (background < 0.1) == (page_in_each_layout.theme == "dark")
    check_contrast([
        *("h2", ".filename", ".note", ".probabilities th", ".probabilities .in-set th", ".similar-cells li"),
        *(".ood-warning b", "#summary", ".failed", ".class-counts .muted", "#shown"),
    ])  # fmt: skip
    border = page.evaluate("getComputedStyle(document.querySelector('.toolbar select')).borderTopColor")
    assert contrast_ratio(relative_luminance(border), background) >= 3
    hero_background = relative_luminance(
        page.evaluate("getComputedStyle(document.querySelector('.hero')).backgroundColor")
    )
    for selector in (".eyebrow", ".subtitle", ".drop p", ".options small", ".options label", ".model-choice label"):
        text = relative_luminance(page.evaluate(computed_color_js, selector))
        assert contrast_ratio(text, hero_background) >= 4.5, selector
    n_unnamed_js = (
        "[...document.querySelectorAll('input, select, progress')].filter(e => !e.labels.length && !e.ariaLabel).length"
    )
    assert page.evaluate(n_unnamed_js) == 0
    page.goto(page.url + "api")
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_axe_core_finds_no_violation(page_in_each_layout: OpenPage, cell_folder: Path) -> None:
    if not AXE.is_file():
        pytest.skip("axe-core comes with frontend/node_modules: run make check where Node 20 is")
    page = page_in_each_layout.page
    page.evaluate(AXE.read_text())
    assert_accessible(page)
    upload(page, *sorted(cell_folder.glob("*-0*.png")), cell_folder / "a-broken.png", cell_folder / "b-inverted.png")
    page.locator(".menu summary").click()
    assert_accessible(page)
    page.locator(".menu summary").click()
    open_card(page, 0)
    page.wait_for_selector(".similar-cells li")
    page.locator("#show-saliency").check()
    page.wait_for_selector("canvas.saliency")
    assert_accessible(page)
    page.goto(page.url + "api")
    page.evaluate(AXE.read_text())
    assert_accessible(page)


def test_a_sample_can_be_predicted_and_the_table_downloaded_by_keyboard(page_in_each_layout: OpenPage) -> None:
    page = page_in_each_layout.page
    tab_to(page, "#files")
    tab_to(page, ".options summary")
    page.keyboard.press("Enter")
    tab_to(page, "#coverage")
    page.keyboard.press("End")
    assert page.locator("#coverage").input_value() == "0.99"
    tab_to(page, ".sample-strip button")
    page.keyboard.press("Enter")
    page.wait_for_selector(".cell-card .probabilities")
    wait_for_results(page)
    assert "99% coverage" in page.locator(".probabilities caption").inner_text()
    page.wait_for_selector("#samples:not([open])")  # folded away
    tab_to(page, "#samples summary")
    tab_to(page, "#download-csv")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert download.value.suggested_filename == "nephros.csv"
    tab_to(page, ".grid")
    tab_to(page, "#show-saliency")
    page.keyboard.press("Space")
    assert page.locator("#show-saliency").is_checked()
    page.wait_for_selector("canvas.saliency")
    page.keyboard.press("Escape")
    page.wait_for_selector(".cell-card", state="detached")
    tab_to(page, "#clear")
    page.keyboard.press("Enter")
    page.wait_for_selector("#results", state="detached")
    assert page.evaluate("document.activeElement.id") == "files"
    page.wait_for_selector("#samples[open]")


def test_the_gallery_is_filtered_and_sorted(desktop_page: OpenPage, cell_folder: Path) -> None:
    page = desktop_page.page
    upload(page, *sorted(cell_folder.glob("cell-[01]*.png")), cell_folder / "b-inverted.png")
    rows = [row for row in download_table(page) if not row["error"]]
    names = cell_names(page)
    assert [name.split(", ")[0] for name in names] == [row["file"] for row in rows]
    counts = {row["label"]: sum(other["label"] == row["label"] for other in rows) for row in rows}
    legend = page.locator("#class-counts button")
    assert legend.count() == len(counts)
    legend_counts = [int(re.match(r"\d+", text.strip())[0]) for text in legend.all_inner_texts()]  # type: ignore[index]
    assert legend_counts == sorted(counts.values(), reverse=True)
    widths = page.locator(".class-bar i").evaluate_all("parts => parts.map(part => part.getBoundingClientRect().width)")
    assert np.array(widths) / sum(widths) == pytest.approx(np.array(legend_counts) / len(rows), abs=0.03)
    legend.first.click()
    page.locator("#shown", has_text=re.compile(rf"^{legend_counts[0]} cells?$")).wait_for()
    assert len({name.split(", ")[1] for name in cell_names(page)}) == 1
    legend.first.click()
    page.locator(".menu summary").click()
    page.get_by_role("checkbox", name="Out of distribution").check()
    n_ood = sum(row["is_ood"] == "true" for row in rows)
    page.locator("#shown", has_text=f"{n_ood} cell").wait_for()
    page.get_by_role("checkbox", name="Out of distribution").uncheck()
    page.get_by_role("checkbox", name="Unsure").check()
    n_unsure = sum(len(row["prediction_set"].split()) != 1 for row in rows)
    page.locator("#shown", has_text=f"{n_unsure} cell").wait_for()
    page.get_by_role("checkbox", name="Unsure").uncheck()
    page.keyboard.press("Escape")
    page.locator("#sort").select_option("uncertainty")
    top = {row["file"]: max(float(row[f"p_{c}"]) for c in range(8)) for row in rows}
    files = [name.split(", ")[0] for name in cell_names(page)]
    assert [top[file] for file in files] == sorted(top.values())
    page.locator("#sort").select_option("probability")
    page.locator("#sort-class").select_option("4")
    page.get_by_role("button", name="Reverse the order").click()
    of_class = {row["file"]: float(row["p_4"]) for row in rows}
    files = [name.split(", ")[0] for name in cell_names(page)]
    assert [of_class[file] for file in files] == sorted(of_class.values())


def test_many_files_show_progress_and_fill_the_table(desktop_page: OpenPage, cell_folder: Path) -> None:
    page = desktop_page.page
    page.evaluate("""() => {
        window.progressTexts = [];
        const record = () => window.progressTexts.push(document.getElementById('progress-text')?.textContent ?? '');
        new MutationObserver(record).observe(document.body, { childList: true, characterData: true, subtree: true }) }""")
    files = sorted(cell_folder.glob("*.png"))
    upload(page, *files)
    progress_texts = page.evaluate("window.progressTexts")
    assert len({text for text in progress_texts if text.endswith("of 70 files")}) >= 3
    page.locator("#shown", has_text="69 cells").wait_for()
    rows = download_table(page)
    assert [row["file"].removeprefix("'") for row in rows] == [file.name for file in files]
    hostile = next(row for row in rows if "cmd" in row["file"])
    assert hostile["file"] == f"'{HOSTILE}"  # so that a spreadsheet takes it for text
    assert [bool(row["error"]) for row in rows] == [file.name == "a-broken.png" for file in files]
    for row in rows:
        if not row["error"]:
            assert sum(float(row[f"p_{c}"]) for c in range(8)) == pytest.approx(1, abs=1e-5)
            assert row["label"] in row["prediction_set"].split()


def test_every_row_of_a_dropped_npz_file_is_in_the_table_and_its_card_has_its_pixels(
    desktop_page: OpenPage, cell_folder: Path
) -> None:
    page = desktop_page.page
    drop(page, [("cells.npz", (cell_folder / "cells.npz").read_bytes())])
    wait_for_results(page)
    assert page.locator("#summary").inner_text().startswith("100 cells classified")
    rows = download_table(page)
    assert [int(row["index"]) for row in rows] == list(range(100))
    stored = np.load(cell_folder / "cells.npz")["val_images"]
    pixels_js = "c => [...c.getContext('2d').getImageData(0, 0, 28, 28).data].filter((v, i) => i % 4 === 0)"
    for i in (0, 59, 99):
        card = open_card(page, i)
        assert f"cells.npz, val, {i}" in card.locator(".filename").inner_text()
        assert rows[i]["class_name"] in card.locator("h2").inner_text()
        white = int(np.sort(stored[i].ravel())[-2])  # one of 784 pixels may be brighter
        brightened = np.floor(stored[i].ravel() * (255 / white) + 0.5 + 1e-9)
        expected = np.minimum(255, brightened).astype(int).tolist()
        assert card.locator("canvas.cell").evaluate(pixels_js) == expected


def test_dark_cells_are_brightened_unless_they_are_to_be_compared(desktop_page: OpenPage, tmp_path: Path) -> None:
    page = desktop_page.page
    dark = np.full((3, 28, 28), 4, np.uint8)
    dark[:, 8:20, 8:20] = 20
    np.savez(tmp_path / "dark.npz", images=dark)
    upload(page, tmp_path / "dark.npz")
    page.keyboard.press("Escape")
    button = page.get_by_role("button", name="Brighten dark cells")
    for is_on, level in ((True, 51), (False, 20), (True, 51)):
        assert button.get_attribute("aria-pressed") == str(is_on).lower()
        for _ in range(N_TRIES):
            picture = Image.open(io.BytesIO(page.locator(".grid").screenshot())).convert("L")
            if picture.histogram()[level] > 1000:  # brightened, 20 is white, and 4 a fifth of it
                break
            page.wait_for_timeout(PAUSE_MS)
        else:
            raise AssertionError(f"no pixels of {level}")
        button.click()


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
    wait_for_results(page)
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
    wait_for_results(page)
    assert page.locator("#summary").inner_text().startswith("29 cells classified, 1 failed")
    failed_uploads = [text for text in desktop_page.problems if "Failed to load resource: net::ERR" in text]
    assert len(failed_uploads) == 2  # the group, and then the file alone
    desktop_page.problems[:] = [text for text in desktop_page.problems if text not in failed_uploads]


def test_a_card_says_why_there_is_no_saliency_map(desktop_page: OpenPage, cell_folder: Path) -> None:
    page = desktop_page.page
    upload(page, cell_folder / "cell-00.png", cell_folder / "cell-01.png")
    page.route("**/predict?explain=*", lambda route: route.fulfill(status=413, json={"error": "It is too large now."}))
    card = open_card(page, 1)
    card.locator("#show-saliency").check()
    card.get_by_text("It is too large now.").wait_for()
    assert card.locator(".probabilities").count() == 1
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
    upload(page, cell_folder / "cell-00.png")
    requests: list[Any] = []
    page.route(PREDICT_URL, lambda route: requests.append(route))  # never fulfilled
    page.set_input_files("#files", [str(file) for file in sorted(cell_folder.glob(pattern))])
    page.wait_for_selector("#progress", state="visible")
    _wait_for_request(page, requests)
    page.locator("#clear").click()
    page.wait_for_timeout(300)
    assert page.locator("#progress").count() == 0
    assert page.locator("#results").count() == 0
    assert page.evaluate("document.activeElement.id") == "files"
    assert len(requests) == 1
    page.unroute(PREDICT_URL)
    page.set_input_files("#files", str(cell_folder / "cell-00.png"))  # the page still works
    wait_for_results(page)
    assert page.locator("#summary").inner_text() == "1 cell classified."


def test_stopping_marks_every_remaining_file_as_stopped(desktop_page: OpenPage, cell_folder: Path) -> None:
    page = desktop_page.page
    requests: list[Any] = []
    page.route(PREDICT_URL, lambda route: requests.append(route))
    page.set_input_files("#files", [str(file) for file in sorted(cell_folder.glob("cell-*.png"))[:30]])
    _wait_for_request(page, requests)
    page.locator("#stop").click()
    page.wait_for_selector("#progress", state="hidden")
    assert page.locator(".failed").count() == 30
    assert "Stopped before it was classified" in page.locator(".failed").last.inner_text()


def test_another_model_predicts_the_same_files_again(desktop_page: OpenPage, cell_folder: Path) -> None:
    page = desktop_page.page
    upload(page, cell_folder / "cell-00.png", cell_folder / "cell-01.png")
    before = download_table(page)
    names = [option.get_attribute("value") for option in page.locator("#model-name option").all()]
    assert names == list(bundled_names())
    page.locator("#model-name").select_option(names[1])
    page.get_by_text(f"recipe {names[1]}").wait_for()
    wait_for_results(page)
    after = download_table(page)
    assert [row["file"] for row in after] == [row["file"] for row in before]
    assert all(a["p_0"] != b["p_0"] for a, b in zip(after, before, strict=True))
    card = open_card(page, 0)
    card.locator("#show-saliency").check()
    card.locator("canvas.saliency").wait_for()
    card.locator(".similar-cells li").nth(5).wait_for()  # by this model's features


def test_an_unreachable_server_is_reported(browser: Any, cell_folder: Path) -> None:
    with run_server(["--reference-data", "none"]) as server:
        context = browser.new_context()
        page = context.new_page()
        page.goto(server.address)
        page.wait_for_selector("#drop-zone[data-ready=yes]")
        page.set_input_files("#files", str(cell_folder / "cell-01.png"))
        wait_for_results(page)
        assert "nephros serve --reference-data" in page.locator("#reference-info").inner_text()
    page.set_input_files("#files", str(cell_folder / "cell-00.png"))
    page.wait_for_selector(".failed")
    assert "The server or the file is no longer available" in page.locator(".failed").inner_text()
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
            wait_for_results(page)
            page.locator("#shown", has_text="1 cell").wait_for()
            upload(page, cell_folder / "cell-01.png")
            page.locator("#shown", has_text="2 cells").wait_for()
            upload(page, cell_folder / "cells.npz")
            assert page.locator("#summary").inner_text().startswith("102 cells classified")
            page.get_by_role("link", name="the API").click()
            assert page.url == f"{address}/api"
            assert page.locator("h1").inner_text() == "The API"
            assert opened.problems == []
