"""The mistakes on a page: small images of cells with their explanations, as data for the template."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nephros.data.images.transforms import overlay_heatmap, png_data_uri, to_display
from nephros.data.volumes import IndexedImages
from nephros.interpretability.run_explainer import CellExplanation
from nephros.reporting.run.misclassified import MisclassifiedCell, ScoredCell

VISIBLE_MISTAKES = 2
"""Mistakes per class that are visible at once; the rest is folded."""
_MAX_MISTAKES, _MAX_PER_CLASS, _MANY_CLASSES = 40, 5, 30
"""Mistakes on a page and per class; of very many classes one each is shown, to keep the page small."""
_MIN_SIDE, _MAX_SIDE = 56, 112
"""Pixels per side of an image; the browser enlarges smoothly."""


@dataclass(frozen=True)
class Tile:
    """A small image."""

    data_uri: str
    alt: str


@dataclass(frozen=True)
class Mistake:
    """A misclassified cell beside what explains it."""

    index: int
    """Position in the split, in file order, from 0."""
    name: str
    """In the source, as `nephros.data.split.Split.names` has it; empty where the position says as much."""
    predicted: int
    confidence: float
    """Probability of the predicted class."""
    actual_probability: float
    tiles: list[Tile]
    """As many as `TILE_HEADINGS` of the page."""
    similar: tuple[int, float] | None
    """Class and similarity of the most similar training cell; None without explanations."""


@dataclass(frozen=True)
class ClassErrors:
    """The errors on one class."""

    name: str
    support: int
    n_errors: int
    typical: Tile | None
    """The cell of the class that is classified with most confidence."""
    mistakes: list[Mistake]
    """The most confident ones; empty when there is nothing to show."""


def tile_headings(has_explanations: bool) -> list[str]:
    """Return the headings of a mistake's tiles."""
    return [
        "mistake",
        *(["evidence"] if has_explanations else []),
        "predicted",
        *(["similar"] if has_explanations else []),
    ]


def mistakes_per_class(n_classes: int) -> int:
    """Return how many mistakes of each class a page has."""
    if n_classes > _MANY_CLASSES:
        return 1
    return min(_MAX_PER_CLASS, max(VISIBLE_MISTAKES, _MAX_MISTAKES // n_classes))


def make_mistake(
    row: MisclassifiedCell,
    images: IndexedImages,
    class_names: Sequence[str],
    explanation: CellExplanation | None,
    title: str,
    image_names: NDArray[np.str_] | None = None,
) -> Mistake:
    """Return a mistake for the page, from the split's images (h, w) or (h, w, 3) uint8, and their names, where they have some.

    `title` is the data's.
    """
    cell, example = row.cell, row.predicted_example
    actual, predicted = class_names[cell.actual], class_names[cell.predicted]
    image = images[cell.index]
    tiles = [Tile(thumbnail(image), f"Image {cell.index}: {actual}, predicted as {predicted} ({title})")]
    similar = None
    if explanation is not None:
        heatmap = overlay_heatmap(_at_most(image, _MAX_SIDE), explanation.saliency, _MIN_SIDE)
        tiles.append(
            Tile(_jpeg_data_uri(heatmap), f"Evidence in it for {predicted}, by {explanation.method} ({title})")
        )
    tiles.append(Tile(thumbnail(images[example.index]), f"A typical image of {predicted} ({title})"))
    if explanation is not None and explanation.similar_cells:
        neighbor = explanation.similar_cells[0]
        alt = f"The most similar training image, of {class_names[neighbor.label]} ({title})"
        tiles.append(Tile(thumbnail(neighbor.image), alt))
        similar = (neighbor.label, neighbor.similarity)
    name = "" if image_names is None else str(image_names[cell.index])
    return Mistake(cell.index, name, cell.predicted, cell.confidence, cell.actual_probability, tiles, similar)


def example_tile(cell: ScoredCell, images: IndexedImages, class_name: str, title: str) -> Tile:
    """Return a cell that stands for its class."""
    outcome = f"correctly classified with probability {cell.confidence:.2f}" if cell.is_correct else "misclassified"
    return Tile(thumbnail(images[cell.index], _MAX_SIDE), f"An image of {class_name}, {outcome} ({title})")


def thumbnail(image: NDArray[np.uint8], side: int = _MIN_SIDE) -> str:
    """Return a cell, (h, w) or (h, w, 3) uint8, as a ``data:`` URI of about `side` pixels: PNG if small and gray, else JPEG."""
    small = _at_most(image, max(side, _MAX_SIDE))
    is_small = small.ndim == 2 and max(small.shape) <= side
    return png_data_uri(small, side) if is_small else _jpeg_data_uri(to_display(small, side))


def _at_most(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    if max(image.shape[:2]) <= side:
        return image
    small = Image.fromarray(image)
    small.thumbnail((side, side), Image.Resampling.BICUBIC)
    return np.asarray(small)


def _jpeg_data_uri(pixels: NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=88, subsampling=0, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
