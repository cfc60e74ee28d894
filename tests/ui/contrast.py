"""Contrast of CSS colors, as WCAG 2 defines it."""

from __future__ import annotations


def relative_luminance(color: str) -> float:
    """Return the relative luminance of a CSS ``rgb(r, g, b)`` color, from 0 for black to 1 for white."""
    channels = [float(part) / 255 for part in color[color.index("(") + 1 : -1].split(",")[:3]]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast_ratio(luminance_a: float, luminance_b: float) -> float:
    """Return the contrast ratio of two relative luminances, from 1 to 21; body text needs at least 4.5."""
    dark, light = sorted((luminance_a, luminance_b))
    return (light + 0.05) / (dark + 0.05)
