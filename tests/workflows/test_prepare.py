"""`nephros data prepare` and `nephros data overlay` from the command line, on synthetic tissue."""

from __future__ import annotations

import csv
import json
import math
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
from nephros.data.images.input_conversion import InputConversion
from nephros.data.images.transforms import resize_images
from nephros.data.load import load_dataset
from nephros.errors import FileError
from nephros.inference.reader import CellReader
from nephros.microscopy.output_files import OutputFiles
from nephros.microscopy.stack import StackOptions
from nephros.microscopy.synthetic import SyntheticStack

Capture = pytest.CaptureFixture[str]
VOXEL_SIZE_ARGS = ["--voxel-size", "1,0.5,0.5"]


def run_cli(argv: list[str], capsys: Capture) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exc_info:
        main(argv)
    out, err = capsys.readouterr()
    return int(exc_info.value.code or 0), out, err


def assert_usage_error(argv: list[str], capsys: Capture, folder: Path, *expected: str) -> None:
    """Check for one line on stderr with all of `expected`, status 2, and nothing new in `folder`."""
    before = sorted(folder.rglob("*"))
    status, _, err = run_cli(argv, capsys)
    assert status == 2, err
    assert len(err.strip().splitlines()) == 1, err
    for part in expected:
        assert part in err, err
    assert sorted(folder.rglob("*")) == before


@pytest.fixture
def tissue() -> SyntheticStack:
    return SyntheticStack((16, 140, 120))


@pytest.fixture
def stack(tmp_path: Path, tissue: SyntheticStack) -> Path:
    pixels, labels = zip(*tissue.slices(), strict=True)
    tifffile.imwrite(tmp_path / "stack.tif", np.stack(pixels), photometric="minisblack", metadata={"axes": "ZYX"})
    tifffile.imwrite(
        tmp_path / "mask.tif", np.stack(labels).astype(np.uint16), photometric="minisblack", compression="zlib"
    )
    return tmp_path / "stack.tif"


def prepare_args(stack: Path, *extra: str) -> list[str]:
    folder = stack.parent
    mask, out = str(folder / "mask.tif"), str(folder / "out" / "cells.npz")
    return ["data", "prepare", str(stack), "--mask", mask, "--out", out, *VOXEL_SIZE_ARGS, *extra]


def test_images_table_and_metadata_describe_every_nucleus(stack: Path, tissue: SyntheticStack, capsys: Capture) -> None:
    status, out, err = run_cli(prepare_args(stack), capsys)
    assert status == 0, err
    folder = stack.parent / "out"
    assert sorted(path.name for path in folder.iterdir()) == ["cells.csv", "cells.json", "cells.npz"]
    metadata = json.loads((folder / "cells.json").read_text())
    with np.load(folder / "cells.npz", allow_pickle=False) as arrays, (folder / "cells.csv").open() as table:
        images, ids = arrays["images"], arrays["ids"]
        rows = list(csv.DictReader(table))
    pixels, labels = (np.stack(part) for part in zip(*tissue.slices(), strict=True))
    mask_ids = np.unique(labels)[1:]
    assert images.shape == (len(mask_ids), 28, 28)
    assert images.dtype == np.uint8
    assert ids.tolist() == mask_ids.tolist() == [int(row["id"]) for row in rows]
    assert [int(row["index"]) for row in rows] == list(range(len(rows)))
    black, white = metadata["contrast_limits"]["black_level"], metadata["contrast_limits"]["white_level"]
    for image, row in zip(images, rows, strict=True):
        coordinates = np.argwhere(labels == int(row["id"]))
        centroid = coordinates.mean(axis=0)
        assert np.allclose([float(row[axis]) for axis in "zyx"], centroid, atol=0.006)
        assert np.allclose([float(row[f"{axis}_um"]) for axis in "zyx"], centroid * (1, 0.5, 0.5), atol=0.001)
        assert int(row["volume_voxels"]) == len(coordinates)
        assert float(row["volume_um3"]) == pytest.approx(len(coordinates) * 0.25)
        if row["at_border"] == "false":
            z, y, x = (round(c - (side - 1) / 2) for c, side in zip(centroid, (7, 32, 32), strict=True))
            window = pixels[z : z + 7, y : y + 32, x : x + 32].max(axis=0).astype(np.float64)
            expected = np.rint(np.clip((window - black) * 255 / (white - black), 0, 255)).astype(np.uint8)
            assert np.abs(image.astype(int) - resize_images(expected[None])[0]).max() <= 1
    assert metadata["nuclei"]["at_border"] == sum(row["at_border"] == "true" for row in rows) > 0
    assert metadata["contrast_limits"]["pixel_mean"] == pytest.approx(images.mean() / 255, abs=1e-6)
    assert metadata["contrast_limits"]["pixel_mean"] == pytest.approx(0.102, abs=0.02)
    assert metadata["voxel_size_source"] == "voxel_size parameter"
    assert metadata["target_voxel_size_source"].startswith("assumed")
    assert metadata["mask"]["method"] == "user-provided mask"
    assert metadata["format"] == 2
    for text in (f"nuclei: {len(ids)}", "assumed", "percentile", "pixels of the crops: mean", "cells.npz"):
        assert text in out


def test_border_nuclei_can_be_left_out(stack: Path, capsys: Capture) -> None:
    assert run_cli(prepare_args(stack, "--drop-border"), capsys)[0] == 0
    metadata = json.loads((stack.parent / "out" / "cells.json").read_text())
    with np.load(stack.parent / "out" / "cells.npz", allow_pickle=False) as arrays:
        n_images = len(arrays["images"])
    assert n_images == metadata["nuclei"]["kept"] == metadata["nuclei"]["segmented"] - metadata["nuclei"]["at_border"]
    assert "true" not in (stack.parent / "out" / "cells.csv").read_text()


def test_without_a_mask_the_nuclei_are_segmented_automatically(
    stack: Path, tissue: SyntheticStack, capsys: Capture
) -> None:
    out = stack.parent / "cells.npz"
    args = ["data", "prepare", str(stack), "--out", str(out), *VOXEL_SIZE_ARGS]
    status, stdout, _ = run_cli(args, capsys)
    assert status == 0
    assert "automatically" in stdout
    metadata = json.loads(out.with_suffix(".json").read_text())
    assert metadata["mask"]["automatic"] is True
    assert metadata["nuclei"]["segmented"] == pytest.approx(len(tissue.nucleus_types), rel=0.15)
    mask = tifffile.imread(out.with_suffix(".mask.tif"))
    assert mask.shape == (16, 140, 120)
    assert metadata["mask"]["path"] == str(out.with_suffix(".mask.tif"))
    assert metadata["mask"]["sha256"] == nephros.prepare(
        stack, stack.parent / "again.npz", mask=out.with_suffix(".mask.tif"), voxel_size=(1, 0.5, 0.5)
    ).metadata.mask.sha256  # fmt: skip
    assert_usage_error(args, capsys, stack.parent, "exists already")


def test_small_nuclei_are_left_out(stack: Path, capsys: Capture, tmp_path: Path) -> None:
    every = nephros.prepare(stack, tmp_path / "all.npz", mask=tmp_path / "mask.tif", voxel_size=(1, 0.5, 0.5))
    with (tmp_path / "all.csv").open() as table:
        volumes = [float(row["volume_um3"]) for row in csv.DictReader(table)]
    limit = sorted(volumes)[len(volumes) // 2]
    status, out, err = run_cli(prepare_args(stack, "--min-volume", str(limit)), capsys)
    assert status == 0, err
    assert f"of them smaller than {limit:g} cubic micrometers" in out
    with (tmp_path / "out" / "cells.csv").open() as table:
        kept = [float(row["volume_um3"]) for row in csv.DictReader(table)]
    assert kept == [volume for volume in volumes if volume >= limit]
    metadata = json.loads((tmp_path / "out" / "cells.json").read_text())
    n_small = len(volumes) - len(kept)
    assert (metadata["nuclei"]["too_small"], metadata["nuclei"]["dropped"]) == (n_small, n_small)
    assert (metadata["min_volume"], metadata["min_volume_unit"]) == (limit, "cubic micrometers")
    assert every.metadata.min_volume is None
    in_voxels = nephros.prepare(
        stack, tmp_path / "voxels.npz", mask=tmp_path / "mask.tif", resample=False, min_volume=4 * limit
    )
    assert in_voxels.metadata.min_volume_unit == "voxels"
    assert len(in_voxels.ids) == len(kept)  # a voxel has a quarter of a cubic micrometer


@pytest.mark.parametrize(
    ("value", "expected"), [("0", "--min-volume is 0"), ("nan", "--min-volume is nan"), ("1e9", "largest")]
)
def test_unusable_least_volumes_are_refused(
    value: str, expected: str, stack: Path, capsys: Capture, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    assert_usage_error(prepare_args(stack, "--min-volume", value), capsys, tmp_path, expected)


@pytest.mark.slow
def test_class_labels_train_a_model(stack: Path, tissue: SyntheticStack, capsys: Capture, tmp_path: Path) -> None:
    lines = ["id,class", *(f"{row + 1},kind {row % 2}" for row in range(len(tissue.nucleus_types) - 3))]
    (tmp_path / "classes.csv").write_text("\n".join(lines))
    assert run_cli(prepare_args(stack, "--classes", str(tmp_path / "classes.csv")), capsys)[0] == 0
    npz = tmp_path / "out" / "cells.npz"
    dataset = load_dataset(npz)
    assert dataset.class_names == ("kind 0", "kind 1")
    with np.load(npz, allow_pickle=False) as arrays:
        assert sum(len(split) for _, split in dataset.splits()) == len(arrays["images"]) - 3
    run = tmp_path / "run"
    tiny = ["--epochs", "1", "--batch_size", "16", "--device", "cpu"]
    status, _, err = run_cli(["train", "course-3", "--data", str(npz), *tiny, "--out", str(run)], capsys)
    assert status == 0, err
    assert (run / "report.html").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("id,class\n1,a\n999999,b\n", "nucleus 999999"),
        ("number,kind\n1,a\n", "the columns number, kind"),
        ("id,class\nx,a\n", "line 2 has the id 'x'"),
        ("id,class\n1,a\n1,b\n", "a second class"),
        ("id,class\n1,a\n2,a\n3,a\n", "at least two"),
        ("id,class\n1,a\n2,a\n3,a\n4,b\n", "too few nuclei of 'b', 1;"),
    ],
)
def test_invalid_class_labels_are_refused(
    text: str, expected: str, stack: Path, capsys: Capture, tmp_path: Path
) -> None:
    (tmp_path / "classes.csv").write_text(text)
    (tmp_path / "out").mkdir()
    assert_usage_error(prepare_args(stack, "--classes", str(tmp_path / "classes.csv")), capsys, tmp_path, expected)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--channel", "3"], ["--channel is 3"]),
        (["--percentiles", "99,1"], ["--percentiles is 99,1"]),
        (["--percentiles", "1,99,100"], ["--percentiles is 1,99,100"]),
        (["--percentiles", "1,99", "--black-level", "3"], ["--percentiles is 1,99", "--black-level"]),
        (["--black-level", "9", "--white-level", "3"], ["--white-level is 3", "9"]),
        (["--id-column", "id"], ["--id-column is id", "--classes"]),
        (["--target-voxel-size", "1,1"], ["--target-voxel-size is 1,1"]),
        (["--target-voxel-size", "1,1,0"], ["--target-voxel-size is 1,1,0"]),
        (["--chanel", "0"], ["Did you mean '--channel'?"]),
    ],
)
def test_invalid_options_are_refused_in_one_line(
    options: list[str], expected: list[str], stack: Path, capsys: Capture, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    assert_usage_error(prepare_args(stack, *options), capsys, tmp_path, *expected)


def test_an_unknown_voxel_size_names_both_ways_out(stack: Path, capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    args = [arg for arg in prepare_args(stack) if arg not in VOXEL_SIZE_ARGS]
    assert_usage_error(args, capsys, tmp_path, "stack.tif", "--voxel-size", "--no-resample")


def test_outputs_that_can_not_be_written_are_refused(stack: Path, capsys: Capture, tmp_path: Path) -> None:
    def assert_output_error(out: Path, *expected: str, mask: Path = tmp_path / "mask.tif") -> None:
        args = ["data", "prepare", str(stack), "--mask", str(mask), "--out", str(out), *VOXEL_SIZE_ARGS]
        assert_usage_error(args, capsys, tmp_path, *expected)

    assert_output_error(tmp_path / "cells", "--out is", ".npz")
    assert_output_error(stack / "cells.npz", "can't be written")
    assert_output_error(tmp_path / "cells.npz", "cells.csv is an input", mask=tmp_path / "cells.csv")


def test_a_misspelled_stack_suggests_its_neighbor(stack: Path, capsys: Capture, tmp_path: Path) -> None:
    args = ["data", "prepare", str(tmp_path / "stak.tif"), "--out", "x.npz"]
    assert_usage_error(args, capsys, tmp_path, "Did you mean 'stack.tif'?")


def test_no_resample_uses_voxels_as_they_are_and_warns(stack: Path, capsys: Capture) -> None:
    args = [word for word in prepare_args(stack) if word not in VOXEL_SIZE_ARGS]
    status, out, _ = run_cli([*args, "--no-resample"], capsys)
    assert status == 0
    assert "voxel size is unknown" in out
    with (stack.parent / "out" / "cells.csv").open() as table:
        assert next(csv.DictReader(table))["volume_um3"] == ""


def test_a_wrong_voxel_size_causes_a_warning(stack: Path, capsys: Capture) -> None:
    args = [*prepare_args(stack)[:-2], "--voxel-size", "1.9,0.95,0.95"]
    status, out, _ = run_cli(args, capsys)
    assert status == 0
    assert "times larger" in out
    assert "--voxel-size and --mask" in out


def write_predictions(stack: Path, names: list[str]) -> Path:
    """Write what `nephros predict` would, with a cell of train after those of `images`."""
    out = stack.parent / "out"
    with (out / "cells.csv").open() as table:
        rows = list(csv.DictReader(table))
    path = stack.parent / "predictions.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "split", "index", "label", "class_name", "is_ood"])
        for row in rows:
            label = int(row["id"]) % len(names)
            writer.writerow([out / "cells.npz", "", row["index"], label, names[label], int(row["id"]) % 7 == 0])
        writer.writerow([out / "cells.npz", "train", 0, 0, names[0], False])
    return path


def test_overlay_paints_predictions_as_png_and_tiff(stack: Path, capsys: Capture) -> None:
    assert run_cli(prepare_args(stack), capsys)[0] == 0
    predictions, metadata_path = (
        write_predictions(stack, ["Leukocytes", "Podocytes"]),
        stack.parent / "out" / "cells.json",
    )
    for name in ("a.png", "b.tif"):
        image_path = stack.parent / name
        args = ["data", "overlay", str(metadata_path), "--predictions", str(predictions), "--out", str(image_path)]
        status, out, err = run_cli(args, capsys)
        assert status == 0, err
        assert str(image_path) in out
        with Image.open(image_path) as image:
            assert image.mode == "RGB"
            assert min(image.size) > 700
    with Image.open(stack.parent / "a.png") as png, Image.open(stack.parent / "b.tif") as tif:
        assert np.array_equal(np.asarray(png), np.asarray(tif))


def test_overlay_refuses_files_that_do_not_fit(stack: Path, capsys: Capture, tmp_path: Path) -> None:
    assert run_cli(prepare_args(stack), capsys)[0] == 0
    good, metadata_path = write_predictions(stack, ["a", "b"]), tmp_path / "out" / "cells.json"
    short, other = tmp_path / "short.csv", tmp_path / "other.csv"
    short.write_text("\n".join(good.read_text().splitlines()[:5]))
    other.write_text("a,b\n1,2\n")

    def assert_overlay_error(metadata_path: Path, predictions: Path, out: str, *expected: str) -> None:
        args = ["data", "overlay", str(metadata_path), "--predictions", str(predictions), "--out", str(tmp_path / out)]
        assert_usage_error(args, capsys, tmp_path, *expected)

    assert_overlay_error(metadata_path, short, "a.png", "short.csv has 4 rows for cells.npz, which has")
    assert_overlay_error(metadata_path, other, "a.png", "other.csv", "can't be read")
    for index, label in (
        ("x", "0"),
        ("1", "9" * 30),
        ("1", "9" * 5000),
        ("9" * 30, "1"),
        ("-1", "0"),
        ("1", "-1"),
        ("", ""),
    ):
        other.write_text(f"file,index,label,class_name\ncells.npz,{index},{label},a\n")
        assert_overlay_error(metadata_path, other, "a.png", "other.csv")
    for content in (b"", b"\xff\xfe", b"index,label\n0,0\0", b'index,label\n"' + b"x" * 200_000):
        other.write_bytes(content)
        assert_overlay_error(metadata_path, other, "a.png", "other.csv")
    assert_overlay_error(metadata_path, tmp_path / "gone.csv", "a.png", "can't be read")
    assert_overlay_error(metadata_path, good, "a.gif", "--out is", ".png or .tif")
    assert_overlay_error(tmp_path / "gone.json", good, "a.png", "can't be read")
    assert_overlay_error(good, good, "a.png", "predictions.csv can't be read")
    with stack.open("ab") as file:
        file.write(b"\0")
    assert_overlay_error(metadata_path, good, "a.png", "has changed since")


@pytest.mark.parametrize("kind", ["float", "8 bits", "big-endian", "ome with sizes", "one slice"])
def test_other_kinds_of_stacks_are_prepared(kind: str, stack: Path, capsys: Capture, tmp_path: Path) -> None:
    volume, mask = tifffile.imread(stack), tifffile.imread(tmp_path / "mask.tif")
    sizes: list[str] = VOXEL_SIZE_ARGS
    imwrite_options: dict[str, Any] = {"photometric": "minisblack"}
    if kind == "float":
        volume = volume.astype(np.float32) / 65535 - 0.01
    elif kind == "8 bits":
        volume = (volume // 32).clip(0, 255).astype(np.uint8)
    elif kind == "big-endian":
        imwrite_options["byteorder"] = ">"
    elif kind == "ome with sizes":
        imwrite_options["metadata"] = {"axes": "ZYX", "PhysicalSizeZ": 1, "PhysicalSizeY": 0.5, "PhysicalSizeX": 0.5}
        sizes = []
    else:
        volume, mask = volume[5], mask[5]
        tifffile.imwrite(tmp_path / "mask.tif", mask, photometric="minisblack")
    path = tmp_path / "other.ome.tif"
    tifffile.imwrite(path, volume, ome=kind.startswith("ome"), **imwrite_options)
    args = [
        "data",
        "prepare",
        str(path),
        "--mask",
        str(tmp_path / "mask.tif"),
        "--out",
        str(tmp_path / "other.npz"),
        *sizes,
    ]
    status, out, err = run_cli(args, capsys)
    assert status == 0, err
    metadata = json.loads((tmp_path / "other.json").read_text())
    assert metadata["contrast_limits"]["pixel_mean"] == pytest.approx(0.102, abs=0.03)
    assert ("one slice only" in out) == (kind == "one slice")
    if kind == "ome with sizes":
        assert metadata["voxel_size_source"] == "file metadata"


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    which=st.sampled_from(["stack.tif", "mask.tif"]),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=5),
)
def test_changed_bytes_give_results_or_one_line(
    which: str, changes: list[tuple[float, int]], stack: Path, capsys: Capture, tmp_path: Path
) -> None:
    original = (tmp_path / which).read_bytes()
    changed = bytearray(original)
    for k, (position, value) in enumerate(changes):
        changed[int(position * (len(original) - 1)) if k % 2 else int(position * 400)] = value
    (tmp_path / which).write_bytes(changed)
    try:
        status, _, err = run_cli(prepare_args(stack), capsys)
    finally:
        (tmp_path / which).write_bytes(original)
    assert status in (0, 2), err
    assert len(err.strip().splitlines()) == (1 if status else 0), err
    remaining = sorted(path.name for path in (tmp_path / "out").glob("*"))
    assert remaining in ([], ["cells.csv", "cells.json", "cells.npz"])


def test_help_names_options_and_a_missing_extra_is_named(stack: Path, capsys: Capture) -> None:
    status, out, _ = run_cli(["data", "prepare", "--help"], capsys)
    assert status == 0
    for text in ("border", "watershed", "--voxel-size", "assumed"):
        assert text in out
    assert run_cli(["data", "overlay", "--help"], capsys)[0] == 0
    probe = (
        "import sys; sys.modules['tifffile'] = None\n"
        f"from nephros.cli import main; main({['data', 'prepare', str(stack), '--out', str(stack.parent / 'x.npz')]!r})"
    )
    completed = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert completed.returncode == 2
    assert "pip install 'nephros[stacks]'" in completed.stderr
    assert len(completed.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_bundled_model_predicts_and_paints_a_stack(stack: Path, capsys: Capture) -> None:
    assert run_cli(prepare_args(stack), capsys)[0] == 0
    folder = stack.parent / "out"
    args = ["predict", str(folder / "cells.npz"), "--out", str(folder / "predictions.csv"), "--overlay"]
    status, _, err = run_cli([*args, str(folder / "tissue.png")], capsys)
    assert status == 0, err
    assert str(folder / "tissue.png") in err
    with Image.open(folder / "tissue.png") as image:
        assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 50
    with (folder / "predictions.csv").open() as table, np.load(folder / "cells.npz", allow_pickle=False) as arrays:
        assert len(list(csv.DictReader(table))) == len(arrays["images"])


def test_overlay_of_a_missing_stack_keeps_the_predictions(stack: Path, capsys: Capture) -> None:
    assert run_cli(prepare_args(stack), capsys)[0] == 0
    folder = stack.parent / "out"
    stack.rename(stack.with_name("moved.tif"))
    args = ["predict", str(folder / "cells.npz"), "--out", str(folder / "predictions.csv"), "--overlay"]
    status, _, err = run_cli([*args, str(folder / "tissue.png")], capsys)
    stack.with_name("moved.tif").rename(stack)
    assert status == 1
    assert (folder / "predictions.csv").is_file()
    assert not (folder / "tissue.png").exists()
    assert "for research only" in err
    assert "nephros data overlay --help" in err


def test_predict_warns_about_nuclei_of_another_size(stack: Path, capsys: Capture) -> None:
    assert run_cli([*prepare_args(stack)[:-2], "--voxel-size", "1.9,0.95,0.95"], capsys)[0] == 0
    status, _, err = run_cli(["predict", str(stack.parent / "out" / "cells.npz")], capsys)
    assert status == 0
    assert "times larger in diameter than those that the models were trained on" in err


def test_overlay_needs_a_prepared_npz_file(stack: Path, tmp_path: Path, capsys: Capture) -> None:
    Image.new("L", (28, 28), 80).save(tmp_path / "cell.png")
    args = ["predict", str(tmp_path / "cell.png"), "--overlay"]
    assert_usage_error([*args, str(tmp_path / "x.png")], capsys, tmp_path, "--overlay", "npz")
    assert_usage_error([*args, str(tmp_path / "x.gif")], capsys, tmp_path, "x.gif")


@pytest.mark.slow
@pytest.mark.parametrize("is_fitted", [True, False])
def test_a_model_of_prepared_cells_cuts_a_stack_as_it_was_prepared(
    stack: Path, tmp_path: Path, is_fitted: bool
) -> None:
    target = (1.0, 0.4, 0.4)
    levels: dict[str, Any] = {} if is_fitted else {"black_level": 150.0, "white_level": 2500.0}
    prepared = nephros.prepare(
        stack, tmp_path / "cells.npz", voxel_size=(1, 0.5, 0.5), target_voxel_size=target, **levels
    )
    ids = prepared.ids.tolist()
    (tmp_path / "classes.csv").write_text("id,class\n" + "".join(f"{i},{'ab'[n % 2]}\n" for n, i in enumerate(ids)))
    nephros.prepare(
        stack, tmp_path / "labeled.npz", voxel_size=(1, 0.5, 0.5), target_voxel_size=target,
        classes=tmp_path / "classes.csv", **levels,
    )  # fmt: skip
    conversion = load_dataset(tmp_path / "labeled.npz").input_conversion
    limits = prepared.metadata.contrast_limits
    assert (conversion.black_level, conversion.white_level) == (limits.black_level, limits.white_level)
    assert (conversion.fits_stacks, conversion.target_voxel_size) == (is_fitted, target)
    options = StackOptions(voxel_size=(1, 0.5, 0.5))
    reader = CellReader([stack], (1, 28, 28), stack_options=options, conversion=conversion)
    cells = np.concatenate([batch for _, batch in reader.iter_batches()])
    assert np.array_equal(cells, prepared.images)
    assert any("as in training" in note for note in reader.input_notes)
    brighter = CellReader([stack], (1, 28, 28), 900, stack_options=options, conversion=conversion)
    assert not np.array_equal(np.concatenate([batch for _, batch in brighter.iter_batches()]), cells)


@pytest.mark.parametrize("levels", [{"black_level": 10.0, "white_level": 90.0}, {"percentiles": (5.0, 99.0)}, {}])
def test_given_levels_of_8_bits_are_kept_for_prediction(stack: Path, tmp_path: Path, levels: dict[str, Any]) -> None:
    pixels = tifffile.imread(stack)
    paths = {np.dtype(np.uint16): stack, np.dtype(np.uint8): tmp_path / "stack8.tif"}
    tifffile.imwrite(paths[np.dtype(np.uint8)], (pixels // 16).clip(0, 255).astype(np.uint8), photometric="minisblack")
    (tmp_path / "stack8_mask.tif").write_bytes((tmp_path / "mask.tif").read_bytes())
    (tmp_path / "stack_mask.tif").write_bytes((tmp_path / "mask.tif").read_bytes())
    options = StackOptions(voxel_size=(1, 0.5, 0.5), mask=str(tmp_path / "{stem}_mask.tif"))
    for names in (["stack8"], ["stack8", "stack"]):
        prepared = nephros.prepare(
            [tmp_path / f"{name}.tif" for name in names], tmp_path / f"cells{len(names)}.npz",
            mask=str(tmp_path / "{stem}_mask.tif"), voxel_size=(1, 0.5, 0.5), **levels,
        )  # fmt: skip
        with np.load(tmp_path / f"cells{len(names)}.npz") as arrays:
            conversion = InputConversion.from_dict(json.loads(str(arrays["input_conversion"])))
        limits = prepared.stacks[0].contrast_limits
        expected = (limits.black_level, limits.white_level) if levels else None
        assert conversion.uint8_stack_levels == expected
        # Those of 8 bits are not for other pixels: images and stacks of 16 bits have levels of their own.
        assert conversion.white_level == (prepared.stacks[1].contrast_limits.white_level if len(names) > 1 else None)
        for dtype, path in paths.items():
            if path.stem not in names:
                continue
            reader = CellReader([path], (1, 28, 28), stack_options=options, conversion=conversion)
            cells = np.concatenate([batch for _, batch in reader.iter_batches()])
            assert np.array_equal(cells, prepared.images[prepared.stack == path.stem]), dtype


def test_a_conversion_without_levels_of_8_bits_is_one_of_an_earlier_version() -> None:
    values = InputConversion(900, uint8_stack_levels=(3, 90)).to_dict()
    assert InputConversion.from_dict(json.loads(json.dumps(values))).uint8_stack_levels == (3.0, 90.0)
    del values["uint8_stack_levels"]
    assert InputConversion.from_dict(values) == InputConversion(900)
    for levels in ((90, 3), (3, math.inf), (3,), ("a", "b"), 3):
        with pytest.raises((ValueError, TypeError)):
            InputConversion.from_dict(values | {"uint8_stack_levels": levels})


def test_stacks_whose_names_become_one_text_have_masks_of_their_own(stack: Path, tmp_path: Path) -> None:
    for name in ("a b", "a_b"):
        (tmp_path / f"{name}.tif").write_bytes(stack.read_bytes())
    prepared = nephros.prepare(
        [tmp_path / "a b.tif", tmp_path / "a_b.tif"], tmp_path / "x.npz", voxel_size=(1, 0.5, 0.5)
    )
    assert [path.name for path in prepared.paths if path.suffix == ".tif"] == ["x.a_b.mask.tif", "x.a_b-2.mask.tif"]
    assert all(path.is_file() for path in prepared.paths)
    names = OutputFiles.beside(tmp_path / "x.npz", ["A", "a", "a-2", "a"]).masks
    assert len({path.name.casefold() for path in names}) == 4


def test_a_damaged_conversion_in_an_npz_file_is_an_error_of_the_file(tmp_path: Path, tiny_npz: Path) -> None:
    with np.load(tiny_npz) as arrays:
        contents = dict(arrays)
    for value in ("{", '{"resize": "crop"}', 7, ["a", "b"]):
        np.savez(tmp_path / "bad.npz", **contents, input_conversion=np.array(value))
        with pytest.raises(FileError) as exc_info:
            load_dataset(tmp_path / "bad.npz")
        assert "bad.npz" in str(exc_info.value)
    np.savez(tmp_path / "good.npz", **contents, input_conversion=np.array('{"white_level": 900}'))
    assert load_dataset(tmp_path / "good.npz").input_conversion == InputConversion(900)
