"""Masks in the store of their stack."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

import nephros
from nephros.errors import FileError, UnknownName
from nephros.microscopy.located import find_mask
from nephros.microscopy.masks import labels_in_store
from nephros.microscopy.stack import StackOptions
from tests.microscopy.zarr_samples import write_tissue

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
