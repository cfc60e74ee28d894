"""Which file is the mask of a stack."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

import nephros
from nephros.errors import FileError
from nephros.inference.predictor import Predictor
from nephros.microscopy.located import find_mask


def test_a_missing_mask_is_named_with_the_places_and_the_nearest_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "K4_mask.tif").touch()
    stack = tmp_path / "K4.tif"
    assert find_mask("{stem}_mask.tif", stack) == tmp_path / "K4_mask.tif"
    with pytest.raises(FileError) as error:
        find_mask("{stem}_msk.tif", stack)
    assert str(error.value) == (
        f"K4.tif has no mask: there is no {tmp_path / 'K4_msk.tif'} and no {tmp_path / 'elsewhere' / 'K4_msk.tif'}; check the "
        "name. Did you mean 'K4_mask.tif'?"
    )
    with pytest.raises(FileError, match="there is no nosuch"):
        find_mask("nosuch.tif", stack)


def test_the_error_of_a_missing_mask_advises_nothing_for_the_stack(predictor: Predictor, tmp_path: Path) -> None:
    pixels = np.zeros((3, 40, 40), np.uint8)
    tifffile.imwrite(tmp_path / "K4.tif", pixels, photometric="minisblack", metadata={"axes": "ZYX"})
    mask = tmp_path / "nosuch.tif"
    predictions = nephros.predict(tmp_path / "K4.tif", predictor, mask=mask, voxel_size=(1.0, 0.5, 0.5))
    assert predictions.errors == {0: f"K4.tif has no mask: there is no {mask}; check the name."}
