"""Masks and outlines beside images are no images of cells, whatever program wrote them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nephros.data.companion_files import COMPANION_KIND, companion_files, companion_folders
from nephros.data.folders.opening import open_folder
from nephros.inference.discovery import InputDiscovery
from nephros.microscopy.sequence import image_names
from tests.microscopy.zarr_samples import write_image


@pytest.mark.parametrize(
    "companion",
    [
        "cell 1_cp_masks.png", "cell 1_cp_outlines.png", "cell 1_mask.png", "cell 1_mask_2.tif", "cell 1-labels.tif",
        "cell 1_Simple Segmentation.tif", "cell 1_Probabilities.tiff", "Cell 1.seg.png", "cell 1_flows.tif", "cell 1 (mask).png",
    ],
)  # fmt: skip
def test_what_segmentation_programs_write_beside_an_image_is_known(companion: str) -> None:
    names = ["cell 1.png", "cell 2.png", companion]
    assert companion_files(names) == {companion}
    assert image_names(names) == ["cell 1.png", "cell 2.png"]
    assert companion_files(["cell 2.png", companion]) == set()


@pytest.mark.parametrize("stack", ["K4.ome.tif", "K4.OME.TIFF", "K4.czi", "K4.ome.zarr", "K4.zarr.zip"])
def test_the_kind_of_a_stack_is_no_part_of_its_name(stack: str) -> None:
    masks = {"K4_mask.tif", "K4_cp_masks.tif", "K4_mask.ome.tif", "K4_labels.ome.zarr"}
    assert companion_files([stack, "K5.tif", *masks]) == masks


def test_masks_beside_stacks_are_no_stacks(tmp_path: Path) -> None:
    for name in ("K4.ome.tif", "K4_mask.tif", "K5.czi", "K5_cp_masks.tif", "K6_mask.tif"):
        (tmp_path / name).write_bytes(b"x")
    for name in ("K7.ome.zarr", "K7_mask.ome.zarr"):
        write_image(tmp_path / name, np.ones((2, 8, 8), np.uint16))
    discovery = InputDiscovery([tmp_path])
    names = {Path(str(item)).name for item in discovery.items}
    assert names == {"K4.ome.tif", "K5.czi", "K6_mask.tif", "K7.ome.zarr"}  # the mask of no stack is taken for one
    assert f"3 {COMPANION_KIND}" in discovery.skipped_note()


def test_images_may_be_named_like_masks() -> None:
    assert not companion_files(["mask.png", "mask_1.png", "mask_2.png", "label 1.png", "image.png", "imagemask.png"])
    assert not companion_folders(["mask", "no mask"], has_images=False)
    assert companion_folders(["images", "masks", "Labels", "other"], has_images=False) == {"masks", "Labels"}
    assert companion_folders(["mask"], has_images=True) == {"mask"}


def test_training_and_prediction_leave_masks_out_and_count_them(tmp_path: Path) -> None:
    names = ["{}.png", "{}_mask.png", "masks/{}.png"]
    for value, (kind, index, name) in enumerate((k, i, n) for k in "ab" for i in range(4) for n in names):
        path = tmp_path / kind / name.format(index)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((28, 28), value, np.uint8)).save(path)
    dataset = open_folder(tmp_path)
    assert sum(len(split) for _, split in dataset.splits()) == 8
    assert f"16 {COMPANION_KIND}" in " ".join(dataset.warnings)
    discovery = InputDiscovery([tmp_path])
    assert [Path(str(item)).name for item in discovery.items] == [f"{index}.png" for index in range(4)] * 2
    assert f"16 {COMPANION_KIND}" in discovery.skipped_note()
    mask = tmp_path / "a" / "0_mask.png"
    assert InputDiscovery([mask]).items == [mask]  # as it is named
