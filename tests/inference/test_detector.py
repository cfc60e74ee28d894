"""The out-of-distribution detector: its statistics, thresholds and reasons, on cells, photographs and negative controls."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from nephros.data.synthetic import make_synthetic
from nephros.inference.ood.detector import (
    STRUCTURE_PERCENTILE,
    OODDetector,
    StatisticRange,
    find_ood_reasons,
    fit_statistic_ranges,
    fit_structure,
    image_statistics,
    structure_descriptors,
    structure_distances,
    whitening_matrix,
)
from nephros.inference.ood.negative_controls import CONTROL_DESCRIPTIONS, negative_controls
from nephros.inference.predictor import Predictor


def test_image_statistics_match_their_definitions() -> None:
    ramp = np.tile(np.arange(5, dtype=np.uint8) ** 2, (4, 1))[None]
    brightness, contrast, sharpness = image_statistics(ramp)[0]
    assert brightness == pytest.approx(6.0)
    assert contrast == pytest.approx(ramp.std())
    assert sharpness == 0  # the second difference of squares is 2 everywhere
    spot = np.zeros((1, 3, 4), dtype=np.uint8)
    spot[0, 1, 1] = 8
    assert image_statistics(spot)[0, 2] == pytest.approx(np.var([-32, 8]))
    assert np.allclose(image_statistics(np.repeat(spot[..., None], 3, axis=3)), image_statistics(spot))
    assert image_statistics(np.zeros((2, 2, 2), dtype=np.uint8))[:, 2].tolist() == [0, 0]
    assert image_statistics(spot[:0]).shape == (0, 3)


def test_ranges_leave_out_two_cells_in_a_thousand() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5000, 6, 6), dtype=np.uint8)
    detector: OODDetector = {
        "range_percentiles": [0.1, 99.9],
        "ranges": fit_statistic_ranges(images),
        "structure": None,
        "feature_distance": None,
    }
    assert 0 < np.mean([bool(reasons) for reasons in find_ood_reasons(detector, images, None)]) < 0.01


def test_a_feature_distance_above_the_threshold_or_nan_is_a_reason() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 6, 6), dtype=np.uint8)
    everything: StatisticRange = {"description": "", "low": -np.inf, "high": np.inf}
    detector: OODDetector = {
        "range_percentiles": [0, 100],
        "ranges": dict.fromkeys(("brightness", "contrast", "sharpness"), everything),
        "structure": None,
        "feature_distance": {"description": "", "threshold": 3.0},
    }
    assert find_ood_reasons(detector, images, np.full(3, 1.0)) == ((), (), ())
    within, above, nan = find_ood_reasons(detector, images, np.array([1.0, 3.5, np.nan]))
    assert within == ()
    assert "(distance 3.5, typical up to 3)" in above[0]
    assert "distance nan" in nan[0]
    assert find_ood_reasons(None, images, np.full(3, 9.0)) == ((), (), ())


def test_whitened_lengths_are_mahalanobis_distances() -> None:
    generator = np.random.default_rng(0)
    x = generator.standard_normal((200, 3)) @ np.array([[2.0, 0.5, 0], [0, 1.0, 0.3], [0, 0, 0.1]])
    covariance = np.cov(x, rowvar=False)
    expected = np.sqrt(np.einsum("ni,ij,nj->n", x, np.linalg.inv(covariance), x))
    assert np.allclose(np.linalg.norm(x @ whitening_matrix(covariance), axis=1), expected)


def photograph_crops(photograph: NDArray[np.uint8], brightness: float, n: int = 60) -> NDArray[np.uint8]:
    """Return n square crops of a (h, w) photograph as 28x28 cells of that mean brightness."""
    from skimage.transform import resize

    generator, crops = np.random.default_rng(0), []
    for _ in range(n):
        side = int(generator.uniform(28, min(photograph.shape)))
        y, x = (int(generator.integers(0, length - side + 1)) for length in photograph.shape)
        crop = resize(photograph[y : y + side, x : x + side], (28, 28), anti_aliasing=True, preserve_range=True)
        crops.append(crop * brightness / max(crop.mean(), 1))
    cells: NDArray[np.uint8] = np.clip(np.stack(crops), 0, 255).astype(np.uint8)
    return cells


@pytest.mark.parametrize(
    ("name", "min_flagged"),
    [
        ("chelsea", 0.8),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in (("astronaut", 0.6), ("rocket", 0.7))),
    ],
)
def test_photographs_are_flagged_even_as_dark_as_cells(name: str, min_flagged: float) -> None:
    images = pytest.importorskip("skimage.data")
    try:
        color = getattr(images, name)()
    except Exception:  # some versions of scikit-image download it
        pytest.skip(f"scikit-image came without its image of {name}")
    photograph = color.mean(axis=2).astype(np.uint8)
    predictor = Predictor.from_onnx()
    training_mean = 26.0
    for brightness in (training_mean, float(photograph.mean())):
        assert predictor.predict_batch(photograph_crops(photograph, brightness)).is_ood.mean() >= min_flagged


@pytest.mark.slow
def test_the_structure_threshold_holds_on_other_cells() -> None:
    cells = make_synthetic(2000, 2000, 2000, seed=1)
    structure = fit_structure(cells.train.images)
    threshold = np.percentile(structure_distances(structure, cells.val.images), STRUCTURE_PERCENTILE)
    for images in (cells.train.images, cells.test.images):
        within = (structure_distances(structure, images) <= threshold).mean()
        assert within == pytest.approx(STRUCTURE_PERCENTILE / 100, abs=0.004)
    noise = np.random.default_rng(0).integers(0, 256, (50, 28, 28), dtype=np.uint8)
    assert (structure_distances(structure, noise) > threshold).all()


def test_structure_descriptors_do_not_depend_on_batches_or_equal_channels() -> None:
    cells = make_synthetic(40, 10, 10, seed=2).train.images
    expected = structure_descriptors(cells)
    assert np.allclose(np.concatenate([structure_descriptors(cells[:7]), structure_descriptors(cells[7:])]), expected)
    assert np.allclose(structure_descriptors(np.repeat(cells[..., None], 3, axis=3)), expected, rtol=1e-4, atol=1e-4)
    assert structure_descriptors(cells[:0]).shape == (0, expected.shape[1])


def test_structure_distances_do_not_depend_on_the_number_of_cells() -> None:
    cells = make_synthetic(600, 10, 10, seed=2).train.images
    structure = fit_structure(cells)
    distances = structure_distances(structure, cells)
    whitened = (structure_descriptors(cells) - np.array(structure["mean"])) @ whitening_matrix(
        np.array(structure["covariance"])
    )
    assert np.allclose(distances, np.linalg.norm(whitened, axis=1), rtol=1e-9)
    for n in (0, 1, 255, 256, 257):
        assert np.allclose(structure_distances(structure, cells[:n]), distances[:n], rtol=1e-4)


@pytest.mark.parametrize("shape", [(5, 2, 2), (5, 1, 9), (5, 3, 3), (5, 40, 7)])
def test_structure_distances_are_finite_for_any_shape_and_for_constant_images(shape: tuple[int, ...]) -> None:
    constant = np.full(shape, 9, dtype=np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert np.isfinite(structure_distances(fit_structure(constant), noise)).all()
    assert np.isfinite(structure_distances(fit_structure(noise), constant)).all()


@pytest.mark.parametrize("shape", [(50, 28, 28), (20, 12, 16, 3)])
def test_negative_controls_have_the_shape_of_cells_and_repeat(shape: tuple[int, ...]) -> None:
    cells = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    controls = negative_controls(cells, 30)
    assert set(controls) == set(CONTROL_DESCRIPTIONS)
    for kind, images in controls.items():
        assert images.shape == (30, *shape[1:])
        assert images.dtype == np.uint8
        assert np.array_equal(images, negative_controls(cells, 30)[kind])
    assert controls["constant"].reshape(30, -1).std(axis=1).max() == 0
    scrambled, inverted = controls["scrambled_cells"].reshape(30, -1), controls["inverted_cells"].reshape(30, -1)
    assert np.array_equal(np.sort(scrambled), np.sort(255 - inverted))
