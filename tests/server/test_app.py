"""A live server as its clients see it: results, rejections, metrics and documentation."""

from __future__ import annotations

import io
import json
import re
import signal
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

import nephros
from nephros.cli import main
from nephros.errors import InvalidArgument
from nephros.inference.predictor import Predictor
from tests.conftest import square_images
from tests.server.live_server import LiveServer, encode_image, encode_npz, list_tree, multipart_body, run_server

CELLS = square_images(12, 4, 9)[0]
CELL_PNG = encode_image(CELLS[0])
RESULT_KEYS = ["file", "index", "label", "class_name", "probabilities", "prediction_set", "is_ood", "error"]
AUDIT_HOOK = """
import os, sys
sys.dont_write_bytecode = True  # which modules other tests have compiled is not at issue
writes = []
def record_write(event, arguments):
    is_file = event == 'open' and not isinstance(arguments[0], int)  # a number stands for a pipe to one of our own workers
    if is_file and isinstance(arguments[1], str) and set(arguments[1]) & set('wax+'): writes.append(arguments[0])
    if event in ('os.mkdir', 'os.rename', 'os.link', 'os.symlink', 'tempfile.mkstemp'): writes.append(event)
    if event == 'subprocess.Popen' and 'nephros.isolation.worker' in ' '.join(map(str, arguments[1])): return
    if event in ('subprocess.Popen', 'os.system', 'pickle.find_class'): writes.append(event)
import nephros.cli, atexit
def print_report():
    heavy = [name for name in ('torch', 'matplotlib', 'sklearn', 'scipy', 'onnx', 'pandas') if name in sys.modules]
    print('WRITTEN', writes, 'HEAVY', heavy, flush=True)
atexit.register(print_report)
sys.addaudithook(record_write)
"""


def test_results_match_the_predictor(server: LiveServer, predictor: Predictor) -> None:
    results = server.predict([(f"{i}.png", encode_image(cell)) for i, cell in enumerate(CELLS)])
    predictions = predictor.predict_batch(CELLS)
    sets = predictor.prediction_sets(predictions.probabilities, 0.9)
    assert [list(result) for result in results] == [RESULT_KEYS] * len(CELLS)
    for i, result in enumerate(results):
        assert (result["file"], result["index"], result["error"]) == (f"{i}.png", 0, None)
        assert result["probabilities"] == pytest.approx(predictions.probabilities[i].tolist(), abs=2e-6)
        assert result["label"] == predictions.probabilities[i].argmax()
        assert result["class_name"] == predictor.class_names[result["label"]]
        assert result["prediction_set"] == np.flatnonzero(sets[i]).tolist()
        assert result["is_ood"] == predictions.is_ood[i]


def test_query_parameters_add_details_saliency_maps_and_similar_cells(server: LiveServer, cells_npz: Path) -> None:
    reference = np.load(cells_npz)
    cell = reference["train_images"][17]
    query = "?coverage=1&explain=true&n_neighbors=3&details=true"
    (result,) = server.predict([("a.png", encode_image(cell))], query)
    assert result["prediction_set"] == [0, 1, 2, 3]
    values = np.array(result["saliency_map"]["values"])
    assert values.shape == cell.shape
    assert values.min() >= 0
    assert values.max() == 1
    assert result["saliency_map"]["method"] == "class activation"
    assert len(result["similar_cells"]) == 3
    assert result["similar_cells"][0]["similarity"] == pytest.approx(1, abs=1e-3)
    assert result["similar_cells"][0]["label"] == reference["train_labels"][17][0]
    assert result["preview"].startswith("data:image/png;base64,")
    assert result["notes"] == []


def test_the_white_level_of_16_bit_images_can_be_set(server: LiveServer) -> None:
    image = encode_image(CELLS[0].astype(np.uint16) * 10)
    (result,) = server.predict([("a.png", image)], "?details=true&white_level=2550")
    (note,) = result["notes"]
    assert "2550" in note
    (plain,) = server.predict([("a.png", CELL_PNG)])
    assert result["probabilities"] == pytest.approx(plain["probabilities"], abs=2e-6)


def test_a_color_plane_is_found_or_chosen(server: LiveServer) -> None:
    blue, two_colors = np.zeros((2, *CELLS[0].shape, 3), dtype=np.uint8)
    blue[..., 2] = CELLS[0]
    two_colors[..., 0], two_colors[..., 1] = CELLS[0], CELLS[1]
    files = [("blue.png", encode_image(blue)), ("two.png", encode_image(two_colors))]
    (plain,) = server.predict([("a.png", CELL_PNG)])
    accepted, refused = server.predict(files)
    assert accepted["probabilities"] == plain["probabilities"]
    assert "`channel`" in refused["error"]
    for channel in ("0", "red"):
        (chosen,) = server.predict(files[1:], f"?channel={channel}")
        assert chosen["probabilities"] == plain["probabilities"]


def test_a_name_of_a_stacks_channel_costs_no_other_file_its_prediction(server: LiveServer) -> None:
    tifffile.imwrite(stack := io.BytesIO(), np.zeros((3, 40, 40), np.uint8), ome=True, metadata={"axes": "ZYX"})
    color = encode_image(np.stack([CELLS[0]] * 3, axis=-1))
    files = [("a.png", CELL_PNG), ("color.png", color), ("kidney.ome.tif", stack.getvalue())]
    plain_result, color_result, stack_result = server.predict(files, "?channel=DAPI")
    assert plain_result["error"] is None
    assert color_result["error"] == "color.png has 3 planes; set `channel` to one from 0 to 2."
    assert stack_result["error"].startswith("kidney.ome.tif is a 3-D stack")


def test_a_3d_stack_gets_an_error_and_other_files_a_prediction(server: LiveServer) -> None:
    tifffile.imwrite(stack := io.BytesIO(), np.zeros((3, 40, 40), np.uint8), ome=True, metadata={"axes": "ZYX"})
    stack_result, cell_result = server.predict([("kidney.ome.tif", stack.getvalue()), ("a.png", CELL_PNG)])
    assert stack_result["label"] is None
    assert stack_result["error"].startswith("kidney.ome.tif is a 3-D stack")
    assert "prepare" in stack_result["error"]
    assert cell_result["error"] is None


def test_batch_streams_the_same_results_as_lines(server: LiveServer) -> None:
    files = [
        ("cells.npz", encode_npz(val_images=CELLS, images=CELLS[:2])),
        ("bad.png", b"no"),
        ("one.png", encode_image(CELLS[3])),
    ]
    body, content_type = multipart_body(files)
    query = "detail_limit=1&details=true"
    status, headers, text = server.request("POST", f"/predict/batch?{query}", body, {"Content-Type": content_type})
    assert status == 200
    assert headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in text.splitlines()]
    assert lines[-1]["done"] is True
    assert lines[-1]["n_rows"] == len(lines) - 1 == 16
    results = sorted(lines[:-1], key=lambda line: line["row"])
    assert [result["row"] for result in results] == list(range(16))
    assert [result["split"] for result in results] == ["val"] * 12 + [""] * 4
    separate = server.predict([(f"{i}", encode_image(cell)) for i, cell in enumerate(CELLS)])
    assert [result["label"] for result in results[:12]] == [result["label"] for result in separate]
    assert results[3]["probabilities"] == pytest.approx(results[15]["probabilities"], abs=2e-6)
    assert "bad.png is damaged" in results[14]["error"]
    assert results[0]["preview"]
    assert results[1]["preview"] is None


def _png_chunk(chunk_type: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + chunk_type + data + struct.pack(">I", zlib.crc32(chunk_type + data))


def _png_bomb() -> bytes:
    header = _png_chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0))
    pixels = _png_chunk(b"IDAT", zlib.compress(bytes(1_000_000)))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + _png_chunk(b"IEND", b"")


def _cmyk_jpeg() -> bytes:
    file = io.BytesIO()
    Image.new("CMYK", (28, 28), (0, 0, 0, 200)).save(file, format="JPEG")
    return file.getvalue()


def _zip_bomb() -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, images=np.zeros((200, 800, 800), dtype=np.uint8))
    return file.getvalue()


def _files_and_errors() -> dict[str, tuple[bytes, str]]:
    """Return the content of files by name, and a part of their error; an empty one if they get a prediction."""
    pages = [np.full((28, 28), v, np.uint8) for v in (0, 99)]
    frames = [Image.fromarray(page) for page in pages]
    return {
        "good.png": (CELL_PNG, ""),
        "empty.png": (b"", "is empty (0 bytes)"),
        "cut.png": (CELL_PNG[: len(CELL_PNG) // 2], "damaged"),
        "one.png": (encode_image(np.zeros((1, 1), np.uint8)), "too few to show a cell"),
        "deep.png": (encode_image(CELLS[0].astype(np.uint16) * 7), ""),
        "alpha.png": (encode_image(np.full((28, 28, 4), 90, np.uint8)), ""),
        "bomb.png": (_png_bomb(), "far too large"),
        "drawing.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "text such as SVG"),
        "moving.png": (encode_image(pages[0], save_all=True, append_images=frames[1:]), "animated"),
        "moving.gif": (encode_image(pages[0], "GIF", save_all=True, append_images=frames[1:]), "a GIF"),
        "stack.tif": (encode_image(pages[0], "TIFF", save_all=True, append_images=frames), ""),
        "print.jpg": (_cmyk_jpeg(), ""),
        "pickled.npz": (encode_npz(images=np.array([{}], dtype=object)), "never opened"),
        "zeros.npz": (_zip_bomb(), "100 million pixels"),
        "cut.npz": (encode_npz(images=CELLS)[:400], "damaged or cut short"),
        "photo.png": (b"\xff\xd8\xff\xe0 no jpeg", "damaged"),
        "../../etc/passwd": (CELL_PNG, ""),
        "..\\..\\boot.ini.png": (CELL_PNG, ""),
        "/etc/cron.d/x": (b"\x80\x04K\x01.", "pickle, which is never opened"),
        "<img src=x onerror=alert(1)>.png": (CELL_PNG, ""),
        "last.png": (CELL_PNG, ""),
    }


@pytest.mark.slow
def test_bad_files_get_errors_and_nothing_is_written(exported_model: Path, tmp_path: Path) -> None:
    files = _files_and_errors()
    (temporary := tmp_path / "tmp").mkdir()
    args = ["--model", exported_model, "--reference-data", "none"]
    with run_server(args, AUDIT_HOOK, TMPDIR=str(temporary), NEPHROS_CACHE=str(tmp_path / "cache")) as live_server:
        results = live_server.predict([(name, data) for name, (data, _) in files.items()], "?details=true&explain=true")
        large_image = encode_image(np.tile(CELLS[0], (120, 120)), compress_level=0)
        (large_result,) = live_server.predict([("large.png", large_image)])
        live_server.process.send_signal(signal.SIGINT)
        output = live_server.process.communicate(timeout=120)[0]
    assert large_result["error"] is None  # larger than what multipart libraries keep in memory
    by_name: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        by_name.setdefault(result["file"], []).append(result)
    assert list(by_name) == list(files)
    for name, (_, expected) in files.items():
        (result, *_) = by_name[name]
        if expected:
            assert expected in result["error"], result
            assert "\n" not in result["error"]
            assert result["label"] is None
        else:
            assert result["error"] is None, result
            assert 0 <= result["label"] < 4
    assert by_name["last.png"][0]["probabilities"] == by_name["good.png"][0]["probabilities"]
    assert [result["index"] for result in by_name["stack.tif"]] == [0, 1, 2]
    assert "WRITTEN [] HEAVY []" in output, output
    assert live_server.process.returncode == 0
    assert "stopped" in output
    assert "Traceback" not in output
    assert list_tree(temporary) == set()
    assert not (tmp_path / "cache").exists()


BODY, CONTENT_TYPE = multipart_body([("a.png", CELL_PNG)])


def _mixed_body(n_fields: int) -> tuple[bytes, str]:
    """Return a body of other fields before one file."""
    boundary = CONTENT_TYPE.partition("boundary=")[2].encode()
    field = b"--" + boundary + b'\r\nContent-Disposition: form-data; name="x"\r\n\r\n\r\n'
    return field * n_fields + BODY, CONTENT_TYPE


def _body_with_headers(headers: bytes) -> tuple[bytes, str]:
    """Return a body whose one part has further headers."""
    return BODY.replace(b"Content-Disposition", headers + b"Content-Disposition"), CONTENT_TYPE


INVALID_UPLOADS: dict[str, tuple[bytes, str, int, str]] = {
    "plain text": (b"x", "text/plain", 415, "multipart/form-data"),
    "no boundary": (b"x", "multipart/form-data", 415, "multipart/form-data"),
    "empty": (b"", CONTENT_TYPE, 400, "truncated"),
    "truncated": (BODY[:-20], CONTENT_TYPE, 400, "truncated"),
    "malformed": (b"--nonsense" + BODY, CONTENT_TYPE, 400, "multipart/form-data"),
    "other field": (*multipart_body([("a.png", b"x")], "other"), 400, "no files"),
    "too many files": (*multipart_body([(f"{i}", b"") for i in range(1001)]), 413, "1,000 files"),
    "too many fields": (*multipart_body([("", b"x")] * 2001, "other"), 413, "2,000 parts"),
    "too many fields beside a file": (*_mixed_body(2000), 413, "2,000 parts"),
    "too many headers": (*_body_with_headers(b"A: b\r\n" * 10_000), 400, "multipart/form-data"),
    "a long header": (*_body_with_headers(b"A: " + b"b" * 1_000_000 + b"\r\n"), 400, "multipart/form-data"),
    "too many bytes": (*multipart_body([("a", bytes(65 << 20))]), 413, "67 MB"),
}


@pytest.mark.parametrize("case", INVALID_UPLOADS)
def test_invalid_uploads_are_rejected_in_one_sentence(server: LiveServer, case: str) -> None:
    body, content_type, expected_status, expected_text = INVALID_UPLOADS[case]
    status, headers, text = server.request("POST", "/predict", body, {"Content-Type": content_type})
    assert status == expected_status, text
    assert headers["content-type"] == "application/json"
    error = json.loads(text)["error"]
    assert expected_text in error
    assert "\n" not in error


@pytest.mark.parametrize(
    ("name", "value"), [("coverage", "0"), ("n_neighbors", "99"), ("white_level", "no"), ("detail_limit", "-1")]
)
def test_invalid_query_parameters_are_named(server: LiveServer, name: str, value: str) -> None:
    status, response = server.json("POST", f"/predict?{name}={value}", [("a.png", CELL_PNG)])
    assert status == 422
    assert name in response["error"]


def test_health_and_unknown_routes(server: LiveServer) -> None:
    assert server.json("GET", "/health") == (200, {"status": "ok"})
    status, response = server.json("GET", "/none")
    assert status == 404
    assert "/api" in response["error"]
    assert server.json("GET", "/predict")[0] == 405


def test_a_file_with_too_many_cells_gets_an_error(server: LiveServer) -> None:
    many = encode_npz(images=np.zeros((10_001, 28, 28), dtype=np.uint8))
    too_many, good = server.predict([("many.npz", many), ("one.png", CELL_PNG)])
    assert "10,000 cells" in too_many["error"]
    assert good["error"] is None


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:PORT"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
    ],
    ids=str,
)
def test_requests_from_other_sites_are_rejected(server: LiveServer, headers: dict[str, str]) -> None:
    headers = {name: value.replace("PORT", str(server.port)) for name, value in headers.items()}
    assert server.request("GET", "/version", headers=headers)[0] == 403


def test_the_page_has_strict_security_headers(server: LiveServer) -> None:
    own_origin = {"Host": f"localhost:{server.port}", "Origin": f"http://localhost:{server.port}"}
    status, headers, _ = server.request("GET", "/", headers=own_origin)
    assert status == 200
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in headers
    assert "server" not in headers


def test_the_api_page_documents_routes_parameters_and_fields(server: LiveServer) -> None:
    schema = server.json("GET", "/openapi.json")[1]
    predict_routes = {"/predict", "/predict/batch", "/predict/stack"}
    assert set(schema["paths"]) == predict_routes | {"/models", "/health", "/version", "/metrics"}
    result = schema["components"]["schemas"]["PredictionResult"]
    assert list(result["properties"])[: len(RESULT_KEYS)] == RESULT_KEYS
    assert result["required"] == RESULT_KEYS
    assert "multipart/form-data" in schema["paths"]["/predict"]["post"]["requestBody"]["content"]
    parameters = schema["paths"]["/predict/batch"]["post"]["parameters"]
    assert all(parameter["description"] for parameter in parameters)
    page = server.request("GET", "/api")[2].decode()
    assert "http" not in re.sub(r"http://127\.0\.0\.1:8000", "", page)
    for name in (*schema["paths"], *RESULT_KEYS, *(parameter["name"] for parameter in parameters)):
        assert name in page
    assert server.request("GET", "/docs")[0] == 404


def test_version_describes_model_and_reference_cells(server: LiveServer, cells_npz: Path) -> None:
    version = server.json("GET", "/version")[1]
    assert version["class_names"] == [f"class {c}" for c in range(4)]
    assert version["reference_cells"]["trained_on"] is True
    assert version["reference_cells"]["n_cells"] == len(np.load(cells_npz)["train_images"])


def test_metrics_count_requests_predictions_and_errors(server: LiveServer) -> None:
    def read_metrics() -> dict[str, float]:
        text = server.request("GET", "/metrics")[2].decode()
        lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in lines}

    before = read_metrics()
    server.predict([("a", CELL_PNG), ("b", b"bad"), ("c", encode_image(CELLS[1]))])
    server.request("GET", "/made/up/by/a/client")
    after = read_metrics()
    requests = 'nephros_http_requests_total{path="/predict",status="200"}'
    assert after[requests] - before[requests] == 1
    assert after["nephros_predictions_total"] - before["nephros_predictions_total"] == 2
    assert after["nephros_prediction_errors_total"] - before["nephros_prediction_errors_total"] == 1
    assert after["nephros_network_cells_total"] - before["nephros_network_cells_total"] == 2
    assert after["nephros_network_calls_total"] > before["nephros_network_calls_total"]
    assert after["nephros_queue_length"] == 0
    assert not [name for name in after if "made/up" in name]
    assert (
        after['nephros_http_request_duration_seconds_bucket{le="+Inf",path="/predict"}']
        == after['nephros_http_request_duration_seconds_count{path="/predict"}']
    )


def test_samples_are_never_test_cells(server: LiveServer, cells_npz: Path) -> None:
    reference = np.load(cells_npz)
    samples = server.json("GET", "/samples")[1]
    assert {sample["synthetic"] for sample in samples} == {True, False}
    for sample in samples:
        image = np.asarray(Image.open(io.BytesIO(server.request("GET", f"/samples/{sample['name']}")[2])))
        assert not (reference["test_images"] == image).all(axis=(1, 2)).any()
        is_same = (reference["val_images"] == image).all(axis=(1, 2))
        assert is_same.any() != sample["synthetic"]
        if not sample["synthetic"]:
            assert sample["true_class"] == f"class {reference['val_labels'][is_same.argmax()][0]}"
    assert server.request("GET", "/samples/..%2f..%2fsecret")[0] == 404


def test_invalid_ports_and_hosts_name_their_parameter(server: LiveServer) -> None:
    for arguments, parameter in (
        ({"port": 99999}, "port"),
        ({"port": server.port}, "port"),  # in use
        ({"port": 0, "host": "nowhere.invalid"}, "host"),
    ):
        with pytest.raises(InvalidArgument) as raised:
            nephros.serve(**arguments)
        assert raised.value.parameter == parameter
        assert raised.value.value == arguments[parameter]


def test_the_command_prints_errors_in_one_line(
    server: LiveServer, exported_model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stderr_of(*args: object) -> str:
        with pytest.raises(SystemExit) as raised:
            main(["serve", *map(str, args)])
        assert raised.value.code == 2
        error = capsys.readouterr().err
        assert len(error.strip().splitlines()) == 1
        return error

    assert f"--port is {server.port}" in stderr_of("--port", server.port)
    assert "none.onnx" in stderr_of("--port", 0, "--model", "none.onnx")
    no_data = stderr_of("--port", 0, "--model", exported_model, "--reference-data", "none.npz")
    assert "none.npz" in no_data
    assert "synthetic cells" not in no_data
    monkeypatch.setitem(sys.modules, "fastapi", None)
    for name in ("workflows.serve", "server.app"):
        monkeypatch.delitem(sys.modules, f"nephros.{name}", raising=False)
    assert "pip install 'nephros[serve]'" in stderr_of("--port", 0)
