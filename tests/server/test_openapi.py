"""Every response of a live server matches its OpenAPI description, without undocumented fields."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conftest import square_images
from tests.server.json_schema import response_schema, schema_errors
from tests.server.live_server import File, LiveServer, encode_image, encode_npz, multipart_body

CELLS = square_images(12, 4, 9)[0]
FILES: list[File] = [
    ("cells.npz", encode_npz(val_images=CELLS, images=CELLS[:2])),
    ("bad.png", b"no"),
    ("inverted.png", encode_image(255 - CELLS[0])),
]
N_ROWS = 16
ALL_OPTIONS = "details=true&explain=true&n_neighbors=3&coverage=0.8&white_level=4095"


@pytest.fixture(scope="module")
def document(server: LiveServer) -> dict[str, Any]:
    return dict(server.json("GET", "/openapi.json")[1])


def _stream_lines(server: LiveServer, query: str) -> list[dict[str, Any]]:
    body, content_type = multipart_body(FILES)
    status, _, text = server.request("POST", f"/predict/batch?{query}", body, {"Content-Type": content_type})
    assert status == 200
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("query", ["", f"{ALL_OPTIONS}&detail_limit=5"], ids=["plain", "all options"])
def test_predictions_match_their_schema(server: LiveServer, document: dict[str, Any], query: str) -> None:
    response = server.json("POST", f"/predict?{query}", FILES)[1]
    assert schema_errors(response, response_schema(document, "/predict", 200), document) == []
    line_schema = response_schema(document, "/predict/batch", 200, "application/x-ndjson")
    lines = _stream_lines(server, query)
    assert len(lines) == N_ROWS + 1
    for line in lines:
        assert schema_errors(line, line_schema, document) == []


def test_all_options_fill_all_documented_fields(server: LiveServer, document: dict[str, Any]) -> None:
    results = server.json("POST", f"/predict?{ALL_OPTIONS}&detail_limit=5", FILES)[1]["results"]
    assert {bool(result["saliency_map"]) for result in results} == {True, False}
    assert {bool(result["preview"]) for result in results} == {True, False}
    documented = document["components"]["schemas"]["PredictionResult"]["properties"]
    for result in results:
        assert set(result) == set(documented) - {"pixels"}
    results = server.json("POST", f"/predict?{ALL_OPTIONS}&detail_limit=5&pixels=true", FILES)[1]["results"]
    assert {bool(result["pixels"]) for result in results} == {True, False}
    for result in results:
        assert set(result) == set(documented)
        assert result["preview"] is None


def test_deviations_from_the_schema_are_detected(server: LiveServer, document: dict[str, Any]) -> None:
    schema = response_schema(document, "/predict", 200)
    response = server.json("POST", f"/predict?{ALL_OPTIONS}&detail_limit=5", FILES)[1]
    response["results"][0]["secret"] = 1
    response["results"][0]["similar_cells"][0]["secret"] = 1
    del response["results"][1]["error"]
    response["results"][2]["saliency_map"]["method"] = None
    assert set(schema_errors(response, schema, document)) == {
        "response.results[0].secret: not documented",
        "response.results[0].similar_cells[0].secret: not documented",
        "response.results[1].error: missing",
        "response.results[2].saliency_map: 0 of anyOf match",
        "response.results[2].saliency_map.method: None is no string",
    }
    line_schema = response_schema(document, "/predict/batch", 200, "application/x-ndjson")
    assert schema_errors({"done": False, "version": "1", "n_rows": 0}, line_schema, document)
    assert schema_errors({"done": False, "error": "It took too long.", "n_rows": 0}, line_schema, document) == []


@pytest.mark.parametrize("path", ["/health", "/version"])
def test_server_responses_match_their_schema(server: LiveServer, document: dict[str, Any], path: str) -> None:
    assert schema_errors(server.json("GET", path)[1], response_schema(document, path, 200), document) == []


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
def test_validation_errors_match_their_schema(server: LiveServer, document: dict[str, Any], path: str) -> None:
    status, response = server.json("POST", f"{path}?coverage=7", FILES)
    assert status == 422
    assert schema_errors(response, response_schema(document, path, status), document) == []


def test_rejections_match_their_schema(server: LiveServer, document: dict[str, Any]) -> None:
    status, _, text = server.request("GET", "/version", headers={"Host": "evil.example"})
    assert schema_errors(json.loads(text), response_schema(document, "/version", status), document) == []


def test_limits_and_media_types_are_documented(server: LiveServer, document: dict[str, Any]) -> None:
    limits = document["components"]["schemas"]["RequestLimits"]["properties"]
    assert set(limits) == set(server.json("GET", "/version")[1]["limits"]["batch"])
    assert all(limit["description"] for limit in limits.values())
    assert server.request("GET", "/metrics")[1]["content-type"].startswith("text/plain")
    assert response_schema(document, "/metrics", 200, "text/plain") == {"type": "string"}
    for path, methods in document["paths"].items():
        (method,) = methods.values()
        for status, response in method["responses"].items():
            assert len(response["content"]) == 1, (path, status)


def test_offset_and_limit_select_rows(server: LiveServer) -> None:
    all_results = sorted(_stream_lines(server, ALL_OPTIONS)[:-1], key=lambda line: line["row"])
    *selected, last_line = _stream_lines(server, f"{ALL_OPTIONS}&offset=10&limit=5")
    assert sorted(line["row"] for line in selected) == [10, 11, 12, 13, 14]
    assert last_line["n_rows"] == 5
    for line in selected:
        expected = all_results[line["row"]]
        assert line["probabilities"] == pytest.approx(expected["probabilities"], abs=2e-6)
        for key in ("file", "index", "split", "preview", "error"):
            assert line[key] == expected[key]
        assert bool(line["preview"]) == (line["error"] is None) == bool(line["saliency_map"])
    assert [line["done"] for line in _stream_lines(server, "offset=1000")] == [True]
