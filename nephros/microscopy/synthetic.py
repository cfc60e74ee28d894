"""A made-up stack of kidney nuclei with its mask, at any size, slice by slice: for demos, tests and timings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nephros.data.subset import quotas
from nephros.data.synthetic import KINDS
from nephros.microscopy.voxel_size import TRAINING, Voxels

APART = (10.0, 11.0, 11.0)
"""Micrometres from nucleus to nucleus along z, y and x, before each is moved a little."""
_PIXEL = 0.5
"""Micrometres of the unit in which KINDS gives sizes."""


@dataclass(frozen=True)
class Tissue:
    """Ellipsoids in noise: 16-bit slices, and the number of the nucleus that each pixel belongs to.

    The same arguments give the same slices, read as often as wanted.
    """

    shape: tuple[int, int, int]
    voxel_size: Voxels = TRAINING
    seed: int = 0
    background: float = 300.0
    gain: float = 40.0
    """Of the stack's units a unit of 8 bits."""

    kinds: NDArray[np.int64] = field(init=False)
    """(n,): the place in KINDS of the nucleus whose number in the mask is its own place + 1."""
    middles: NDArray[np.float64] = field(init=False)
    """(n, 3) micrometres along z, y and x."""
    radii: NDArray[np.float64] = field(init=False)
    """(n, 3) micrometres along z and along a nucleus's short and long axis."""
    turns: NDArray[np.float64] = field(init=False)
    gains: NDArray[np.float64] = field(init=False)
    """(n,) brightness in units of 8 bits."""

    def __post_init__(self) -> None:
        random = np.random.default_rng(self.seed)
        extent = np.array(self.shape) * self.voxel_size
        counts = np.maximum(1, (extent / APART).astype(int))
        axes = [(np.arange(n) + 0.5) * length / n for n, length in zip(counts, extent, strict=True)]
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
        n = len(grid)
        weights = np.array([kind.weight for kind in KINDS], dtype=np.int64)
        kinds = random.permutation(np.repeat(np.arange(len(KINDS)), quotas(weights, n)))
        radius = np.array([kind.radius for kind in KINDS])[kinds] * _PIXEL * np.exp(random.normal(0, 0.08, n))
        stretch = np.array([kind.stretch for kind in KINDS])[kinds] ** 0.5
        made = {
            "kinds": kinds,
            "middles": grid + random.uniform(-1, 1, (n, 3)) * (0.8, 2.2, 2.2),
            "radii": np.stack([radius, radius / stretch, radius * stretch], axis=1).clip(max=5.2),
            "turns": random.uniform(0, np.pi, n),
            "gains": np.array([kind.gain for kind in KINDS])[kinds] * np.exp(random.normal(0, 0.2, n)),
        }
        for name, values in made.items():
            object.__setattr__(self, name, values)  # the way of a frozen dataclass

    def slices(self) -> Iterator[tuple[NDArray[np.uint16], NDArray[np.int32]]]:
        """Draw slice after slice: pixels and mask, each (rows, columns)."""
        random = np.random.default_rng(self.seed + 1)
        for z in range(self.shape[0]):
            light = self._haze(z)
            marks = np.zeros(self.shape[1:], np.int32)
            height = z * self.voxel_size[0]
            for index in np.flatnonzero(np.abs(self.middles[:, 0] - height) < self.radii[:, 0] + 1):
                self._draw(int(index), height, light, marks)
            for pixels in np.array_split(light, max(1, light.size >> 20)):  # views: a band of rows at a time
                noise = random.standard_normal(pixels.shape, dtype=np.float32)
                pixels *= self.gain
                pixels += self.background + noise * np.sqrt(pixels * self.gain * 0.3 + 400)
            yield np.clip(light, 0, 65535).astype(np.uint16), marks

    def _haze(self, z: int) -> NDArray[np.float32]:
        """Return a slice's uneven background, in units of 8 bits: what the tissue itself shines."""
        _, height, width = self.shape
        y = np.sin(np.arange(height, dtype=np.float32) * self.voxel_size[1] / 17 + z * self.voxel_size[0] / 9)
        x = np.sin(np.arange(width, dtype=np.float32) * self.voxel_size[2] / 23)
        return np.float32(14) + np.float32(10) * y[:, None] * x[None]

    def _draw(self, index: int, height: float, light: NDArray[np.float32], marks: NDArray[np.int32]) -> None:
        middle, radii = self.middles[index], self.radii[index]
        reach = float(radii.max()) + 1
        box = [
            slice(max(0, int((middle[k] - reach) / side)), int((middle[k] + reach) / side) + 2)
            for k, side in ((1, self.voxel_size[1]), (2, self.voxel_size[2]))
        ]
        there = marks[box[0], box[1]]
        y = (box[0].start + np.arange(there.shape[0])) * self.voxel_size[1] - middle[1]
        x = (box[1].start + np.arange(there.shape[1])) * self.voxel_size[2] - middle[2]
        turn = self.turns[index]
        u = np.cos(turn) * x[None] + np.sin(turn) * y[:, None]
        v = -np.sin(turn) * x[None] + np.cos(turn) * y[:, None]
        distance = np.sqrt((u / radii[2]) ** 2 + (v / radii[1]) ** 2 + ((height - middle[0]) / radii[0]) ** 2)
        there[(distance < 1) & (there == 0)] = index + 1
        edge = (1 / (1 + np.exp(np.clip((distance - 1) * 8, -30, 30)))).astype(np.float32)
        np.maximum(light[box[0], box[1]], edge * np.float32(self.gains[index]), out=light[box[0], box[1]])
