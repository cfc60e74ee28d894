"""Figures that hold the numbers they show, so that one that differs from its table is noticed and drawn again."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image


def save_figure(figure: Figure, file: Path, numbers: str) -> None:
    """Write a PNG file that holds `numbers`, ASCII text, in its description."""
    figure.savefig(file, dpi=160, metadata={"Description": numbers})


def shows(file: Path, numbers: str) -> bool:
    """Return whether `file` is a figure of these numbers."""
    if not file.is_file():
        return False
    with Image.open(file) as image:
        return bool(image.info.get("Description") == numbers)
