"""Statistics of TissueMNIST's train split, the figures in nephros/data/reference_statistics.py, as a table and a JSON line.

python -m benchmarks.training_range
"""

from __future__ import annotations

import json

import numpy as np

from nephros.data.load import load_dataset
from nephros.data.pixel_statistics import pixel_statistics
from nephros.data.reference_statistics import nucleus_area_fraction

PERCENTILES = (0.5, 1, 5, 25, 50, 75, 95, 99, 99.5)


def main() -> None:
    """Print the distributions of brightness and nucleus size over cells, and their medians per class."""
    dataset = load_dataset("tissuemnist")
    images, labels = dataset.train.images, dataset.train.labels
    mean, std = pixel_statistics(images)
    means, areas = images.mean(axis=(1, 2)) / 255, nucleus_area_fraction(images)
    print(f"{dataset.provenance.title}, {len(images):,} cells: pixel mean {mean:.4f}, std {std:.4f}")
    print(f"{'':34}" + "".join(f"{percentile:>9g}%" for percentile in PERCENTILES))
    for name, values in (("mean intensity of an image", means), ("nucleus area / image area", areas)):
        print(f"{name:34}" + "".join(f"{value:>11.4f}" for value in np.percentile(values, PERCENTILES)))
    diameters = []
    for label, name in enumerate(dataset.class_names):
        ratio = float(np.sqrt(np.median(areas[labels == label]) / np.median(areas)))
        diameters.append(ratio)
        print(f"{name:34} median intensity {np.median(means[labels == label]):.4f}, diameter {ratio:.2f} of all cells'")
    statistics = {
        "pixel_mean": mean,
        "pixel_std": std,
        "area": float(np.median(areas)),
        "cell_mean": np.percentile(means, (0.5, 99.5)).tolist(),
        "cell_area": np.percentile(areas, (0.5, 99.5)).tolist(),
        "class_diameters": diameters,
        "sha256": dataset.provenance.sha256,
    }
    print(json.dumps(statistics))


if __name__ == "__main__":
    main()
