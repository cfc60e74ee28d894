"""The corpus of hostile files (tests/corpus): every reader returns in time, with a result or an error in one sentence."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nephros
from nephros.data.images.decoding import decode_image, decode_pages, strict_pillow_warnings
from nephros.data.input_files import read_bytes
from nephros.data.npz.opening import open_npz
from nephros.data.npz.stream import ImageArray, open_image_arrays
from nephros.errors import NephrosError
from nephros.exporters.loading import load_classifier
from nephros.inference.predictor import Predictor
from nephros.microscopy.reader import open_stack
from tests.corpus.make import MAX_BYTES, OUTPUT_DIR

TIMEOUT_S = 20.0
PREDICTED = "a prediction"
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
    "not-a-number.tif": "not numbers",
    "negative.tif": "negative pixels",
    "stack.tif entities.ome.tif": "voxel_size",
    "many-slices-claimed.tif": "cut short",
    "stack-of-nothing.ome.tif": "every voxel is 0",
    "pickled.npz one-array-pickled.npz odd-dtype.npz pickle.png": "never opened",
    "path-traversal.npz empty-archive.npz": "holds no images",
    "floats.npz": "not numbers",
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
    """Call `function`; fail if it takes too long."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((function(), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(TIMEOUT_S)
    assert outcome, f"still running after {TIMEOUT_S:g} seconds"
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
def bundled_predictor() -> Predictor:
    return load_classifier(None)


def test_the_corpus_holds_the_expected_files() -> None:
    assert {path.name for path in OUTPUT_DIR.iterdir()} == set(CASES)
    assert max(path.stat().st_size for path in OUTPUT_DIR.iterdir()) < MAX_BYTES


@pytest.mark.parametrize("name", CASES)
def test_every_reader_reads_a_file_or_says_in_one_sentence_why_not(name: str, bundled_predictor: Predictor) -> None:
    path = OUTPUT_DIR / name
    for reader in READERS.values():
        message = run_with_timeout(lambda reader=reader: error_message(reader, path))  # type: ignore[misc]
        assert not message or message.startswith(str(path))
        assert "\n" not in message
    predictions = run_with_timeout(lambda: nephros.predict(path, bundled_predictor))
    assert len(predictions) > 0
    for message in predictions.errors.values():
        assert name in message
        assert "\n" not in message
    if CASES[name] == PREDICTED:
        assert not predictions.errors
    else:
        assert any(CASES[name] in error for error in predictions.errors.values())


def test_no_bad_file_costs_another_its_prediction(bundled_predictor: Predictor) -> None:
    predictions = run_with_timeout(lambda: nephros.predict(OUTPUT_DIR, bundled_predictor))
    names = [Path(source.file).name for source in predictions.sources]
    predicted = {name for name, is_predicted in zip(names, predictions.has_prediction, strict=True) if is_predicted}
    assert set(names) == set(CASES)
    partly_readable = {"truncated-pages.tif", "one-array-pickled.npz"}
    assert predicted == {name for name, expected in CASES.items() if expected == PREDICTED} | partly_readable
