"""Several stacks prepared at once: their masks, tables and patients by pattern, and splits that keep each stack together."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import nephros
from nephros.errors import FileError, IncompatibleError, InvalidArgument, NephrosError
from nephros.microscopy.stack_files import find_stack_files
from nephros.microscopy.synthetic import SyntheticStack
from nephros.workflows.overlay import overlay
from tests.command_line import run_cli

PATTERNS: dict[str, Any] = {"mask": "{stem}_mask.tif", "classes": "{stem}.csv"}
VOXELS: dict[str, Any] = {"axes": "ZYX", "PhysicalSizeZ": 1, "PhysicalSizeY": 0.5, "PhysicalSizeX": 0.5}
NAMES = ("P1_K1", "P1_K2", "P2_K3", "P3_K4")


def write_stack(folder: Path, name: str, seed: int, **changes: Any) -> None:
    """Write NAME.ome.tif, NAME_mask.tif and NAME.csv, in which every fifth nucleus has no class."""
    pixels, labels = (np.stack(part) for part in zip(*SyntheticStack((9, 80, 90), seed=seed).slices(), strict=True))
    tifffile.imwrite(folder / f"{name}.ome.tif", pixels, photometric="minisblack", metadata={**VOXELS, **changes})
    tifffile.imwrite(folder / f"{name}_mask.tif", labels.astype(np.uint16), photometric="minisblack")
    rows = [f"{i},{'' if i % 5 == 0 else ('ring', 'disc')[i % 2]}" for i in np.unique(labels)[1:].tolist()]
    (folder / f"{name}.csv").write_text("Label,Class\n" + "\n".join(rows))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stacks")
    for seed, name in enumerate(NAMES):
        write_stack(folder, name, seed)
    return folder


@pytest.fixture
def stacks(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(written, tmp_path / "stacks")
    monkeypatch.chdir(tmp_path / "stacks")
    return tmp_path / "stacks"


def paths(names: tuple[str, ...] = NAMES) -> list[str]:
    return [f"{name}.ome.tif" for name in names]


def test_each_nucleus_has_its_stack_its_patient_and_its_class(stacks: Path) -> None:
    result = nephros.prepare(paths(), "cells.npz", patient="{patient}_*", **PATTERNS)
    each = [nephros.prepare(path, "one.npz", mask=f"{path[:5]}_mask.tif") for path in paths()]
    assert np.array_equal(result.images, np.concatenate([one.images for one in each]))
    with np.load("cells.npz") as arrays, Path("cells.csv").open() as table:
        rows = list(csv.DictReader(table))
        assert arrays["ids"].tolist() == [int(row["id"]) for row in rows] == result.ids.tolist()
        assert arrays["stack"].tolist() == [row["stack"] for row in rows]
        assert list(dict.fromkeys(arrays["stack"].tolist())) == list(NAMES)
        assert arrays["patient"].tolist() == [row["stack"][:2] for row in rows] == [row["patient"] for row in rows]
        expected = ["" if i % 5 == 0 else ("ring", "disc")[i % 2] for i in arrays["ids"].tolist()]
        assert arrays["labels"].tolist() == expected
    metadata = json.loads(Path("cells.json").read_text())
    assert [stack["stack"]["path"] for stack in metadata["stacks"]] == [str(stacks / path) for path in paths()]
    assert result.stacks[0].class_labels is not None
    assert result.stacks[0].class_labels.n_labeled == sum(name != "" for name in expected[: len(each[0].ids)])
    with pytest.raises(IncompatibleError):
        _ = result.metadata
    Path("predictions.csv").write_text("index,label,class_name\n0,0,a\n")
    with pytest.raises(FileError, match="4 stacks"):
        overlay("cells.json", "predictions.csv", "tissue.png")


def test_a_split_keeps_each_stack_together(stacks: Path) -> None:
    nephros.prepare(paths(), "cells.npz", patient="{patient}_*", **PATTERNS)
    by_stack = nephros.load_dataset("cells.npz", groups="stack")
    groups = [set(split.groups.tolist()) for _, split in by_stack.splits() if split.groups is not None]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 4
    assert by_stack.unlabeled is not None
    labeled = sum(len(split) for _, split in by_stack.splits())
    with np.load("cells.npz") as arrays:
        assert len(by_stack.unlabeled) + labeled == len(arrays["images"])
        assert np.array_equal(by_stack.unlabeled, arrays["images"][arrays["labels"] == ""])
    by_patient = nephros.load_dataset("cells.npz")  # 3 patients: too few for three splits
    assert by_patient.provenance.n_groups == 3
    assert any("3 groups (the array patient)" in warning for warning in by_patient.warnings)
    assert by_patient.train.groups is not None
    redrawn = nephros.load_dataset("cells.npz", groups="stack", resplit=(16, 8))
    assert redrawn.train.groups is not None
    assert redrawn.val.groups is not None
    assert not set(redrawn.train.groups) & set(redrawn.val.groups)


def test_one_table_may_hold_all_stacks_and_their_patients(stacks: Path) -> None:
    lines = ["image,label,class,Mouse no."]
    for number, name in enumerate(NAMES):
        for line in Path(f"{name}.csv").read_text().splitlines()[1:]:
            lines.append(f"{name}.ome.tif,{line},{number // 2}")
    Path("all.csv").write_text("\n".join(lines))
    nephros.prepare(paths(), "cells.npz", mask="{stem}_mask.tif", classes="all.csv")
    with np.load("cells.npz") as arrays:
        assert set(zip(arrays["stack"].tolist(), arrays["mouse_no"].tolist(), strict=True)) == {
            (name, str(number // 2)) for number, name in enumerate(NAMES)
        }
    dataset = nephros.load_dataset("cells.npz")
    assert dataset.provenance.n_groups == 2
    assert any("the array mouse_no" in warning for warning in dataset.warnings)
    with pytest.raises(FileError, match="2 groups"):
        nephros.load_dataset("cells.npz", groups="Mouse no.")


def test_masks_that_a_wildcard_names_too_are_left_out(stacks: Path) -> None:
    result = nephros.prepare(sorted(map(str, stacks.glob("*.tif"))), "cells.npz", mask="{stem}_mask.tif")
    assert len(result.stacks) == 4
    assert "4 in all" in result.notes[0]


def test_stacks_of_one_name_are_told_apart_by_their_folders(stacks: Path) -> None:
    for mouse in ("m1", "m2"):
        (stacks / mouse).mkdir()
        write_stack(stacks / mouse, "stack", seed=int(mouse[1]) + 9)
    for pattern, expected in (("{patient}", "stack"), ("s{patient}", "tack"), ("{patient}.ome.tif", "stack")):
        assert find_stack_files(["m1/stack.ome.tif"], patient=pattern)[0][0].patient == expected
    files, notes = find_stack_files(["m1/stack.ome.tif", "m2/stack.ome.tif"], "{stem}_mask.tif", None, "{patient}/*")
    assert [(file.name, file.patient) for file in files] == [("m1/stack", "m1"), ("m2/stack", "m2")]
    assert [file.mask for file in files] == [stacks / mouse / "stack_mask.tif" for mouse in ("m1", "m2")]
    assert len(notes) == 1


def test_one_table_tells_stacks_of_one_name_by_their_folders(stacks: Path) -> None:
    lines = ["stack,id,class"]
    for number, mouse in enumerate(("m1", "m2")):
        (stacks / mouse).mkdir()
        write_stack(stacks / mouse, "stack", seed=number + 9)
        for line in Path(mouse, "stack.csv").read_text().splitlines()[1:]:
            nucleus_id, name = line.split(",")
            lines.append(f"{mouse}/stack.ome.tif,{nucleus_id},{name and mouse + name}")
    Path("all.csv").write_text("\n".join(lines))
    two = ["m1/stack.ome.tif", "m2/stack.ome.tif"]
    nephros.prepare(two, "cells.npz", mask="{stem}_mask.tif", classes="all.csv")
    with np.load("cells.npz") as arrays:
        rows = list(zip(arrays["stack"].tolist(), arrays["ids"].tolist(), arrays["labels"].tolist(), strict=True))
    expected = [(stack, i, "" if i % 5 == 0 else stack[:2] + ("ring", "disc")[i % 2]) for stack, i, _ in rows]
    assert rows == expected
    Path("all.csv").write_text("\n".join(lines).replace("m1/", "").replace("m2/", ""))
    with pytest.raises(FileError, match="m1/stack and m2/stack"):
        nephros.prepare(two, "other.npz", mask="{stem}_mask.tif", classes="all.csv")


def test_the_table_of_another_stack_is_refused(stacks: Path) -> None:
    table = Path("P1_K2.csv")
    table.write_text("\n".join(f"{line},P1_K2" for line in table.read_text().splitlines()).replace("P1_K2", "stack", 1))
    before = sorted(stacks.rglob("*"))
    with pytest.raises(FileError, match=r"P1_K2, and the stack is P1_K1\.ome\.tif"):
        nephros.prepare("P1_K1.ome.tif", "cells.npz", mask="P1_K1_mask.tif", classes=table)
    assert sorted(stacks.rglob("*")) == before
    result = nephros.prepare(paths(NAMES[1:2]), "cells.npz", mask="P1_K2_mask.tif", classes=table)
    assert result.notes == ()


def test_differences_between_stacks_and_lonely_classes_are_in_the_notes(stacks: Path) -> None:
    write_stack(stacks, "other", 7, PhysicalSizeX=0.45)
    stack = tifffile.imread("P1_K2.ome.tif")
    tifffile.imwrite("P1_K2.ome.tif", np.stack([stack, stack // 2], axis=1), metadata={**VOXELS, "axes": "ZCYX"})
    Path("other.csv").write_text(Path("other.csv").read_text().replace("disc", "rod"))
    result = nephros.prepare([*paths(NAMES[:2]), "other.ome.tif"], "cells.npz", channel=0, **PATTERNS)
    channels, voxel_sizes, classes = result.notes
    assert "P1_K1 and other: 1; P1_K2: 2" in channels
    assert "0.45" in voxel_sizes
    assert "rod in other" in classes


def test_the_channel_may_be_named_where_its_number_differs(stacks: Path) -> None:
    for name, channels in (("P1_K1", ["DNA", "GFP"]), ("P1_K2", ["GFP", "DNA"])):
        nuclei = tifffile.imread(f"{name}.ome.tif")
        planes = [nuclei if channel == "DNA" else np.zeros_like(nuclei) for channel in channels]
        metadata = {**VOXELS, "axes": "ZCYX", "Channel": {"Name": channels}}
        tifffile.imwrite(f"{name}.ome.tif", np.stack(planes, axis=1), metadata=metadata)
    result = nephros.prepare(paths(NAMES[:2]), "cells.npz", channel="DNA", **PATTERNS)
    assert [stack.stack.channel for stack in result.stacks] == [0, 1]
    with pytest.raises(InvalidArgument) as caught:
        nephros.prepare(paths(NAMES[:2]), "other.npz", channel="RNA", **PATTERNS)
    assert caught.value.parameter == "channel"


def test_without_masks_each_stack_gets_one(stacks: Path) -> None:
    result = nephros.prepare(paths(NAMES[:2]), "cells.npz")
    names = [path.name for path in result.paths]
    assert names == ["cells.csv", "cells.json", "cells.P1_K1.mask.tif", "cells.P1_K2.mask.tif", "cells.npz"]
    assert all(path.is_file() for path in result.paths)
    assert result.stacks[1].mask.path == str(result.paths[3])


@pytest.mark.parametrize(
    ("arguments", "error", "parts"),
    [
        ({"stack": []}, InvalidArgument, ["`stack`"]),
        ({"stack": ["P1_K1.ome.tif", "./P1_K1.ome.tif"]}, InvalidArgument, ["given once"]),
        ({"stack": ["P1_K1.ome.tif", "P1_K9.ome.tif"]}, FileError, ["P1_K9.ome.tif", "Did you mean"]),
        ({"mask": "P1_K1_mask.tif"}, InvalidArgument, ["`mask`", "{stem}"]),
        ({"mask": "{stem}_labels.tif"}, FileError, ["P1_K1_labels.tif"]),
        ({"mask": "{stem}*"}, FileError, ["several files"]),
        ({"mask": "{name}_mask.tif"}, InvalidArgument, ["{stem}"]),
        ({"classes": "{stem}_cells.csv"}, FileError, ["P1_K1_cells.csv"]),
        ({"classes": "P1_K1.csv"}, FileError, ["P1_K1.csv", "column stack"]),
        ({"patient": "{patient}_x*"}, InvalidArgument, ["`patient`"]),
        ({"patient": "{patient}_{patient}"}, InvalidArgument, ["`patient`"]),
        ({"channel": 1}, InvalidArgument, ["`channel`"]),
        ({"id_column": "Nucleus"}, InvalidArgument, ["Nucleus", "Label, Class"]),
        ({"out": "P1_K1.npz"}, FileError, ["P1_K1.csv is an input"]),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(
    arguments: dict[str, Any], error: type[NephrosError], parts: list[str], stacks: Path
) -> None:
    before = sorted(stacks.rglob("*"))
    with pytest.raises(error) as caught:
        nephros.prepare(**{"stack": paths(), "out": "cells.npz", **PATTERNS, **arguments})
    assert all(part in str(caught.value) for part in parts), str(caught.value)
    assert sorted(stacks.rglob("*")) == before


def test_the_same_mask_for_two_stacks_is_refused(stacks: Path) -> None:
    shutil.copy("P1_K1.ome.tif", "P1_K1.tif")
    with pytest.raises(InvalidArgument) as caught:
        nephros.prepare(["P1_K1.ome.tif", "P1_K1.tif"], "cells.npz", mask="{stem}_mask.tif")
    assert caught.value.parameter == "mask"


def test_a_stack_that_fails_leaves_nothing_of_the_others(stacks: Path) -> None:
    tifffile.imwrite("P3_K4_mask.tif", np.zeros((9, 80, 90), np.uint16), photometric="minisblack")
    before = sorted(stacks.rglob("*"))
    with pytest.raises(FileError, match="P3_K4_mask"):
        nephros.prepare(paths(), "cells.npz", **PATTERNS)
    assert sorted(stacks.rglob("*")) == before


def test_the_command_prints_a_row_for_each_stack(stacks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["data", "prepare", *paths(), "--mask", "{stem}_mask.tif", "--classes", "{stem}.csv", "--out", "cells.npz"]
    status, out, err = run_cli(argv, capsys)
    assert status == 0, err
    assert all(name in out for name in NAMES)
    assert "4 stacks" in out
