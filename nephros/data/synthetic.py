"""Synthetic kidney nuclei for demos and tests: grayscale 32x32x7 volumes that are prepared as TissueMNIST was."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from nephros.array_types import Float32Array
from nephros.data.dataset import Dataset
from nephros.data.images.transforms import max_project, resize_images
from nephros.data.provenance import Provenance
from nephros.data.split import Split
from nephros.data.subset import largest_remainder
from nephros.errors import InvalidArgument

IMAGE_SIZE = 28
N_SLICES, SLICE_SIDE = 7, 32
SLICE_SPACING = 2.0
"""Distance between slices in pixels of a slice."""
_BATCH_SIZE = 64


@dataclass(frozen=True)
class NucleusType:
    """The means of one class's distribution of nuclei; the spread is the same for all classes and makes them overlap."""

    name: str
    weight: int
    """Relative frequency of the class; the weights are the class counts of TissueMNIST's official test split."""
    radius: float
    """Radius of a sphere of the same volume, in pixels."""
    elongation: float
    """Length of the longest axis divided by that of the middle axis."""
    curvature: float
    """How far the long axis bends, as a fraction of the middle axis."""
    lobe_depth: float
    """Depth of three lobes, as a fraction of the radius."""
    intensity: float
    """Intensity from 0 to 255."""
    texture_std: float
    """Standard deviation of the chromatin texture, as a fraction of the intensity."""
    texture_scale: float
    """Grain size of the texture, in pixels."""
    neighbor_intensity: float
    """Intensity of neighboring nuclei, as a fraction of the nucleus's own."""


NUCLEUS_TYPES = (
    NucleusType("round", 15165, 6.1, 1.10, 0.00, 0.00, 60, 0.12, 1.6, 0.70),
    NucleusType("oval", 2233, 6.5, 1.55, 0.00, 0.00, 60, 0.15, 1.6, 0.75),
    NucleusType("bean", 1677, 5.6, 1.60, 0.45, 0.00, 72, 0.20, 1.6, 0.55),
    NucleusType("spindle", 4402, 5.0, 2.40, 0.10, 0.00, 70, 0.15, 1.6, 0.65),
    NucleusType("lobed", 3369, 5.1, 1.10, 0.00, 0.18, 85, 0.22, 1.4, 0.65),
    NucleusType("pale", 2202, 7.2, 1.20, 0.00, 0.04, 38, 0.20, 2.0, 0.55),
    NucleusType("speckled", 11201, 6.8, 1.15, 0.00, 0.00, 54, 0.45, 1.1, 0.65),
    NucleusType("mottled", 7031, 6.6, 1.20, 0.00, 0.04, 58, 0.50, 2.5, 0.85),
)


def make_synthetic(
    n_train: int = 6000, n_val: int = 1000, n_test: int = 2000, seed: int = 0, n_classes: int = 8
) -> Dataset:
    """Generate a data set of synthetic nuclei, (n, 28, 28) uint8, in overlapping classes of unequal frequency.

    Args:
        n_train: number of training images.
        n_val: number of validation images.
        n_test: number of test images.
        seed: the same arguments give the same images.
        n_classes: between 2 and 8.

    Raises:
        InvalidArgument: `n_classes` is not in 2..8, or a split has fewer images than classes.
    """
    if not 2 <= n_classes <= len(NUCLEUS_TYPES):
        raise InvalidArgument("n_classes", n_classes, f"between 2 and {len(NUCLEUS_TYPES)}")
    for name, n in (("n_train", n_train), ("n_val", n_val), ("n_test", n_test)):
        if n < n_classes:
            raise InvalidArgument(name, n, f"at least {n_classes}, one image per class")
    seed_sequences = np.random.SeedSequence(seed).spawn(3)
    splits = [
        _make_split(n, n_classes, np.random.default_rng(seed_sequence))
        for n, seed_sequence in zip((n_train, n_val, n_test), seed_sequences, strict=True)
    ]
    digest = hashlib.sha256()
    for split in splits:
        digest.update(split.images.tobytes())
        digest.update(split.labels.tobytes())
    names = tuple(f"synthetic: {nucleus_type.name}" for nucleus_type in NUCLEUS_TYPES[:n_classes])
    provenance = Provenance(
        "synthetic nuclei", "synthetic", "", digest.hexdigest(), detail=f"generated with seed {seed}"
    )
    task = "binary-class" if n_classes == 2 else "multi-class"
    return Dataset(splits[0], splits[1], splits[2], names, provenance, task)


def _make_split(n: int, n_classes: int, rng: np.random.Generator) -> Split:
    weights = np.array([nucleus_type.weight for nucleus_type in NUCLEUS_TYPES[:n_classes]], dtype=np.int64)
    labels = rng.permutation(np.repeat(np.arange(n_classes), largest_remainder(weights, n))).astype(np.int64)
    images = [
        resize_images(max_project(draw_volumes(labels[start : start + _BATCH_SIZE], rng)), IMAGE_SIZE)
        for start in range(0, n, _BATCH_SIZE)
    ]
    return Split(np.concatenate(images), labels)


def draw_volumes(labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw one nucleus per label, with its neighbors, blur and noise: (n,) int64 -> (n, 7, 32, 32) uint8."""
    n = len(labels)
    means = {
        field.name: np.array([getattr(kind, field.name) for kind in NUCLEUS_TYPES], dtype=np.float32)[labels]
        for field in fields(NucleusType)[2:]
    }

    def sample_lognormal(name: str, spread: float) -> Float32Array:
        return means[name] * np.exp(rng.normal(0, spread, n)).astype(np.float32)

    radius = sample_lognormal("radius", 0.13)
    elongation = 1 + (means["elongation"] - 1) * rng.gamma(4, 0.25, n).astype(np.float32) + 0.08
    curvature = means["curvature"] + rng.normal(0, 0.12, n).astype(np.float32)
    center = rng.normal(0, (0.6, 1.0, 1.0), (n, 3)).astype(np.float32)
    nuclei = _draw_ellipsoids(rng, radius, elongation, curvature, sample_lognormal("lobe_depth", 0.3), center)
    chromatin = 1 + sample_lognormal("texture_std", 0.3)[:, None, None, None] * _draw_texture(
        rng, sample_lognormal("texture_scale", 0.15)
    )
    intensity = sample_lognormal("intensity", 0.4)
    volume = nuclei * np.clip(chromatin, 0.1, None)
    for _ in range(2):
        volume = np.maximum(
            volume, sample_lognormal("neighbor_intensity", 0.3)[:, None, None, None] * _draw_neighbors(rng, radius)
        )
    volume = _blur(volume, rng.uniform(0.7, 1.3, n).astype(np.float32)) * intensity[:, None, None, None]
    noise = rng.standard_normal(volume.shape, dtype=np.float32)
    volume += rng.gamma(3, 2.6, n).astype(np.float32)[:, None, None, None] + noise * np.sqrt(0.25 * volume + 1)
    return np.asarray(np.clip(volume, 0, 255), dtype=np.uint8)


def _draw_ellipsoids(
    rng: np.random.Generator,
    radius: Float32Array,
    elongation: Float32Array,
    curvature: Float32Array,
    lobe_depth: Float32Array,
    center: Float32Array,
) -> Float32Array:
    """Draw soft-edged ellipsoids, 1 inside and 0 outside, at random angles: (n,) each, center (n, 3) -> (n, 7, 32, 32)."""
    n = len(radius)
    azimuth, tilt = rng.uniform(0, 2 * np.pi, n), rng.normal(0, 0.3, n)
    middle = radius / np.cbrt(elongation * 0.8)
    u, v, w = _principal_coordinates(azimuth, tilt, _voxel_grid() - center[:, :, None])
    u, v, w = u / (middle * elongation)[:, None], v / middle[:, None], w / (0.8 * middle)[:, None]
    v = v + curvature[:, None] * (u * u - 0.4)
    square = u * u + v * v + w * w + 1e-6
    distance = np.sqrt(square)
    distance /= 1 + lobe_depth[:, None] * u * (u * u - 3 * v * v) / (square * distance)
    edge = 1 / (1 + np.exp(np.minimum((distance - 1) * radius[:, None] * 1.5, 30)))
    return np.asarray(edge, dtype=np.float32).reshape(n, N_SLICES, SLICE_SIDE, SLICE_SIDE)


def _principal_coordinates(
    azimuth: NDArray[np.float64], tilt: NDArray[np.float64], points: Float32Array
) -> tuple[Float32Array, Float32Array, Float32Array]:
    """Rotate zyx points into the frame of a nucleus's long, middle and short axes: (n, 3, p) -> three of (n, p)."""
    zero = np.zeros_like(azimuth)
    long = np.stack([np.sin(tilt), np.cos(tilt) * np.sin(azimuth), np.cos(tilt) * np.cos(azimuth)], axis=1)
    middle = np.stack([zero, np.cos(azimuth), -np.sin(azimuth)], axis=1)
    axes = np.stack([long, middle, np.cross(long, middle)], axis=1).astype(np.float32)
    rotated = axes @ points
    return rotated[:, 0], rotated[:, 1], rotated[:, 2]


def _voxel_grid() -> Float32Array:
    """Return the zyx position of every voxel relative to the center, in pixels: (3, 7 * 32 * 32)."""
    z = (np.arange(N_SLICES) - (N_SLICES - 1) / 2) * SLICE_SPACING
    yx = np.arange(SLICE_SIDE) - (SLICE_SIDE - 1) / 2
    return np.stack(np.meshgrid(z, yx, yx, indexing="ij")).reshape(3, -1).astype(np.float32)


def _draw_neighbors(rng: np.random.Generator, radius: Float32Array) -> Float32Array:
    """Draw one neighbor per cell, mostly outside the center of the image: (n,) -> (n, 7, 32, 32)."""
    n = len(radius)
    angle, size = rng.uniform(0, 2 * np.pi, n), 5.5 * np.exp(rng.normal(0, 0.2, n)).astype(np.float32)
    distance = radius + size + rng.gamma(2, 2.0, n)
    center = np.stack([rng.normal(0, 4, n), distance * np.sin(angle), distance * np.cos(angle)], axis=1)
    zeros = np.zeros(n, dtype=np.float32)
    elongation = rng.uniform(1, 1.8, n).astype(np.float32)
    return _draw_ellipsoids(rng, size, elongation, zeros, zeros, center.astype(np.float32))


def _draw_texture(rng: np.random.Generator, scale: Float32Array) -> Float32Array:
    """Draw smooth random fields of mean 0 and standard deviation 1 with a grain of `scale` pixels: (n,) -> (n, 7, 32, 32)."""
    noise = rng.standard_normal((len(scale), N_SLICES, SLICE_SIDE, SLICE_SIDE), dtype=np.float32)
    smooth = _blur(noise, scale)
    std: Float32Array = smooth.std(axis=(1, 2, 3), keepdims=True)
    return smooth / (std + 1e-6)


def _blur(volume: Float32Array, sigma: Float32Array) -> Float32Array:
    """Blur each slice with its cell's Gaussian of `sigma` pixels: (n, 7, 32, 32) and (n,) -> (n, 7, 32, 32)."""
    offset = np.arange(SLICE_SIDE, dtype=np.float32)
    steps = np.abs(offset[:, None] - offset) / sigma[:, None, None]
    # The kernel is cut off at 4 sigma: beyond, its tail becomes denormal numbers, which are ten times slower to multiply.
    kernel = np.where(steps < 4, np.exp(-(np.minimum(steps, 4) ** 2) / 2), 0)
    kernel = kernel / kernel.sum(axis=1, keepdims=True)
    for _ in range(2):  # along x, then, with the two axes swapped, along y; one matrix product per cell each time
        flat = volume.reshape(len(sigma), N_SLICES * SLICE_SIDE, SLICE_SIDE) @ kernel
        volume = np.ascontiguousarray(flat.reshape(-1, N_SLICES, SLICE_SIDE, SLICE_SIDE).swapaxes(2, 3))
    return volume
