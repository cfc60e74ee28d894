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
    class_labels=ClassLabelInfo("/data/classes.csv", 0, ("a", "b")),
    warnings=("Check the mask.",),
    table="cells.csv",
    npz="cells.npz",
    versions={"nephros": "0.1.0"},
)


def test_metadata_are_read_as_written(tmp_path: Path) -> None:
    write_json(tmp_path / "cells.json", METADATA.to_dict())
    assert read_metadata(tmp_path / "cells.json") == METADATA
    assert json.loads((tmp_path / "cells.json").read_text())["format"] == FORMAT


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"format": FORMAT + 1}, f"has format {FORMAT + 1}"),
        ({"nuclei": None}, "not a metadata file"),
        ({"unknown_key": 1}, "not a metadata file"),
    ],
)
def test_other_formats_and_keys_are_refused(change: dict[str, Any], expected: str, tmp_path: Path) -> None:
    write_json(tmp_path / "cells.json", METADATA.to_dict() | change)
    with pytest.raises(FileError, match=rf"cells\.json.*{expected}"):
        read_metadata(tmp_path / "cells.json")


@pytest.mark.parametrize("text", ["", "[1, 2]", "{}", "null", "id,class\n"])
def test_other_files_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(FileError, match=r"other\.json is not a metadata file"):
        read_metadata(tmp_path / "other.json")
    with pytest.raises(FileError, match=r"gone\.json can't be read"):
        read_metadata(tmp_path / "gone.json")
