"""Predicted classes painted over the stack that the nuclei came from, with a legend that counts them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image

from nephros.errors import UserError
from nephros.files import atomic
from nephros.reporting.plots.style import CELL_COLOURS, INK, MUTED, PAPER, percent, styled, wrap

SUFFIXES = {".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF"}
UNFAMILIAR = "#d8d5cd"
GREYS = (1.0, 99.8)
"""Percentiles of the projection that are drawn black and white."""
_FILL, _SMALL = 0.65, 900
_BAND = 256
"""Rows painted at a time."""
_PANEL, _ROW, _HEAD, _FOOT = 3.0, 0.29, 0.75, 1.35
"""Inches: the legend's width, a class's row, and what stands above and below the rows."""
_BARS = (5, 10, 20, 50, 100, 200, 500, 1000, 2000)

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Painted:
    """What is painted: each nucleus's class."""

    labels: NDArray[np.int64]
    """(n,) class of each nucleus."""
    names: dict[int, str]
    """Class -> name."""
    unfamiliar: NDArray[np.bool_]
    """(n,) nuclei that look like none of the training data."""
    title: str
    notes: Sequence[str] = ()
    """Lines at the legend's foot."""
    pixel_um: float | None = None
    """Micrometres a pixel of the projection, for the scale bar."""


def check_suffix(path: Path) -> None:
    """Raise UserError unless `path` ends as a picture that can be written here."""
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"--out is {path}, but it must end in .png or .tif.")


def save_overlay(path: Path, light: NDArray[np.float32], seen: NDArray[np.int32], painted: Painted) -> None:
    """Write the picture with its legend to `path`, a PNG or TIFF file; arguments as of `paint`."""
    check_suffix(path)
    picture = paint(light, seen, painted)
    panel = legend(painted, len(picture))
    height = max(len(picture), len(panel))
    sheet = np.empty((height, picture.shape[1] + panel.shape[1], 3), np.uint8)
    sheet[:] = np.round(255 * np.array(to_rgb(PAPER))).astype(np.uint8)
    sheet[: len(picture), : picture.shape[1]] = picture
    sheet[: len(panel), picture.shape[1] :] = panel
    kind = SUFFIXES[path.suffix.lower()]
    options = {"optimize": False} if kind == "PNG" else {"compression": "tiff_adobe_deflate"}
    with atomic(path) as file:
        Image.fromarray(sheet).save(file, format=kind, **options)


def paint(light: NDArray[np.float32], seen: NDArray[np.int32], painted: Painted) -> Pixels:
    """Return the coloured projection, (h, w, 3) uint8.

    A nucleus is filled half-transparently with its class's colour and outlined with it; an unfamiliar one is hatched
    with the colour and outlined in grey. Small pictures are enlarged by whole pixels.

    Args:
        light: (h, w), the maximum over slices.
        seen: (h, w), 1 + the row of `painted` whose nucleus shows at the pixel, 0 where none does.
    """
    times = -(-_SMALL // max(light.shape))
    light = light.repeat(times, axis=0).repeat(times, axis=1)
    seen = seen.repeat(times, axis=0).repeat(times, axis=1)
    step = max(1, max(light.shape) // 1024)
    low, high = np.percentile(light[::step, ::step], GREYS)
    picture = np.empty((*light.shape, 3), np.uint8)
    edge = np.zeros(seen.shape, np.bool_)
    edge[1:] |= seen[1:] != seen[:-1]
    edge[:, 1:] |= seen[:, 1:] != seen[:, :-1]
    for top in range(0, len(picture), _BAND):  # a band at a time: what is worked with takes many times its memory
        band = slice(top, top + _BAND)
        grey = np.clip((light[band] - low) / max(high - low, 1e-9), 0, 1).astype(np.float32) ** 0.7
        picture[band] = (grey * 235).astype(np.uint8)[..., None]
        _colour(picture[band], grey, seen[band], edge[band], top, painted)
    _scale_bar(picture, painted.pixel_um, times)
    return picture


def _colour(
    picture: Pixels,
    grey: NDArray[np.float32],
    seen: NDArray[np.int32],
    edge: NDArray[np.bool_],
    top: int,
    painted: Painted,
) -> None:
    """Colour the nuclei of a band of the picture that begins at row `top`."""
    y, x = np.nonzero(seen)
    rows, outline = seen[y, x] - 1, edge[y, x]
    colours = np.array([_rgb(label) for label in range(len(CELL_COLOURS))], np.float32)
    colours = colours[painted.labels[rows] % len(CELL_COLOURS)]
    strange = painted.unfamiliar[rows]
    period = 3 * max(2, round(max(picture.shape) / 1000))
    filled = ~strange | ((x + y + top) % (2 * period) < period)
    shade = 0.45 + 0.55 * grey[y, x][:, None]
    mixed = (1 - _FILL) * picture[y, x] + _FILL * shade * colours
    found = np.where(filled[:, None], mixed, picture[y, x])
    found[outline] = colours[outline]
    found[outline & strange] = np.round(255 * np.array(to_rgb(UNFAMILIAR)))
    picture[y, x] = found.astype(np.uint8)


def _rgb(label: int) -> NDArray[np.float64]:
    return 255 * np.array(to_rgb(CELL_COLOURS[label % len(CELL_COLOURS)]))


def bar_length(pixel_um: float, width: int) -> int | None:
    """Return the scale bar's micrometres: the longest of a few round lengths that fills at most a quarter of `width` pixels."""
    return max((length for length in _BARS if length / pixel_um <= width / 4), default=None)


def _scale_bar(picture: Pixels, pixel_um: float | None, times: int) -> None:
    """Draw the bar into the lower left corner; the legend says how long it is."""
    height, width = picture.shape[:2]
    if pixel_um is None or (length := bar_length(pixel_um / times, width)) is None:
        return
    thick, margin = max(3, height // 200), max(6, height // 50)
    picture[height - margin - thick : height - margin, margin : margin + round(length / pixel_um * times)] = 255


@styled
def legend(painted: Painted, height: int) -> Pixels:
    """Return the legend, (h, w, 3) uint8, to stand right of a picture `height` pixels high."""
    counts = {label: int(np.sum(painted.labels == label)) for label in sorted(painted.names)}
    strange, n = int(painted.unfamiliar.sum()), len(painted.labels)
    needed = _HEAD + _ROW * (len(counts) + 1) + _FOOT
    dpi = float(np.clip(height / max(needed, 7.0), 100, 400))
    inches = max(height / dpi, needed)
    figure = Figure(figsize=(_PANEL, inches), dpi=dpi)

    def write(x: float, down: float, text: str, **how: object) -> None:
        figure.text(x / _PANEL, 1 - down / inches, text, va="center", **how)  # type: ignore[arg-type]

    def numbers(down: float, count: int) -> None:
        write(_PANEL - 0.55, down, f"{count:,}", fontsize=7.5, ha="right")
        write(_PANEL - 0.12, down, percent(count / max(n, 1)), fontsize=7.5, ha="right", color=MUTED)

    def swatch(down: float, colour: str, hatch: str | None = None) -> None:
        box = Rectangle(
            (0.2 / _PANEL, 1 - (down + 0.08) / inches), 0.18 / _PANEL, 0.16 / inches, transform=figure.transFigure
        )
        box.set(facecolor="none" if hatch else colour, edgecolor=MUTED if hatch else colour, hatch=hatch, linewidth=0.8)
        figure.add_artist(box)

    write(0.2, 0.28, wrap(painted.title, 34, 1), fontsize=9, weight="bold")
    write(0.2, 0.52, f"{n:,} nuclei", fontsize=8, color=MUTED)
    down = _HEAD + _ROW / 2
    for label, count in counts.items():
        swatch(down, CELL_COLOURS[label % len(CELL_COLOURS)])
        write(0.48, down, wrap(painted.names[label], 24, 2), fontsize=7.5, linespacing=0.95)
        numbers(down, count)
        down += _ROW
    swatch(down, MUTED, "////")
    write(0.48, down, "unfamiliar: hatched", fontsize=7.5, color=INK)
    numbers(down, strange)
    down += _ROW + 0.05
    for line in painted.notes:
        text = wrap(line, 46, 3)
        down += 0.13 * (text.count("\n") + 1) / 2
        write(0.2, down, text, fontsize=6.5, color=MUTED)
        down += 0.13 * (text.count("\n") + 1) / 2 + 0.05
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]
