"""`nephros data prepare` and `nephros data overlay` from the command line, on made-up tissue."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import nephros
from nephros.cli import main
from nephros.data.cell_image import resize
from nephros.data.load import load
from nephros.microscopy.synthetic import Tissue

Capture = pytest.CaptureFixture[str]
SIZE = ["--voxel-size", "1,0.5,0.5"]


def _run(words: list[str], capsys: Capture) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(words)
    out, err = capsys.readouterr()
    return int(caught.value.code or 0), out, err


def _refused(words: list[str], capsys: Capture, folder: Path, *expected: str) -> None:
    """Assert one plain line on stderr with all of `expected`, status 2, and nothing new in `folder`."""
    before = sorted(folder.rglob("*"))
    status, _, err = _run(words, capsys)
    assert status == 2, err
    assert len(err.strip().splitlines()) == 1, err
    for part in expected:
        assert part in err, err
    assert sorted(folder.rglob("*")) == before


@pytest.fixture
def tissue() -> Tissue:
    return Tissue((16, 140, 120))


@pytest.fixture
def stack(tmp_path: Path, tissue: Tissue) -> Path:
    pixels, marks = zip(*tissue.slices(), strict=True)
    tifffile.imwrite(tmp_path / "stack.tif", np.stack(pixels), photometric="minisblack", metadata={"axes": "ZYX"})
    tifffile.imwrite(
        tmp_path / "mask.tif", np.stack(marks).astype(np.uint16), photometric="minisblack", compression="zlib"
    )
    return tmp_path / "stack.tif"


def _words(stack: Path, *more: str) -> list[str]:
    folder = stack.parent
    mask, out = str(folder / "mask.tif"), str(folder / "out" / "cells.npz")
    return ["data", "prepare", str(stack), "--labels", mask, "--out", out, *SIZE, *more]


def test_pictures_table_and_notes(stack: Path, tissue: Tissue, capsys: Capture) -> None:
    status, out, err = _run(_words(stack), capsys)
    assert status == 0, err
    folder = stack.parent / "out"
    assert sorted(path.name for path in folder.iterdir()) == ["cells.csv", "cells.json", "cells.npz"]
    about = json.loads((folder / "cells.json").read_text())
    with np.load(folder / "cells.npz", allow_pickle=False) as arrays, (folder / "cells.csv").open() as table:
        images, ids = arrays["images"], arrays["ids"]
        rows = list(csv.DictReader(table))
    pixels, marks = (np.stack(part) for part in zip(*tissue.slices(), strict=True))
    numbers = np.unique(marks)[1:]
    assert images.shape == (len(numbers), 28, 28)
    assert images.dtype == np.uint8
    assert ids.tolist() == numbers.tolist() == [int(row["id"]) for row in rows]
    assert [int(row["index"]) for row in rows] == list(range(len(rows)))
    black, white = about["brightness"]["black"], about["brightness"]["white"]
    for image, row in zip(images, rows, strict=True):
        where = np.argwhere(marks == int(row["id"]))
        centre = where.mean(axis=0)
        assert np.allclose([float(row[axis]) for axis in "zyx"], centre, atol=0.006)
        assert np.allclose([float(row[f"{axis}_um"]) for axis in "zyx"], centre * (1, 0.5, 0.5), atol=0.001)
        assert int(row["volume_voxels"]) == len(where)
        assert float(row["volume_um3"]) == pytest.approx(len(where) * 0.25)
        if row["border"] == "false":
            z, y, x = (round(c - (side - 1) / 2) for c, side in zip(centre, (7, 32, 32), strict=True))
            window = pixels[z : z + 7, y : y + 32, x : x + 32].max(axis=0).astype(np.float64)
            eight = np.rint(np.clip((window - black) * 255 / (white - black), 0, 255)).astype(np.uint8)
            assert np.abs(image.astype(int) - resize(eight[None])[0]).max() <= 1
    assert about["nuclei"]["border"] == sum(row["border"] == "true" for row in rows) > 0
    assert about["brightness"]["pixel_mean"] == pytest.approx(images.mean() / 255, abs=1e-6)
    assert about["brightness"]["pixel_mean"] == pytest.approx(0.102, abs=0.02)
    assert about["voxel_size_from"] == "given with --voxel-size"
    assert about["training_voxel_size_from"].startswith("assumed")
    assert about["mask"]["made_by"] == "given"
    for words in (f"nuclei: {len(ids)}", "assumed", "percentile", "reached: mean", "cells.npz"):
        assert words in out


def test_border_nuclei_can_be_left_out(stack: Path, capsys: Capture) -> None:
    assert _run(_words(stack, "--drop-border"), capsys)[0] == 0
    about = json.loads((stack.parent / "out" / "cells.json").read_text())
    with np.load(stack.parent / "out" / "cells.npz", allow_pickle=False) as arrays:
        kept = len(arrays["images"])
    assert kept == about["nuclei"]["kept"] == about["nuclei"]["marked"] - about["nuclei"]["border"]
    assert "true" not in (stack.parent / "out" / "cells.csv").read_text()


def test_without_a_mask_one_is_made_and_called_rough(stack: Path, tissue: Tissue, capsys: Capture) -> None:
    out = stack.parent / "cells.npz"
    words = ["data", "prepare", str(stack), "--out", str(out), *SIZE]
    status, said, _ = _run(words, capsys)
    assert status == 0
    assert "rough" in said
    about = json.loads(out.with_suffix(".json").read_text())
    assert about["mask"]["rough"] is True
    assert about["nuclei"]["marked"] == pytest.approx(len(tissue.kinds), rel=0.15)
    mask = tifffile.imread(out.with_suffix(".mask.tif"))
    assert mask.shape == (16, 140, 120)
    assert about["mask"]["path"] == str(out.with_suffix(".mask.tif"))
    assert about["mask"]["sha256"] == nephros.prepare(
        stack, stack.parent / "again.npz", labels=out.with_suffix(".mask.tif"), voxel_size=(1, 0.5, 0.5)
    ).about["mask"]["sha256"]  # fmt: skip
    _refused(words, capsys, stack.parent, "is there already")


@pytest.mark.slow
def test_own_classes_train_a_model(stack: Path, tissue: Tissue, capsys: Capture, tmp_path: Path) -> None:
    lines = ["id,class", *(f"{row + 1},kind {row % 2}" for row in range(len(tissue.kinds) - 3))]
    (tmp_path / "classes.csv").write_text("\n".join(lines))
    assert _run(_words(stack, "--classes", str(tmp_path / "classes.csv")), capsys)[0] == 0
    npz = tmp_path / "out" / "cells.npz"
    dataset = load(npz)
    assert dataset.class_names == ("kind 0", "kind 1")
    with np.load(npz, allow_pickle=False) as arrays:
        assert sum(len(split) for _, split in dataset.splits()) == len(arrays["images"]) - 3
    run = tmp_path / "run"
    tiny = ["--epochs", "1", "--batch_size", "16", "--device", "cpu"]
    status, _, err = _run(["train", "course-3", "--data", str(npz), *tiny, "--out", str(run)], capsys)
    assert status == 0, err
    assert (run / "report.html").exists()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("id,class\n1,a\n999999,b\n", "names nucleus 999999"),
        ("number,kind\n1,a\n", "columns id"),
        ("id,class\nx,a\n", "line 2 has the id 'x'"),
        ("id,class\n1,a\n1,b\n", "a second class"),
        ("id,class\n1,a\n2,a\n3,a\n", "at least two"),
        ("id,class\n1,a\n2,a\n3,a\n4,b\n", "1 nuclei of 'b'"),
    ],
)
def test_classes_that_can_not_be(text: str, sentence: str, stack: Path, capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text(text)
    (tmp_path / "out").mkdir()
    _refused(_words(stack, "--classes", str(tmp_path / "classes.csv")), capsys, tmp_path, sentence)


def test_bad_words_are_one_sentence(stack: Path, capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    unsized = [word for word in _words(stack) if word not in SIZE]
    _refused(unsized, capsys, tmp_path, "--voxel-size Z,Y,X", "--no-resample")
    _refused(_words(stack, "--channel", "3"), capsys, tmp_path, "--channel is 3")
    _refused(_words(stack, "--percentiles", "99,1"), capsys, tmp_path, "--percentiles is 99,1")
    _refused(_words(stack, "--percentiles", "1,99", "--black", "3"), capsys, tmp_path, "both given")
    _refused(_words(stack, "--black", "9", "--white", "3"), capsys, tmp_path, "white must be the brighter one")
    _refused(_words(stack, "--seed", "-1"), capsys, tmp_path, "--seed is -1")
    _refused(_words(stack, "--training-voxel-size", "1,1"), capsys, tmp_path, "--training-voxel-size is 1,1")
    _refused(_words(stack, "--chanel", "0"), capsys, tmp_path, "Did you mean '--channel'?")
    wrong = [word if not word.endswith(".npz") else word[:-4] for word in _words(stack)]
    _refused(wrong, capsys, tmp_path, "must end in .npz")
    inside = [word if not word.endswith(".npz") else str(stack / "cells.npz") for word in _words(stack)]
    _refused(inside, capsys, tmp_path, "can't be written")
    own = ["data", "prepare", str(stack), "--labels", str(tmp_path / "cells.csv"), "--out", str(tmp_path / "cells.npz")]
    _refused(own, capsys, tmp_path, "is an input")
    _refused(
        ["data", "prepare", str(tmp_path / "stak.tif"), "--out", "x.npz"], capsys, tmp_path, "Did you mean 'stack.tif'?"
    )


def test_no_resample_takes_voxels_as_they_are_and_says_so(stack: Path, capsys: Capture) -> None:
    words = [word for word in _words(stack) if word not in SIZE]
    status, out, _ = _run([*words, "--no-resample"], capsys)
    assert status == 0
    assert "voxel size is unknown" in out
    with (stack.parent / "out" / "cells.csv").open() as table:
        assert next(csv.DictReader(table))["volume_um3"] == ""


def test_a_wrong_voxel_size_is_noticed(stack: Path, capsys: Capture) -> None:
    words = [*_words(stack)[:-2], "--voxel-size", "1.9,0.95,0.95"]
    status, out, _ = _run(words, capsys)
    assert status == 0
    assert "times larger" in out
    assert "(--voxel-size and mask of `nephros data prepare`)" in out


def _predicted(stack: Path, names: list[str]) -> Path:
    """Write what `nephros predict` would, the cells of train, val and test again behind those of `images`."""
    out = stack.parent / "out"
    with (out / "cells.csv").open() as table:
        rows = list(csv.DictReader(table))
    path = stack.parent / "predictions.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "split", "index", "label", "class_name", "unfamiliar"])
        for row in rows:
            label = int(row["id"]) % len(names)
            writer.writerow([out / "cells.npz", "", row["index"], label, names[label], int(row["id"]) % 7 == 0])
        writer.writerow([out / "cells.npz", "train", 0, 0, names[0], False])
    return path


def test_an_overlay_of_predictions(stack: Path, capsys: Capture) -> None:
    assert _run(_words(stack), capsys)[0] == 0
    predictions, notes = _predicted(stack, ["Leukocytes", "Podocytes"]), stack.parent / "out" / "cells.json"
    for name in ("a.png", "b.tif"):
        picture = stack.parent / name
        words = ["data", "overlay", str(notes), "--predictions", str(predictions), "--out", str(picture)]
        status, out, err = _run(words, capsys)
        assert status == 0, err
        assert str(picture) in out
        with Image.open(picture) as image:
            assert image.mode == "RGB"
            assert min(image.size) > 700
    with Image.open(stack.parent / "a.png") as one, Image.open(stack.parent / "b.tif") as two:
        assert np.array_equal(np.asarray(one), np.asarray(two))


def test_overlays_that_can_not_be(stack: Path, capsys: Capture, tmp_path: Path) -> None:
    assert _run(_words(stack), capsys)[0] == 0
    good, notes = _predicted(stack, ["a", "b"]), tmp_path / "out" / "cells.json"
    short, other = tmp_path / "short.csv", tmp_path / "other.csv"
    short.write_text("\n".join(good.read_text().splitlines()[:5]))
    other.write_text("a,b\n1,2\n")

    def refused(notes: Path, predictions: Path, out: str, *expected: str) -> None:
        words = ["data", "overlay", str(notes), "--predictions", str(predictions), "--out", str(tmp_path / out)]
        _refused(words, capsys, tmp_path, *expected)

    refused(notes, short, "a.png", "short.csv lacks")
    refused(notes, other, "a.png", "other.csv doesn't fit")
    refused(notes, tmp_path / "gone.csv", "a.png", "can't be read")
    refused(notes, good, "a.gif", "must end in .png or .tif")
    refused(tmp_path / "gone.json", good, "a.png", "can't be read")
    refused(good, good, "a.png", "is not a FILE.json")
    with stack.open("ab") as file:
        file.write(b"\0")
    refused(notes, good, "a.png", "has changed since")


@pytest.mark.parametrize("kind", ["float", "8 bits", "big-endian", "ome with sizes", "one slice"])
def test_stacks_of_other_kinds(kind: str, stack: Path, capsys: Capture, tmp_path: Path) -> None:
    volume, mask = tifffile.imread(stack), tifffile.imread(tmp_path / "mask.tif")
    sizes: list[str] = SIZE
    how: dict[str, Any] = {"photometric": "minisblack"}
    if kind == "float":
        volume = volume.astype(np.float32) / 65535 - 0.01
    elif kind == "8 bits":
        volume = (volume // 32).clip(0, 255).astype(np.uint8)
    elif kind == "big-endian":
        how["byteorder"] = ">"
    elif kind == "ome with sizes":
        how["metadata"] = {"axes": "ZYX", "PhysicalSizeZ": 1, "PhysicalSizeY": 0.5, "PhysicalSizeX": 0.5}
        sizes = []
    else:
        volume, mask = volume[5], mask[5]
        tifffile.imwrite(tmp_path / "mask.tif", mask, photometric="minisblack")
    path = tmp_path / "other.ome.tif"
    tifffile.imwrite(path, volume, ome=kind.startswith("ome"), **how)
    words = [
        "data",
        "prepare",
        str(path),
        "--labels",
        str(tmp_path / "mask.tif"),
        "--out",
        str(tmp_path / "other.npz"),
        *sizes,
    ]
    status, out, err = _run(words, capsys)
    assert status == 0, err
    about = json.loads((tmp_path / "other.json").read_text())
    assert about["brightness"]["pixel_mean"] == pytest.approx(0.102, abs=0.03)
    assert ("One slice only" in out) == (kind == "one slice")
    if kind == "ome with sizes":
        assert about["voxel_size_from"] == "the file's metadata"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    which=st.sampled_from(["stack.tif", "mask.tif"]),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=5),
)
def test_changed_bytes_give_results_or_one_sentence(
    which: str, changes: list[tuple[float, int]], stack: Path, capsys: Capture, tmp_path: Path
) -> None:
    whole = (tmp_path / which).read_bytes()
    changed = bytearray(whole)
    for k, (place, value) in enumerate(changes):
        changed[int(place * (len(whole) - 1)) if k % 2 else int(place * 400)] = value
    (tmp_path / which).write_bytes(changed)
    try:
        status, _, err = _run(_words(stack), capsys)
    finally:
        (tmp_path / which).write_bytes(whole)
    assert status in (0, 2), err
    assert len(err.strip().splitlines()) == (1 if status else 0), err
    left = sorted(path.name for path in (tmp_path / "out").glob("*"))
    assert left in ([], ["cells.csv", "cells.json", "cells.npz"])


def test_help_and_the_missing_extra(stack: Path, capsys: Capture) -> None:
    status, out, _ = _run(["data", "prepare", "--help"], capsys)
    assert status == 0
    for words in ("border", "watershed", "--voxel-size", "assumed"):
        assert words in out
    assert _run(["data", "overlay", "--help"], capsys)[0] == 0
    probe = (
        "import sys; sys.modules['tifffile'] = None\n"
        f"from nephros.cli import main; main({['data', 'prepare', str(stack), '--out', str(stack.parent / 'x.npz')]!r})"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'nephros[stacks]'" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_from_stack_to_overlay_with_the_model_in_the_box(stack: Path, capsys: Capture) -> None:
    assert _run(_words(stack), capsys)[0] == 0
    folder = stack.parent / "out"
    words = ["predict", str(folder / "cells.npz"), "--out", str(folder / "answers.csv"), "--overlay"]
    status, _, err = _run([*words, str(folder / "tissue.png")], capsys)
    assert status == 0, err
    assert str(folder / "tissue.png") in err
    with Image.open(folder / "tissue.png") as picture:
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 50
    with (folder / "answers.csv").open() as table, np.load(folder / "cells.npz", allow_pickle=False) as arrays:
        assert len(list(csv.DictReader(table))) == len(arrays["images"])


def test_an_overlay_of_a_stack_that_has_gone_loses_no_answers(stack: Path, capsys: Capture) -> None:
    assert _run(_words(stack), capsys)[0] == 0
    folder = stack.parent / "out"
    stack.rename(stack.with_name("moved.tif"))
    words = ["predict", str(folder / "cells.npz"), "--out", str(folder / "answers.csv"), "--overlay"]
    status, _, err = _run([*words, str(folder / "tissue.png")], capsys)
    stack.with_name("moved.tif").rename(stack)
    assert status == 1
    assert (folder / "answers.csv").is_file()
    assert not (folder / "tissue.png").exists()
    assert "for research only" in err
    assert "nephros: no overlay, but all answers: " in err


def test_predict_says_that_nuclei_are_of_another_size(stack: Path, capsys: Capture) -> None:
    assert _run([*_words(stack)[:-2], "--voxel-size", "1.9,0.95,0.95"], capsys)[0] == 0
    status, _, err = _run(["predict", str(stack.parent / "out" / "cells.npz")], capsys)
    assert status == 0
    assert "times larger across than those that the models were trained on" in err


def test_an_overlay_of_other_pictures(stack: Path, tmp_path: Path, capsys: Capture) -> None:
    Image.new("L", (28, 28), 80).save(tmp_path / "cell.png")
    words = ["predict", str(tmp_path / "cell.png"), "--overlay"]
    _refused([*words, str(tmp_path / "x.png")], capsys, tmp_path, "--overlay needs one npz file with the notes")
    _refused([*words, str(tmp_path / "x.gif")], capsys, tmp_path, "x.gif")
