"""Requests that no page sends: of other sites, without the token, of the wrong shape or size, and clients that never read."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from nephros.server.json_requests import MAX_JSON_BYTES
from nephros.server.project.schemas import MAX_CELLS, MAX_CHANGES
from tests.server.project.conftest import N_CELLS
from tests.server.project.project_client import TOKEN_HEADER, ProjectClient

LABEL = {"annotator": "a", "changes": [{"cell": 0, "class": 0}]}
HUGE = 10**30


def _write_routes(client: ProjectClient) -> Iterator[tuple[str, str]]:
    for path, methods in client.get("/openapi.json")["paths"].items():
        if path.startswith("/project"):
            concrete = path.replace("{class_id}", "0").replace("{job_id}", "import-1").replace("{name}", "x")
            for method in methods:
                if method != "get":
                    yield method.upper(), concrete.replace("{export_format}", "onnx")


def test_every_write_needs_the_token_and_the_same_site(client: ProjectClient) -> None:
    routes = list(_write_routes(client))
    assert len(routes) >= 6
    before = client.get("/project")
    for method, path in routes:
        refusals: list[dict[str, str]] = [
            {TOKEN_HEADER: ""},
            {TOKEN_HEADER: "wrong"},
            {TOKEN_HEADER: client.token[:-1]},
            {TOKEN_HEADER: client.token + "0"},
            {TOKEN_HEADER: "\xe9"},
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Host": "evil.example"},
        ]
        for headers in refusals:
            status, response = client.send(method, path, LABEL, headers=headers)
            assert (status, list(response)) == (403, ["error"]), (method, path, headers)
    assert client.get("/project") == before


def test_other_sites_can_not_make_the_server_work(client: ProjectClient) -> None:
    for path in ("/project", "/project/cells/0/heatmap", "/project/events", "/project/labels.csv"):
        assert client.server.request("GET", path, headers={"Sec-Fetch-Site": "cross-site"})[0] == 403


BAD_LABELS: dict[str, Any] = {
    "no such cell": {"annotator": "a", "changes": [{"cell": 10**6, "class": 0}]},
    "negative cell": {"annotator": "a", "changes": [{"cell": -1, "class": 0}]},
    "huge cell": {"annotator": "a", "changes": [{"cell": HUGE, "class": 0}]},
    "fraction": {"annotator": "a", "changes": [{"cell": 0.5, "class": 0}]},
    "float": {"annotator": "a", "changes": [{"cell": 1.0, "class": 0}]},
    "text": {"annotator": "a", "changes": [{"cell": "1", "class": 0}]},
    "boolean": {"annotator": "a", "changes": [{"cell": True, "class": 0}]},
    "no such class": {"annotator": "a", "changes": [{"cell": 0, "class": 999}]},
    "negative class": {"annotator": "a", "changes": [{"cell": 0, "class": -1}]},
    "no class": {"annotator": "a", "changes": [{"cell": 0}]},
    "unknown key": {"annotator": "a", "changes": [{"cell": 0, "class": 0, "seq": 1}]},
    "repeated cell": {"annotator": "a", "changes": [{"cell": 0, "class": 0}, {"cell": 0, "class": 1}]},
    "undo of a class": {"annotator": "a", "changes": [{"cell": 0, "class": 0, "undo": True}]},
    "undo as a number": {"annotator": "a", "changes": [{"cell": 0, "class": None, "undo": 1}]},
    "no changes": {"annotator": "a", "changes": []},
    "too many": {"annotator": "a", "changes": [{"cell": i, "class": 0} for i in range(MAX_CHANGES + 1)]},
    "no annotator": {"changes": LABEL["changes"]},
    "empty annotator": {**LABEL, "annotator": ""},
    "blank annotator": {**LABEL, "annotator": "   "},
    "line break": {**LABEL, "annotator": "a\nb"},
    "escape": {**LABEL, "annotator": "a\x1b[31m"},
    "right to left": {**LABEL, "annotator": "a\u202eb"},
    "surrogate": {**LABEL, "annotator": "a\ud800"},
    "long annotator": {**LABEL, "annotator": "a" * 81},
    "a list": [LABEL],
    "a number": 3,
    "null": None,
}


@pytest.mark.parametrize("name", BAD_LABELS)
def test_labels_that_can_not_be_are_refused_whole(client: ProjectClient, name: str) -> None:
    value = BAD_LABELS[name]
    if isinstance(value, dict) and name != "too many":  # a good change beside the bad one is not made either
        value = (
            {**value, "changes": [*value["changes"], {"cell": N_CELLS - 1, "class": 0}]} if value["changes"] else value
        )
    before = client.get("/project")["seq"]
    status, response = client.send("POST", "/project/labels", value)
    assert status in (400, 422), response
    assert list(response) == ["error"]
    assert len(response["error"]) < 1000
    assert client.get("/project")["seq"] == before


BAD_BODIES: dict[str, tuple[bytes, int]] = {
    "nothing": (b"", 400),
    "no JSON": (b"{annotator: a}", 400),
    "NaN": (b'{"annotator": "a", "changes": [{"cell": NaN, "class": 0}]}', 400),
    "Infinity": (b'{"annotator": "a", "changes": [{"cell": Infinity, "class": 0}]}', 400),
    "repeated key": (b'{"annotator": "a", "annotator": "b", "changes": [{"cell": 0, "class": 0}]}', 400),
    "repeated inner key": (b'{"annotator": "a", "changes": [{"cell": 0, "cell": 1, "class": 0}]}', 400),
    "deep": (b"[" * 100_000, 400),
    "digits": (b'{"annotator": "a", "changes": [{"cell": ' + b"9" * 5000 + b', "class": 0}]}', 400),
    "UTF-16": (b"\xff\xfe{\x00}\x00\xd8", 400),
    "not UTF-8": (b'{"annotator": "\xff"}', 400),
    "large": (b" " * (MAX_JSON_BYTES + 1), 413),
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_bodies_that_are_no_plain_json_are_refused(client: ProjectClient, name: str) -> None:
    body, expected = BAD_BODIES[name]
    status, response = client.send("POST", "/project/labels", body=body)
    assert (status, list(response)) == (expected, ["error"])


def test_forms_are_no_json(client: ProjectClient) -> None:
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        body = json.dumps(LABEL).encode()
        assert client.send("POST", "/project/labels", body=body, headers={"Content-Type": content_type})[0] == 415


@pytest.mark.parametrize(
    "value",
    [
        {"name": ""}, {"name": " \t"}, {"name": "a\x00b"}, {"name": "a\u2028b"}, {"name": "tubule"}, {"name": " tubule "},
        {"name": "x" * 81}, {"name": "x", "color": "red"}, {"name": "x", "color": "#12345g"}, {"name": "x", "id": 3}, {},
        {"name": 5}, {"name": "x", "color": "url(https://evil.example)"},
    ],
)  # fmt: skip
def test_class_names_and_colors_that_can_not_be_are_refused(client: ProjectClient, value: dict[str, Any]) -> None:
    before = client.get("/project")["classes"]
    status, response = client.send("POST", "/project/classes", value)
    assert (status in (400, 422), list(response)) == (True, ["error"]), response
    assert client.get("/project")["classes"] == before


def test_merges_and_edits_of_classes_that_do_not_exist_are_refused(client: ProjectClient) -> None:
    for path, value in {
        "/project/classes/0/merge": {"into": 0},
        "/project/classes/1/merge": {"into": 999},
        "/project/classes/999/merge": {"into": 0},
    }.items():
        assert client.send("POST", path, value)[0] == 400, path
    for path in ("/project/classes/999", "/project/classes/-1", "/project/classes/x", f"/project/classes/{HUGE}"):
        assert client.send("PATCH", path, {"name": "new"})[0] in (400, 422), path


BAD_QUERIES = [
    "order?sort=up", "order?filter=x", "order?filter=class:", "order?filter=class:-1", "order?filter=mine", "order?to=-1",
    "order?sort=similarity", f"order?to={HUGE}", "order?sort=probability", "order?sort=position&sort=ood", "order?x=1",
    "order?class=1e3", "order?filter=class:99999999", "order?sort=similarity&to=4000000", "images", "images?cells=",
    "images?cells=1,1", "images?cells=-1", "images?cells=1,,2", "images?cells=1.5", "images?cells=0x1", "images?cells=NaN",
    "images?cells=%D9%A1", "images?cells=999999", f"images?cells={HUGE}", "images?cells=0&cells=1",
    "images?cells=" + ",".join(map(str, range(MAX_CELLS + 1))), "cells?cells=a", "cells/999999", "cells/-1", "cells/1.5",
    f"cells/{HUGE}", "cells/999999/heatmap", "cells/0/tissue", "cells/999999/tissue",
]  # fmt: skip


@pytest.mark.parametrize("query", BAD_QUERIES, ids=lambda query: query[:40])
def test_queries_that_can_not_be_are_refused(client: ProjectClient, query: str) -> None:
    status, response = client.server.json("GET", f"/project/{query}")
    assert status in (400, 422), response
    assert list(response) == ["error"]
    assert len(response["error"]) < 1000


@pytest.mark.parametrize(
    "name", ["..", "../..", "..%2f..%2fetc%2fpasswd", "%2e%2e", "a%00b", "C:%5Cx", "labels.sqlite", "~"]
)
def test_no_path_comes_from_a_client(client: ProjectClient, name: str) -> None:
    for path in (f"/project/runs/{name}/report", f"/project/runs/{name}/export/onnx", f"/project/labels.{name}"):
        status, _, body = client.server.request("GET", path)
        assert status in (400, 404, 405), (path, body)


def test_names_of_uploads_are_never_paths(client: ProjectClient) -> None:
    from tests.conftest import square_images
    from tests.server.live_server import encode_image

    for i, name in enumerate(
        ["../../evil.png", "/etc/evil.png", "..\\evil.png", "a\x00b.png", "." * 300, "", "CON", "\u202egnp.exe"]
    ):
        image = square_images(1, 4, 1000 + i)[0][0]
        status, response = client.upload("/project/cells", [(name, encode_image(image))])
        assert status == 200, (name, response)


def test_masks_without_a_stack_and_two_masks_are_refused(client: ProjectClient) -> None:
    for files in ([], [("a.tif", b"x"), ("b.tif", b"y")]):
        status, response = client.upload("/project/cells", files, mask=("mask.tif", b"z"))
        assert (status, list(response)) == (400, ["error"])


def test_a_client_that_never_reads_its_events_stops_nobody(client: ProjectClient) -> None:
    silent = []
    for _ in range(5):
        connection = socket.create_connection(("127.0.0.1", client.server.port), timeout=60)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        connection.sendall(b"GET /project/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        silent.append(connection)
    with client.events() as events:
        for i in range(30):
            seq = client.label("quick", {N_CELLS - 1 - i % 3: i % 2})["seq"]
        while next(events)[1].get("seq", 0) < seq:
            pass
    for connection in silent:
        connection.close()
    assert client.server.request("GET", "/health")[0] == 200
