"""Every answer of a real server is what its OpenAPI description says, with no field more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import square_images
from tests.server.schema import response_schema, schema_errors
from tests.server.server import File, LiveServer, encode_image, encode_npz, multipart_body, run_server

CELLS = square_images(12, 4, 9)[0]
FILES: list[File] = [
    ("cells.npz", encode_npz(val_images=CELLS, images=CELLS[:2])),
    ("bad.png", b"no"),
    ("inverted.png", encode_image(255 - CELLS[0])),
]
ALL_OPTIONS = "details=true&explain=true&n_neighbors=3&coverage=0.8&white_level=4095&detail_limit=5"


@pytest.fixture(scope="module")
def server(exported_model: Path, cells_npz: Path) -> Iterator[LiveServer]:
    with run_server(["--model", exported_model, "--reference-data", cells_npz]) as found:
        yield found


@pytest.fixture(scope="module")
def document(server: LiveServer) -> dict[str, Any]:
    return dict(server.json("GET", "/openapi.json")[1])


def _streamed_lines(server: LiveServer, query: str) -> list[dict[str, Any]]:
    body, kind = multipart_body(FILES)
    status, _, text = server.request("POST", f"/predict/batch?{query}", body, {"Content-Type": kind})
    assert status == 200
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("query", ["", ALL_OPTIONS])
def test_answers_are_as_documented(server: LiveServer, document: dict[str, Any], query: str) -> None:
    answer = server.json("POST", f"/predict?{query}", FILES)[1]
    assert schema_errors(answer, response_schema(document, "/predict", 200), document) == []
    schema = response_schema(document, "/predict/batch", 200, "application/x-ndjson")
    lines = _streamed_lines(server, query)
    assert len(lines) == 17
    for line in lines:
        assert schema_errors(line, schema, document) == []
    if query:
        rows = answer["results"]
        assert {bool(row["saliency_map"]) for row in rows} == {bool(row["preview"]) for row in rows} == {True, False}
        for row in rows:
            documented = document["components"]["schemas"]["PredictionResult"]["properties"]
            assert set(row) == set(documented)


def test_a_field_that_is_not_documented_would_be_found(server: LiveServer, document: dict[str, Any]) -> None:
    schema = response_schema(document, "/predict", 200)
    answer = server.json("POST", f"/predict?{ALL_OPTIONS}", FILES)[1]
    answer["results"][0]["secret"] = 1
    answer["results"][0]["similar_cells"][0]["secret"] = 1
    del answer["results"][1]["error"]
    answer["results"][2]["saliency_map"]["method"] = None
    assert set(schema_errors(answer, schema, document)) == {
        "answer.results[0].secret: not documented",
        "answer.results[0].similar_cells[0].secret: not documented",
        "answer.results[1].error: missing",
        "answer.results[2].saliency_map: 0 of anyOf fit",
        "answer.results[2].saliency_map.method: None is no string",
    }
    lines = response_schema(document, "/predict/batch", 200, "application/x-ndjson")
    assert schema_errors({"done": False, "version": "1", "n_rows": 0}, lines, document)
    assert schema_errors({"done": False, "error": "It took too long.", "n_rows": 0}, lines, document) == []


def test_what_else_it_answers_is_documented(server: LiveServer, document: dict[str, Any]) -> None:
    for path in ("/health", "/version"):
        assert schema_errors(server.json("GET", path)[1], response_schema(document, path, 200), document) == []
    limits = document["components"]["schemas"]["RequestLimits"]["properties"]
    assert set(limits) == set(server.json("GET", "/version")[1]["limits"]["batch"])
    assert all(entry["description"] for entry in limits.values())
    for path in ("/predict", "/predict/batch"):
        status, answer = server.json("POST", f"{path}?coverage=7", FILES)
        assert status == 422
        assert schema_errors(answer, response_schema(document, path, status), document) == []
    status, _, text = server.request("GET", "/version", headers={"Host": "evil.example"})
    assert schema_errors(json.loads(text), response_schema(document, "/version", status), document) == []
    headers = server.request("GET", "/metrics")[1]
    assert headers["content-type"].startswith("text/plain")
    assert response_schema(document, "/metrics", 200, "text/plain") == {"type": "string"}
    for path, methods in document["paths"].items():
        (method,) = methods.values()
        for status, answered in method["responses"].items():
            assert len(answered["content"]) == 1, (path, status)


def test_some_rows_alone_are_those_of_the_whole(server: LiveServer) -> None:
    whole = sorted(
        _streamed_lines(server, ALL_OPTIONS.replace("detail_limit=5", "detail_limit=99"))[:-1],
        key=lambda line: line["row"],
    )
    *some, last = _streamed_lines(server, ALL_OPTIONS.replace("detail_limit=5", "offset=10&limit=5"))
    assert sorted(line["row"] for line in some) == [10, 11, 12, 13, 14]
    assert last["n_rows"] == 5
    for line in some:
        expected = whole[line["row"]]
        assert line["probabilities"] == pytest.approx(expected["probabilities"], abs=2e-6)
        assert {key: line[key] for key in ("file", "index", "split", "preview", "error")} == {
            key: expected[key] for key in ("file", "index", "split", "preview", "error")
        }
        assert bool(line["preview"]) == (line["error"] is None) == bool(line["saliency_map"])
    assert [line["done"] for line in _streamed_lines(server, "offset=1000")] == [True]
