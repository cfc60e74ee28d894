"""Images of an npz file in batches, from valid and from damaged files. See tests/inference/test_reader.py for the messages."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nephros.data.npz import stream as npz_stream
from nephros.data.npz.stream import ImageArray, UnreadableInput, open_image_arrays
from nephros.errors import FileError

CELLS = np.random.default_rng(0).integers(0, 256, (7, 6, 5), dtype=np.uint8)


def npz_bytes(compressed: bool, **arrays: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("images_per_batch", [1, 3, 100])
def test_all_images_are_read_once_and_in_order(
    compressed: bool, images_per_batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(npz_stream, "STREAM_BYTES", images_per_batch * 30)
    rgb = np.repeat(CELLS[..., None], 3, axis=3)
    arrays: dict[str, NDArray[Any]] = {
        "train_images": CELLS,
        "val_images": CELLS[..., None],
        "test_images": rgb,
        "images": CELLS.astype(np.uint16),
    }
    (tmp_path / "c.npz").write_bytes(npz_bytes(compressed, **arrays))
    opened = [array for array in open_image_arrays(tmp_path / "c.npz") if isinstance(array, ImageArray)]
    images = {array.name: np.concatenate(list(array.iter_batches())) for array in opened}
    assert list(images) == list(arrays)
    assert np.array_equal(images["train_images"], CELLS)
    assert np.array_equal(images["val_images"], CELLS)
    assert np.array_equal(images["test_images"], rgb)
    assert images["images"].dtype == np.uint16


def test_an_array_without_images_is_unreadable_and_the_others_are_opened(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "c.npz",
        train_images=CELLS,
        val_images=CELLS.astype(np.complex64),
        test_images=CELLS,
        images=CELLS[:0],
    )
    arrays = open_image_arrays(tmp_path / "c.npz")
    assert [type(array).__name__ for array in arrays] == [
        "ImageArray",
        "UnreadableInput",
        "ImageArray",
        "UnreadableInput",
    ]
    assert [array.split for array in arrays] == ["train", "val", "test", ""]
    assert isinstance(arrays[1], UnreadableInput)
    assert "val_images is complex64; convert it" in arrays[1].message


@settings(max_examples=250, deadline=None)
@given(
    st.booleans(),
    st.lists(
        st.tuples(st.sampled_from(["set", "cut"]), st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=4
    ),
)
def test_mutated_files_are_read_or_refused(compressed: bool, steps: list[tuple[str, int, int]]) -> None:
    data = bytearray(npz_bytes(compressed, images=CELLS, labels=np.arange(7)))
    for kind, offset, value in steps:
        position = offset % max(len(data), 1)
        if kind == "set" and data:
            data[position] = value
        else:
            del data[position : position + value]
    message = ""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "cells.npz"
        file.write_bytes(bytes(data))
        try:
            for array in open_image_arrays(file):
                if isinstance(array, UnreadableInput):
                    raise FileError(file, array.message)
                for images in array.iter_batches():
                    assert images.dtype in (np.uint8, np.uint16)
        except FileError as error:
            message = str(error)
        assert not message or message.startswith(str(file))
        assert "\n" not in message
