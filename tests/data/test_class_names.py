"""Class names that can't be told apart are refused wherever they enter."""

from __future__ import annotations

import json
import os
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nephros.data.class_names import class_name_fault
from nephros.data.dataset import Dataset
from nephros.data.folders.opening import open_folder
from nephros.data.npz.opening import open_npz
from nephros.errors import FileError, IncompatibleError, InvalidArgument
from nephros.microscopy.prepared_arrays import check_classes
from nephros.runs import RunFolder
from tests.conftest import write_npz

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "glomérulo") for form in ("NFC", "NFD"))
BAD_NAMES = [
    ("a", "b", "a", "c"),
    ("a", "b", "b ", "c"),
    ("a", COMPOSED, DECOMPOSED, "c"),
    ("a", "b", "b\u200b", "c"),
    ("a", "", "b", "c"),
    ("a", " \t", "b", "c"),
    ("a", "\u200b", "b", "c"),
    ("a", "\ud800", "b", "c"),
    ("a", "caf\udce9", "b", "c"),
]


@pytest.mark.parametrize("names", BAD_NAMES)
def test_names_that_look_the_same_or_are_empty_are_refused(
    names: tuple[str, ...], tiny_dataset: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        replace(tiny_dataset, class_names=names)
    assert caught.value.parameter == "class_names"
    path = write_npz(tmp_path / "cells.npz", tiny_dataset)
    with np.load(path) as arrays:
        np.savez(path, class_names=np.array(names), **arrays)
    with pytest.raises(FileError, match="class"):
        open_npz(path)


def test_names_that_differ_are_accepted() -> None:
    assert not class_name_fault(("a", "A", "a b", "ab", COMPOSED, "glomerulo"))
    assert class_name_fault(("a", None))


def test_folders_and_label_tables_with_two_spellings_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in (COMPOSED, DECOMPOSED, "other"):
        (tmp_path / name).mkdir()
        for i in range(4):
            Image.fromarray(np.full((28, 28), 9 * i, np.uint8)).save(tmp_path / name / f"{i}.png")
    with pytest.raises(FileError) as caught:
        open_folder(tmp_path)
    assert caught.value.path == tmp_path
    (tmp_path / DECOMPOSED).rename(tmp_path / os.fsdecode(b"caf\xe9"))
    with pytest.raises(FileError, match="Unicode"):
        open_folder(tmp_path)
    with pytest.raises(IncompatibleError):
        check_classes([COMPOSED, DECOMPOSED, "other"] * 4)


@pytest.mark.parametrize("names", [["a", "a"], ["a", ""], ["a", 1]])
def test_a_run_with_such_names_is_refused(names: list[object], run_folder: RunFolder, tmp_path: Path) -> None:
    values = json.loads(run_folder.file("run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**values, "class_names": names}))
    (tmp_path / "recipe.yaml").write_bytes(run_folder.file("recipe.yaml").read_bytes())
    with pytest.raises(FileError):
        RunFolder.open(tmp_path).info()
