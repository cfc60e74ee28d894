"""Predicted classes painted over the maximum projection of a stack, with a legend that counts them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from PIL import Image

from nephros.errors import InvalidArgument
from nephros.files import atomic_write
from nephros.microscopy.stack import Slice
from nephros.reporting.plots.style import INK, MUTED, PAPER, whole_percent, with_style, wrap_label
from nephros.tissue.class_colors import CLASS_COLORS
from nephros.tissue.outlines import smooth_ring, trace_labels

FORMAT_BY_SUFFIX = {".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF"}
CONTRAST_PERCENTILES = (1.0, 99.8)
"""Percentiles of the projection that become black and white."""
DASHES = (0, (2.4, 1.6))
"""Dashes of the outline of nuclei that are out of distribution, in line widths."""
_FILL_OPACITY, _MIN_SIDE, _DPI = 0.22, 1600, 100
_WIDTH_BENEATH = 1.9
"""Width of the dark line beneath an outline, in widths of the outline."""
MAX_PROJECTION_SIDE = 8192
"""Largest side of the projection, in pixels; of larger stacks every second, third, ... pixel is taken."""
_BAND_ROWS = 1024
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


def overlay_notes(is_automatic: bool) -> list[str]:
    """Return what a reader of an overlay must know; `is_automatic` says whether nephros segmented the nuclei."""
    return [
        "Maximum projection; where nuclei overlap, the brighter one is visible.",
        *(["The nuclei were segmented automatically."] if is_automatic else []),
        "Research use only; predictions are not a diagnosis.",
    ]


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
    """Draw the nuclei over a projection, in the colors of their classes.

    A nucleus has a light fill and an outline, which is dashed where it is out of distribution. Small images are enlarged by a
    whole factor.

    Args:
        projection: (h, w) float32, the maximum over slices.
        visible_nuclei: (h, w) int32, 1 + the row of `class_overlay` whose nucleus is visible at the pixel, 0 where there is none.
        class_overlay: the classes.

    Returns:
        (h', w', 3) uint8, where h' and w' are multiples of h and w.
    """
    zoom = -(-_MIN_SIDE // max(projection.shape))
    step = max(1, max(projection.shape) // 1024)
    low, high = np.percentile(projection[::step, ::step], CONTRAST_PERCENTILES)
    outlines = _visible_outlines(visible_nuclei, zoom, class_overlay)
    image = np.empty((projection.shape[0] * zoom, projection.shape[1] * zoom, 3), np.uint8)
    band_rows = max(1, _BAND_ROWS // zoom)
    for top in range(0, len(projection), band_rows):  # since drawing takes many times the memory of the image
        gray = np.clip((projection[top : top + band_rows] - low) / max(high - low, 1e-9), 0, 1) ** 0.7
        pixels = (gray * 235).astype(np.uint8).repeat(zoom, axis=0).repeat(zoom, axis=1)[..., None]
        band = slice(top * zoom, top * zoom + len(pixels))
        drawing = _draw_outlines(outlines, pixels.shape[1], band, _line_width(image))
        _blend(pixels.repeat(3, axis=2), drawing, image[band])
    if class_overlay.pixel_um is not None:
        _draw_scale_bar(image, class_overlay.pixel_um / zoom)
    return image


@dataclass(frozen=True)
class _Outlines:
    """Outlines of the visible parts of nuclei, in pixels of the image."""

    rings: list[NDArray[np.float64]]
    """(vertices, 2) each, x and y, closed."""
    rows: NDArray[np.int64]
    """Nucleus of each ring."""
    y_ranges: NDArray[np.float64]
    """(rings, 2): lowest and highest y."""
    overlay: ClassOverlay


def _visible_outlines(visible_nuclei: NDArray[np.int32], zoom: int, class_overlay: ClassOverlay) -> _Outlines:
    rings, rows = [], []
    for number, polygons in trace_labels(visible_nuclei):
        if class_overlay.labels[number - 1] < 0:
            continue
        for ring in (ring for polygon in polygons for ring in polygon):
            rings.append(smooth_ring(ring) * zoom)
            rows.append(number - 1)
    y_ranges = np.array([[ring[:, 1].min(), ring[:, 1].max()] for ring in rings]).reshape(-1, 2)
    return _Outlines(rings, np.array(rows, np.int64), y_ranges, class_overlay)


@with_style
def _draw_outlines(outlines: _Outlines, width: int, band: slice, line_width: float) -> NDArray[np.float32]:
    """Draw what lies in some rows of the image, (rows, width, 4) float32: color times opacity, and opacity, from 0 to 1."""
    margin = int(4 * line_width)  # since lines are cut off at the canvas, askew
    height = band.stop - band.start + 2 * margin
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    figure.patch.set_alpha(0)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(band.stop + margin, band.start - margin))
    axes.axis("off")
    is_inside = (outlines.y_ranges[:, 1] > band.start - margin) & (outlines.y_ranges[:, 0] < band.stop + margin)
    overlay, points = outlines.overlay, line_width * 72 / _DPI
    for is_ood in (False, True):
        indices = np.flatnonzero(is_inside & (overlay.is_ood[outlines.rows] == is_ood))
        rings = [outlines.rings[i] for i in indices]
        colors = [CLASS_COLORS[overlay.labels[outlines.rows[i]] % len(CLASS_COLORS)] for i in indices]
        faces = [(*to_rgb(color), _FILL_OPACITY) for color in colors]
        # The gaps of the dark line beneath are those of the outline, or dark colors would look solid.
        style, style_beneath = (DASHES, (0, [n / _WIDTH_BENEATH for n in DASHES[1]])) if is_ood else ("solid", "solid")
        for collection in (
            PolyCollection(rings, facecolors=faces, edgecolors="none"),
            LineCollection(
                rings,
                colors=(0, 0, 0, 0.45),
                linewidths=points * _WIDTH_BENEATH,
                linestyles=[style_beneath],
                capstyle="butt",
            ),
            LineCollection(rings, colors=colors, linewidths=points, linestyles=[style], capstyle="butt"),
        ):
            collection.set(snap=False, clip_on=False)
            axes.add_collection(collection, autolim=False)
    return _rasterize(figure)[margin : height - margin, :width]


def _rasterize(figure: Figure) -> NDArray[np.float32]:
    """Return a figure as (h, w, 4) float32: color times opacity, and opacity, from 0 to 1."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    drawing: NDArray[np.float32] = np.asarray(canvas.buffer_rgba(), np.float32) / np.float32(255)  # type: ignore[no-untyped-call]
    drawing[..., :3] *= drawing[..., 3:]
    return drawing


def _blend(pixels: RGBImage, drawing: NDArray[np.float32], out: RGBImage) -> None:
    """Lay a drawing over pixels."""
    out[:] = np.round(pixels * (1 - drawing[..., 3:]) + 255 * drawing[..., :3]).clip(0, 255).astype(np.uint8)


def _line_width(image: RGBImage) -> float:
    """Return the width of outlines in pixels: those of an image of 1,000 pixels that is printed a column wide."""
    return max(1.6, float(max(image.shape)) / 700)


def scale_bar_um(pixel_um: float, width: int) -> int | None:
    """Return the length of the scale bar in micrometers: the longest round one within a quarter of `width` pixels, if any is."""
    return max((length_um for length_um in _SCALE_BAR_LENGTHS_UM if length_um / pixel_um <= width / 4), default=None)


@with_style
def _draw_scale_bar(image: RGBImage, pixel_um: float) -> None:
    """Draw the scale bar with its length into the lower left corner, in place."""
    height, width = image.shape[:2]
    if (length_um := scale_bar_um(pixel_um, width)) is None:
        return
    unit = max(1.0, min(height, width) / 1000)  # pixels that stand for one in an image of 1,000
    thickness, margin, text_size = round(6 * unit), round(20 * unit), 24 * unit
    rows = min(height, round(margin + thickness + 2 * text_size))
    figure = Figure(figsize=(width / _DPI, rows / _DPI), dpi=_DPI)
    figure.patch.set_alpha(0)
    length = length_um / pixel_um
    outline = [withStroke(linewidth=4 * unit * 72 / _DPI, foreground=(0, 0, 0, 0.6))]
    box = (margin / width, margin / rows, length / width, thickness / rows)
    bar = Rectangle(box[:2], *box[2:], transform=figure.transFigure, facecolor="white", edgecolor="none")
    bar.set(path_effects=outline, snap=True)
    figure.add_artist(bar)
    figure.text(
        (margin + length / 2) / width,
        (margin + thickness + 5 * unit) / rows,
        f"{length_um} µm",
        color="white",
        fontsize=text_size * 72 / _DPI,
        ha="center" if length > 3 * text_size else "left",
        va="bottom",
        path_effects=outline,
    )
    _blend(image[height - rows :].copy(), _rasterize(figure)[:rows, :width], image[height - rows :])


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

    def add_swatch(y_inches: float, color: str, *, dashed: bool = False) -> None:
        box = Rectangle(
            (0.2 / _LEGEND_WIDTH, 1 - (y_inches + 0.08) / inches),
            0.18 / _LEGEND_WIDTH,
            0.16 / inches,
            transform=figure.transFigure,
        )
        box.set(facecolor="none" if dashed else (*to_rgb(color), 0.55), edgecolor=color, linewidth=1.3)
        box.set_linestyle(DASHES if dashed else "solid")
        figure.add_artist(box)

    add_text(0.2, 0.28, wrap_label(class_overlay.title, 34, 1), fontsize=9, weight="bold")
    add_text(0.2, 0.52, f"{n:,} nuclei", fontsize=8, color=MUTED)
    y_inches = _LEGEND_HEADER + _LEGEND_ROW / 2
    for label, count in counts.items():
        add_swatch(y_inches, CLASS_COLORS[label % len(CLASS_COLORS)])
        add_text(0.48, y_inches, wrap_label(class_overlay.class_names[label], 24, 2), fontsize=7.5, linespacing=0.95)
        add_counts(y_inches, count)
        y_inches += _LEGEND_ROW
    add_swatch(y_inches, INK, dashed=True)
    add_text(0.48, y_inches, "out of distribution: dashed", fontsize=7.5, color=INK)
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
