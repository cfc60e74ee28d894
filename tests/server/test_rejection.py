"""A request that is not let in: a browser gets a page that says what to do, and a program gets JSON."""

from __future__ import annotations

import json

import pytest

from nephros.server.rejection import HTML, JSON, prefers_html, rejection_body

CHROMIUM_ACCEPT = (
    b"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,"
    b"application/signed-exchange;v=b3;q=0.7"
)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (CHROMIUM_ACCEPT, True),
        (b"text/html", True),
        (b"TEXT/HTML;charset=utf-8", True),
        (b"text/html; q=0.5, application/json;q=0.1", True),
        (b"", False),
        (b"*/*", False),  # curl, requests, fetch
        (b"application/json", False),
        (b"application/json, text/html;q=0.9", False),
        (b"text/html;q=0", False),
        (b"text/html;q=none", False),
        (b"image/avif,image/webp,*/*;q=0.8", False),  # an image of a page
        (b"text/css,*/*;q=0.1", False),
        (b"\xff\xfe,;;q==,text/htmlx", False),
    ],
    ids=str,
)
def test_who_gets_a_page(accept: bytes, expected: bool) -> None:
    assert prefers_html(accept) == expected
    body, content_type = rejection_body(401, "Open the address.", {b"accept": accept}, "GET")
    assert content_type == (HTML if expected else JSON)
    assert (b"?token=" in body) == expected
    if not expected:
        assert json.loads(body) == {"error": "Open the address."}


def test_a_write_gets_json_and_a_message_is_text() -> None:
    headers = {b"accept": CHROMIUM_ACCEPT}
    assert rejection_body(403, "No.", headers, "POST")[1] == JSON
    assert b"<p>&lt;b&gt;</p>" in rejection_body(403, "<b>", headers, "GET")[0]
