"""Every answer of a real server is what its OpenAPI description says, with no field more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import squares
from tests.server.schema import faults, of_answer
from tests.server.server import File, Server, form, npz, png, running

CELLS = squares(12, 4, 9)[0]
FILES: list[File] = [
    ("cells.npz", npz(val_images=CELLS, images=CELLS[:2])),
    ("bad.png", b"no"),
    ("inverted.png", png(255 - CELLS[0])),
]
ALL = "details=true&explain=true&similar=3&coverage=0.8&white=4095&first=5"


@pytest.fixture(scope="module")
def server(exported: Path, cells_npz: Path) -> Iterator[Server]:
    with running(["--model", exported, "--known", cells_npz]) as found:
        yield found


@pytest.fixture(scope="module")
def document(server: Server) -> dict[str, Any]:
    return dict(server.json("GET", "/openapi.json")[1])


def _lines(server: Server, query: str) -> list[dict[str, Any]]:
    body, kind = form(FILES)
    status, _, text = server.ask("POST", f"/predict/batch?{query}", body, {"Content-Type": kind})
    assert status == 200
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("query", ["", ALL])
def test_answers_are_as_documented(server: Server, document: dict[str, Any], query: str) -> None:
    answer = server.json("POST", f"/predict?{query}", FILES)[1]
    assert faults(answer, of_answer(document, "/predict", 200), document) == []
    schema = of_answer(document, "/predict/batch", 200, "application/x-ndjson")
    lines = _lines(server, query)
    assert len(lines) == 17
    for line in lines:
        assert faults(line, schema, document) == []
    if query:
        rows = answer["results"]
        assert {bool(row["heat_map"]) for row in rows} == {bool(row["picture"]) for row in rows} == {True, False}
        for row in rows:
            documented = document["components"]["schemas"]["Result"]["properties"]
            assert set(row) == set(documented)


def test_a_field_that_is_not_documented_would_be_found(server: Server, document: dict[str, Any]) -> None:
    schema = of_answer(document, "/predict", 200)
    answer = server.json("POST", f"/predict?{ALL}", FILES)[1]
    answer["results"][0]["secret"] = 1
    answer["results"][0]["similar"][0]["secret"] = 1
    del answer["results"][1]["error"]
    answer["results"][2]["heat_map"]["method"] = None
    assert set(faults(answer, schema, document)) == {
        "answer.results[0].secret: not documented",
        "answer.results[0].similar[0].secret: not documented",
        "answer.results[1].error: missing",
        "answer.results[2].heat_map: 0 of anyOf fit",
        "answer.results[2].heat_map.method: None is no string",
    }
    lines = of_answer(document, "/predict/batch", 200, "application/x-ndjson")
    assert faults({"done": False, "version": "1", "rows": 0}, lines, document)
    assert faults({"done": False, "error": "It took too long.", "rows": 0}, lines, document) == []


def test_what_else_it_answers_is_documented(server: Server, document: dict[str, Any]) -> None:
    for path in ("/health", "/version"):
        assert faults(server.json("GET", path)[1], of_answer(document, path, 200), document) == []
    limits = document["components"]["schemas"]["Limits"]["properties"]
    assert set(limits) == set(server.json("GET", "/version")[1]["limits"]["batch"])
    assert all(entry["description"] for entry in limits.values())
    for path in ("/predict", "/predict/batch"):
        status, answer = server.json("POST", f"{path}?coverage=7", FILES)
        assert status == 422
        assert faults(answer, of_answer(document, path, status), document) == []
    status, _, text = server.ask("GET", "/version", headers={"Host": "evil.example"})
    assert faults(json.loads(text), of_answer(document, "/version", status), document) == []
    headers = server.ask("GET", "/metrics")[1]
    assert headers["content-type"].startswith("text/plain")
    assert of_answer(document, "/metrics", 200, "text/plain") == {"type": "string"}
    for path, methods in document["paths"].items():
        (method,) = methods.values()
        for status, answered in method["responses"].items():
            assert len(answered["content"]) == 1, (path, status)


def test_some_rows_alone_are_those_of_the_whole(server: Server) -> None:
    whole = sorted(_lines(server, ALL.replace("first=5", "first=99"))[:-1], key=lambda line: line["row"])
    *some, last = _lines(server, ALL.replace("first=5", "start=10&count=5"))
    assert sorted(line["row"] for line in some) == [10, 11, 12, 13, 14]
    assert last["rows"] == 5
    for line in some:
        expected = whole[line["row"]]
        assert line["probabilities"] == pytest.approx(expected["probabilities"], abs=2e-6)
        assert {key: line[key] for key in ("file", "index", "split", "picture", "error")} == {
            key: expected[key] for key in ("file", "index", "split", "picture", "error")
        }
        assert bool(line["picture"]) == (line["error"] is None) == bool(line["heat_map"])
    assert [line["done"] for line in _lines(server, "start=1000")] == [True]
