"""Folders with one file per slice and channel: which names are read as what, and which are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nephros.errors import FileError
from nephros.microscopy.sequence import find_sequence, may_mark_slice, slice_naming


def touch(folder: Path, names: list[str]) -> Path:
    for name in names:
        (folder / name).touch()
    return folder


GOOD: dict[str, tuple[str, range, list[str]]] = {
    "ImageJ": ("img_z{z:03d}_c{c}.tif", range(3), ["1", "2"]),
    "hyperstack": ("kidney_t001_z{z:03d}_c00{c}.tif", range(1, 4), ["1", "2"]),
    "unpadded numbers": ("slice{z}.tif", range(1, 13), [""]),
    "numbers alone": ("{z}.png", range(8, 12), [""]),
    "a date": ("2026-11-25 tissue {z:04d}.tiff", range(2), [""]),
    "Leica": ("Series003_z{z:02d}_ch0{c}.tif", range(3), ["0", "1"]),
    "Zeiss": ("tissue_z{z:02d}c{c}.tif", range(3), ["1", "2", "10"]),
    "Micro-Manager": ("img_000000000_{c}_{z:03d}.tif", range(3), ["Cy3", "DAPI"]),
    "dyes with numbers": ("img_000000000_{c}_{z:03d}.tif", range(3), ["Cy3", "Cy5"]),
    "Operetta": ("r01c02f03p{z:02d}-ch{c}sk1fk1fl1.tiff", range(1, 4), ["1", "2"]),
    "a number and a dye": ("c{c}_Z{z}.TIF", range(2), ["0_DAPI", "1_FITC"]),
}
"""How files are named, the slices, and the channels in their order."""


@pytest.mark.parametrize("kind", GOOD)
def test_slices_are_ordered_by_number(kind: str, tmp_path: Path) -> None:
    template, slices, channels = GOOD[kind]
    expected = [[template.format(z=z, c=c) for z in slices] for c in channels]
    names = [name for files in expected for name in files]
    touch(tmp_path, [*np.random.default_rng(0).permutation(names), "notes.txt", ".z99.tif", "Thumbs.db"])
    sequence = find_sequence(tmp_path)
    assert [[path.name for path in files] for files in sequence.files] == expected
    assert expected[0][0] in sequence.note()
    assert expected[0][-1] in sequence.note()


def test_channels_are_ordered_and_named(tmp_path: Path) -> None:
    touch(tmp_path, [f"tissue_z{z}c{c}.tif" for z in range(2) for c in (10, 2, 1)])
    assert find_sequence(tmp_path).channel_names == ("c1", "c2", "c10")


BAD = {
    "lacks slice 3": ["z1.tif", "z2.tif", "z4.tif"],
    "lacks slice 1 of channel c2": ["z0_c1.tif", "z1_c1.tif", "z0_c2.tif"],
    "both img01.tif and img1.tif": ["img1.tif", "img01.tif", "img2.tif"],
    "both 1.png and 1.tif": ["1.png", "1.tif", "2.tif"],
    "overview.tif": ["s_z1.tif", "s_z2.tif", "overview.tif"],
    "several time points": ["a_t1_z1.tif", "a_t1_z2.tif", "a_t2_z1.tif", "a_t2_z2.tif"],
    "several positions": ["pos1_z1.tif", "pos2_z1.tif"],
    "differ in several parts": ["a1_b1.tif", "a1_b2.tif", "a2_b1.tif", "a2_b2.tif"],
    "differ in several parts (1": ["1_1.tif", "1_2.tif", "2_1.tif", "2_2.tif"],
    "with 1 image files": ["z1.tif"],
    "with 0 image files": ["z1.csv", "z2.csv"],
}


@pytest.mark.parametrize("expected", BAD)
def test_unclear_and_incomplete_folders_are_refused(expected: str, tmp_path: Path) -> None:
    with pytest.raises(FileError) as exc_info:
        find_sequence(touch(tmp_path, BAD[expected]))
    assert (
        expected.partition(" 1")[0] in str(exc_info.value) if expected == "both 1" else expected in str(exc_info.value)
    )
    assert str(tmp_path) in str(exc_info.value)


def test_a_user_can_say_that_all_files_are_slices(tmp_path: Path) -> None:
    touch(tmp_path, [f"c{k}.tif" for k in range(12)])
    assert len(find_sequence(tmp_path).files) == 12
    assert find_sequence(tmp_path, all_slices=True).n_slices == 12


def test_what_the_names_say() -> None:
    assert slice_naming(["a_z1.tif", "a_z2.tif"]) == "marked"
    assert slice_naming(["a_z1.tif"]) == "none"
    assert slice_naming(["cell_1.tif", "cell_2.tif"]) == "numbered"
    assert slice_naming(["a.tif", "b.tif"]) == slice_naming([]) == "none"


@pytest.mark.parametrize("name", ["a_z{}.tif", "Z00{}.png", "x Slice{} c2.tif", "001_zpos{}.tif", "3z{}.png"])
def test_the_name_of_one_image_tells_whether_names_may_mark_slices(name: str) -> None:
    assert may_mark_slice(name.format(1))
    assert slice_naming([name.format(1), name.format(2)]) == "marked"


@pytest.mark.parametrize("name", ["cell_{}.tif", "{}.png", "c{}.tif", "slices{}.tif", "z_{}.tif"])
def test_names_without_a_marked_number_need_not_be_compared(name: str) -> None:
    assert not may_mark_slice(name.format(1))
    assert slice_naming([name.format(1), name.format(2)]) == "numbered"


def test_a_channel_may_be_named_twice(tmp_path: Path) -> None:
    for z, channel in ((z, channel) for z in (9, 10, 11) for channel in ("DAPI", "FITC")):
        (tmp_path / f"A - 1(fld 1 wv {channel} - {channel} z {z}).tif").touch()
    sequence = find_sequence(tmp_path)
    assert (sequence.n_slices, sequence.channel_names) == (3, ("DAPI", "FITC"))
    assert [path.stem[-2:] for path in sequence.files[0]] == ["9)", "0)", "1)"]
