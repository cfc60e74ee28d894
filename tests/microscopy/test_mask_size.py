"""A mask of another size than its stack: the error names the level of the pyramid that fits, or what else may be the cause."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

import nephros
from nephros.errors import IncompatibleError
from nephros.microscopy.synthetic import SyntheticStack
from tests.command_line import run_cli
from tests.microscopy.zarr_samples import write_attributes, write_image

Change = Callable[[NDArray[Any]], NDArray[Any]]
PIXELS, MASK = (np.stack(part) for part in zip(*SyntheticStack((9, 71, 90)).slices(), strict=True))
CHANGES: dict[str, tuple[Change, str]] = {
    "every second pixel": (lambda mask: mask[:, ::2, ::2], "at 1/2 of"),
    "half, rounded down": (lambda mask: mask[:, :70:2, ::2], "at 1/2 of"),
    "every fourth pixel and second slice": (lambda mask: mask[::2, ::4, ::4], "at 1/4 of"),
    "three times as large": (lambda mask: mask.repeat(3, 1).repeat(3, 2), "at 3 times"),
    "rows and columns exchanged": (lambda mask: mask.transpose(0, 2, 1), "another order"),
    "x, y, z": (lambda mask: mask.T, "another order"),
    "of the projection": (lambda mask: mask.max(axis=0), "one slice"),
    "cut": (lambda mask: mask[:, :60, :60], "voxel for voxel"),
    "fewer slices": (lambda mask: mask[1:], "voxel for voxel"),
    "of one of three channels": (lambda mask: mask[::3], "3 channels or time points of 3 slices"),
    "only columns halved": (lambda mask: mask[:, :, ::2], "voxel for voxel"),
}


@pytest.mark.sampled(5)
@pytest.mark.parametrize("name", CHANGES)
def test_what_may_be_the_cause_is_named(name: str, tmp_path: Path) -> None:
    change, expected = CHANGES[name]
    tifffile.imwrite(tmp_path / "s.tif", PIXELS, photometric="minisblack", metadata={"axes": "ZYX"})
    mask = np.ascontiguousarray(change(MASK.astype(np.uint16)))
    tifffile.imwrite(tmp_path / "m.tif", mask, photometric="minisblack")
    with pytest.raises(IncompatibleError) as exc_info:
        nephros.prepare(tmp_path / "s.tif", tmp_path / "c.npz", mask=tmp_path / "m.tif", resample=False)
    message = str(exc_info.value)
    assert expected in message
    assert str((1,) * (3 - mask.ndim) + mask.shape) in message
    assert not (tmp_path / "c.npz").exists()


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("stack_level", "mask_level"), [(None, 1), (None, 2), (2, 0), (0, 2), ("auto", 2)])
def test_the_level_that_fits_is_named(
    stack_level: int | str | None, mask_level: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(tmp_path / "s.zarr", PIXELS, n_levels=3)
    step = 2**mask_level
    mask = MASK[:, ::step, ::step].astype(np.uint16)
    tifffile.imwrite(tmp_path / "m.tif", mask, photometric="minisblack")
    args = ["data", "prepare", str(tmp_path / "s.zarr"), "--mask", str(tmp_path / "m.tif"), "--no-resample"]
    args += ["--out", str(tmp_path / "c.npz")]
    level = [] if stack_level is None else ["--level", str(stack_level)]
    status, _, err = run_cli([*args, *level], capsys)
    assert status == 2
    assert f"set --level to {mask_level}" in err
    assert run_cli([*args, "--level", str(mask_level)], capsys)[0] == 0


def test_a_label_image_at_a_coarser_level_names_the_level(tmp_path: Path) -> None:
    write_image(tmp_path / "s.zarr", PIXELS, n_levels=2)
    write_image(tmp_path / "s.zarr" / "labels" / "nuclei", MASK[:, ::2, ::2].astype(np.uint16), n_levels=2)
    write_attributes(tmp_path / "s.zarr" / "labels", {"labels": ["nuclei"]})
    with pytest.raises(IncompatibleError, match="set `level` to 1"):
        nephros.prepare(tmp_path / "s.zarr", tmp_path / "c.npz", resample=False)
    assert len(nephros.prepare(tmp_path / "s.zarr", tmp_path / "c.npz", level=1, resample=False).ids) > 5
