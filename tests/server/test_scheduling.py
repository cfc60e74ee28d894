"""Requests of a few small images never wait behind others, whose unusual files are decoded in processes that are killed."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nephros.data.input_files import InMemoryFile
from nephros.errors import FileError
from nephros.inference.predictor import Predictor
from nephros.server.app import create_app
from nephros.server.limits import RequestLimits
from nephros.server.scheduling import (
    ACTIVE_LARGE_REQUESTS,
    LARGE_REQUEST_THREADS,
    SMALL_REQUEST_FILES,
    RequestScheduler,
    is_small_request,
)
from nephros.server.service import Service
from tests.conftest import square_images
from tests.server.call_app import call_app
from tests.server.hostile_files import (
    CELL,
    jpeg_of_scans,
    pages,
    png_of_profiles,
)
from tests.server.live_server import encode_image, encode_npz, multipart_body, run_server

CELL_PNG = encode_image(CELL)
SLOW_TIFF = pages(90_000, "lzw")
"""Takes half a minute to decode."""


def file(data: bytes, name: str = "a") -> InMemoryFile:
    return InMemoryFile(name, data)


@pytest.fixture
def scheduler() -> Iterator[RequestScheduler]:
    scheduler = RequestScheduler()
    yield scheduler
    scheduler.close()


def test_small_requests_are_a_few_small_images() -> None:
    for small in (CELL_PNG, encode_image(CELL, "JPEG"), encode_image(CELL, "TIFF"), pages(20, None)):
        assert is_small_request([file(small)] * SMALL_REQUEST_FILES)
    for large in (
        encode_npz(images=CELL[None]),
        b"",
        b"unknown",
        encode_image(np.zeros((1500, 1500), np.uint8)),
        np.random.default_rng(0).bytes(2 << 20),
        pages(600, None),
        jpeg_of_scans(40, 100),
        SLOW_TIFF,
        png_of_profiles(20),
    ):
        assert not is_small_request([file(CELL_PNG), file(large)])
    assert not is_small_request([file(CELL_PNG)] * (SMALL_REQUEST_FILES + 1))
    assert not is_small_request([file(encode_image(np.zeros((900, 900), np.uint8)))] * 6)  # too many pixels together


def test_small_requests_run_while_all_large_ones_hang(scheduler: RequestScheduler) -> None:
    released = threading.Event()
    running: list[int] = []

    def hang() -> None:
        running.append(1)
        released.wait(20)

    async def scenario() -> str:
        large = scheduler.threads_for([file(b"unknown")])
        hanging = [asyncio.ensure_future(large(hang)) for _ in range(2 * LARGE_REQUEST_THREADS)]
        await asyncio.sleep(0.2)
        assert len(running) == ACTIVE_LARGE_REQUESTS
        result: str = await asyncio.wait_for(scheduler.threads_for([file(CELL_PNG)])(lambda: "done"), 10)
        released.set()
        await asyncio.gather(*hanging)
        return result

    assert asyncio.run(scenario()) == "done"


def test_a_large_request_that_waits_for_its_process_lets_others_go_on(scheduler: RequestScheduler) -> None:
    limits = RequestLimits(decode_timeout_s=3)

    def decode() -> str:
        with pytest.raises(FileError, match="3 seconds") as raised:
            list(scheduler.decoder(limits).decode_pages("slow.tif", SLOW_TIFF))
        return str(raised.value.path)

    async def scenario() -> tuple[list[Any], float]:
        large = scheduler.threads_for([file(b"unknown")])
        decoding = [asyncio.ensure_future(large(decode)) for _ in range(ACTIVE_LARGE_REQUESTS)]
        await asyncio.sleep(0.5)
        start = time.monotonic()
        assert await large(lambda: "another") == "another"
        waited = time.monotonic() - start
        return await asyncio.gather(*decoding), waited

    scheduler.start()
    names, waited = asyncio.run(scenario())
    assert names == ["slow.tif"] * ACTIVE_LARGE_REQUESTS
    assert waited < 2.5  # not as long as the processes


def test_processes_have_a_lower_priority_and_end_with_the_scheduler(scheduler: RequestScheduler) -> None:
    list(scheduler.decoder(RequestLimits()).decode_pages("pages.tif", pages(600, None)))
    pids = scheduler._decoders.pids
    assert [os.getpriority(os.PRIO_PROCESS, pid) > os.getpriority(os.PRIO_PROCESS, 0) for pid in pids] == [True] * len(
        pids
    )
    scheduler.close()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.fixture(scope="module")
def app(predictor: Predictor) -> Iterator[Any]:
    service = Service(predictor)
    limits = RequestLimits(decode_timeout_s=1)
    yield create_app(service, [], limits=limits, batch_limits=limits)
    service.close()


def test_a_file_that_takes_too_long_costs_no_other_its_prediction(app: Any) -> None:
    cells = square_images(3, 4, 0)[0]
    files = [
        ("first.png", CELL_PNG),
        ("slow.tif", SLOW_TIFF),
        ("pages.tif", pages(3, "lzw")),
        ("slow too.tif", SLOW_TIFF),
        ("cells.npz", encode_npz(images=cells)),
        ("last.png", CELL_PNG),
    ]
    for route in ("/predict", "/predict/batch"):
        status, text = call_app(app, "POST", route, multipart_body(files)[0])
        rows = (
            json.loads(text)["results"]
            if route == "/predict"
            else [json.loads(line) for line in text.splitlines()[:-1]]
        )
        assert status == 200
        errors = {row["file"]: row["error"] for row in rows if row["error"]}
        assert set(errors) == {"slow.tif", "slow too.tif"}  # one row each, after the pages before it
        assert all("the 1 second for which" in message for message in errors.values())
        counts = Counter(row["file"] for row in rows if not row["error"])
        assert [counts[name] for name in ("first.png", "pages.tif", "cells.npz", "last.png")] == [1, 3, 3, 1]


def test_the_limits_of_the_command_line_are_those_of_the_server(exported_model: Path) -> None:
    args = ["--model", exported_model, "--reference-data", "none", "--max-pixels", 1000, "--decode-timeout", 1]
    with run_server(args) as server:
        status, version = server.json("GET", "/version")
        assert status == 200
        limits = version["limits"]
        assert (limits["predict"]["max_pixels"], limits["predict"]["decode_timeout_s"]) == (1000, 1)
        assert (limits["batch"]["max_pixels"], limits["batch"]["decode_timeout_s"]) == (2500, 15)
        first, second = server.predict([("first.png", CELL_PNG), ("second.png", CELL_PNG)])
        assert (first["error"], second["label"]) == (None, None)
