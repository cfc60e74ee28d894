"""The runs that were fine-tuned on a project's labels, and the files that were exported from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nephros.errors import NephrosError
from nephros.runs import RunFolder

EXPORTS_FOLDER = "exports"
EXPORT_FILES = {"onnx": "model.onnx", "csv": "predictions.csv", "geojson": "predictions.geojson"}
"""Format -> file in the run's folder of exports; GeoJSON of several stacks is a zip archive of a file for each."""


@dataclass(frozen=True)
class ProjectRun:
    """A finished run of a project."""

    name: str
    path: Path
    created: str
    """UTC, in ISO 8601."""
    method: str
    """Of `nephros.finetuning.choice.METHODS`."""
    accuracy: float | None
    """In cross-validation."""
    n_labels: int
    """Labeled cells that it was given, for training, validation and test."""


def list_runs(folder: Path) -> list[ProjectRun]:
    """Return the finished runs in a folder, the latest first; folders that are not runs, or damaged, are left out."""
    runs = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        try:
            if not RunFolder.exists(path) or (info := RunFolder.open(path).info()).status != "complete":
                continue
        except NephrosError:
            continue
        record = info.finetuning
        accuracies = {row["method"]: row["accuracy"] for row in record["methods"]} if record else {}
        method = record["method"] if record else ""
        n_labels = sum(sum(counts) for counts in info.class_counts.values())
        runs.append(ProjectRun(path.name, path, info.created, method, accuracies.get(method), n_labels))
    return sorted(runs, key=lambda run: run.created, reverse=True)


def data_path(run: Path) -> Path:
    """Return the npz file beside a run folder with what the run was trained on, which an export needs."""
    return run.with_name(f"{run.name}.npz")


def exported_path(run: ProjectRun, export_format: str) -> Path:
    """Return where an export of a run is or will be."""
    return run.path / EXPORTS_FOLDER / EXPORT_FILES[export_format]
