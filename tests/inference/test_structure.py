"""Photographs as dark as cells are told from cells by how they are built."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from nephros.data.synthetic import make_synthetic
from nephros.inference.ood.structure import (
    STRUCTURE_PERCENTILE,
    fit_structure,
    structure_descriptors,
    structure_distances,
)
from nephros.inference.predictor import Predictor


def crops(picture: NDArray[np.uint8], brightness: float, n: int = 60) -> NDArray[np.uint8]:
    """Return n square parts of a photograph as 28x28 cells of that mean brightness."""
    from skimage.transform import resize

    generator, found = np.random.default_rng(0), []
    for _ in range(n):
        side = int(generator.uniform(28, min(picture.shape)))
        y, x = (int(generator.integers(0, length - side + 1)) for length in picture.shape)
        part = resize(picture[y : y + side, x : x + side], (28, 28), anti_aliasing=True, preserve_range=True)
        found.append(part * brightness / max(part.mean(), 1))
    cells: NDArray[np.uint8] = np.clip(np.stack(found), 0, 255).astype(np.uint8)
    return cells


@pytest.mark.parametrize(("name", "least"), [("chelsea", 0.8), ("astronaut", 0.6), ("rocket", 0.7)])
def test_a_photograph_is_no_cell_however_dark(name: str, least: float) -> None:
    pictures = pytest.importorskip("skimage.data")
    try:
        colour = getattr(pictures, name)()
    except Exception:  # some versions of scikit-image fetch it
        pytest.skip(f"scikit-image came without its picture of {name}")
    photograph = colour.mean(axis=2).astype(np.uint8)
    engine = Predictor.from_onnx()
    mean = 26.0  # the training images'
    for brightness in (mean, float(photograph.mean())):
        assert engine.predict_batch(crops(photograph, brightness)).is_ood.mean() >= least


def test_other_cells_are_within_the_limit_as_often_as_it_says() -> None:
    cells = make_synthetic(2000, 2000, 2000, seed=1)
    about = fit_structure(cells.train.images)
    limit = np.percentile(structure_distances(about, cells.val.images), STRUCTURE_PERCENTILE)
    for images in (cells.train.images, cells.test.images):
        assert (structure_distances(about, images) <= limit).mean() == pytest.approx(
            STRUCTURE_PERCENTILE / 100, abs=0.004
        )
    noise = np.random.default_rng(0).integers(0, 256, (50, 28, 28), dtype=np.uint8)
    assert (structure_distances(about, noise) > limit).all()


def test_statistics_do_not_mind_how_cells_are_batched_or_that_colours_are_alike() -> None:
    cells = make_synthetic(40, 10, 10, seed=2).train.images
    found = structure_descriptors(cells)
    assert np.allclose(np.concatenate([structure_descriptors(cells[:7]), structure_descriptors(cells[7:])]), found)
    assert np.allclose(structure_descriptors(np.repeat(cells[..., None], 3, axis=3)), found, rtol=1e-4, atol=1e-4)
    assert structure_descriptors(cells[:0]).shape == (0, found.shape[1])


@pytest.mark.parametrize("shape", [(5, 2, 2), (5, 1, 9), (5, 3, 3), (5, 40, 7)])
def test_any_shape_and_even_one_grey_has_finite_distances(shape: tuple[int, ...]) -> None:
    flat = np.full(shape, 9, dtype=np.uint8)
    mixed = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    about = fit_structure(flat)
    assert np.isfinite(structure_distances(about, mixed)).all()
    assert np.isfinite(structure_distances(fit_structure(mixed), flat)).all()
