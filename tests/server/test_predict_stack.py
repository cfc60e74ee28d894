"""POST /predict/stack: the same nuclei and predictions as `nephros.predict`, one error per unreadable stack, and nothing left."""

from __future__ import annotations

import base64
import io
import json
import socket
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nephros
from nephros.inference.nucleus_columns import POSITION_COLUMNS, nucleus_records
from nephros.inference.predictor import Predictor
from nephros.server.app import create_app
from nephros.server.limits import RequestLimits, stack_limits
from nephros.server.service import Service
from tests.server.call_app import call_app
from tests.server.json_schema import response_schema, schema_errors
from tests.server.live_server import File, LiveServer, encode_image, encode_npz, form_body, list_tree, run_server
from tests.server.stack_samples import (
    MASK,
    MASK_FILE,
    PIXELS,
    STACK,
    encode_ome,
    encode_tiff,
    predict_stack,
    split_lines,
    stack_body,
)

N_NUCLEI = len(np.unique(MASK)) - 1


@pytest.mark.parametrize("has_mask", [True, False], ids=["mask", "segmented"])
def test_results_are_those_of_predict(server: LiveServer, exported_model: Path, tmp_path: Path, has_mask: bool) -> None:
    (tmp_path / STACK[0]).write_bytes(STACK[1])
    (tmp_path / MASK_FILE[0]).write_bytes(MASK_FILE[1])
    mask = MASK_FILE if has_mask else None
    expected = nephros.predict(
        tmp_path / STACK[0], exported_model, mask=tmp_path / MASK_FILE[0] if has_mask else None, coverage=0.8
    )
    lines = predict_stack(server, STACK, mask, "?coverage=0.8&details=true&pixels=true&n_neighbors=2&explain=true")
    results, progress, last = split_lines(lines)
    assert len(results) == len(expected) > 5
    assert last | {"notes": []} == {
        "done": True, "version": nephros.__version__, "n_rows": len(expected), "notes": [],
    }  # fmt: skip
    assert set(last["notes"]) <= {note.replace(f"{tmp_path}/", "") for note in expected.notes}
    assert any(f"{len(expected)} nuclei" in note for note in last["notes"])
    assert {line["stage"] for line in progress} >= {"Measuring nuclei", "Cropping nuclei"}
    assert all(0 <= line["share"] <= 1 for line in progress)
    for row, result, record in zip(expected.rows(), results, nucleus_records(expected), strict=True):
        assert (result["file"], result["index"], result["error"]) == (STACK[0], row.source.index, None)
        assert row.probabilities is not None
        assert result["probabilities"] == pytest.approx(row.probabilities, abs=2e-6)
        assert (result["label"], result["prediction_set"]) == (row.label, row.prediction_set)
        assert {name: result[name] for name in ("id", *POSITION_COLUMNS)} == record
        assert len(base64.b64decode(result["pixels"])) == 28 * 28
        assert len(result["similar_cells"]) == 2
        assert result["saliency_map"]["label"] == result["label"]


def test_the_response_matches_its_description(server: LiveServer) -> None:
    document = server.json("GET", "/openapi.json")[1]
    schema = response_schema(document, "/predict/stack", 200, "application/x-ndjson")
    lines = predict_stack(
        server, STACK, MASK_FILE, "?details=true&pixels=true&n_neighbors=2&explain=true&detail_limit=3"
    )
    lines += predict_stack(server, STACK, MASK_FILE) + predict_stack(server, ("x.tif", b"no"))
    for line in lines:
        assert schema_errors(line, schema, document) == []
    status, response = server.json("POST", "/predict/stack?coverage=7", [])
    assert schema_errors(response, response_schema(document, "/predict/stack", status), document) == []
    limits = server.json("GET", "/version")[1]["limits"]["stack"]
    assert RequestLimits(**limits) == stack_limits()


def _zip_of(name: str, data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, data)
    return file.getvalue()


def _npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


SIZE = "?voxel_size=1,0.5,0.5"
PLAIN_PAGES = encode_tiff(PIXELS, metadata=None)
"""Small pages without metadata, which `nephros.predict` takes for images of single cells."""
TWO_CHANNELS = encode_ome(np.stack([PIXELS, PIXELS // 2], axis=1), "ZCYX", Channel={"Name": ["DAPI", "CD3"]})


@pytest.mark.parametrize(
    ("stack", "mask", "query"),
    [
        (("plain.tif", PLAIN_PAGES), MASK_FILE, SIZE),
        (("plain.tif", PLAIN_PAGES), None, SIZE),
        (("K4.npy", _npy(PIXELS)), ("mask.npy", _npy(MASK)), SIZE),
        (("=cmd|' <b>.tif", PLAIN_PAGES), ("../../{stem}.tif", MASK_FILE[1]), SIZE),
        ((STACK[0], STACK[1]), (STACK[0], MASK_FILE[1]), ""),  # of one name
        (("two.ome.tif", TWO_CHANNELS), MASK_FILE, "?channel=1"),
        (("two.ome.tif", TWO_CHANNELS), MASK_FILE, "?channel=DAPI"),
        (("deflated.ome.tif", encode_ome(PIXELS, Name="x")), MASK_FILE, "?min_volume=1&image=0"),
    ],
)
def test_kinds_of_stacks(server: LiveServer, stack: File, mask: File | None, query: str) -> None:
    results, _, last = split_lines(predict_stack(server, stack, mask, query))
    assert last["done"] is True
    assert {result["file"] for result in results} == {stack[0]}
    assert [result["error"] for result in results] == [None] * len(results)
    assert len(results) == N_NUCLEI if mask else len(results) > 0
    assert not any("/tmp" in note or "nephros-stack" in note for note in last["notes"])


@pytest.mark.parametrize(
    ("stack", "mask", "query", "part"),
    [
        (("a.tif", b""), None, "", "a.tif"),
        (("a.tif", STACK[1][:5000]), None, "", "a.tif"),
        (("a.tif", b"\x80\x04K\x01."), None, "", "a.tif"),
        (("a.png", encode_image(np.zeros((28, 28), np.uint8))), None, SIZE, "a.png"),
        (("a.npz", encode_npz(images=PIXELS)), None, "", "/predict"),
        (("a.zip", _zip_of("a.tif", STACK[1])), None, "", "a.zip"),
        (("plain.tif", PLAIN_PAGES), None, "", "`voxel_size`"),
        (("two.ome.tif", TWO_CHANNELS), None, "", "`channel`"),
        (("two.ome.tif", TWO_CHANNELS), None, "?channel=CD4", "CD4"),
        (STACK, None, "?time_point=3", "`time_point`"),
        (STACK, None, "?axes=QQQ", "`axes`"),
        (STACK, None, "?voxel_size=0,1,1", "`voxel_size`"),
        (STACK, None, "?stitch_threshold=0.5", "`stitch_threshold`"),
        (STACK, MASK_FILE, "?segment=rough", "`segment`"),
        (STACK, ("mask.tif", b"no mask"), "", "mask.tif"),
        (STACK, ("mask.tif", encode_tiff(MASK[:-1])), "", "mask.tif"),
        (STACK, ("mask.tif", encode_tiff(np.zeros_like(MASK))), "", "no nucleus"),
        (STACK, MASK_FILE, "?min_volume=1e8", "min_volume"),
        (("dark.ome.tif", encode_ome(np.zeros_like(PIXELS))), None, "", "dark.ome.tif"),
    ],
)
def test_an_unreadable_stack_is_one_row_with_an_error(
    server: LiveServer, stack: File, mask: File | None, query: str, part: str
) -> None:
    results, _, last = split_lines(predict_stack(server, stack, mask, query))
    (result,) = results
    assert part in result["error"]
    assert result["error"].endswith(".")
    assert not any(text in result["error"] for text in ("Traceback", "nephros-stack", "/tmp"))
    assert (result["file"], result["label"], result["id"], result["z"]) == (stack[0], None, None, None)
    assert (last["done"], last["n_rows"]) == (True, 1)


def _status(server: LiveServer, body: tuple[bytes, str], query: str = "") -> tuple[int, str]:
    status, _, text = server.request("POST", f"/predict/stack{query}", body[0], {"Content-Type": body[1]})
    return status, json.loads(text)["error"]


def test_rejected_requests(server: LiveServer) -> None:
    good = stack_body(STACK, MASK_FILE)
    for query, expected, part in [
        ("?voxel_size=1,1", 422, "voxel_size"),
        ("?chanel=0", 422, "channel"),
        ("?coverage=0.5&coverage=0.6", 422, "coverage"),
        ("?model=none", 404, "model"),
        ("?channel=", 422, "channel"),
    ]:
        status, error = _status(server, good, query)
        assert (status, part in error) == (expected, True), error
    assert _status(server, form_body([("mask", MASK_FILE)]))[0] == 400
    assert "field named stack" in _status(server, form_body([("files", STACK)]))[1]
    assert _status(server, form_body([("stack", STACK), ("stack", STACK)]))[0] == 400
    assert _status(server, form_body([("stack", STACK), ("mask", MASK_FILE), ("mask", MASK_FILE)]))[0] == 413
    assert _status(server, (good[0][:-100], good[1]))[0] == 400
    assert _status(server, (b"x", "text/plain"))[0] == 415


@pytest.fixture
def service(exported_model: Path) -> Any:
    service = Service(Predictor.from_onnx(exported_model), reader_processes=0)
    yield service
    service.close()


@pytest.mark.parametrize(
    ("limits", "status", "part"),
    [
        (RequestLimits(max_upload_bytes=10_000), 413, "MB"),
        (RequestLimits(max_pixels=PIXELS.size - 1), 200, "million voxels"),
        (RequestLimits(max_cells=N_NUCLEI - 1), 200, f"{N_NUCLEI} nuclei"),
        (RequestLimits(max_cells=N_NUCLEI, max_pixels=PIXELS.size), 200, ""),
    ],
)
def test_limits(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: RequestLimits, status: int, part: str
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    app = create_app(service, [], stack_limits=limits)
    response = call_app(app, "POST", "/predict/stack", stack_body(STACK, MASK_FILE)[0])
    assert response[0] == status
    lines = [json.loads(line) for line in response[1].splitlines()]
    error = lines[0].get("error") or next((line["error"] for line in lines if line.get("error")), "")
    assert part in error if part else not error
    assert list_tree(tmp_path) == set()


def test_stacks_have_limits_that_follow_from_the_pixels() -> None:
    assert stack_limits(7).max_pixels == 70
    assert stack_limits().max_pixels == 1_000_000_000
    assert stack_limits(7).max_upload_bytes == stack_limits().max_upload_bytes


@pytest.mark.slow
def test_nothing_stays_on_disk_even_if_the_client_or_the_server_ends_early(
    exported_model: Path, tmp_path: Path
) -> None:
    (temporary := tmp_path / "tmp").mkdir()
    large = encode_ome(np.tile(PIXELS, (4, 6, 6)))
    args = ["--model", exported_model, "--reference-data", "none"]
    with run_server(args, TMPDIR=str(temporary)) as server:
        predict_stack(server, STACK, MASK_FILE)
        predict_stack(server, ("x.tif", b"no"))
        assert list_tree(temporary) == set()
        body = stack_body(("large.ome.tif", large))
        for n_bytes in (len(large) // 2, len(body[0])):  # in the upload, and while the stack is read
            _send(server, body, n_bytes).close()
            _wait_until_empty(temporary)
        assert predict_stack(server, STACK, MASK_FILE)[-1]["done"] is True
        connection = _send(server, body, len(body[0]))
    connection.close()
    _wait_until_empty(temporary)


def _send(server: LiveServer, body: tuple[bytes, str], n_bytes: int) -> socket.socket:
    """Send the beginning of a request, or all of it; then the response has begun."""
    head = f"POST /predict/stack HTTP/1.1\r\nHost: localhost:{server.port}\r\nContent-Type: {body[1]}\r\n"
    head += f"Content-Length: {len(body[0])}\r\n\r\n"
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    connection.sendall(head.encode() + body[0][:n_bytes])
    if n_bytes >= len(body[0]):
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
    return connection


def _wait_until_empty(folder: Path) -> None:
    for _ in range(600):
        if not list_tree(folder):
            return
        time.sleep(0.1)
    raise AssertionError(f"left behind: {list_tree(folder)}")
