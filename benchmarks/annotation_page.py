"""Frames per second of the annotation page's gallery while it scrolls, and long tasks while cells are labeled by keys."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.annotation_project import load_cells, make_project
from benchmarks.common import BenchmarkConfig, Row, build_parser, parse_config, publish
from benchmarks.serving import server

N_CELLS, N_LABELS, N_KEYS = 100_000, 500, 120
KEY_PAUSE_S = 0.35
"""Between two labels: a fast annotator sets three per second."""
SPEEDS = {"slowly": 600, "fast": 6000, "by leaps": 120_000}
"""How the gallery scrolls -> CSS pixels per second."""
WINDOW_HEIGHT = 900
SCROLL = """([pixelsPerSecond, seconds]) => new Promise(resolve => {
    const grid = document.querySelector(".grid");
    const times = [];
    let direction = 1;
    const step = now => {
        if (times.length) {
            const top = grid.scrollTop + direction * pixelsPerSecond * (now - times.at(-1)) / 1000;
            if (top < 0 || top > grid.scrollHeight - grid.clientHeight) direction = -direction;
            else grid.scrollTop = top;
        }
        times.push(now);
        if (now - times[0] < 1000 * seconds) requestAnimationFrame(step);
        else resolve(times.slice(1).map((time, i) => time - times[i]));
    };
    requestAnimationFrame(step);
})"""
OBSERVE = """() => {
    window.longTasks = [];
    window.keyTimes = [];
    const observe = (type, list, options) => new PerformanceObserver(entries => {
        for (const entry of entries.getEntries()) list(entry);
    }).observe({ type, ...options });
    observe("longtask", entry => window.longTasks.push(entry.duration));
    observe("event", entry => entry.name === "keydown" && window.keyTimes.push(entry.duration), { durationThreshold: 16 });
}"""
LABEL_ALL = """() => new Promise(resolve => {
    const start = performance.now();
    const check = () => document.querySelector(".save-state").dataset.state === "saved"
        ? requestAnimationFrame(check) : resolve(performance.now() - start);
    document.querySelector("dialog .class-button").click();
    check();
})"""
COLLECT = "() => ({ longTasks: window.longTasks.splice(0), keyTimes: window.keyTimes.splice(0) })"


def main() -> None:
    """Run the benchmark."""
    parser = build_parser(__doc__ or "")
    parser.add_argument("--cells", type=int, default=N_CELLS, help=f"cells in the project (default: {N_CELLS:,})")
    config = parse_config(parser, "annotation_page")
    if (chromium := shutil.which("chromium") or shutil.which("google-chrome")) is None:
        parser.error("Chromium is needed, and was not found.")
    dataset = load_cells(config.data)
    with tempfile.TemporaryDirectory() as folder:
        n_cells = 800 if config.quick else config.args.cells
        project, truth = make_project(Path(folder), dataset, n_cells)
        n_labels = 40 if config.quick else N_LABELS
        cells = np.random.default_rng(0).choice(project.n_cells, n_labels, replace=False).tolist()
        project.labels.apply([(cell, int(truth[cell])) for cell in cells], "annotator")
        n_cells = project.n_cells
        project.close()
        with server(project=str(project.root)) as port, open_page(chromium, port) as (page, browser_version):
            _wait_for_model(port, n_labels)
            page.evaluate(OBSERVE)
            rows = [scrolling_row(page, how, speed, config) for how, speed in SPEEDS.items()]
            rows += [labeling_row(page, 6 if config.quick else N_KEYS), labeling_all_row(page)]
    for row in rows:
        row |= {"cells": n_cells, "browser": browser_version}
    publish(config, "The annotation page in Chromium, without a GPU", rows, dataset.provenance.title)


@contextlib.contextmanager
def open_page(chromium: str, port: int) -> Iterator[tuple[Any, str]]:
    """Open the annotation page of a local server; yield it, and the version of the browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as api:
        browser = api.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": WINDOW_HEIGHT})
        page.goto(f"http://127.0.0.1:{port}/annotate")
        page.wait_for_selector(".grid", timeout=600_000)
        yield page, browser.version
        browser.close()


def scrolling_row(page: Any, how: str, pixels_per_second: int, config: BenchmarkConfig) -> Row:
    """Return how long the frames are while the gallery scrolls, in all rounds together."""
    page.evaluate("() => { document.querySelector('.grid').scrollTop = 0 }")
    page.evaluate(COLLECT)
    frames = [
        time_ms
        for _ in range(config.repeats)
        for time_ms in page.evaluate(SCROLL, [pixels_per_second, max(0.5, config.seconds)])
    ]
    median, p95 = np.percentile(frames, (50, 95))
    row: Row = {
        "what": f"scrolling {how}",
        "pixels_per_s": pixels_per_second,
        "frames_per_s": 1000 / float(np.mean(frames)),
        "frame_p50_ms": float(median),
        "frame_p95_ms": float(p95),
        "frame_max_ms": max(frames),
    }
    return row | _long_tasks(page.evaluate(COLLECT)["longTasks"])


def labeling_row(page: Any, n_keys: int) -> Row:
    """Return the long tasks, and the time from a key to the next frame, while cells are labeled one after another."""
    page.evaluate("() => { document.querySelector('.grid').scrollTop = 0 }")
    page.focus(".grid")
    page.keyboard.press("Home")
    page.evaluate(COLLECT)
    for i in range(n_keys):
        start = time.perf_counter()
        page.keyboard.press("1" if i % 3 else "2")
        time.sleep(max(0.0, KEY_PAUSE_S - (time.perf_counter() - start)))
    page.wait_for_selector(".save-state[data-state=saved]", timeout=600_000)
    observed = page.evaluate(COLLECT)
    # The browser reports no event that took less than a frame.
    times = observed["keyTimes"] + [0] * (n_keys - len(observed["keyTimes"]))
    row: Row = {"what": "labeling by keys", "keys": n_keys}
    row |= {f"key_to_frame_p{q}_ms": float(np.percentile(times, q)) for q in (50, 95)}
    return row | _long_tasks(observed["longTasks"])


def labeling_all_row(page: Any) -> Row:
    """Return the long tasks, and the seconds until all labels are shown and saved, when all cells get a label at once."""
    page.get_by_role("button", name="Label all shown").click()
    page.evaluate(COLLECT)
    start = time.perf_counter()
    shown_ms = page.evaluate(LABEL_ALL)
    page.wait_for_selector(".save-state[data-state=saved]", timeout=600_000)
    row: Row = {"what": "labeling all at once", "shown_s": shown_ms / 1000, "saved_s": time.perf_counter() - start}
    return row | _long_tasks(page.evaluate(COLLECT)["longTasks"])


def _long_tasks(durations: list[float]) -> Row:
    """Return the counts of tasks that kept the page busy; the browser reports those over 50 ms."""
    return {
        "tasks_over_50_ms": len(durations),
        "tasks_over_100_ms": sum(duration > 100 for duration in durations),
        "longest_task_ms": max(durations, default=0.0),
    }


def _wait_for_model(port: int, n_labels: int) -> None:
    """Return once the features of all cells are computed, and the head is fitted to all labels."""
    while True:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/project") as response:
            state = json.load(response)["model"]
        if state["state"] == "ready" and state["n_labels"] == n_labels:
            return
        if state["error"]:
            raise RuntimeError(state["error"])
        time.sleep(0.5)


if __name__ == "__main__":
    main()
