"""The corpus of hostile files (tests/corpus): every reader and predict answer or say in one sentence why not, and soon."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nephros
from nephros.data.image_decoding import decode_image, decode_pages, read_bytes, strict_pillow_warnings
from nephros.data.npz import open_npz
from nephros.data.npz_stream import ImageArray, open_image_arrays
from nephros.errors import NephrosError
from nephros.exporters.loading import load_predictor
from nephros.inference.predictor import Predictor
from nephros.microscopy.reader import open_stack
from tests.corpus.make import MAX_BYTES, OUTPUT_DIR

TIMEOUT_S = 20.0
PREDICTED = "an answer"
EXPECTED: dict[str, str] = {
    "good.png good.jpg good.tif good.npz 16-bit.png rgba.png palette-with-alpha.png cmyk.jpg cmyk.tif pages.tif": PREDICTED,
    "endless-pages.tif odd-metadata.tif flipped.jpg": PREDICTED,
    "truncated.png truncated.jpg truncated.tif truncated.npz truncated-pages.tif truncated-stack.ome.tif": "damaged",
    "flipped-header.png flipped-pixels.png flipped-first-page.tif flipped-tags.tif": "damaged",
    "flipped-bytes.npz flipped-directory.npz": "damaged",
    "only-a-signature.png no-width.png text-bomb.png endless-chunk.png zeros.jpg": "damaged",
    "bomb.png bomb.jpg bomb.tif deflate-bomb.tif one-long-line.png": "far too large",
    "terabytes-claimed.npz overflowing-shape.npz negative-shape.npz nested-header.npz": "damaged",
    "code-in-header.npz no-array.npz twice.npz": "damaged",
    "1x1.png": "too few to show a cell",
    "animated.png": "is animated or has 3 frames",
    "animated-gif.png": "is a GIF",
    "not-a-number.tif": "mode F",
    "negative.tif": "negative pixels",
    "stack.tif many-slices-claimed.tif entities.ome.tif": "give --voxel-size",
    "stack-of-nothing.ome.tif": "every pixel is 0",
    "pickled.npz one-array-pickled.npz odd-dtype.npz pickle.png": "never opened",
    "path-traversal.npz empty-archive.npz": "holds no images",
    "floats.npz": "convert it to uint8",
    "no-cells.npz": "is empty; leave it out",
    "empty.npz empty.png": "is empty (0 bytes)",
    "text.npz": "is not an .npz file",
    "svg.png html.jpg": "text such as SVG",
    "postscript.tif": "is PostScript",
    "gzip.tif": "compressed with gzip",
    "array.png": "a single .npy array",
}
CASES = {name: expected for names, expected in EXPECTED.items() for name in names.split()}


def run_with_timeout(function: Callable[[], Any]) -> Any:
    """Return what `function` returns or raise what it raises; fail when it takes too long."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((function(), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(TIMEOUT_S)
    assert outcome, f"still at work after {TIMEOUT_S:g} seconds"
    result, error = outcome[0]
    if error is not None:
        raise error
    return result


def read_arrays(path: Path) -> None:
    for array in open_image_arrays(path):
        if isinstance(array, ImageArray):
            assert all(len(cells) for cells in array.iter_batches())


def error_message(reader: Callable[[Path], Any], path: Path) -> str:
    try:
        with strict_pillow_warnings():
            reader(path)
    except NephrosError as error:
        return str(error)
    return ""


READERS: dict[str, Callable[[Path], Any]] = {
    "decode": lambda path: decode_image(path, read_bytes(path)),
    "decode_pages": lambda path: list(decode_pages(path, read_bytes(path))),
    "open_arrays": read_arrays,
    "open_npz": open_npz,
    "open_stack": lambda path: sum(1 for _ in open_stack(path).slices()),
}


@pytest.fixture(scope="module")
def box() -> Predictor:
    return load_predictor(None, say=lambda _: None)


def test_the_corpus_is_what_is_expected_of() -> None:
    assert {path.name for path in OUTPUT_DIR.iterdir()} == set(CASES)
    assert max(path.stat().st_size for path in OUTPUT_DIR.iterdir()) < MAX_BYTES


@pytest.mark.parametrize("name", CASES)
def test_each_file_has_an_answer_or_its_own_sentence(name: str, box: Predictor) -> None:
    path = OUTPUT_DIR / name
    for reader in READERS.values():
        sentence = run_with_timeout(lambda reader=reader: error_message(reader, path))  # type: ignore[misc]
        assert not sentence or sentence.startswith(str(path))
        assert "\n" not in sentence
    found = run_with_timeout(lambda: nephros.predict(path, box))
    assert len(found) > 0
    for sentence in found.errors.values():
        assert name in sentence
        assert "\n" not in sentence
    if CASES[name] == PREDICTED:
        assert not found.errors
    else:
        assert any(CASES[name] in error for error in found.errors.values())


def test_none_of_them_costs_another_its_answer(box: Predictor) -> None:
    found = run_with_timeout(lambda: nephros.predict(OUTPUT_DIR, box))
    answered = {Path(row.file).name for row, there in zip(found.sources, found.has_prediction, strict=True) if there}
    assert {Path(row.file).name for row in found.sources} == set(CASES)
    in_part = {"truncated-pages.tif", "one-array-pickled.npz"}
    assert answered == {name for name, expected in CASES.items() if expected == PREDICTED} | in_part
