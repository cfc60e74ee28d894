"""An image as its file stores it, before it is scaled, resized or made gray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Layout = Literal["gray", "color", "planes", "channels"]

_ORIENTATIONS = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels),
}
"""Value of the tag Orientation (EXIF 2.32, TIFF 6.0) -> what brings the stored rows and columns upright."""


@dataclass(frozen=True)
class DecodedImage:
    """The stored values of one image."""

    pixels: NDArray[Any]
    """(h, w), or (h, w, n) with a plane per sample; any integer or floating-point type."""
    layout: Layout
    """``gray``: the first plane is the image. ``color``: the first three planes are red, green and blue. In both cases further
    planes are transparency or unnamed, and are kept only where they differ between pixels. ``planes``: three planes that the file
    calls colors, but has one after the other, as programs write channels and slices. ``channels``: nothing is known of the
    planes."""
    notes: tuple[str, ...] = ()
    """How the stored values were read, where that is not plain."""

    @classmethod
    def from_samples(cls, samples: NDArray[Any], layout: Layout, notes: tuple[str, ...] = ()) -> DecodedImage:
        """Return the image of (h, w) or (h, w, n) samples, without further planes that are the same everywhere."""
        if samples.ndim == 2:
            return cls(samples, "gray", notes)
        n_planes = 1 if layout == "gray" else 3 if layout == "color" else int(samples.shape[2])
        further = [plane for plane in range(n_planes, samples.shape[2]) if np.ptp(samples[..., plane])]
        pixels = samples[..., [*range(n_planes), *further]]
        return cls(pixels[..., 0] if pixels.shape[2] == 1 else pixels, layout, notes)

    @classmethod
    def projection(cls, slices: Sequence[DecodedImage], note: str) -> DecodedImage:
        """Return the maximum over slices, with their notes and one more; raise ValueError where they are not gray and alike."""
        pixels = np.stack([image.pixels for image in slices])
        if pixels.ndim != 3:
            raise ValueError("slices are gray")
        notes = dict.fromkeys(text for image in slices for text in image.notes)
        return cls(pixels.max(axis=0), "gray", (*notes, note))

    def upright(self, orientation: int) -> DecodedImage:
        """Return the image turned as the value of its tag Orientation says."""
        if (turn := _ORIENTATIONS.get(orientation)) is None:
            return self
        pixels = np.ascontiguousarray(turn(self.pixels))
        return replace(self, pixels=pixels, notes=(*self.notes, TURNED_NOTE))


TURNED_NOTE = "turned as its orientation tag says"
