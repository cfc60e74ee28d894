"""Synthetic stacks of kidney nuclei with their masks, of any size, slice by slice, for demos, tests and benchmarks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nephros.data.subset import largest_remainder
from nephros.data.synthetic import NUCLEUS_TYPES
from nephros.microscopy.voxel_size import TRAINING_VOXEL_SIZE, VoxelSize

SPACING_UM = (10.0, 11.0, 11.0)
"""Distance between neighboring nuclei along z, y and x in micrometers, before each is moved a little."""
_PIXEL_UM = 0.5
"""Micrometers per pixel, in which NUCLEUS_TYPES gives sizes."""


@dataclass(frozen=True)
class SyntheticStack:
    """A stack of ellipsoids in noise, 16 bits, and its instance mask.

    The same arguments give the same slices, however often they are read.
    """

    shape: tuple[int, int, int]
    voxel_size: VoxelSize = TRAINING_VOXEL_SIZE
    seed: int = 0
    background: float = 300.0
    gain: float = 40.0
    """Intensity of the stack per unit of an 8-bit image."""

    nucleus_types: NDArray[np.int64] = field(init=False)
    """(n,) indices into NUCLEUS_TYPES; the nucleus at index i has the id i + 1 in the mask."""
    centers_um: NDArray[np.float64] = field(init=False)
    """(n, 3) micrometers along z, y and x."""
    radii_um: NDArray[np.float64] = field(init=False)
    """(n, 3) micrometers along z and along the short and the long axis in the plane."""
    angles: NDArray[np.float64] = field(init=False)
    """(n,) angle of the long axis in the plane, in radians."""
    intensities: NDArray[np.float64] = field(init=False)
    """(n,) intensities, from 0 to 255."""

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        extent = np.array(self.shape) * self.voxel_size
        counts = np.maximum(1, (extent / SPACING_UM).astype(int))
        axes = [(np.arange(n) + 0.5) * length / n for n, length in zip(counts, extent, strict=True)]
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
        n = len(grid)
        weights = np.array([nucleus_type.weight for nucleus_type in NUCLEUS_TYPES], dtype=np.int64)
        type_counts = largest_remainder(weights, max(n, len(NUCLEUS_TYPES)))  # a small stack has only some types
        nucleus_types = rng.permutation(np.repeat(np.arange(len(NUCLEUS_TYPES)), type_counts))[:n]
        radius = (
            np.array([nucleus_type.radius for nucleus_type in NUCLEUS_TYPES])[nucleus_types]
            * _PIXEL_UM
            * np.exp(rng.normal(0, 0.08, n))
        )
        elongation = np.array([nucleus_type.elongation for nucleus_type in NUCLEUS_TYPES])[nucleus_types] ** 0.5
        nuclei = {
            "nucleus_types": nucleus_types,
            "centers_um": grid + rng.uniform(-1, 1, (n, 3)) * (0.8, 2.2, 2.2),
            "radii_um": np.stack([radius, radius / elongation, radius * elongation], axis=1).clip(max=5.2),
            "angles": rng.uniform(0, np.pi, n),
            "intensities": np.array([nucleus_type.intensity for nucleus_type in NUCLEUS_TYPES])[nucleus_types]
            * np.exp(rng.normal(0, 0.2, n)),
        }
        for name, values in nuclei.items():
            object.__setattr__(self, name, values)  # as a frozen dataclass needs it

    def slices(self) -> Iterator[tuple[NDArray[np.uint16], NDArray[np.int32]]]:
        """Yield the slices of the stack, uint16, and of its mask, int32, (rows, columns) each."""
        rng = np.random.default_rng(self.seed + 1)
        for z in range(self.shape[0]):
            pixels = self._draw_background(z)
            mask_slice = np.zeros(self.shape[1:], np.int32)
            z_um = z * self.voxel_size[0]
            for index in np.flatnonzero(np.abs(self.centers_um[:, 0] - z_um) < self.radii_um[:, 0] + 1):
                self._draw_nucleus(int(index), z_um, pixels, mask_slice)
            for band in np.array_split(pixels, max(1, pixels.size >> 20)):  # views of a few rows each, to save memory
                noise = rng.standard_normal(band.shape, dtype=np.float32)
                band *= self.gain
                band += self.background + noise * np.sqrt(band * self.gain * 0.3 + 400)
            yield np.clip(pixels, 0, 65535).astype(np.uint16), mask_slice

    def _draw_background(self, z: int) -> NDArray[np.float32]:
        """Return the uneven background of a slice, from 0 to 255, as from the tissue's autofluorescence."""
        _, height, width = self.shape
        y = np.sin(np.arange(height, dtype=np.float32) * self.voxel_size[1] / 17 + z * self.voxel_size[0] / 9)
        x = np.sin(np.arange(width, dtype=np.float32) * self.voxel_size[2] / 23)
        return np.float32(14) + np.float32(10) * y[:, None] * x[None]

    def _draw_nucleus(
        self, index: int, z_um: float, pixels: NDArray[np.float32], mask_slice: NDArray[np.int32]
    ) -> None:
        center, radii = self.centers_um[index], self.radii_um[index]
        max_radius = float(radii.max()) + 1
        box = [
            slice(max(0, int((center[k] - max_radius) / side)), int((center[k] + max_radius) / side) + 2)
            for k, side in ((1, self.voxel_size[1]), (2, self.voxel_size[2]))
        ]
        mask_box = mask_slice[box[0], box[1]]
        y = (box[0].start + np.arange(mask_box.shape[0])) * self.voxel_size[1] - center[1]
        x = (box[1].start + np.arange(mask_box.shape[1])) * self.voxel_size[2] - center[2]
        angle = self.angles[index]
        u = np.cos(angle) * x[None] + np.sin(angle) * y[:, None]
        v = -np.sin(angle) * x[None] + np.cos(angle) * y[:, None]
        distance = np.sqrt((u / radii[2]) ** 2 + (v / radii[1]) ** 2 + ((z_um - center[0]) / radii[0]) ** 2)
        mask_box[(distance < 1) & (mask_box == 0)] = index + 1
        edge = (1 / (1 + np.exp(np.clip((distance - 1) * 8, -30, 30)))).astype(np.float32)
        np.maximum(pixels[box[0], box[1]], edge * np.float32(self.intensities[index]), out=pixels[box[0], box[1]])
