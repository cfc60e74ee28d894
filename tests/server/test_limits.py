"""Limits of requests: cells, pixels and seconds per request, memory over all requests, and clients' file names."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nephros.errors import NephrosError
from nephros.server.limits import DecodeLimiter, MemoryBudget, RequestLimits, RequestRejected
from nephros.server.multipart import sanitize_filename


def test_decoding_is_limited_by_cells_pixels_and_seconds() -> None:
    limits = RequestLimits(max_cells=10, max_file_pixels=1000, timeout_s=60)
    limiter = DecodeLimiter(limits)
    limiter("a", 4, 250)
    with pytest.raises(NephrosError, match=r"^a has more than 0 million pixels"):
        limiter("a", 1, 1)
    limiter("b", 6, 100)
    with pytest.raises(NephrosError, match=r"^c brings the upload above 10 cells"):
        limiter("c", 1, 1)
    with pytest.raises(NephrosError, match=r"^a was not read within 0 seconds"):
        DecodeLimiter(replace(limits, timeout_s=0))("a", 1, 1)


def test_the_memory_budget_is_shared_and_returned() -> None:
    budget = MemoryBudget(100)
    with budget.lease() as first, budget.lease() as second:
        first.reserve(60)
        with pytest.raises(RequestRejected, match="no memory left"):
            second.reserve(41)
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
def test_file_names_of_clients_become_plain_text(name: bytes, expected: str) -> None:
    assert sanitize_filename(name) == expected
    assert len(sanitize_filename(name)) <= 255
