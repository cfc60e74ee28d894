"""nephros predict STACK: nuclei are cut out as `nephros data prepare` does, or an error says what to do."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

import nephros
from nephros.data.input_files import InMemoryFile
from nephros.inference.predictor import Predictor
from nephros.inference.reader import CellReader
from nephros.microscopy.synthetic import SyntheticStack
from tests.workflows.test_predict import run_predict

Capture = pytest.CaptureFixture[str]
SIZES = {"PhysicalSizeZ": 1, "PhysicalSizeY": 0.5, "PhysicalSizeX": 0.5}


@pytest.fixture(scope="module")
def volume() -> np.ndarray[Any, Any]:
    return np.stack([pixels for pixels, _ in SyntheticStack((16, 120, 100)).slices()])


def write(path: Path, volume: np.ndarray[Any, Any], **metadata: object) -> Path:
    tifffile.imwrite(path, volume, photometric="minisblack", ome=True, metadata={"axes": "ZYX", **metadata})
    return path


def test_a_stack_gives_a_row_per_nucleus_as_prepare_does(
    volume: np.ndarray[Any, Any], exported_model: Path, predictor: Predictor, tmp_path: Path, capsys: Capture
) -> None:
    stack = write(tmp_path / "kidney.ome.tif", volume, **SIZES)
    Image.new("L", (28, 28), 40).save(tmp_path / "z.png")
    status, out, err = run_predict([stack, tmp_path / "z.png", "--model", exported_model], capsys)
    assert status == 0, err
    *rows, last = csv.DictReader(io.StringIO(out))
    prepared = nephros.prepare(stack, tmp_path / "cells.npz")
    assert [int(row["index"]) for row in rows] == prepared.ids.tolist()
    assert {row["file"] for row in rows} == {str(stack)}
    expected = predictor.predict_batch(prepared.images).probabilities
    probabilities = np.array([[float(row[f"p_{c}"]) for c in range(4)] for row in rows])
    assert np.allclose(probabilities, expected, atol=2e-6)
    assert last["index"] == "0"
    assert f"{stack} is a 3-D stack: {len(rows)} nuclei were segmented automatically" in err
    assert "give an instance mask as --mask" in err
    assert f"{stack}: voxels of 1 x 0.5 x 0.5 micrometers are as large as those of the training data (assumed" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "cells.csv", "cells.json", "cells.mask.tif", "cells.npz", "kidney.ome.tif", "z.png"
    ]  # fmt: skip


def test_errors_of_stacks_say_what_to_do(
    volume: np.ndarray[Any, Any], exported_model: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizeless = write(tmp_path / "a.ome.tif", volume[:4])
    plain = tmp_path / "b.tif"
    tifffile.imwrite(plain, np.zeros((3, 256, 256), np.uint8), photometric="minisblack", metadata=None)
    dark = write(tmp_path / "c.ome.tif", np.zeros((4, 40, 40), np.uint16), **SIZES)
    two_channels = tmp_path / "d.ome.tif"
    tifffile.imwrite(
        two_channels, np.zeros((2, 4, 40, 40), np.uint16), photometric="minisblack", metadata={"axes": "CZYX"}
    )
    Image.new("L", (28, 28), 40).save(tmp_path / "e.png")
    truncated = tmp_path / "f.ome.tif"
    truncated.write_bytes(write(truncated, volume, **SIZES).read_bytes()[:-1000])
    status, out, err = run_predict([tmp_path, "--model", exported_model], capsys)
    assert status == 1
    rows = {Path(row["file"]).name: row["error"] for row in csv.DictReader(io.StringIO(out))}
    assert list(rows) == [f"{name}" for name in ("a.ome.tif", "b.tif", "c.ome.tif", "d.ome.tif", "e.png", "f.ome.tif")]
    assert rows["e.png"] == ""
    for path in (sizeless, plain, two_channels):
        assert str(path) in rows[path.name]
        assert "cells.npz" in rows[path.name]
        assert "a file of its own" in rows[path.name]
    assert "Z,Y,X" in rows["a.ome.tif"]
    assert "Z,Y,X" in rows["b.tif"]
    assert "every voxel is 0" in rows["c.ome.tif"]
    assert "has 2 channels" in rows["d.ome.tif"]
    assert "damaged" in rows["f.ome.tif"]
    assert "segmented automatically" not in err
    monkeypatch.setitem(sys.modules, "tifffile", None)
    (row,) = csv.DictReader(io.StringIO(run_predict([dark, "--model", exported_model], capsys)[1]))
    assert (
        row["error"]
        == f"{dark} is a 3-D stack: Reading stacks needs tifffile and scikit-image: pip install 'nephros[stacks]'."
    )


def test_a_stack_in_memory_is_refused_and_other_files_are_read(tmp_path: Path) -> None:
    data = write(tmp_path / "kidney.ome.tif", np.zeros((4, 40, 40), np.uint16), **SIZES).read_bytes()
    png = io.BytesIO()
    Image.new("L", (8, 8), 40).save(png, "PNG")
    reader = CellReader([InMemoryFile("kidney.ome.tif", data), InMemoryFile("cell.png", png.getvalue())], (1, 8, 8))
    assert [rows.tolist() for rows, _ in reader.iter_batches()] == [[1]]
    assert reader.errors[0].startswith("kidney.ome.tif is a 3-D stack")
    assert "`nephros.prepare(" in reader.errors[0]


def test_the_white_level_scales_stacks_and_a_full_disk_is_reported(
    volume: np.ndarray[Any, Any], exported_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = write(tmp_path / "kidney.ome.tif", volume, **SIZES)
    bright, dim = (
        next(CellReader([stack], (1, 28, 28), white_level=white).iter_batches())[1] for white in (2000, 60_000)
    )
    assert len(bright) == len(dim)
    assert bright.mean() > 3 * dim.mean()

    def fill_disk(*_args: object, **_kwargs: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nephros.microscopy.segmenters.segment_nuclei", fill_disk)
    predictions = nephros.predict(stack, exported_model)
    assert "(No space left on device)" in predictions.errors[0]


@pytest.mark.slow
def test_tiff_pages_import_nothing_heavy(tmp_path: Path) -> None:
    pages = [Image.new("L", (28, 28), value) for value in (20, 40)]
    pages[0].save(tmp_path / "cells.tif", save_all=True, append_images=pages[1:])
    probe = (
        "import sys\nfrom nephros.cli import main\n"
        f"try: main(['predict', {str(tmp_path / 'cells.tif')!r}])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = ('torch', 'skimage', 'scipy', 'tifffile', 'nephros.microscopy.extract')\n"
        "loaded = [name for name in heavy if name in sys.modules]\n"
        "sys.exit(', '.join(loaded) or None)"
    )
    completed = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stderr
    assert [row["index"] for row in csv.DictReader(io.StringIO(completed.stdout))] == ["0", "1"]


def test_small_nuclei_are_left_out(volume: np.ndarray[Any, Any], exported_model: Path, tmp_path: Path) -> None:
    stack = write(tmp_path / "kidney.ome.tif", volume, **SIZES)
    every = nephros.predict(stack, exported_model)
    large = nephros.predict(stack, exported_model, min_volume=60)
    assert 0 < len(large) < len(every)
    assert any(f"{len(every) - len(large):,} nuclei smaller than 60 cubic micrometers" in note for note in large.notes)
