"""Predicted classes painted over the maximum projection of a stack, with a legend that counts them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image

from nephros.errors import InvalidArgument
from nephros.files import atomic_write
from nephros.microscopy.stack import Slice
from nephros.reporting.plots.style import CLASS_COLORS, INK, MUTED, PAPER, whole_percent, with_style, wrap_label

FORMAT_BY_SUFFIX = {".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF"}
OOD_COLOR = "#d8d5cd"
"""Outline of nuclei that are out of distribution."""
CONTRAST_PERCENTILES = (1.0, 99.8)
"""Percentiles of the projection that become black and white."""
_FILL_OPACITY, _MIN_SIDE = 0.65, 900
MAX_PROJECTION_SIDE = 8192
"""Largest side of the projection, in pixels; of larger stacks every second, third, ... pixel is taken."""
_BAND_ROWS = 256
"""Rows that are projected or painted at a time."""
_LEGEND_WIDTH, _LEGEND_ROW, _LEGEND_HEADER, _LEGEND_FOOTER = 3.0, 0.29, 0.75, 1.35
"""In inches: width of the legend, height of a row, and heights above and below the rows."""
_SCALE_BAR_LENGTHS_UM = (5, 10, 20, 50, 100, 200, 500, 1000, 2000)

RGBImage = NDArray[np.uint8]


@dataclass(frozen=True)
class ClassOverlay:
    """The classes to paint, and the text of the legend."""

    labels: NDArray[np.int64]
    """(n,) predicted class of each nucleus."""
    class_names: dict[int, str]
    """Class -> name."""
    is_ood: NDArray[np.bool_]
    """(n,) whether each nucleus is out of distribution."""
    title: str
    """Heading of the legend."""
    notes: Sequence[str] = ()
    """Lines at the bottom of the legend."""
    pixel_um: float | None = None
    """Micrometers per pixel of the projection, for the scale bar; None draws no bar."""


def project_stack(
    slice_pairs: Iterable[tuple[Slice, Slice]],
    shape: tuple[int, int, int],
    ids: NDArray[np.int64],
    mean_intensity: NDArray[np.float64],
) -> tuple[NDArray[np.float32], NDArray[np.int32], int]:
    """Project a stack and its mask along z.

    Where nuclei lie above each other, the one with the higher mean intensity is visible, and of equals the one with the higher
    id.

    Args:
        slice_pairs: the slices of the stack and of its mask.
        shape: slices, rows and columns of the stack.
        ids: (n,) int64, ascending, the ids of the nuclei to show.
        mean_intensity: (n,) of each nucleus.

    Returns:
        The maximum over slices, (h, w) float32; the visible nucleus at each pixel, (h, w) int32, as 1 + its index in `ids`, and
        0 where there is none; and the stride in pixels.
    """
    stride = -(-max(shape[1:]) // MAX_PROJECTION_SIDE)
    height, width = (-(-side // stride) for side in shape[1:])
    projection = np.full((height, width), -np.inf, np.float32)
    visible_nuclei = np.zeros((height, width), np.int32)
    rank = np.zeros(len(ids) + 1, np.int32)
    rank[1 + np.argsort(mean_intensity, kind="stable")] = np.arange(1, len(ids) + 1)
    for pixels, mask_slice in slice_pairs:
        np.maximum(projection, pixels[::stride, ::stride], out=projection, casting="unsafe")
        for top in range(0, height, _BAND_ROWS):
            mask_band, visible_band = (
                mask_slice[::stride, ::stride][top : top + _BAND_ROWS],
                visible_nuclei[top : top + _BAND_ROWS],
            )
            foreground = np.nonzero(mask_band)
            mask_ids = mask_band[foreground].astype(np.int64)
            indices = np.minimum(np.searchsorted(ids, mask_ids), len(ids) - 1)
            candidates = np.where(ids[indices] == mask_ids, indices + 1, 0)
            visible_band[foreground] = np.where(
                rank[candidates] > rank[visible_band[foreground]], candidates, visible_band[foreground]
            )
    return projection, visible_nuclei, stride


def check_overlay_suffix(path: Path) -> None:
    """Raise InvalidArgument unless the suffix of `path` is that of a supported image format."""
    if path.suffix.lower() not in FORMAT_BY_SUFFIX:
        raise InvalidArgument("out", path, "a path that ends in .png or .tif")


def save_overlay(
    path: Path, projection: NDArray[np.float32], visible_nuclei: NDArray[np.int32], class_overlay: ClassOverlay
) -> None:
    """Write the overlay with its legend to `path`, a PNG or TIFF file; the other arguments are those of `render_overlay`."""
    check_overlay_suffix(path)
    image = render_overlay(projection, visible_nuclei, class_overlay)
    legend_image = render_legend(class_overlay, len(image))
    height = max(len(image), len(legend_image))
    sheet = np.empty((height, image.shape[1] + legend_image.shape[1], 3), np.uint8)
    sheet[:] = np.round(255 * np.array(to_rgb(PAPER))).astype(np.uint8)
    sheet[: len(image), : image.shape[1]] = image
    sheet[: len(legend_image), image.shape[1] :] = legend_image
    image_format = FORMAT_BY_SUFFIX[path.suffix.lower()]
    options = {"optimize": False} if image_format == "PNG" else {"compression": "tiff_adobe_deflate"}
    with atomic_write(path) as file:
        Image.fromarray(sheet).save(file, format=image_format, **options)


def render_overlay(
    projection: NDArray[np.float32], visible_nuclei: NDArray[np.int32], class_overlay: ClassOverlay
) -> RGBImage:
    """Paint the classes over a projection.

    A nucleus is filled half-transparently with the color of its class and outlined with it. One that is out of distribution is
    hatched with the color and outlined in gray. Small images are enlarged by a whole factor.

    Args:
        projection: (h, w) float32, the maximum over slices.
        visible_nuclei: (h, w) int32, 1 + the row of `class_overlay` whose nucleus is visible at the pixel, 0 where there is none.
        class_overlay: the classes.

    Returns:
        (h', w', 3) uint8, where h' and w' are multiples of h and w.
    """
    zoom = -(-_MIN_SIDE // max(projection.shape))
    projection = projection.repeat(zoom, axis=0).repeat(zoom, axis=1)
    visible_nuclei = visible_nuclei.repeat(zoom, axis=0).repeat(zoom, axis=1)
    step = max(1, max(projection.shape) // 1024)
    low, high = np.percentile(projection[::step, ::step], CONTRAST_PERCENTILES)
    image = np.empty((*projection.shape, 3), np.uint8)
    edge = np.zeros(visible_nuclei.shape, np.bool_)
    edge[1:] |= visible_nuclei[1:] != visible_nuclei[:-1]
    edge[:, 1:] |= visible_nuclei[:, 1:] != visible_nuclei[:, :-1]
    for top in range(
        0, len(image), _BAND_ROWS
    ):  # a band at a time, since painting takes many times the memory of the image
        band = slice(top, top + _BAND_ROWS)
        gray = np.clip((projection[band] - low) / max(high - low, 1e-9), 0, 1).astype(np.float32) ** 0.7
        image[band] = (gray * 235).astype(np.uint8)[..., None]
        _color_nuclei(image[band], gray, visible_nuclei[band], edge[band], top, class_overlay)
    _draw_scale_bar(image, class_overlay.pixel_um, zoom)
    return image


def _color_nuclei(
    image: RGBImage,
    gray: NDArray[np.float32],
    visible_nuclei: NDArray[np.int32],
    edge: NDArray[np.bool_],
    top: int,
    class_overlay: ClassOverlay,
) -> None:
    """Paint the nuclei of a band of the image that begins at row `top`, in place."""
    y, x = np.nonzero(visible_nuclei)
    rows, outline = visible_nuclei[y, x] - 1, edge[y, x]
    colors = np.array([_class_rgb(label) for label in range(len(CLASS_COLORS))], np.float32)
    colors = colors[class_overlay.labels[rows] % len(CLASS_COLORS)]
    is_ood = class_overlay.is_ood[rows]
    hatch_period = 3 * max(2, round(max(image.shape) / 1000))
    is_filled = ~is_ood | ((x + y + top) % (2 * hatch_period) < hatch_period)
    shade = 0.45 + 0.55 * gray[y, x][:, None]
    blended = (1 - _FILL_OPACITY) * image[y, x] + _FILL_OPACITY * shade * colors
    colored = np.where(is_filled[:, None], blended, image[y, x])
    colored[outline] = colors[outline]
    colored[outline & is_ood] = np.round(255 * np.array(to_rgb(OOD_COLOR)))
    image[y, x] = colored.astype(np.uint8)


def _class_rgb(label: int) -> NDArray[np.float64]:
    return 255 * np.array(to_rgb(CLASS_COLORS[label % len(CLASS_COLORS)]))


def scale_bar_um(pixel_um: float, width: int) -> int | None:
    """Return the length of the scale bar in micrometers: the longest round one within a quarter of `width` pixels, if any is."""
    return max((length_um for length_um in _SCALE_BAR_LENGTHS_UM if length_um / pixel_um <= width / 4), default=None)


def _draw_scale_bar(image: RGBImage, pixel_um: float | None, zoom: int) -> None:
    """Draw the scale bar in the lower left corner, in place; the legend states its length."""
    height, width = image.shape[:2]
    if pixel_um is None or (length_um := scale_bar_um(pixel_um / zoom, width)) is None:
        return
    thickness, margin = max(3, height // 200), max(6, height // 50)
    image[height - margin - thickness : height - margin, margin : margin + round(length_um / pixel_um * zoom)] = 255


@with_style
def render_legend(class_overlay: ClassOverlay, height: int) -> RGBImage:
    """Draw the legend, (h, w, 3) uint8, to the right of an image that is `height` pixels high."""
    counts = {label: int(np.sum(class_overlay.labels == label)) for label in sorted(class_overlay.class_names)}
    n_ood, n = int(class_overlay.is_ood.sum()), len(class_overlay.labels)
    min_inches = _LEGEND_HEADER + _LEGEND_ROW * (len(counts) + 1) + _LEGEND_FOOTER
    dpi = float(np.clip(height / max(min_inches, 7.0), 100, 400))
    inches = max(height / dpi, min_inches)
    figure = Figure(figsize=(_LEGEND_WIDTH, inches), dpi=dpi)

    def add_text(x: float, y_inches: float, text: str, **kwargs: object) -> None:
        figure.text(x / _LEGEND_WIDTH, 1 - y_inches / inches, text, va="center", **kwargs)  # type: ignore[arg-type]

    def add_counts(y_inches: float, count: int) -> None:
        add_text(_LEGEND_WIDTH - 0.55, y_inches, f"{count:,}", fontsize=7.5, ha="right")
        add_text(
            _LEGEND_WIDTH - 0.12, y_inches, whole_percent(count / max(n, 1)), fontsize=7.5, ha="right", color=MUTED
        )

    def add_swatch(y_inches: float, color: str, hatch: str | None = None) -> None:
        box = Rectangle(
            (0.2 / _LEGEND_WIDTH, 1 - (y_inches + 0.08) / inches),
            0.18 / _LEGEND_WIDTH,
            0.16 / inches,
            transform=figure.transFigure,
        )
        box.set(facecolor="none" if hatch else color, edgecolor=MUTED if hatch else color, hatch=hatch, linewidth=0.8)
        figure.add_artist(box)

    add_text(0.2, 0.28, wrap_label(class_overlay.title, 34, 1), fontsize=9, weight="bold")
    add_text(0.2, 0.52, f"{n:,} nuclei", fontsize=8, color=MUTED)
    y_inches = _LEGEND_HEADER + _LEGEND_ROW / 2
    for label, count in counts.items():
        add_swatch(y_inches, CLASS_COLORS[label % len(CLASS_COLORS)])
        add_text(0.48, y_inches, wrap_label(class_overlay.class_names[label], 24, 2), fontsize=7.5, linespacing=0.95)
        add_counts(y_inches, count)
        y_inches += _LEGEND_ROW
    add_swatch(y_inches, MUTED, "////")
    add_text(0.48, y_inches, "out of distribution: hatched", fontsize=7.5, color=INK)
    add_counts(y_inches, n_ood)
    y_inches += _LEGEND_ROW + 0.05
    for line in class_overlay.notes:
        text = wrap_label(line, 46, 3)
        y_inches += 0.13 * (text.count("\n") + 1) / 2
        add_text(0.2, y_inches, text, fontsize=6.5, color=MUTED)
        y_inches += 0.13 * (text.count("\n") + 1) / 2 + 0.05
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]
