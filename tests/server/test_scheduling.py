"""Requests of a few small images never wait behind others, whose unusual files are decoded in processes that are killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nephros.data.images.input_conversion import InputConversion
from nephros.data.input_files import InMemoryFile
from nephros.inference.predictor import Predictor
from nephros.server.app import create_app
from nephros.server.limits import RequestLimits, RequestRejected
from nephros.server.reading import (
    CHUNK_CELLS,
    MAX_PLAIN_FILES,
    Chunk,
    ReadOptions,
    iter_chunks,
    read_plain_cells,
)
from nephros.server.scheduling import (
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


PATIENT = RequestLimits(timeout_s=600, decode_timeout_s=600)
OPTIONS = ReadOptions((1, 28, 28), InputConversion(), PATIENT, (0, 10_000))


@pytest.fixture(scope="module")
def shared_scheduler() -> Iterator[RequestScheduler]:
    scheduler = RequestScheduler(2)
    scheduler.start()
    yield scheduler
    scheduler.close()


@pytest.fixture
def scheduler() -> Iterator[RequestScheduler]:
    scheduler = RequestScheduler(2)
    yield scheduler
    scheduler.close()


async def read(scheduler: RequestScheduler, *files: InMemoryFile, options: ReadOptions = OPTIONS) -> list[Chunk]:
    return [chunk async for chunk in scheduler.read(files, options)]


def rows_and_errors(chunks: list[Chunk]) -> tuple[dict[int, str], dict[int, str]]:
    """Return row -> file for cells, and row -> message for errors."""
    cells = {
        row: source.file for chunk in chunks for row, source in zip(chunk.rows.tolist(), chunk.sources, strict=True)
    }
    return cells, {row: text for chunk in chunks for row, (_, text) in chunk.errors.items()}


def test_plain_cells_are_read_as_all_others_are() -> None:
    """They are read where they arrive, and are the same chunk as a thread would read."""
    files = [file(encode_image(cell), f"{i}.PNG") for i, cell in enumerate(square_images(3, 3, seed=0)[0][:3])]
    for n in (1, 3):
        plain, (expected,) = read_plain_cells(files[:n], OPTIONS), list(iter_chunks(files[:n], OPTIONS))
        assert plain is not None
        np.testing.assert_array_equal(plain.cells, expected.cells)
        np.testing.assert_array_equal(plain.rows, expected.rows)
        assert plain.rows.dtype == expected.rows.dtype
        assert (plain.sources, plain.notes, plain.errors) == (expected.sources, expected.notes, expected.errors)


def test_what_is_not_plain_is_left_to_the_threads() -> None:
    cell = file(CELL_PNG, "a.png")
    others = [
        [cell] * (MAX_PLAIN_FILES + 1),
        [cell, file(CELL_PNG, "a")],
        [cell, file(b"", "b.png")],
        [cell, file(CELL_PNG[:-20], "b.png")],
        [file(encode_image(np.zeros((30, 28), np.uint8)), "b.png")],
        [file(encode_image(np.zeros((28, 28, 3), np.uint8)), "b.png")],
        [file(encode_image(np.zeros((28, 28), np.uint16)), "b.png")],
    ]
    for files in others:
        assert read_plain_cells(files, OPTIONS) is None
    options = [
        replace(OPTIONS, white_level=100.0),
        replace(OPTIONS, channel=0),
        replace(OPTIONS, rows=(1, 10)),
        replace(OPTIONS, rows=(0, 0)),
        replace(OPTIONS, shape=(3, 28, 28)),
        replace(OPTIONS, conversion=InputConversion(white_level=4095.0)),
        replace(OPTIONS, limits=replace(PATIENT, max_cells=0)),
        replace(OPTIONS, limits=replace(PATIENT, max_pixels=100)),
        replace(OPTIONS, max_cheap_pixels=0),
    ]
    for option in options:
        assert read_plain_cells([cell], option) is None, option


def test_small_requests_are_a_few_small_images() -> None:
    for small in (CELL_PNG, encode_image(CELL, "JPEG"), encode_image(CELL, "TIFF"), pages(20, None)):
        assert is_small_request([file(small)] * SMALL_REQUEST_FILES)
    for large in (
        encode_npz(images=CELL[None]),
        b"",
        b"unknown",
        encode_image(np.zeros((2500, 2500), np.uint8)),
        np.random.default_rng(0).bytes(2 << 20),
        pages(600, None),
        jpeg_of_scans(40, 100),
        SLOW_TIFF,
        png_of_profiles(20),
    ):
        assert not is_small_request([file(CELL_PNG), file(large)])
    assert not is_small_request([file(CELL_PNG)] * (SMALL_REQUEST_FILES + 1))
    assert not is_small_request([file(encode_image(np.zeros((900, 900), np.uint8)))] * 6)  # too many pixels together


@pytest.mark.slow
def test_requests_are_read_alike_in_this_process_and_in_others(scheduler: RequestScheduler) -> None:
    deep = square_images(2, 4, 0)[0].astype(np.uint16) * 9
    files = [
        file(CELL_PNG, "a.png"),
        file(encode_npz(images=np.repeat(CELL[None], 600, axis=0), train_images=CELL[None]), "b.npz"),
        file(b"bad", "c.png"),
        file(encode_image(deep[0]), "d.png"),
        file(encode_npz(images=np.zeros((5, 9, 31, 3), np.uint8)), "e\udcff.npz"),
        file(pages(700, "lzw"), "f.tif"),
        file(encode_image(deep[1]), "g.png"),
        file(b"PK\3\4", "h.npz"),
    ]
    local = RequestScheduler(0)
    for rows in ((0, 10_000), (3, 604), (601, 602), (5000, 6000)):
        options = replace(OPTIONS, rows=rows)
        here = asyncio.run(read(local, *files, options=options))
        there = asyncio.run(read(scheduler, *files, options=options))
        assert len(here) == len(there)
        for one, other in zip(here, there, strict=True):
            np.testing.assert_array_equal(one.rows, other.rows)
            np.testing.assert_array_equal(one.cells, other.cells)
            assert (one.sources, one.notes, one.errors) == (other.sources, other.notes, other.errors)
            assert len(one.rows) <= CHUNK_CELLS
    assert local.pids == []
    assert 1 <= len(scheduler.pids) <= 2
    local.close()


@pytest.mark.slow
def test_small_requests_are_read_while_large_ones_hang(shared_scheduler: RequestScheduler) -> None:
    scheduler = shared_scheduler

    async def scenario() -> None:
        large = [
            asyncio.ensure_future(read(scheduler, file(SLOW_TIFF, "slow.tif")))
            for _ in range(3 * LARGE_REQUEST_THREADS)
        ]
        await asyncio.sleep(0.1)  # so that some are under way, but any number is right
        (chunk,) = await read(scheduler, file(CELL_PNG))
        assert len(chunk.rows) == 1
        assert not any(task.done() for task in large)
        for task in large:
            task.cancel()
        await asyncio.gather(*large, return_exceptions=True)
        # Nobody waits for them any more, so that their processes are free for the next.
        (chunk,) = await read(scheduler, file(encode_npz(images=CELL[None]), "a.npz"))
        assert len(chunk.rows) == 1

    asyncio.run(scenario())


@pytest.mark.slow
def test_an_unusual_file_has_its_own_process_and_limit(scheduler: RequestScheduler) -> None:
    options = replace(OPTIONS, limits=replace(PATIENT, decode_timeout_s=0.2))
    files = [
        file(CELL_PNG, "a"),
        file(SLOW_TIFF, "slow"),
        file(CELL_PNG, "b"),
        file(SLOW_TIFF, "slow too"),
        file(CELL_PNG, "c"),
    ]
    cells, errors = rows_and_errors(asyncio.run(read(scheduler, *files, options=options)))
    assert {"a", "b", "c"} <= set(cells.values())
    assert [message.split(" ")[0] for message in errors.values()] == ["slow", "slow"]
    assert all("more than 0.2 seconds" in message for message in errors.values())


def test_a_request_that_takes_too_long_is_rejected(shared_scheduler: RequestScheduler) -> None:
    options = replace(OPTIONS, limits=replace(PATIENT, timeout_s=0.2))
    with pytest.raises(RequestRejected) as raised:
        asyncio.run(read(shared_scheduler, file(SLOW_TIFF), options=options))
    assert raised.value.status == 504
    cells, _ = rows_and_errors(asyncio.run(read(shared_scheduler, file(encode_npz(images=CELL[None]), "a.npz"))))
    assert cells == {0: "a.npz"}


@pytest.mark.slow
def test_a_reader_that_is_killed_is_replaced_and_nothing_is_read_twice(scheduler: RequestScheduler) -> None:
    cells = np.repeat(CELL[None], 4000, axis=0)

    async def scenario() -> list[Chunk]:
        chunks = []
        async for chunk in scheduler.read(
            [file(encode_npz(images=cells), "a.npz")], replace(OPTIONS, max_cheap_pixels=10**6)
        ):
            chunks.append(chunk)
            if len(chunks) == 2:
                for pid in scheduler.pids:
                    os.kill(pid, signal.SIGKILL)
        return chunks

    rows = np.concatenate([chunk.rows for chunk in asyncio.run(scenario())])
    np.testing.assert_array_equal(rows, np.arange(len(cells)))


def test_processes_have_a_lower_priority_and_end_with_the_scheduler(scheduler: RequestScheduler) -> None:
    scheduler.start()
    asyncio.run(read(scheduler, file(encode_npz(images=CELL[None]), "a.npz")))
    pids = scheduler.pids
    assert len(pids) == 2
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert all(os.getpriority(os.PRIO_PROCESS, pid) > own for pid in pids)
    scheduler.close()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_closing_ends_what_is_read(scheduler: RequestScheduler) -> None:
    async def scenario() -> None:
        reading = [asyncio.ensure_future(read(scheduler, file(SLOW_TIFF))) for _ in range(4)]
        await asyncio.sleep(0.1)  # so that some processes start, but any moment is right
        scheduler.close()
        for outcome in await asyncio.gather(*reading, return_exceptions=True):
            assert isinstance(outcome, RequestRejected | asyncio.CancelledError)

    asyncio.run(scenario())


def test_readers_import_no_web_framework_and_no_network() -> None:
    heavy = ("fastapi", "starlette", "onnxruntime", "torch", "scipy")
    code = f"import sys, nephros.server.reading; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


@pytest.fixture(scope="module")
def app(predictor: Predictor) -> Iterator[Any]:
    service = Service(predictor)
    limits = replace(PATIENT, decode_timeout_s=0.2)
    yield create_app(service, [], limits=limits, batch_limits=limits)
    service.close()


@pytest.mark.slow
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
        assert all("more than 0.2 seconds" in message for message in errors.values())
        counts = Counter(row["file"] for row in rows if not row["error"])
        assert [counts[name] for name in ("first.png", "pages.tif", "cells.npz", "last.png")] == [1, 3, 3, 1]


@pytest.mark.slow
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
