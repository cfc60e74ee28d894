"""Draw the synthetic cells in examples/cells: python examples/make_cells.py

Real cells are not part of this repository. These look like TissueMNIST's, but their classes mean nothing to the bundled model.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from nephros.data.synthetic import make_synthetic

FOLDER = Path(__file__).with_name("cells")


def main() -> None:
    """Write eight images of nuclei and one of noise, which a detector of unfamiliar images should flag."""
    FOLDER.mkdir(exist_ok=True)
    for number, image in enumerate(make_synthetic(8, 8, 8, seed=5).val.images[:8], start=1):
        Image.fromarray(image).save(FOLDER / f"nucleus-{number}.png")
    noise = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    Image.fromarray(noise).save(FOLDER / "noise.png")


if __name__ == "__main__":
    main()
