"""Hostile tables, labels and array names: each is read, or refused in one sentence."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nephros.data.folders.label_table import read_label_table
from nephros.data.folders.opening import open_folder
from nephros.data.npz.labels import decode_labels
from nephros.data.npz.layout import find_image_arrays, find_layout
from nephros.data.split_names import DuplicateSplitError, find_splits
from nephros.errors import FileError
from tests.data.folders.test_opening import save_image

PATH = Path("a.npz")
WORDS = st.sampled_from(
    [
        "file",
        "label",
        "split",
        "group",
        "train",
        "TEST",
        "val",
        "a.png",
        "b.png",
        "0",
        "1",
        "1.0",
        "",
        " ",
        '"',
        "Ü",
        "\0",
        "=1",
    ]
)
CELLS = WORDS | st.text(max_size=6)
NAMES = st.lists(
    st.sampled_from(["train", "val", "holdout", "x", "y", "images", "labels", "arr_0", "groups", "_", "/", "X"]),
    max_size=3,
).map("".join)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cells")
    for name in ("a.png", "b.png", "c/a.png"):
        save_image(root / name)
    return root


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(rows=st.lists(st.lists(CELLS, max_size=5), max_size=6), delimiter=st.sampled_from(",;\t|"), as_is=st.booleans())
def test_tables_of_any_cells_are_read_or_refused(
    folder: Path, rows: list[list[str]], delimiter: str, as_is: bool
) -> None:
    lines = rows if as_is else [["file", "label", "split"], *rows]
    path = folder / "table.csv"
    path.write_bytes("\n".join(delimiter.join(row) for row in lines).encode("utf-8", "replace"))
    assert_one_sentence(lambda: read_label_table(path))
    assert_one_sentence(lambda: open_folder(path))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200))
def test_tables_of_any_bytes_are_read_or_refused(folder: Path, data: bytes) -> None:
    path = folder / "bytes.csv"
    path.write_bytes(data)
    assert_one_sentence(lambda: read_label_table(path))


@settings(max_examples=100)
@given(
    hnp.arrays(
        hnp.scalar_dtypes() | hnp.byte_string_dtypes(max_len=3) | hnp.unicode_string_dtypes(max_len=3),
        hnp.array_shapes(max_dims=3, max_side=4),
    ),
    st.sampled_from([(), ("a", "b"), ("0", "1", "2")]),
)
def test_labels_of_any_type_are_numbers_from_0_or_refused(values: Any, class_names: tuple[str, ...]) -> None:
    with contextlib.suppress(FileError):
        decoded = decode_labels(PATH, {"labels": values, "others": values}, class_names, len(class_names))
        for labels in decoded.labels.values():
            assert labels.shape == values.shape[:1]
            assert labels.dtype == np.int64
            assert labels.min() >= 0


@settings(max_examples=100)
@given(st.lists(NAMES, max_size=8, unique=True))
def test_arrays_of_any_names_have_a_layout_or_are_refused(names: list[str]) -> None:
    assert set(find_image_arrays(names, lambda _: (3, 4, 4))) <= set(names)
    with contextlib.suppress(FileError):
        layout = find_layout(PATH, names, lambda name: (3, 4, 4) if "y" not in name else (3,))
        assert set(layout.images) == set(layout.labels)
        assert {*layout.images.values(), *layout.labels.values()} <= set(names)


@given(st.lists(NAMES | st.text(max_size=12), max_size=6))
def test_splits_of_any_names_are_among_them(names: list[str]) -> None:
    with contextlib.suppress(DuplicateSplitError):
        assert set(find_splits(names).values()) <= set(names)


def assert_one_sentence(read: Callable[[], Any]) -> None:
    message = ""
    try:
        read()
    except FileError as error:
        message = str(error)
    assert "\n" not in message
