"""Tables of a label, an id and 7,168 voxels per nucleus, read for prediction and for training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import nephros
from nephros.data.folders.voxel_table import N_VOXELS, is_voxel_table, read_voxel_table
from nephros.data.input_files import InMemoryFile
from nephros.data.load import load_dataset
from nephros.errors import FileError

VOLUMES = np.random.default_rng(0).integers(0, 256, (12, 7, 32, 32))


def write(
    path: Path,
    volumes: NDArray[np.int64] = VOLUMES,
    *,
    sep: str = ",",
    end: str = "",
    header: str = "",
    leading: int = 2,
) -> Path:
    lines = [header] if header else []
    for k, volume in enumerate(volumes):
        fields = [str(1 + k % 3), str(1000 + k)][:leading] + [str(voxel) for voxel in volume.ravel()]
        lines.append(sep.join(fields) + end)
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(
    ("sep", "end", "header", "leading"),
    [
        (",", "", "", 2),
        (",", ",", "", 2),
        (";", "", "", 2),
        ("\t", "\t", "", 2),
        (",", "", "", 1),
        (",", "", "", 0),
        (",", "", "label,id," + ",".join(f"p{k}" for k in range(N_VOXELS)), 2),
    ],
    ids=["commas", "a comma at the end", "semicolons", "tabs", "without ids", "voxels only", "a header"],
)
def test_volumes_are_projected(sep: str, end: str, header: str, leading: int, tmp_path: Path) -> None:
    path = write(tmp_path / "nuclei.csv", sep=sep, end=end, header=header, leading=leading)
    assert is_voxel_table(path)
    table = read_voxel_table(path)
    assert np.array_equal(table.images, VOLUMES.max(axis=1))
    assert table.dtype == np.uint8
    assert table.labels == (tuple(str(1 + k % 3) for k in range(12)) if leading else ())
    in_memory = read_voxel_table(InMemoryFile("nuclei.csv", path.read_bytes()))
    assert np.array_equal(in_memory.images, table.images)


def test_signed_bytes_and_sixteen_bits_are_read(tmp_path: Path) -> None:
    signed = np.where(VOLUMES > 127, VOLUMES - 256, VOLUMES)
    assert np.array_equal(read_voxel_table(write(tmp_path / "a.csv", signed)).images, VOLUMES.max(axis=1))
    table = read_voxel_table(write(tmp_path / "b.csv", VOLUMES * 200))
    assert table.dtype == np.uint16
    assert np.array_equal(table.images, VOLUMES.max(axis=1) * 200)


@pytest.mark.parametrize(
    ("replace", "expected"),
    [
        (("1000,", "1000,x"), "line 1 has voxels"),
        (("1000,", "1000,0.5"), "line 1 has voxels"),
        (("1001,", ""), "7,169 fields"),
        (("1001,", "1001,-9999"), "line 2 has voxels"),
        (("1001,", "1001,1e9"), "line 2"),
        (("1001,", "1001,nan"), "line 2"),
    ],
)
def test_damaged_rows_are_named(replace: tuple[str, str], expected: str, tmp_path: Path) -> None:
    path = write(tmp_path / "nuclei.csv")
    path.write_text(path.read_text().replace(*replace))
    with pytest.raises(FileError, match=expected):
        read_voxel_table(path)


def test_negative_voxels_beside_large_ones_are_refused(tmp_path: Path) -> None:
    volumes = VOLUMES.copy()
    volumes[3, 0, 0, 0] = -5
    with pytest.raises(FileError, match="line 4 has negative voxels"):
        read_voxel_table(write(tmp_path / "nuclei.csv", volumes))


def test_a_cut_table_is_refused_and_other_tables_are_none(tmp_path: Path) -> None:
    path = write(tmp_path / "nuclei.csv")
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(FileError, match="line 12"):
        read_voxel_table(path)
    (tmp_path / "predictions.csv").write_text("file,index,label\na,0,1\n")
    assert not is_voxel_table(tmp_path / "predictions.csv")
    assert not is_voxel_table(tmp_path / "none.csv")
    assert not is_voxel_table(tmp_path)
    predictions = nephros.predict(tmp_path / "predictions.csv")
    assert "is a text file" in predictions.errors[0]


def test_predict_takes_a_table(exported_model: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "nuclei.csv")
    predictions = nephros.predict(path, exported_model)
    assert not predictions.errors
    assert [source.index for source in predictions.sources] == list(range(12))
    np.savez(tmp_path / "cells.npz", images=VOLUMES.max(axis=1).astype(np.uint8))
    expected = nephros.predict(tmp_path / "cells.npz", exported_model)
    assert np.array_equal(predictions.probabilities, expected.probabilities)
    wide = nephros.predict(write(tmp_path / "wide.csv", VOLUMES * 200), exported_model)
    assert not wide.errors
    dim = nephros.predict(path, exported_model, white_level=4095)  # voxels of 12 bits, none above 255
    np.savez(tmp_path / "cells.npz", images=VOLUMES.max(axis=1).astype(np.uint16))
    expected = nephros.predict(tmp_path / "cells.npz", exported_model, white_level=4095)
    assert np.array_equal(dim.probabilities, expected.probabilities)
    assert not np.array_equal(dim.probabilities, predictions.probabilities)


def test_a_table_is_a_data_set(tmp_path: Path) -> None:
    dataset = load_dataset(write(tmp_path / "nuclei.csv"))
    assert dataset.class_names == ("1", "2", "3")
    assert dataset.image_size == (28, 28)
    assert sum(len(split) for _, split in dataset.splits()) == 12
    assert "projected (maximum)" in dataset.provenance.detail
    assert load_dataset(tmp_path / "nuclei.csv", size=32).image_size == (32, 32)
    again = load_dataset(tmp_path / "nuclei.csv")
    assert np.array_equal(again.train.images, dataset.train.images)
    for leading in (0, 1):
        path = write(tmp_path / f"{leading}.csv", leading=leading)
        if leading:
            assert load_dataset(path).class_names == dataset.class_names
        else:
            with pytest.raises(FileError, match="without a label"):
                load_dataset(path)
