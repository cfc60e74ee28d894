"""The metadata file of a prepared stack: it is read as written, and other files are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nephros.errors import FileError
from nephros.files import write_json
from nephros.microscopy.metadata import (
    FORMAT,
    ClassLabelInfo,
    ContrastInfo,
    MaskInfo,
    NucleusCounts,
    PreparationMetadata,
    StackInfo,
    read_metadata,
)
from nephros.microscopy.output_files import read_nuclei_csv

METADATA = PreparationMetadata(
    stack=StackInfo("/data/stack.tif", "0" * 64, (16, 140, 120), "uint16", 0, 2),
    mask=MaskInfo("/data/cells.mask.tif", "1" * 64, (16, 140, 120), "uint16", "threshold", True),
    voxel_size_um=None,
    voxel_size_source="unknown",
    target_voxel_size_um=None,
    target_voxel_size_source=None,
    resampling_step=(1.0, 1.0, 1.0),
    crop_shape_zyx=(7, 32, 32),
    contrast_limits=ContrastInfo("given", 10.0, 200.0, 1.0, 99.0, 0.1, 0.1),
    nuclei=NucleusCounts(30, 20, 10, 10),
    class_labels=ClassLabelInfo("/data/classes.csv", ("a", "b"), 40),
    warnings=("Check the mask.",),
    table="cells.csv",
    npz="cells.npz",
    versions={"nephros": "0.1.0"},
)


def test_metadata_are_read_as_written(tmp_path: Path) -> None:
    write_json(tmp_path / "cells.json", METADATA.to_dict())
    assert read_metadata(tmp_path / "cells.json") == METADATA
    assert json.loads((tmp_path / "cells.json").read_text())["format"] == FORMAT


CHANGES: dict[str, dict[str, Any]] = {
    "another format": {"format": FORMAT + 1},
    "a format of a list": {"format": [FORMAT]},
    "no nuclei": {"nuclei": None},
    "an unknown key": {"unknown_key": 1},
    "a stack of text": {"stack": "stack.tif"},
    "a shape of two sides": {"crop_shape_zyx": [32, 32]},
    "a shape of fractions": {"crop_shape_zyx": [7.5, 32, 32]},
    "a shape of 30 digits": {"crop_shape_zyx": [7, 32, 10**30]},
    "a step of text": {"resampling_step": "111"},
    "a table of a number": {"table": 7},
    "a table of nothing": {"table": None},
    "half a surrogate pair": {"npz": "\ud800"},
    "warnings of text": {"warnings": "none"},
    "versions of a list": {"versions": ["0.1.0"]},
    "a voxel size of two": {"voxel_size_um": [1.0, 1.0]},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_other_formats_keys_and_types_are_refused(change: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "cells.json"
    path.write_text(json.dumps(METADATA.to_dict() | change))
    with pytest.raises(FileError) as caught:
        read_metadata(path)
    assert caught.value.path == path
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"7", b"null", b"{", b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5000, b"\xff\xfe", bytes(100),
     b'{"format": 2, "format": 2}', b'{"format": NaN}'],
)  # fmt: skip
def test_what_is_no_metadata_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "cells.json"
    path.write_bytes(content)
    with pytest.raises(FileError) as caught:
        read_metadata(path)
    assert caught.value.path == path


@pytest.mark.parametrize(
    "text",
    ["", "id,intensity_mean", "id,intensity_mean\nx,1", "id,intensity_mean\n1,nan", f"id,intensity_mean\n{'9' * 5000},1",
     f"id,intensity_mean\n{'9' * 30},1", "id,intensity_mean\n-1,1", "id\n1", "id,intensity_mean\n1", "\0", '"'],
)  # fmt: skip
def test_what_is_no_table_of_nuclei_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "cells.csv"
    path.write_text(text)
    with pytest.raises(FileError) as caught:
        read_nuclei_csv(path)
    assert caught.value.path == path
