"""Cells to click on, for those who have none at hand: made-up ones and, where known data is there, validation cells."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nephros.data.dataset import Dataset
from nephros.data.display import png_address
from nephros.data.subset import picked
from nephros.data.synthetic import KINDS, make

A_KIND = 8
"""Cells of each kind of sample."""


@dataclass(frozen=True)
class Sample:
    """A cell as a PNG file, and what is known of it."""

    name: str
    png: bytes
    picture: str
    """``data:`` address of the cell made ready to look at."""
    made_up: bool
    truth: str
    """Its class in the data; a made-up cell has none that the model knows."""
    source: str


def samples(dataset: Dataset | None, seed: int = 0) -> list[Sample]:
    """Return made-up cells and, of `dataset`, cells of its validation split, one or two of each class. Never test cells."""
    made = make(len(KINDS), A_KIND, len(KINDS), seed).val
    order = np.argsort(made.labels, kind="stable")
    found = [_sample(f"made-up-{i}.png", made.images[i], True, "", "made up, not real") for i in order]
    if dataset is None or len(dataset.val) < (number := max(A_KIND, dataset.classes)):
        return found
    chosen = picked(dataset.val, number, seed)
    return found + [
        _sample(
            f"validation-{i}.png", image, False, dataset.class_names[label], f"{dataset.provenance.title}, validation"
        )
        for i, (image, label) in enumerate(zip(chosen.images, chosen.labels, strict=True))
    ]


def _sample(name: str, image: NDArray[np.uint8], made_up: bool, truth: str, source: str) -> Sample:
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG")
    return Sample(name, file.getvalue(), png_address(image), made_up, truth, source)
