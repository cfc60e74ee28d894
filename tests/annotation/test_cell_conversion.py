"""The white level and the channel of a project's images: one for all, and what is trained on them keeps it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from nephros.annotation.export import export_labels, write_training_data
from nephros.annotation.project import Project
from nephros.data.load import load_dataset
from nephros.errors import InvalidArgument
from nephros.inference.reader import CellReader
from nephros.microscopy.stack import StackOptions
from tests.annotation.conftest import write_stack


def _deep_npz(path: Path, brightest: int, seed: int = 0) -> Path:
    images = np.random.default_rng(seed).integers(0, brightest + 1, (12, 28, 28), np.uint16)
    images[0, 0, 0] = brightest
    np.savez(path, images=images)
    return path


def _color_images(folder: Path) -> Path:
    folder.mkdir()
    for number, pixels in enumerate(np.random.default_rng(1).integers(0, 256, (12, 28, 28, 3), np.uint8)):
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    return folder


def _label(project: Project) -> None:
    for name in ("a", "b"):
        project.labels.add_class(name)
    project.labels.apply([(cell, cell % 2) for cell in range(12)], "ann")


def _check_export(project: Project, folder: Path) -> None:
    """Check that what is trained on the project's cells converts its inputs as the project does."""
    _label(project)
    write_training_data(project, folder / "training.npz")
    export_labels(project, "npz", folder / "labels.npz")
    for name in ("training.npz", "labels.npz"):
        assert load_dataset(folder / name).input_conversion == project.info.conversion


def _read(paths: list[Path], project: Project, **options: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return cells as a model of the project's conversion reads them."""
    reader = CellReader(paths, project.image_shape, conversion=project.info.conversion, **options)
    batches = list(reader.iter_batches())
    return np.concatenate([cells for _, cells in batches])[np.argsort(np.concatenate([rows for rows, _ in batches]))]


@pytest.mark.parametrize("white_level", [4095.0, None])
def test_the_white_level_stays_that_of_the_first_images(tmp_path: Path, white_level: float | None) -> None:
    project = Project.create(tmp_path / "kidney")
    first = _deep_npz(tmp_path / "a.npz", 4000)
    project.add_cells(first, white_level=white_level)
    level = white_level or 4000.0
    assert (project.info.white_level, project.info.conversion.white_level) == (level, level)
    assert project.images().max() == round(255 * 4000 / level)
    second = _deep_npz(tmp_path / "b.npz", 2000, seed=1)  # as bright as it would be beside the first ones
    project.add_cells(second)
    assert project.images()[12:].max() == round(255 * 2000 / level)
    assert np.array_equal(_read([first, second], project), project.images())
    for source in (first, _deep_npz(tmp_path / "c.npz", 3000, seed=2)):
        with pytest.raises(InvalidArgument) as caught:
            project.add_cells(source, white_level=1000.0)
        assert caught.value.parameter == "white_level"
    assert project.add_cells(first, white_level=white_level).n_added == 0
    assert project.n_cells == 24
    _check_export(Project.open(project.root), tmp_path)


def test_images_of_8_bits_have_no_white_level(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "kidney")
    before = project.info.conversion
    project.add_cells(_color_images(tmp_path / "color"), channel=0, white_level=4095.0)
    assert project.info.white_level is None
    assert project.info.conversion.white_level == before.white_level


def test_the_channel_of_color_images_is_kept(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "kidney")
    folder = _color_images(tmp_path / "color")
    project.add_cells(folder, channel=1)
    assert (project.info.channel, project.info.conversion.channel) == (1, 1)
    expected = np.stack([np.asarray(Image.open(folder / f"{number:02}.png"))[..., 1] for number in range(12)])
    assert np.array_equal(project.images(), expected)
    for source in (folder, _color_images(tmp_path / "more"), folder / "00.png"):
        with pytest.raises(InvalidArgument) as caught:
            project.add_cells(source, channel=2)
        assert caught.value.parameter == "channel"
    assert project.add_cells(folder, channel=1).n_added == 0
    assert project.add_cells(tmp_path / "more").n_added == 12
    assert np.array_equal(project.images()[12:], expected)
    _check_export(project, tmp_path)


def test_a_channel_of_a_stack_is_no_plane_of_images(tmp_path: Path) -> None:
    stack, mask, _ = write_stack(tmp_path, shape=(9, 80, 64))
    project = Project.create(tmp_path / "kidney")
    project.add_cells(stack, mask=str(mask), channel=0)
    assert (project.info.channel, project.info.conversion.channel) == (None, None)


def test_the_white_level_of_stacks_is_kept(tmp_path: Path) -> None:
    stacks = [write_stack(tmp_path, name, (9, 80, 64), seed=number)[0] for number, name in enumerate(("K4", "K5"))]
    assert tifffile.imread(stacks[0]).dtype == np.uint16
    white_level = float(tifffile.imread(stacks[0]).max())
    project = Project.create(tmp_path / "kidney")
    project.add_cells(stacks[0], mask="{stem}_mask.tif", white_level=white_level)
    conversion = project.info.conversion
    assert (conversion.white_level, conversion.fits_stacks) == (white_level, False)
    project.add_cells(stacks[1], mask="{stem}_mask.tif")  # with the same levels
    assert project.info.conversion == conversion
    options = StackOptions(mask="{stem}_mask.tif")
    assert np.array_equal(_read(stacks, project, stack_options=options), project.images())
    with pytest.raises(InvalidArgument, match="white_level"):
        project.add_cells(stacks[1], mask="{stem}_mask.tif", white_level=white_level - 1)


def test_a_file_is_not_read_again_with_another_channel(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "kidney")
    image = _color_images(tmp_path / "color") / "00.png"
    pixels = np.asarray(Image.open(image)).copy()
    pixels[..., 1:] = 0
    Image.fromarray(pixels).save(image)  # whose only plane is taken without a word from anyone
    project.add_cells(image)
    with pytest.raises(InvalidArgument) as caught:
        project.add_cells(image, channel=1)
    assert caught.value.parameter == "channel"
    assert "00.png" in str(caught.value)
