"""The page and the API below a path prefix, behind a real proxy that strips it or leaves it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urljoin, urlsplit
from urllib.request import Request, urlopen

import pytest

import nephros
from nephros.errors import InvalidArgument
from tests.conftest import square_images
from tests.server.live_server import LiveServer, encode_image, multipart_body, run_server
from tests.server.prefix_proxy import run_proxy

BODY, CONTENT_TYPE = multipart_body([("a.png", encode_image(square_images(1, 4, 9)[0][0]))])
STACK_BODY = BODY.replace(b'name="files"', b'name="stack"')


@pytest.fixture(scope="module")
def prefixed_server(exported_model: Path) -> Iterator[LiveServer]:
    args = ["--root-path", "/lab/nephros/", "--model", exported_model, "--reference-data", "none"]
    with run_server(args) as server:
        yield server


def _get(url: str, body: bytes | None = None) -> tuple[int, str]:
    request = Request(url, body, {"Content-Type": CONTENT_TYPE} if body else {})
    try:
        with urlopen(request, timeout=60) as response:
            return response.status, response.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.parametrize("strips", [True, False])
def test_all_links_and_routes_stay_below_the_prefix(prefixed_server: LiveServer, strips: bool) -> None:
    with run_proxy(prefixed_server.port, "/lab/nephros", strips=strips) as address:
        for page in ("", "/", "/api", "/api/"):
            status, html = _get(address + page)
            assert status == 200, page
            links = re.findall(r'(?:href|src)="([^"#][^"]*)"', html)
            links = [link for link in links if not link.startswith("data:")]
            assert len(links) >= 3
            for link in links:
                target = urljoin(address + page, link)
                assert urlsplit(target).path.startswith("/lab/nephros/"), link
                assert _get(target)[0] == 200, link
        (server_entry,) = (document := json.loads(_get(f"{address}/openapi.json")[1]))["servers"]
        assert server_entry["url"] == "/lab/nephros"
        for path, methods in document["paths"].items():
            url = urljoin(address, server_entry["url"] + path)
            body = STACK_BODY if path == "/predict/stack" else BODY
            assert _get(url, body if "post" in methods else None)[0] == 200, path
        status, error = _get(f"{address}/none")
        assert status == 404
        assert "see /lab/nephros/api" in error
    assert prefixed_server.json("GET", "/health") == (200, {"status": "ok"})  # and directly
    assert 'path="/predict",status="200"' in prefixed_server.request("GET", "/metrics")[2].decode()


@pytest.mark.slow
def test_a_prefix_may_be_called_as_a_route_is(exported_model: Path) -> None:
    with (
        run_server(["--root-path", "/api", "--model", exported_model, "--reference-data", "none"]) as server,
        run_proxy(server.port, "/api") as address,
    ):
        assert 'id="app"' in _get(address)[1]
        assert "Quick start" in _get(f"{address}/api")[1]
        assert _get(f"{address}/version")[0] == 200


@pytest.mark.slow
def test_the_token_s_cookie_and_address_have_the_prefix(exported_model: Path) -> None:
    args = ["--root-path", "/nephros", "--token", "secret", "--model", exported_model, "--reference-data", "none"]
    with run_server(args) as server:
        status, headers, _ = server.request("GET", "/?token=secret")
        assert (status, headers["location"]) == (303, "/nephros/")
        assert "; Path=/nephros;" in headers["set-cookie"]


@pytest.mark.parametrize("root_path", ["nephros", "/a b", "/a//b", "/..", '/"onload=', "http://x/", "/a?b", "//evil"])
def test_what_is_no_path_prefix_is_refused(root_path: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        nephros.serve(port=0, root_path=root_path)
    assert raised.value.parameter == "root_path"


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("explian=true", "'explain'"),
        ("Coverage=0.5", "'coverage'"),
        ("whitelevel=9", "'white_level'"),
        ("neighbors=3", "'n_neighbors'"),
        ("zzz=1", "coverage, white_level"),
        ("coverage=7&detials=1", "'details'"),
        ("%0a%1b[31m=1", "'??[31m'"),
        ("=1", "''"),
    ],
)
def test_unknown_query_words_are_refused(prefixed_server: LiveServer, path: str, word: str, expected: str) -> None:
    status, _, text = prefixed_server.request("POST", f"{path}?{word}", BODY, {"Content-Type": CONTENT_TYPE})
    error = json.loads(text)["error"]
    assert status == 422
    assert expected in error
    assert "\n" not in error


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
def test_repeated_query_words_are_refused(prefixed_server: LiveServer, path: str) -> None:
    query = "coverage=0.9&details=true&coverage=0.5"
    status, _, text = prefixed_server.request("POST", f"{path}?{query}", BODY, {"Content-Type": CONTENT_TYPE})
    assert status == 422
    assert "coverage is given 2 times" in json.loads(text)["error"]


@pytest.mark.slow
def test_each_route_takes_its_own_query_words(prefixed_server: LiveServer) -> None:
    for path, expected in (("/predict", 422), ("/predict/batch", 200)):
        status = prefixed_server.request("POST", f"{path}?limit=1", BODY, {"Content-Type": CONTENT_TYPE})[0]
        assert status == expected
