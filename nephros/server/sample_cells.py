"""Cells for visitors of the page who have none at hand: synthetic ones and, if there is reference data, validation cells."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nephros.data.dataset import Dataset
from nephros.data.images.transforms import png_data_uri
from nephros.data.subset import stratified_subset
from nephros.data.synthetic import NUCLEUS_TYPES, make_synthetic
from nephros.server.schemas import SampleInfo

SAMPLES_PER_KIND = 8
"""Synthetic cells, and validation cells (more if there are more classes)."""
_SEED = 0


@dataclass(frozen=True)
class SampleCell:
    """A cell as a PNG file, and its description."""

    info: SampleInfo
    png: bytes


def build_sample_cells(dataset: Dataset | None, *, synthetic: bool = True) -> list[SampleCell]:
    """Return synthetic cells and, of `dataset`, one or two validation cells per class; never test cells.

    A data set with too few validation cells adds none. The synthetic cells are nuclei in grayscale, which are not examples for a
    model of color images: `synthetic` is then False.
    """
    synthetic_cells = make_synthetic(len(NUCLEUS_TYPES), SAMPLES_PER_KIND, len(NUCLEUS_TYPES), _SEED).val
    samples = [
        _to_sample_cell(f"synthetic-{i}.png", synthetic_cells.images[i], "synthetic, not real data")
        for i in np.argsort(synthetic_cells.labels, kind="stable")
        if synthetic
    ]
    if dataset is None or len(dataset.val) < (n_samples := max(SAMPLES_PER_KIND, dataset.n_classes)):
        return samples
    subset = stratified_subset(dataset.val, n_samples, _SEED)
    source = f"validation cells of {dataset.provenance.title}"
    return samples + [
        _to_sample_cell(f"validation-{i}.png", image, source, true_class=dataset.class_names[label])
        for i, (image, label) in enumerate(zip(subset.images, subset.labels, strict=True))
    ]


def _to_sample_cell(name: str, image: NDArray[np.uint8], source: str, true_class: str = "") -> SampleCell:
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG")
    info = SampleInfo(
        name=name, preview=png_data_uri(image), synthetic=not true_class, true_class=true_class, source=source
    )
    return SampleCell(info, file.getvalue())
