"""Cells to click on, for those who have none at hand: made-up ones and, where known data is there, validation cells."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nephros.data.dataset import Dataset
from nephros.data.display import png_data_uri
from nephros.data.subset import stratified_subset
from nephros.data.synthetic import NUCLEUS_TYPES, make_synthetic

SAMPLES_PER_KIND = 8
"""Cells of each kind of sample."""


@dataclass(frozen=True)
class SampleCell:
    """A cell as a PNG file, and what is known of it."""

    name: str
    png: bytes
    preview: str
    """``data:`` address of the cell made ready to look at."""
    synthetic: bool
    true_class: str
    """Its class in the data; a made-up cell has none that the model knows."""
    source: str


def build_sample_cells(dataset: Dataset | None, seed: int = 0) -> list[SampleCell]:
    """Return made-up cells and, of `dataset`, cells of its validation split, one or two of each class. Never test cells."""
    synthetic_cells = make_synthetic(len(NUCLEUS_TYPES), SAMPLES_PER_KIND, len(NUCLEUS_TYPES), seed).val
    order = np.argsort(synthetic_cells.labels, kind="stable")
    result = [
        _to_sample_cell(f"synthetic-{i}.png", synthetic_cells.images[i], True, "", "synthetic, not real data")
        for i in order
    ]
    if dataset is None or len(dataset.val) < (n_samples := max(SAMPLES_PER_KIND, dataset.n_classes)):
        return result
    subset = stratified_subset(dataset.val, n_samples, seed)
    return result + [
        _to_sample_cell(
            f"validation-{i}.png", image, False, dataset.class_names[label], f"{dataset.provenance.title}, validation"
        )
        for i, (image, label) in enumerate(zip(subset.images, subset.labels, strict=True))
    ]


def _to_sample_cell(name: str, image: NDArray[np.uint8], synthetic: bool, true_class: str, source: str) -> SampleCell:
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG")
    return SampleCell(name, file.getvalue(), png_data_uri(image), synthetic, true_class, source)
