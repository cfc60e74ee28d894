"""Made-up kidney nuclei for demos and tests: grey 32x32x7 volumes, prepared the way TissueMNIST was."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from nephros.data.cell_image import project, resize
from nephros.data.dataset import Dataset, Provenance, Split
from nephros.data.subset import quotas

SIZE = 28
SLICES, SIDE = 7, 32
STEP_Z = 2.0
"""Distance between slices in pixels of a slice."""
_BATCH = 64

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Kind:
    """The means that one class's nuclei are drawn around; the spread is the same for all and makes them overlap."""

    word: str
    weight: int
    """Share of the class, in the official TissueMNIST test split's counts."""
    radius: float
    """Pixels, of a sphere of the same volume."""
    stretch: float
    """Longest axis over middle axis."""
    bend: float
    """How far the long axis curves, as a share of the middle axis."""
    lobes: float
    """Depth of three lobes, as a share of the radius."""
    gain: float
    """Brightness of 255."""
    texture: float
    """Standard deviation of the chromatin's unevenness, as a share of the brightness."""
    grain: float
    """Size of that unevenness in pixels."""
    crowd: float
    """Brightness of the neighbours, as a share of the nucleus's own."""


KINDS = (
    Kind("round", 15165, 6.1, 1.10, 0.00, 0.00, 60, 0.12, 1.6, 0.70),
    Kind("oval", 2233, 6.5, 1.55, 0.00, 0.00, 60, 0.15, 1.6, 0.75),
    Kind("bean", 1677, 5.6, 1.60, 0.45, 0.00, 72, 0.20, 1.6, 0.55),
    Kind("spindle", 4402, 5.0, 2.40, 0.10, 0.00, 70, 0.15, 1.6, 0.65),
    Kind("lobed", 3369, 5.1, 1.10, 0.00, 0.18, 85, 0.22, 1.4, 0.65),
    Kind("pale", 2202, 7.2, 1.20, 0.00, 0.04, 38, 0.20, 2.0, 0.55),
    Kind("speckled", 11201, 6.8, 1.15, 0.00, 0.00, 54, 0.45, 1.1, 0.65),
    Kind("mottled", 7031, 6.6, 1.20, 0.00, 0.04, 58, 0.50, 2.5, 0.85),
)


def make(n_train: int = 6000, n_val: int = 1000, n_test: int = 2000, seed: int = 0, classes: int = 8) -> Dataset:
    """Return made-up nuclei, (n, 28, 28) uint8 in `classes` unequal, overlapping classes.

    The same arguments give the same cells.

    Raises:
        ValueError: `classes` is not in 2..8, or a split has fewer cells than classes.
    """
    if not 2 <= classes <= len(KINDS):
        raise ValueError(f"classes must be 2 to {len(KINDS)}, not {classes}")
    if min(n_train, n_val, n_test) < classes:
        raise ValueError(f"each split needs at least {classes} cells, one a class")
    sources = np.random.SeedSequence(seed).spawn(3)
    parts = [
        _split(n, classes, np.random.default_rng(source))
        for n, source in zip((n_train, n_val, n_test), sources, strict=True)
    ]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.images.tobytes())
        digest.update(part.labels.tobytes())
    names = tuple(f"synthetic: {kind.word}" for kind in KINDS[:classes])
    provenance = Provenance("Synthetic nuclei", "synthetic", "", digest.hexdigest(), detail=f"made with seed {seed}")
    task = "binary-class" if classes == 2 else "multi-class"
    return Dataset(parts[0], parts[1], parts[2], names, provenance, task)


def _split(n: int, classes: int, generator: np.random.Generator) -> Split:
    weights = np.array([kind.weight for kind in KINDS[:classes]], dtype=np.int64)
    labels = generator.permutation(np.repeat(np.arange(classes), quotas(weights, n))).astype(np.int64)
    images = [
        resize(project(volumes(labels[start : start + _BATCH], generator)), SIZE) for start in range(0, n, _BATCH)
    ]
    return Split(np.concatenate(images), labels)


def volumes(labels: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.uint8]:
    """Draw one nucleus a label, with its neighbours, blur and noise: (n,) -> (n, 7, 32, 32) uint8."""
    n = len(labels)
    mean = {
        field.name: np.array([getattr(kind, field.name) for kind in KINDS], dtype=np.float32)[labels]
        for field in fields(Kind)[2:]
    }

    def varied(name: str, spread: float) -> Floats:
        return mean[name] * np.exp(generator.normal(0, spread, n)).astype(np.float32)

    radius = varied("radius", 0.13)
    stretch = 1 + (mean["stretch"] - 1) * generator.gamma(4, 0.25, n).astype(np.float32) + 0.08
    bend = mean["bend"] + generator.normal(0, 0.12, n).astype(np.float32)
    centre = generator.normal(0, (0.6, 1.0, 1.0), (n, 3)).astype(np.float32)
    body = _nuclei(generator, radius, stretch, bend, varied("lobes", 0.3), centre)
    chromatin = 1 + varied("texture", 0.3)[:, None, None, None] * _texture(generator, varied("grain", 0.15))
    gain = varied("gain", 0.4)
    field = body * np.clip(chromatin, 0.1, None)
    for _ in range(2):
        field = np.maximum(field, varied("crowd", 0.3)[:, None, None, None] * _neighbour(generator, radius))
    field = _blur(field, generator.uniform(0.7, 1.3, n).astype(np.float32)) * gain[:, None, None, None]
    noise = generator.standard_normal(field.shape, dtype=np.float32)
    field += generator.gamma(3, 2.6, n).astype(np.float32)[:, None, None, None] + noise * np.sqrt(0.25 * field + 1)
    return np.asarray(np.clip(field, 0, 255), dtype=np.uint8)


def _nuclei(
    generator: np.random.Generator, radius: Floats, stretch: Floats, bend: Floats, lobes: Floats, centre: Floats
) -> Floats:
    """Return soft-edged ellipsoids, 1 inside and 0 outside, at random angles: (n,) each -> (n, 7, 32, 32)."""
    n = len(radius)
    turn, tilt = generator.uniform(0, 2 * np.pi, n), generator.normal(0, 0.3, n)
    middle = radius / np.cbrt(stretch * 0.8)
    u, v, w = _along(turn, tilt, _grid() - centre[:, :, None])
    u, v, w = u / (middle * stretch)[:, None], v / middle[:, None], w / (0.8 * middle)[:, None]
    v = v + bend[:, None] * (u * u - 0.4)
    square = u * u + v * v + w * w + 1e-6
    distance = np.sqrt(square)
    distance /= 1 + lobes[:, None] * u * (u * u - 3 * v * v) / (square * distance)
    edge = 1 / (1 + np.exp(np.minimum((distance - 1) * radius[:, None] * 1.5, 30)))
    return np.asarray(edge, dtype=np.float32).reshape(n, SLICES, SIDE, SIDE)


def _along(turn: NDArray[np.float64], tilt: NDArray[np.float64], points: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the zyx points' coordinates along a nucleus's long, middle and short axes: (n, 3, p) -> 3 of (n, p)."""
    zero = np.zeros_like(turn)
    long = np.stack([np.sin(tilt), np.cos(tilt) * np.sin(turn), np.cos(tilt) * np.cos(turn)], axis=1)
    middle = np.stack([zero, np.cos(turn), -np.sin(turn)], axis=1)
    axes = np.stack([long, middle, np.cross(long, middle)], axis=1).astype(np.float32)
    turned = axes @ points
    return turned[:, 0], turned[:, 1], turned[:, 2]


def _grid() -> Floats:
    """Return the zyx position of every voxel from the middle, in pixels: (3, 7 * 32 * 32)."""
    z = (np.arange(SLICES) - (SLICES - 1) / 2) * STEP_Z
    yx = np.arange(SIDE) - (SIDE - 1) / 2
    return np.stack(np.meshgrid(z, yx, yx, indexing="ij")).reshape(3, -1).astype(np.float32)


def _neighbour(generator: np.random.Generator, radius: Floats) -> Floats:
    """Return one nucleus a cell that mostly lies outside the picture's middle: (n,) -> (n, 7, 32, 32)."""
    n = len(radius)
    angle, size = generator.uniform(0, 2 * np.pi, n), 5.5 * np.exp(generator.normal(0, 0.2, n)).astype(np.float32)
    away = radius + size + generator.gamma(2, 2.0, n)
    centre = np.stack([generator.normal(0, 4, n), away * np.sin(angle), away * np.cos(angle)], axis=1)
    none = np.zeros(n, dtype=np.float32)
    stretch = generator.uniform(1, 1.8, n).astype(np.float32)
    return _nuclei(generator, size, stretch, none, none, centre.astype(np.float32))


def _texture(generator: np.random.Generator, grain: Floats) -> Floats:
    """Return smooth random fields of mean 0 and standard deviation 1: (n,) sizes in pixels -> (n, 7, 32, 32)."""
    noise = generator.standard_normal((len(grain), SLICES, SIDE, SIDE), dtype=np.float32)
    smooth = _blur(noise, grain)
    spread: Floats = smooth.std(axis=(1, 2, 3), keepdims=True)
    return smooth / (spread + 1e-6)


def _blur(volume: Floats, sigma: Floats) -> Floats:
    """Blur each slice by its cell's Gaussian of `sigma` pixels: (n, 7, 32, 32) and (n,) -> (n, 7, 32, 32)."""
    offset = np.arange(SIDE, dtype=np.float32)
    steps = np.abs(offset[:, None] - offset) / sigma[:, None, None]
    # Cut off at 4 sigma: beyond it the tail becomes denormal numbers, which multiply ten times slower.
    kernel = np.where(steps < 4, np.exp(-(np.minimum(steps, 4) ** 2) / 2), 0)
    kernel = kernel / kernel.sum(axis=1, keepdims=True)
    for _ in range(2):  # along x, then with the two sides swapped along y; one matrix product a cell each time
        flat = volume.reshape(len(sigma), SLICES * SIDE, SIDE) @ kernel
        volume = np.ascontiguousarray(flat.reshape(-1, SLICES, SIDE, SIDE).swapaxes(2, 3))
    return volume
