"""What the colors of an image stand for: intensities behind a palette, and the planes of a color image that hold a signal."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LOOKUP_TABLE_NOTE = "intensities read as stored, without the look-up table that colors them"
PLANE_NAMES = ("red", "green", "blue")
_SIGNAL_PERCENTILE, _MIN_SIGNAL_RATIO = 99, 0.3
"""A plane is empty where this percentile of its pixels is below this share of the brightest plane's. JPEG's color subsampling
leaves up to a quarter of a pure color in the other planes."""
_MIN_CORRELATION = 0.97
"""Pearson correlation from which two planes show one signal, as a cyan or orange look-up table makes them, rounded or in a JPEG
file of high quality."""
_MIN_RAMP_BRIGHTNESS = 128
_MIN_LUT_COLORS, _MAX_LUT_STEP, _MAX_LUT_JUMPS = 200, 24, 2
"""A look-up table of several hues has so many different colors, and neighbors no further apart but for so many (ImageJ's HiLo
has two)."""


def plane_number(channel: int | str | None) -> int | None:
    """Return which plane of an image a stack's channel would be: images have no names of channels but those of colors."""
    if isinstance(channel, str):
        return PLANE_NAMES.index(channel.lower()) if channel.lower() in PLANE_NAMES else None
    return channel


def signal_planes(image: NDArray[Any]) -> tuple[int, ...]:
    """Return the planes of an (h, w, 3) color image that hold its signal.

    One plane: the others are almost empty, or the two that are not are proportional, so that the brighter one is the signal.
    Two planes: they show different things. Three planes: colors as of a photograph, or gray. None: the image is black.
    """
    pixels = image.reshape(-1, 3)
    brightness = np.percentile(pixels, _SIGNAL_PERCENTILE, axis=0)
    if not brightness.any():
        brightness = pixels.max(axis=0).astype(np.float64)
    brightness *= np.ptp(pixels, axis=0) > 0  # a plane that is the same everywhere shows nothing
    planes = tuple(np.flatnonzero(brightness > _MIN_SIGNAL_RATIO * brightness.max()).tolist())
    if len(planes) == 2:
        a, b = (pixels[:, plane] - pixels[:, plane].mean() for plane in planes)
        if (a * b).sum() >= _MIN_CORRELATION * np.sqrt((a * a).sum() * (b * b).sum()):
            return (int(brightness.argmax()),)
    return planes


def palette_values(indices: NDArray[Any], palette: NDArray[np.uint8], bits: int) -> tuple[NDArray[Any], str]:
    """Return what an image with a palette shows: intensities, (h, w), or colors, (h, w, 3); and a note, empty where it is plain.

    A palette of one entry per value whose colors change evenly is a look-up table, which colors intensities for display: the
    indices are the intensities. The order of any other palette means nothing, so its colors are the image; they are gray where
    all that occur are gray.

    Args:
        indices: (h, w), the stored values.
        palette: (n, 3).
        bits: bits per stored value.
    """
    if is_lookup_table(palette, bits):
        is_plain = bits == 8 and (palette == np.arange(256)[:, None]).all()
        return indices, "" if is_plain else LOOKUP_TABLE_NOTE
    missing_entries = max(0, int(indices.max()) + 1 - len(palette))
    colors = np.pad(palette, ((0, missing_entries), (0, 0)))
    if (is_gray := (colors == colors[:, :1]).all(axis=1)).all() or is_gray[np.unique(indices)].all():
        return colors[:, 0][indices], ""
    return colors[indices], "colors taken from the palette"


def is_lookup_table(palette: NDArray[np.uint8], bits: int) -> bool:
    """Return whether a palette is full, and an even ramp of one color, up or down, or a table of many slowly changing colors.

    A ramp of gray that is uneven is not a look-up table: programs that reduce colors write the grays that occur, sorted.
    """
    if bits < 8 or len(palette) != 1 << bits:
        return False
    colors = palette.astype(np.float64)
    ramp = np.linspace(0, 1, len(colors))[:, None]
    if any(np.abs(colors - ramp[::step] * colors.max(axis=0)).max() <= 1 for step in (1, -1)):
        return bool(colors.max() >= _MIN_RAMP_BRIGHTNESS)
    is_gray = (palette == palette[:, :1]).all()
    n_jumps = (np.abs(np.diff(colors, axis=0)).max(axis=1) > _MAX_LUT_STEP).sum()
    return bool(not is_gray and len(np.unique(palette, axis=0)) >= _MIN_LUT_COLORS and n_jumps <= _MAX_LUT_JUMPS)


def inks_to_rgb(inks: NDArray[Any]) -> NDArray[Any]:
    """Return (h, w, 3) light for (h, w, 4) cyan, magenta, yellow and black ink, unsigned integers of the same type."""
    full = float(np.iinfo(inks.dtype).max)
    light = full - inks.astype(np.float64)
    rgb: NDArray[Any] = np.rint(light[..., :3] * (light[..., 3:] / full)).astype(inks.dtype)
    return rgb
