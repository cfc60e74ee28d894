"""Who may use the server: names in the Host header, origins, and the token; in one function each and on live servers."""

from __future__ import annotations

import json
import re
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import nephros
from nephros.errors import InvalidArgument
from nephros.server.access import AccessPolicy, parse_allowed_hosts
from nephros.server.limits import RequestRejected
from tests.conftest import square_images
from tests.server.live_server import LiveServer, encode_image, encode_npz, multipart_body, run_server

CELL_PNG = encode_image(square_images(1, 4, 9)[0][0])


def _status(policy: AccessPolicy, **headers: str) -> int:
    encoded = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    try:
        policy.check_site(encoded)
        policy.check_token(encoded)
    except RequestRejected as error:
        return error.status
    return 200


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "localhost.", "127.0.0.1:9", "127.8.9.10", "[::1]:9", "[::ffff:127.0.0.1]"]
)
def test_loopback_names_are_always_accepted(host: str) -> None:
    for policy in (AccessPolicy(), AccessPolicy(("cells.example",))):
        assert _status(policy, host=host) == 200


@pytest.mark.parametrize(
    "host",
    [
        *("", "evil.example:80", "localhost.evil.example", "127.0.0.1.evil.example", "localhost:80@evil", "[::2]"),
        *(
            "10.0.0.5",
            "0.0.0.0",
            "cells.example.evil.example",
            "xcells.example",
            "cells.example:80:80",
            "::1",
            "2130706433",
        ),
    ],
)
def test_other_names_are_rejected(host: str) -> None:
    for policy in (AccessPolicy(), AccessPolicy(("cells.example", "10.0.0.6"))):
        assert _status(policy, host=host) == 403


@pytest.mark.parametrize("host", ["cells.example", "Cells.Example:8000", "cells.example.", "10.0.0.6:1", "[fe80::1]:9"])
def test_allowed_names_are_accepted(host: str) -> None:
    assert _status(AccessPolicy(parse_allowed_hosts(["CELLS.example:443, 10.0.0.6", "[fe80::1]"])), host=host) == 200


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"origin": "http://127.0.0.1:8000"}, 200),
        ({"origin": "http://127.0.0.1:9000"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "https://cells.example"}, 403),
        ({"origin": "https://cells.example:8443"}, 200),
        ({"origin": "https://evil.example", "sec_fetch_site": "cross-site"}, 403),
        ({"origin": "https://evil.example", "sec_fetch_site": "same-site"}, 403),
        ({"origin": "https://proxy.example", "sec_fetch_site": "same-origin"}, 200),  # the browser itself says so
    ],
    ids=str,
)
def test_pages_of_other_sites_are_rejected(headers: dict[str, str], expected: int) -> None:
    policy = AccessPolicy(("cells.example:8443",))
    assert _status(policy, host="127.0.0.1:8000", **headers) == expected


@pytest.mark.parametrize(
    ("credentials", "expected"),
    [
        ({}, 401),
        ({"authorization": "Bearer secret"}, 200),
        ({"authorization": "bearer  secret"}, 200),
        ({"authorization": "Bearer secreT"}, 401),
        ({"authorization": "Bearer "}, 401),
        ({"authorization": "Basic secret"}, 401),
        ({"authorization": "Bearer \u00e9"}, 401),
        ({"cookie": "other=1; {name}={value}"}, 200),
        ({"cookie": "{name}=secret"}, 401),
        ({"cookie": "{name}="}, 401),
        ({"cookie": '\\"; ;;=\x01{name}'}, 401),
    ],
    ids=str,
)
def test_the_token_is_asked_for(credentials: dict[str, str], expected: int) -> None:
    policy = AccessPolicy(token="secret")
    filled = {
        name: value.replace("{name}", policy.cookie_name).replace("{value}", policy.cookie_value)
        for name, value in credentials.items()
    }
    assert _status(policy, host="localhost", **filled) == expected
    assert "secret" not in policy.cookie_value


@pytest.mark.parametrize(
    "value", ["*", "http://cells.example", "cells.example/x", "a b", "a..b", "\u00fc.example", "::1"]
)
def test_what_is_no_host_name_is_refused(value: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        parse_allowed_hosts(value)
    assert raised.value.parameter == "allow_host"


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_host_that_others_reach_needs_allowed_names(host: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        nephros.serve(port=0, host=host)
    assert raised.value.parameter == "allow_host"


@pytest.mark.parametrize("token", ["", "two words", "line\nbreak", "\u00e9"])
def test_a_token_that_a_header_cant_carry_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        nephros.serve(port=0, token=token)
    assert raised.value.parameter == "token"
    assert "two words" not in str(raised.value)  # a token is not repeated in a log


@pytest.mark.slow
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2"])
def test_naming_a_loopback_host_leaves_the_guard_on(exported_model: Path, host: str) -> None:
    with run_server(["--host", host, "--model", exported_model, "--reference-data", "none"]) as server:
        address = "127.0.0.2" if host == "127.0.0.2" else "127.0.0.1"
        assert server.request("GET", "/version", address=address)[0] == 200
        assert server.request("GET", "/version", headers={"Host": "evil.example"}, address=address)[0] == 403


@pytest.mark.slow
def test_others_need_an_allowed_name_and_the_token(exported_model: Path) -> None:
    args = ["--host", "0.0.0.0", "--allow-host", "cells.example,10.9.8.7", "--allow-host", "lab", "--quiet"]
    with run_server([*args[:-1], "--model", exported_model, "--reference-data", "none"]) as server:
        assert server.process.stdout is not None
        line = server.process.stdout.readline()
        match = re.search(r"http://cells\.example:(\d+)(/\?token=(\S{20,}))", line)
        assert match, line
        assert int(match[1]) == server.port
        host, token = {"Host": f"lab:{server.port}"}, match[3]
        assert server.request("GET", "/", headers={"Host": "evil.example"})[0] == 403
        for path in ("/", "/version", "/health", "/metrics", "/classify.js", "/openapi.json", "/none", "/?token=wrong"):
            status, headers, body = server.request("GET", path, headers=host)
            assert status == 401, path
            assert headers["www-authenticate"].startswith("Bearer")
            assert token not in body.decode()
            assert list(json.loads(body)) == ["error"]
        assert server.request("GET", f"/version?token={token}", headers=host)[0] == 401  # only pages take it so
        bearer = {"Authorization": f"Bearer {token}"}
        body, content_type = multipart_body([("a.png", CELL_PNG)])
        assert server.request("POST", "/predict", body, {"Content-Type": content_type} | host)[0] == 401
        assert server.request("POST", "/predict", body, {"Content-Type": content_type} | host | bearer)[0] == 200
        status, headers, _ = server.request("GET", f"/api?x=1&token={token}", headers=host)
        assert (status, headers["location"]) == (303, "/api?x=1")
        assert "HttpOnly" in headers["set-cookie"]
        cookie = {"Cookie": headers["set-cookie"].partition(";")[0]}
        assert token not in headers["set-cookie"]
        for path in ("/api?x=1", "/version", "/classify.js"):
            assert server.request("GET", path, headers=host | cookie)[0] == 200


@pytest.mark.slow
@pytest.mark.parametrize("by_environment", [True, False])
def test_a_given_token_is_asked_for_and_not_printed(exported_model: Path, by_environment: bool) -> None:
    args = [
        "--model",
        exported_model,
        "--reference-data",
        "none",
        *([] if by_environment else ["--token", "s3cret+/="]),
    ]
    environment = {"NEPHROS_TOKEN": "s3cret+/=" if by_environment else "another"}
    with run_server(args, **environment) as server:
        assert server.request("GET", "/health")[0] == 401
        assert server.request("GET", "/health", headers={"Authorization": "Bearer s3cret+/="})[0] == 200
        assert server.request("GET", "/?token=s3cret%2B/=")[0] == 303
        server.process.send_signal(signal.SIGTERM)
        output = server.process.communicate(timeout=120)[0]
        assert "s3cret" not in output
        assert server.process.returncode == 0


@pytest.mark.slow
def test_sigterm_exits_with_0_after_the_requests_under_way(exported_model: Path, tmp_path: Path) -> None:
    cells = np.repeat(square_images(12, 4, 9)[0], 250, axis=0)
    body, content_type = multipart_body([("c.npz", encode_npz(images=cells))])
    started = tmp_path / "started"
    delay = "import pathlib, nephros.server.prediction_routes as app\nread = app.read_multipart_files\nasync def slowly(*args):\n"
    delay += f"    pathlib.Path({str(started)!r}).touch(); await app.asyncio.sleep(2); return await read(*args)\n"
    delay += "app.read_multipart_files = slowly"
    results: list[tuple[int, bytes]] = []

    def request(server: LiveServer) -> None:
        status, _, text = server.request("POST", "/predict/batch", body, {"Content-Type": content_type})
        results.append((status, text))

    with run_server(["--model", exported_model, "--reference-data", "none"], delay) as server:
        client = threading.Thread(target=request, args=(server,))
        client.start()
        while not started.exists():
            assert client.is_alive()
            time.sleep(0.02)
        server.process.send_signal(signal.SIGTERM)
        client.join(120)
        output = server.process.communicate(timeout=120)[0]
    ((status, text),) = results
    assert status == 200
    assert json.loads(text.splitlines()[-1]) | {"version": ""} == {"done": True, "version": "", "n_rows": len(cells)}
    assert server.process.returncode == 0
    assert output == "Server stopped.\n"
