"""The server as clients meet it: its answers, what it refuses and how, and that it outlives them all."""

from __future__ import annotations

import io
import json
import re
import signal
import socket
import struct
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from nephros.cli import main
from nephros.inference.predictor import Predictor
from tests.conftest import square_images
from tests.server.server import File, LiveServer, encode_image, encode_npz, list_tree, multipart_body, run_server

CELLS = square_images(12, 4, 9)[0]
RESULT_KEYS = ["file", "index", "label", "class_name", "probabilities", "prediction_set", "is_ood", "error"]
AUDIT_HOOK = """
import os, sys
seen = []
def watch(event, arguments):
    if event == 'open' and isinstance(arguments[1], str) and set(arguments[1]) & set('wax+'): seen.append(arguments[0])
    if event in ('os.mkdir', 'os.rename', 'os.link', 'os.symlink', 'tempfile.mkstemp'): seen.append(event)
    if event in ('subprocess.Popen', 'os.system', 'pickle.find_class'): seen.append(event)
import nephros.cli, atexit
def tell():
    heavy = [name for name in ('torch', 'matplotlib', 'sklearn', 'scipy', 'onnx', 'pandas') if name in sys.modules]
    print('WRITTEN', seen, 'HEAVY', heavy, flush=True)
atexit.register(tell)
sys.addaudithook(watch)
"""


@pytest.fixture(scope="module")
def server(exported_model: Path, cells_npz: Path) -> Iterator[LiveServer]:
    with run_server(["--model", exported_model, "--reference-data", cells_npz]) as found:
        yield found


def test_answers_are_the_engines_own(server: LiveServer, predictor: Predictor) -> None:
    results = server.predict([(f"{i}.png", encode_image(cell)) for i, cell in enumerate(CELLS)])
    answers = predictor.predict_batch(CELLS)
    sets = predictor.prediction_sets(answers.probabilities, 0.9)
    assert [list(result) for result in results] == [RESULT_KEYS] * len(CELLS)
    for i, result in enumerate(results):
        assert (result["file"], result["index"], result["error"]) == (f"{i}.png", 0, None)
        assert result["probabilities"] == pytest.approx(answers.probabilities[i].tolist(), abs=2e-6)
        assert result["label"] == answers.probabilities[i].argmax()
        assert result["class_name"] == predictor.class_names[result["label"]]
        assert result["prediction_set"] == np.flatnonzero(sets[i]).tolist()
        assert result["is_ood"] == answers.is_ood[i]


def test_coverage_explanations_and_similar_cells_are_added_where_asked(server: LiveServer, cells_npz: Path) -> None:
    known = np.load(cells_npz)
    cell = known["train_images"][17]
    (result,) = server.predict([("a.png", encode_image(cell))], "?coverage=1&explain=true&n_neighbors=3&details=true")
    assert result["prediction_set"] == [0, 1, 2, 3]
    values = np.array(result["saliency_map"]["values"])
    assert values.shape == cell.shape
    assert values.min() >= 0
    assert values.max() == 1
    assert result["saliency_map"]["method"] == "class activation"
    assert len(result["similar_cells"]) == 3
    assert result["similar_cells"][0]["similarity"] == pytest.approx(1, abs=1e-3)
    assert result["similar_cells"][0]["label"] == known["train_labels"][17][0]
    assert result["preview"].startswith("data:image/png;base64,")
    assert result["notes"] == []
    deep = cell.astype(np.uint16) * 10
    (result,) = server.predict([("a.png", encode_image(deep))], "?details=true&white_level=2550")
    assert result["notes"] == ["16-bit pixels made 8-bit: 2550 became 255"]


def test_a_stack_has_its_own_error_among_good_files(server: LiveServer) -> None:
    tifffile.imwrite(stack := io.BytesIO(), np.zeros((3, 40, 40), np.uint8), ome=True, metadata={"axes": "ZYX"})
    first, second = server.predict([("kidney.ome.tif", stack.getvalue()), ("a.png", encode_image(CELLS[0]))])
    assert first["label"] is None
    assert first["error"].startswith("kidney.ome.tif is a 3-D stack")
    assert "`nephros data prepare`" in first["error"]
    assert second["error"] is None


def test_a_batch_is_lines_of_the_same_results(server: LiveServer) -> None:
    files = [
        ("cells.npz", encode_npz(val_images=CELLS, images=CELLS[:2])),
        ("bad.png", b"no"),
        ("one.png", encode_image(CELLS[3])),
    ]
    body, kind = multipart_body(files)
    status, headers, text = server.request(
        "POST", "/predict/batch?detail_limit=1&details=true", body, {"Content-Type": kind}
    )
    assert status == 200
    assert headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in text.splitlines()]
    assert lines[-1]["done"] is True
    assert lines[-1]["n_rows"] == len(lines) - 1 == 16
    rows = sorted(lines[:-1], key=lambda line: line["row"])
    assert [row["row"] for row in rows] == list(range(16))
    assert [row["split"] for row in rows] == ["val"] * 12 + [""] * 4
    alone = server.predict([(f"{i}", encode_image(cell)) for i, cell in enumerate(CELLS)])
    assert [row["label"] for row in rows[:12]] == [result["label"] for result in alone]
    assert rows[3]["probabilities"] == pytest.approx(rows[15]["probabilities"], abs=2e-6)
    assert "bad.png is damaged" in rows[14]["error"]
    assert rows[0]["preview"]
    assert rows[1]["preview"] is None


def _png_chunk(chunk_type: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + chunk_type + data + struct.pack(">I", zlib.crc32(chunk_type + data))


def _png_bomb() -> bytes:
    header = _png_chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + header + _png_chunk(b"IDAT", zlib.compress(bytes(1_000_000))) + _png_chunk(b"IEND", b"")
    )


def _files_and_errors() -> dict[str, tuple[bytes, str]]:
    """Return files by name, and what their error must say; nothing where they have an answer."""
    cell_png = encode_image(CELLS[0])
    pages = [np.full((28, 28), v, np.uint8) for v in (0, 99)]
    frames = [Image.fromarray(page) for page in pages]
    return {
        "good.png": (cell_png, ""),
        "empty.png": (b"", "is empty (0 bytes)"),
        "cut.png": (cell_png[: len(cell_png) // 2], "damaged"),
        "one.png": (encode_image(np.zeros((1, 1), np.uint8)), "too few to show a cell"),
        "deep.png": (encode_image(CELLS[0].astype(np.uint16) * 7), ""),
        "alpha.png": (encode_image(np.full((28, 28, 4), 90, np.uint8)), ""),
        "bomb.png": (_png_bomb(), "far too large"),
        "drawing.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "text such as SVG"),
        "moving.png": (encode_image(pages[0], save_all=True, append_images=frames[1:]), "animated"),
        "moving.gif": (encode_image(pages[0], "GIF", save_all=True, append_images=frames[1:]), "a GIF"),
        "stack.tif": (encode_image(pages[0], "TIFF", save_all=True, append_images=frames), ""),
        "print.jpg": (_cmyk(), ""),
        "pickled.npz": (encode_npz(images=np.array([{}], dtype=object)), "never opened"),
        "zeros.npz": (_zip_bomb(), "million pixels"),
        "cut.npz": (encode_npz(images=CELLS)[:400], "damaged or cut short"),
        "photo.png": (b"\xff\xd8\xff\xe0 no jpeg", "damaged"),
        "../../etc/passwd": (cell_png, ""),
        "..\\..\\boot.ini.png": (cell_png, ""),
        "/etc/cron.d/x": (b"\x80\x04K\x01.", "pickle, which is never opened"),
        "<img src=x onerror=alert(1)>.png": (cell_png, ""),
        "last.png": (cell_png, ""),
    }


def _cmyk() -> bytes:
    file = io.BytesIO()
    Image.new("CMYK", (28, 28), (0, 0, 0, 200)).save(file, format="JPEG")
    return file.getvalue()


def _zip_bomb() -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, images=np.zeros((200, 800, 800), dtype=np.uint8))
    return file.getvalue()


def test_bad_files_have_errors_of_their_own_and_the_good_ones_answers(exported_model: Path, tmp_path: Path) -> None:
    bad = _files_and_errors()
    (temporary := tmp_path / "tmp").mkdir()
    words = ["--model", exported_model, "--reference-data", "none"]
    with run_server(words, AUDIT_HOOK, TMPDIR=str(temporary), NEPHROS_CACHE=str(tmp_path / "cache")) as server:
        results = server.predict([(name, data) for name, (data, _) in bad.items()], "?details=true&explain=true")
        big = server.predict([("big.png", encode_image(np.tile(CELLS[0], (120, 120)), compress_level=0))])
        server.process.send_signal(signal.SIGINT)
        out = server.process.communicate(timeout=20)[0]
    assert [r["error"] for r in big] == [None]  # above the size at which uploads usually go to disk
    by_name: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        by_name.setdefault(result["file"], []).append(result)
    assert list(by_name) == list(bad)
    for name, (_, expected) in bad.items():
        (first, *_) = by_name[name]
        if expected:
            assert expected in first["error"], first
            assert "\n" not in first["error"]
            assert first["label"] is None
        else:
            assert first["error"] is None, first
            assert 0 <= first["label"] < 4
    assert by_name["last.png"][0]["probabilities"] == by_name["good.png"][0]["probabilities"]
    assert [r["index"] for r in by_name["stack.tif"]] == [0, 1, 2]
    assert "WRITTEN [] HEAVY []" in out, out
    assert "stopped" in out
    assert server.process.returncode == 0
    assert "Traceback" not in out
    assert list_tree(temporary) == set()
    assert not (tmp_path / "cache").exists()


def test_uploads_that_are_none_are_refused_in_a_sentence(server: LiveServer) -> None:
    body, kind = multipart_body([("a.png", encode_image(CELLS[0]))])
    wrong: list[tuple[bytes, str, int, str]] = [
        (b"x", "text/plain", 415, "multipart/form-data"),
        (b"x", "multipart/form-data", 415, "multipart/form-data"),
        (b"", kind, 400, "cut short"),
        (body[:-20], kind, 400, "cut short"),
        (b"--nonsense" + body, kind, 400, "multipart/form-data"),
        (*multipart_body([("a.png", b"x")], "other"), 400, "has no files"),
        (*multipart_body([(f"{i}", b"") for i in range(1001)]), 413, "more than 1,000 files"),
        (*multipart_body([("a", bytes(65 << 20))]), 413, "more than 67 MB"),
    ]
    for data, content_type, expected, words in wrong:
        status, headers, text = server.request("POST", "/predict", data, {"Content-Type": content_type})
        assert status == expected, text
        assert words in json.loads(text)["error"]
        assert headers["content-type"] == "application/json"
    for path, expected, words in (
        ("/predict?coverage=0", 422, "coverage"),
        ("/predict?n_neighbors=99", 422, "n_neighbors"),
        ("/predict?white_level=no", 422, "white_level"),
    ):
        status, _, text = server.request("POST", path, body, {"Content-Type": kind})
        assert status == expected
        assert words in json.loads(text)["error"]
    assert server.json("GET", "/none") == (404, {"error": "There is no such page: see /api."})
    assert server.json("GET", "/predict")[0] == 405
    assert server.json("GET", "/health") == (200, {"status": "ok"})


def test_more_cells_than_the_limit_are_that_files_error(server: LiveServer) -> None:
    many = encode_npz(images=np.zeros((10_001, 28, 28), dtype=np.uint8))
    results = server.predict([("many.npz", many), ("one.png", encode_image(CELLS[0]))])
    assert "above 10,000 cells" in results[0]["error"]
    assert results[1]["error"] is None
    assert len(results) == 2


def test_foreign_hosts_and_pages_are_refused_and_headers_are_strict(server: LiveServer, exported_model: Path) -> None:
    for headers in (
        {"Host": "evil.example"},
        {"Host": f"evil.example:{server.port}"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
    ):
        assert server.request("GET", "/version", headers=headers)[0] == 403
    own = {"Host": f"localhost:{server.port}", "Origin": f"http://localhost:{server.port}"}
    status, answered, _ = server.request("GET", "/", headers=own)
    assert status == 200
    assert "default-src 'none'" in answered["content-security-policy"]
    assert "unsafe" not in answered["content-security-policy"]
    assert answered["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in answered
    assert "server" not in answered


def test_the_api_describes_itself(server: LiveServer) -> None:
    schema = server.json("GET", "/openapi.json")[1]
    assert set(schema["paths"]) == {"/predict", "/predict/batch", "/health", "/version", "/metrics"}
    result = schema["components"]["schemas"]["PredictionResult"]
    assert list(result["properties"])[: len(RESULT_KEYS)] == RESULT_KEYS
    assert result["required"] == RESULT_KEYS
    assert "multipart/form-data" in schema["paths"]["/predict"]["post"]["requestBody"]["content"]
    page = server.request("GET", "/api")[2].decode()
    assert "http" not in re.sub(r"http://127\.0\.0\.1:8000", "", page)
    for name in (*schema["paths"], *RESULT_KEYS, "coverage", "n_neighbors"):
        assert name in page
    assert server.request("GET", "/docs")[0] == 404
    version = server.json("GET", "/version")[1]
    assert version["class_names"] == [f"class {c}" for c in range(4)]
    assert version["reference_cells"]["trained_on"] is True


def test_metrics_count_what_was_done(server: LiveServer) -> None:
    def read() -> dict[str, float]:
        text = server.request("GET", "/metrics")[2].decode()
        lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in lines}

    before = read()
    server.predict([("a", encode_image(CELLS[0])), ("b", b"bad"), ("c", encode_image(CELLS[1]))])
    server.request("GET", "/made/up/by/a/client")
    after = read()
    done = 'nephros_requests_total{path="/predict",status="200"}'
    assert after[done] - before[done] == 1
    assert after["nephros_images_total"] - before["nephros_images_total"] == 2
    assert after["nephros_errors_total"] - before["nephros_errors_total"] == 1
    assert after["nephros_queue_length"] == 0
    assert not [name for name in after if "made/up" in name]
    assert (
        after['nephros_request_seconds_bucket{path="/predict",le="+Inf"}']
        == after['nephros_request_seconds_count{path="/predict"}']
    )


def test_samples_are_never_test_cells(server: LiveServer, cells_npz: Path) -> None:
    known = np.load(cells_npz)
    found = server.json("GET", "/samples")[1]
    assert {sample["synthetic"] for sample in found} == {True, False}
    for sample in found:
        image = np.asarray(Image.open(io.BytesIO(server.request("GET", f"/samples/{sample['name']}")[2])))
        assert not (known["test_images"] == image).all(axis=(1, 2)).any()
        among = (known["val_images"] == image).all(axis=(1, 2))
        assert among.any() != sample["synthetic"]
        if not sample["synthetic"]:
            assert sample["true_class"] == f"class {known['val_labels'][among.argmax()][0]}"
    assert server.request("GET", "/samples/..%2f..%2fsecret")[0] == 404


@pytest.mark.slow
def test_two_hundred_clients_at_once_are_all_answered(server: LiveServer) -> None:
    files: list[File] = [("a.png", encode_image(CELLS[0])), ("b.png", b"bad")]
    expected = server.predict(files)
    gate = threading.Barrier(200)

    def client(_: int) -> bool:
        gate.wait(60)
        results = server.predict(files)
        return [r["label"] for r in results] == [r["label"] for r in expected] and "damaged" in results[1]["error"]

    with ThreadPoolExecutor(200) as pool:
        assert all(pool.map(client, range(200)))
    assert server.json("GET", "/health")[0] == 200


@pytest.mark.slow
def test_clients_that_hang_are_cut_off_and_hold_nobody_up(server: LiveServer) -> None:
    body, kind = multipart_body([("a.png", encode_image(CELLS[0]))])
    head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    silent, slow_head, slow_body = (socket.create_connection(("127.0.0.1", server.port)) for _ in range(3))
    slow_head.sendall(head[:40])
    slow_body.sendall(head + body[:100])
    assert server.predict([("a.png", encode_image(CELLS[0]))])[0]["error"] is None
    start = time.monotonic()
    for hanging in (silent, slow_head, slow_body):
        hanging.settimeout(25)
        answer = b""
        while part := _recv(hanging):
            answer += part
        if hanging is slow_body:
            assert answer.startswith(b"HTTP/1.1 408")
            assert b"too slowly" in answer
        hanging.close()
    assert time.monotonic() - start < 20


@pytest.mark.slow
def test_a_client_that_does_not_read_is_cut_off(server: LiveServer) -> None:
    body, kind = multipart_body([("c.npz", encode_npz(images=np.repeat(CELLS, 1500, axis=0)))])
    head = f"POST /predict/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    lazy = socket.socket()
    lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    lazy.connect(("127.0.0.1", server.port))
    lazy.sendall(head.encode() + body)
    with lazy:
        time.sleep(16)
        lazy.settimeout(10)
        received = 0
        while part := _recv(lazy):
            received += len(part)
    assert 0 < received < 3_000_000  # of some 4 MB
    assert server.json("GET", "/health")[0] == 200


def _recv(connection: socket.socket) -> bytes:
    try:
        return connection.recv(1 << 16)
    except ConnectionError:
        return b""


def test_a_client_that_leaves_midway_harms_nobody(server: LiveServer) -> None:
    body, kind = multipart_body([("a.png", encode_image(CELLS[0]))])
    head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    for length in (0, 50, len(body)):
        with socket.create_connection(("127.0.0.1", server.port)) as leaving:
            leaving.sendall(head.encode() + body[:length])
    assert server.json("GET", "/health") == (200, {"status": "ok"})


@pytest.mark.slow
def test_ctrl_c_ends_cleanly_though_clients_hang(exported_model: Path) -> None:
    body, kind = multipart_body([("a.png", encode_image(CELLS[0]))])
    head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    with run_server(["--model", exported_model, "--reference-data", "none"]) as server:
        silent, midway = (socket.create_connection(("127.0.0.1", server.port)) for _ in range(2))
        with silent, midway:
            midway.sendall(head.encode() + body[:80])
            time.sleep(0.5)
            server.process.send_signal(signal.SIGINT)
            out = server.process.communicate(timeout=15)[0]
            assert midway.recv(1000).startswith(b"HTTP/1.1 503")
    assert out == "stopped\n"
    assert server.process.returncode == 0


def test_wrong_flags_and_a_port_in_use_are_one_sentence(
    server: LiveServer, exported_model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*words: object) -> str:
        with pytest.raises(SystemExit) as caught:
            main(["serve", *map(str, words)])
        err = capsys.readouterr().err
        assert caught.value.code == 2
        assert len(err.strip().splitlines()) == 1
        return err

    assert "is in use: choose another with --port" in refused("--port", server.port)
    assert "--port is 99999" in refused("--port", 99999)
    assert "--host nowhere.invalid is no address" in refused("--host", "nowhere.invalid")
    assert "does not exist" in refused("--port", 0, "--model", "none.onnx")
    assert "synthetic cells" not in refused("--port", 0, "--model", exported_model, "--reference-data", "none.npz")
    monkeypatch.setitem(sys.modules, "fastapi", None)
    for name in ("workflows.serve", "server.app"):
        monkeypatch.delitem(sys.modules, f"nephros.{name}", raising=False)
    assert "pip install 'nephros[serve]'" in refused("--port", 0)
