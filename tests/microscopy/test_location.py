"""Where stacks are: absolute paths without .., whatever a user types."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile

import nephros
from nephros.microscopy.location import locate
from nephros.microscopy.synthetic import SyntheticStack


def test_a_path_is_absolute_and_has_no_dots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "far/stacks").mkdir(parents=True)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    assert locate("../far/stacks/K4.tif") == tmp_path / "far/stacks/K4.tif"
    assert locate("../far/stacks/..") == tmp_path / "far"
    assert locate("K4.tif") == tmp_path / "work/K4.tif"
    assert locate("./../work/missing/../K4.tif") == tmp_path / "work/K4.tif"


@pytest.mark.skipif(os.name == "nt", reason="links need privileges")
def test_links_are_followed_only_where_dots_make_it_necessary(tmp_path: Path) -> None:
    (tmp_path / "store/day").mkdir(parents=True)
    (tmp_path / "store/stack.tif").touch()
    (tmp_path / "day").symlink_to(tmp_path / "store/day")
    (tmp_path / "K4.tif").symlink_to(tmp_path / "store/stack.tif")
    assert locate(tmp_path / "day/../stack.tif") == tmp_path / "store/stack.tif"  # as the system opens it
    assert locate(tmp_path / "day/K4.tif") == tmp_path / "day/K4.tif"
    assert locate(tmp_path / "store/../K4.tif") == tmp_path / "K4.tif"  # the name is the user's


def test_metadata_name_files_without_dots(tmp_path: Path) -> None:
    pixels, labels = (np.stack(part) for part in zip(*SyntheticStack((7, 50, 60)).slices(), strict=True))
    (tmp_path / "out").mkdir()
    tifffile.imwrite(tmp_path / "s.tif", pixels, photometric="minisblack")
    tifffile.imwrite(tmp_path / "m.tif", labels.astype(np.uint16), photometric="minisblack")
    up = tmp_path / "out" / ".."
    nephros.prepare(up / "s.tif", up / "c.npz", mask=up / "m.tif", voxel_size=(1.0, 0.5, 0.5))
    metadata = json.loads((tmp_path / "c.json").read_text(encoding="utf-8"))
    assert (metadata["stack"]["path"], metadata["mask"]["path"]) == (str(tmp_path / "s.tif"), str(tmp_path / "m.tif"))
