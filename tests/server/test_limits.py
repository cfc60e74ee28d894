"""Limits on cells, pixels, seconds and memory, and the sanitizing of file names."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nephros.errors import FileError, InvalidArgument
from nephros.server.limits import (
    BATCH_LIMITS,
    DecodeLimiter,
    MemoryBudget,
    RequestLimits,
    RequestRejected,
    request_limits,
)
from nephros.server.multipart import sanitize_filename

LIMITS = RequestLimits(max_cells=10, max_pixels=1000, timeout_s=60)


def test_pixels_are_limited_over_all_files() -> None:
    limiter = DecodeLimiter(LIMITS)
    limiter("a", 4, 200)
    for n_cells, n_pixels in ((0, 201), (1, 201), (2, 101)):  # 0 cells: what a file claims, before it is decoded
        with pytest.raises(FileError) as raised:
            limiter("b", n_cells, n_pixels)
        assert raised.value.path == "b"
    limiter("b", 0, 200)
    limiter("b", 1, 200)
    with pytest.raises(FileError):
        limiter("c", 1, 1)


def test_the_limits_of_both_routes_follow_from_the_arguments() -> None:
    assert request_limits() == (RequestLimits(), BATCH_LIMITS)
    limits, batch_limits = request_limits(4_000, 0.5)
    assert (limits.max_pixels, limits.decode_timeout_s) == (4_000, 0.5)
    assert (batch_limits.max_pixels, batch_limits.decode_timeout_s) == (10_000, 7.5)
    assert limits.timeout_s == RequestLimits().timeout_s
    ratio = BATCH_LIMITS.max_pixels / RequestLimits().max_pixels
    assert (ratio, BATCH_LIMITS.decode_timeout_s / RequestLimits().decode_timeout_s) == (2.5, 15)
    for arguments, parameter in (
        ((0, None), "max_pixels"),
        ((None, 0), "decode_timeout"),
        ((None, 1e9), "decode_timeout"),
    ):
        with pytest.raises(InvalidArgument) as invalid:
            request_limits(*arguments)
        assert invalid.value.parameter == parameter


def test_cells_are_limited_over_all_files() -> None:
    limiter = DecodeLimiter(LIMITS)
    limiter("a", 4, 1)
    limiter("b", 6, 1)
    with pytest.raises(FileError, match=" 10 cells") as raised:
        limiter("c", 1, 1)
    assert raised.value.path == "c"


def test_files_must_be_read_in_time() -> None:
    with pytest.raises(FileError, match=" 0 seconds") as raised:
        DecodeLimiter(replace(LIMITS, timeout_s=0))("a", 1, 1)
    assert raised.value.path == "a"


def test_the_memory_budget_is_shared_and_returned() -> None:
    budget = MemoryBudget(100)
    with budget.lease() as first, budget.lease() as second:
        first.reserve(60)
        with pytest.raises(RequestRejected) as raised:
            second.reserve(41)
        assert raised.value.status == 503
        second.reserve(40)
    with budget.lease() as lease:
        lease.reserve(100)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"a b.png", "a b.png"),
        ("Zelle \u00e4.png".encode(), "Zelle \u00e4.png"),
        (b"say %22hi%22.png", 'say "hi".png'),
        (b"../../etc/passwd", "../../etc/passwd"),
        (b"\xff\x00\x1b[31m.png", "\ufffd??[31m.png"),
        ("\u202egnp.exe".encode(), "?gnp.exe"),
        (b"x" * 300 + b".png", "x" * 249 + "\u2026x.png"),
    ],
)
def test_file_names_become_printable_text_of_limited_length(name: bytes, expected: str) -> None:
    assert sanitize_filename(name) == expected
    assert len(sanitize_filename(name)) <= 255
