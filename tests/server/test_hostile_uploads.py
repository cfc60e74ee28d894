"""Npz files with broken headers and archives, and parsers that raise anything: a sentence per file, and the others' rows."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import nephros.inference.reader as reader_module
from nephros.data.images import decoder as image_decoder
from nephros.data.input_files import read_bytes
from nephros.inference.predictor import Predictor
from nephros.server.app import create_app
from nephros.server.service import Service
from tests.conftest import square_images
from tests.server.call_app import call_app
from tests.server.live_server import File, encode_image, encode_npz, multipart_body

CELLS = square_images(3, 4, 0)[0]
GOOD_HEADER = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {CELLS.shape}, }}"
GOOD_PNG = encode_image(CELLS[0])
FUZZ = settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.fixture(scope="module")
def app(predictor: Predictor) -> Iterator[Any]:
    service = Service(predictor, reader_processes=0)  # its readers are replaced below
    yield create_app(service, [])
    service.close()


def _npz(header: bytes, version: tuple[int, int] = (1, 0), length: int | None = None) -> bytes:
    """Return an npz file of one array with this header, whose length may be given wrongly."""
    n_bytes = len(header) if length is None else length
    size = struct.pack("<H", n_bytes % (1 << 16)) if version == (1, 0) else struct.pack("<I", n_bytes)
    with zipfile.ZipFile(file := io.BytesIO(), "w") as archive:
        archive.writestr("images.npy", b"\x93NUMPY" + bytes(version) + size + header + CELLS.tobytes())
    return file.getvalue()


def _compressed(method: int) -> bytes:
    plain = zipfile.ZipFile(io.BytesIO(encode_npz(images=CELLS)))
    with zipfile.ZipFile(file := io.BytesIO(), "w", method) as archive:
        archive.writestr("images.npy", plain.read("images.npy"))
    return file.getvalue()


def _check(app: Any, *hostile: File) -> None:
    """Each hostile file gets rows or one sentence on both routes, and the files around it get their predictions."""
    good_npz = encode_npz(images=CELLS)
    body, _ = multipart_body([("first.png", GOOD_PNG), *hostile, ("good.npz", good_npz), ("last.png", GOOD_PNG)])
    status, text = call_app(app, "POST", "/predict", body)
    assert status == 200, text
    results = json.loads(text)["results"]
    status, text = call_app(app, "POST", "/predict/batch", body)
    *lines, last_line = map(json.loads, text.splitlines())
    assert (status, last_line["done"], last_line["n_rows"]) == (200, True, len(lines))
    assert len(lines) == len(results)
    assert sorted(line["row"] for line in lines) == list(range(len(lines)))
    for rows in (results, sorted(lines, key=lambda line: line["row"])):
        errors = {row["file"]: row["error"] for row in rows}
        assert list(errors) == ["first.png", *(name for name, _ in hostile), "good.npz", "last.png"]
        for row in rows:
            if row["file"] in ("first.png", "good.npz", "last.png"):
                assert row["error"] is None
            assert "\n" not in (row["error"] or "")
        assert sum(row["file"] == "good.npz" for row in rows) == len(CELLS)


@pytest.mark.parametrize(
    "header",
    [
        *("{[]: 1}", "{'descr':", "\t{\n 'a'", "'''", "{'descr': ((),), 'fortran_order': False, 'shape': (3, 28, 28)}"),
        *("{'descr': ',', 'fortran_order': False, 'shape': (3, 28, 28)}", "", "\x00", "{**1}", "-" * 5000 + "1"),
        *("{'descr': 'm8[99999999999999999999D]', 'fortran_order': False, 'shape': ()}", "(" * 900 + ")" * 900),
        GOOD_HEADER.replace("3,", "9" * 5000 + ","),
        GOOD_HEADER.replace("28)", "28.5)"),
    ],
    ids=lambda header: repr(header[:30]),
)
def test_a_broken_header_is_an_error_of_its_file(app: Any, header: str) -> None:
    for version in ((1, 0), (2, 0), (3, 0)):
        _check(app, ("broken.npz", _npz(header.encode(), version)))


def test_several_broken_files_cost_no_other_file(app: Any) -> None:
    _check(app, *((f"{i}.npz", _npz(b"{[]: 1}" + b" " * i)) for i in range(5)))


PYTHON_TOKENS = st.sampled_from(
    [
        *"{}[]()':,\"\\\n\t#-+*~ ",
        *[
            "None",
            "True",
            "lambda",
            "'descr'",
            "'shape'",
            "'fortran_order'",
            "'|u1'",
            "'O'",
            "'V'",
            "b''",
            "1",
            "1j",
            "3L",
            "0x",
        ],
    ]
) | st.sampled_from(["'''", "f'{'", "(3,28,28)", "9" * 50, "\ufeff", "\u00e9", "\x00"])


@FUZZ
@given(tokens=st.lists(PYTHON_TOKENS, max_size=12), start=st.integers(0, len(GOOD_HEADER)), cut=st.integers(0, 40))
@example(tokens=[], start=0, cut=0)
def test_headers_of_python_s_own_tokens(app: Any, tokens: list[str], start: int, cut: int) -> None:
    """Tokens replace a part of a good header: what the header's parser sees is nearly right."""
    header = GOOD_HEADER[:start] + "".join(tokens) + GOOD_HEADER[start + cut :]
    _check(app, ("broken.npz", _npz(header.encode("utf-8"))))


DTYPES = st.recursive(
    st.one_of(st.text("|<>=?biufcmMOSUV0123456789[], ()", max_size=8), st.none(), st.integers(), st.booleans()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.sampled_from(["names", "formats", "offsets", "itemsize", "a"]), inner, max_size=4),
    ),
    max_leaves=8,
)
SHAPES = st.one_of(
    st.lists(st.integers(-(2**70), 2**70), max_size=5).map(tuple),
    st.lists(st.sampled_from([0, 1, -1, 3, 28, True, None, 2.0, "3"]), max_size=5).map(tuple),
    st.just((3, 28, 28)),
)


@FUZZ
@given(dtype=DTYPES, shape=SHAPES, fortran_order=st.sampled_from([True, False, 0, None]))
def test_headers_of_any_dtype_and_shape(app: Any, dtype: object, shape: object, fortran_order: object) -> None:
    """The header parses, but what it describes need not exist."""
    header = repr({"descr": dtype, "fortran_order": fortran_order, "shape": shape})
    _check(app, ("broken.npz", _npz(header.encode("utf-8"))))


@FUZZ
@given(
    method=st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=3),
)
def test_archives_with_changed_bytes(app: Any, method: int, changes: list[tuple[float, int]]) -> None:
    """Each of the archive's compressions, with a few bytes changed anywhere."""
    data = bytearray(_compressed(method))
    for place, value in changes:
        data[int(place * len(data))] = value
    _check(app, ("broken.npz", bytes(data)))


@FUZZ
@given(version=st.tuples(st.integers(0, 255), st.integers(0, 255)), length=st.integers(0, 2**32 - 1))
def test_headers_of_any_version_and_length(app: Any, version: tuple[int, int], length: int) -> None:
    _check(app, ("broken.npz", _npz(GOOD_HEADER.encode(), version, length)))


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("x"), MemoryError(), RecursionError("a\nb"), KeyError(1), StopIteration()]
)
@pytest.mark.parametrize("seam", ["decode_pages", "read_bytes_unless_stack", "to_cell"])
def test_whatever_a_parser_raises_is_an_error_of_its_file(
    app: Any, monkeypatch: pytest.MonkeyPatch, error: Exception, seam: str
) -> None:
    module = image_decoder if seam == "decode_pages" else reader_module
    original = getattr(module, seam)
    marked = np.full((28, 28), 77, np.uint8)

    def fail_on_marked(*args: Any) -> Any:
        if str(args[0]) == "odd.png" or (seam == "preprocess" and (args[0] == 77).all()):
            raise error
        return original(*args)

    monkeypatch.setattr(module, seam, fail_on_marked)
    _check(app, ("odd.png", encode_image(marked)))


def test_a_16_bit_file_that_fails_the_second_time_costs_no_other_file(
    app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_on_odd(item: Any) -> bytes:
        if str(item) == "odd.png":
            raise ZeroDivisionError
        return read_bytes(item)

    monkeypatch.setattr(reader_module, "read_bytes", fail_on_odd)
    deep = encode_image(CELLS[0].astype(np.uint16) * 9)
    _check(app, ("odd.png", deep), ("deep.png", deep))


def test_a_fault_of_the_server_ends_a_stream_with_a_line(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(predictor)
    monkeypatch.setattr(service, "_chunk_results", lambda *_: 1 // 0)
    status, text = call_app(create_app(service, []), "POST", "/predict/batch", multipart_body([("a.png", GOOD_PNG)])[0])
    service.close()
    (line,) = map(json.loads, text.splitlines())
    assert (status, line["done"], line["n_rows"]) == (200, False, 0)
    assert "ZeroDivisionError" in line["error"]
