"""The log of readings of the test split: an entry is written before the split is read, and nothing is chosen on it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from nephros.data.dataset import Dataset
from nephros.environment import git_commit


def log_test_read(log: Path, model: str, weights_sha256: str, tta_views: int, dataset: Dataset) -> None:
    """Append a line of JSON to `log` that says which weights read the test split, when and with how many views of an image.

    A reading that was interrupted, and goes on, has its line already.
    """
    reading = {
        "model": model,
        "weights_sha256": weights_sha256,
        "tta_views": tta_views,
        "data": dataset.provenance.title,
        "sha256": dataset.provenance.sha256,
    }
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    if any(reading.items() <= json.loads(line).items() for line in lines):
        return
    now = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "commit": git_commit()}
    with open(log, "a", encoding="utf-8") as file:
        file.write(json.dumps(now | reading) + "\n")
