"""Masks in the store of their stack, and masks of time series."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

import nephros
from nephros.annotation.project import Project
from nephros.errors import FileError, UnknownName
from nephros.microscopy.located import find_mask
from nephros.microscopy.masks import labels_in_store, open_mask
from nephros.microscopy.stack import StackOptions
from nephros.microscopy.synthetic import SyntheticStack
from tests.microscopy.zarr_samples import write_attributes, write_image, write_tissue

DAPI = StackOptions("DAPI")


def test_label_images_by_name(tmp_path: Path) -> None:
    store = write_tissue(tmp_path / "K4.ome.zarr", ("nuclei", "tubules"))
    assert labels_in_store(store, "tubules", DAPI) == store / "labels" / "tubules"
    with pytest.raises(FileError, match="nuclei, tubules; set `mask`"):
        labels_in_store(store, None, DAPI)
    with pytest.raises(UnknownName) as error:
        labels_in_store(store, "nucley", DAPI)
    assert (error.value.parameter, error.value.options) == ("mask", ("nuclei", "tubules"))
    (tmp_path / "mask.tif").touch()
    assert labels_in_store(store, str(tmp_path / "mask.tif"), DAPI) is None
    assert labels_in_store(store, "missing.tif", DAPI) is None
    assert labels_in_store(tmp_path / "K4.tif", None, DAPI) is None


def test_the_only_label_image_is_the_mask(tmp_path: Path) -> None:
    store = write_tissue(tmp_path / "K4.ome.zarr")
    assert labels_in_store(store, None, DAPI) == store / "labels" / "nuclei"
    bare = write_tissue(tmp_path / "K5.ome.zarr", ())
    assert labels_in_store(bare, None, DAPI) is None
    assert labels_in_store(bare, "nuclei", DAPI) is None


@pytest.mark.slow
def test_stores_are_prepared_and_painted_with_their_label_images(tmp_path: Path) -> None:
    stores = [write_tissue(tmp_path / f"{name}.ome.zarr", ("nuclei",)) for name in ("K4", "K5")]
    one = nephros.prepare(stores[0], tmp_path / "one.npz", channel="DAPI")
    assert len(one.ids) > 5
    assert (one.metadata.stack.channel, one.metadata.mask.automatic) == (1, False)
    assert "label image nuclei is the mask" in one.notes[0]
    both = nephros.prepare(stores, tmp_path / "both.npz", channel="dapi", mask="nuclei")
    assert len(both.ids) == 2 * len(one.ids)
    predictions = nephros.predict(stores[0], channel="DAPI", mask="nuclei")
    assert len(predictions) == len(one.ids)
    nephros.predict(tmp_path / "one.npz").save(tmp_path / "predictions.csv")
    image = nephros.overlay(tmp_path / "one.json", tmp_path / "predictions.csv", tmp_path / "tissue.png")
    assert image.stat().st_size > 1000


def test_the_label_image_of_a_zipped_store_is_found_again(tmp_path: Path) -> None:
    folder, store = write_tissue(tmp_path / "folder"), tmp_path / "a" / "K4.ozx"
    store.parent.mkdir()
    with zipfile.ZipFile(store, "w") as archive:
        for path in sorted(folder.rglob("*"), key=lambda path: path.name != ".zattrs"):
            if path.is_file():
                archive.write(path, path.relative_to(folder).as_posix())
    result = nephros.prepare(store, store.parent / "cells.npz", channel="DAPI")
    assert Path(result.metadata.mask.path) == store / "labels" / "nuclei"
    assert find_mask(result.metadata.mask.path, store) == store / "labels" / "nuclei"
    rows = "".join(f"{index},0,tubule\n" for index in range(len(result.ids)))
    moved = store.parent.rename(tmp_path / "b")
    (moved / "p.csv").write_text(f"index,label,class_name\n{rows}")
    assert nephros.overlay(moved / "cells.json", moved / "p.csv", tmp_path / "tissue.png").is_file()
    given = moved / "K4.ozx" / "labels" / "nuclei"
    assert nephros.overlay(moved / "cells.json", moved / "p.csv", tmp_path / "t.png", mask=given).is_file()


IDS = np.random.default_rng(0).integers(0, 9, (3, 5, 40, 36)).astype(np.uint16)
"""Masks of three time points."""


def _write_mask(path: Path, ids: NDArray[np.uint16], axes: str) -> Path:
    if path.suffix == ".npy":
        np.save(path, ids)
    elif path.suffix == ".zarr":
        write_image(path, ids, axes)
    else:
        is_fiji = "fiji" in path.name
        tifffile.imwrite(path, ids, imagej=is_fiji, ome=not is_fiji, photometric="minisblack", metadata={"axes": axes})
    return path


def _read(path: Path, shape: tuple[int, int, int], time_point: int | None) -> NDArray[np.generic]:
    return np.stack(list(open_mask(path, shape, time_point=time_point).slices()))


@pytest.mark.parametrize("name", ["fiji.tif", "a.ome.tif", "a.zarr"])
def test_a_mask_has_the_time_point_of_its_stack(name: str, tmp_path: Path) -> None:
    path = _write_mask(tmp_path / name, IDS, "TZYX")
    assert np.array_equal(_read(path, (5, 40, 36), 2), IDS[2])
    for time_point in (None, 3):
        with pytest.raises(FileError, match="a mask of 3 time points, which are not those of its stack"):
            open_mask(path, (5, 40, 36), time_point=time_point)
    path = _write_mask(tmp_path / f"flat-{name}", IDS[:, 0], "TYX")
    assert np.array_equal(_read(path, (1, 40, 36), 2), IDS[2, :1])
    if path.suffix == ".tif":  # a format in which slices are often saved as time points
        assert np.array_equal(_read(path, (3, 40, 36), 2), IDS[:, 0])


@pytest.mark.parametrize("name", ["fiji.tif", "a.ome.tif", "a.zarr", "a.npy"])
def test_a_mask_of_one_time_point_is_taken_for_that_of_its_stack(name: str, tmp_path: Path) -> None:
    path = _write_mask(tmp_path / name, IDS[1], "ZYX")
    assert np.array_equal(_read(path, (5, 40, 36), 2), IDS[1])


@pytest.mark.slow
def test_label_images_of_time_series_are_predicted_and_kept_in_projects(tmp_path: Path) -> None:
    """By its specification, a label image has the axes of its image."""
    pixels, mask = (np.stack(part) for part in zip(*SyntheticStack((9, 80, 90)).slices(), strict=True))
    store = write_image(tmp_path / "K4.ome.zarr", np.stack([pixels[::-1], pixels]), "TZYX")
    write_image(store / "labels" / "nuclei", np.stack([0 * mask, mask]).astype(np.uint16), "TZYX")
    write_attributes(store / "labels", {"labels": ["nuclei"]})
    predictions = nephros.predict(store, time_point=1)
    folder = nephros.save_cells(predictions, tmp_path / "K4")
    assert np.array_equal(tifffile.imread(folder / "mask.ome.tif"), mask)
    project = Project.create(tmp_path / "kidney")
    assert project.add_cells(store, mask="nuclei", time_point=1).n_added == len(predictions)
    assert project.add_cells(store, mask="nuclei", time_point=1).n_added == 0
