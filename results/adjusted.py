"""What macro F1 costs in accuracy: logit adjustment (Menon et al., ICLR 2021) of a finished model, after training.

python results/adjusted.py [MODEL] divides each class's probability by its share of the train split to the power tau, and
evaluates the model (by default the bundled one), with test-time augmentation in float32, on validation. It writes
results/adjusted.csv; two minutes on one thread.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nephros.data.load import load_dataset
from nephros.evaluation.metrics import compute_metrics
from nephros.exporters.loading import load_classifier
from nephros.files import write_text
from nephros.text_tables import csv_table

FILE = Path(__file__).with_name("adjusted.csv")
POWERS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0)
METRICS = ("accuracy", "macro_f1", "macro_recall", "macro_precision")


def adjust_logits(probabilities: NDArray[np.float64], shares: NDArray[np.float64], tau: float) -> NDArray[np.float64]:
    """Return (n, classes) probabilities divided by the classes' `shares` to the power `tau`; rows sum to 1 again."""
    weighted = probabilities / shares**tau
    return weighted / weighted.sum(axis=1, keepdims=True)


def main(argv: list[str]) -> None:
    """Ask the model once, and write the metrics at each power."""
    dataset = load_dataset("tissuemnist")
    counts = np.bincount(dataset.train.labels, minlength=dataset.n_classes)
    predictor = load_classifier(argv[0] if argv else None, tta=True, precision="float32")
    probabilities = predictor.predict_batch(dataset.val.images).probabilities.astype(np.float64)
    rows = []
    for tau in POWERS:
        adjusted_probabilities = adjust_logits(probabilities, counts / counts.sum(), tau)
        metrics = compute_metrics(adjusted_probabilities, dataset.val.labels, dataset.class_names)
        rows.append([f"{tau:g}", *(f"{getattr(metrics, name):.4f}" for name in METRICS)])
    text = csv_table(("tau", *(f"val_{name}" for name in METRICS)), rows)
    write_text(FILE, text)
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
