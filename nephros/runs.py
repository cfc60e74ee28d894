"""The run folder: what lies where, and what the run says of itself.

    recipe.yaml  run.json  history.csv  checkpoint.pt  weights.safetensors  report.html
    of baselines search_results.csv     with teachers soft_targets.npz
    train/metrics.json     val/ and test/: metrics.json, predictions.npz     test/reads.jsonl     figures/

A run on synthetic cells carries ``synthetic-`` before the name of every file.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nephros.errors import LockedError, NephrosError
from nephros.files import file_lock, remove_temporary_files, write_json

RUN_FORMAT = "nephros-run-2"
"""Of run.json; a run of another format can't be read."""
_SYNTHETIC_PREFIX = "synthetic-"


@dataclass(frozen=True)
class RunInfo:
    """run.json: how a run was made and how far it came."""

    recipe: str
    recipe_hash: str
    seed: int
    command: str
    """What a user would type to make it again."""
    device: str
    """Of each process, with its threads and, where that is not full, its precision."""
    threads: int
    """Of torch, in each process."""
    data: dict[str, Any]
    """Provenance.to_dict of what it was trained on."""
    data_request: dict[str, Any]
    """source, size, subset and seed: how to open the same data again."""
    class_names: list[str]
    input_spec: dict[str, int]
    """channels, height, width, classes."""
    class_counts: dict[str, list[int]]
    """Images of each class in train, val and test."""
    normalization: dict[str, list[float]]
    """mean and std of each channel, of pixels / 255."""
    parameters: int
    multiply_adds: int
    """Of one image's forward pass."""
    test: bool
    """Whether the run scores the test split at its end."""
    created: str
    """UTC, ISO 8601."""
    versions: dict[str, str]
    commit: str | None
    device_type: str = "cpu"
    """cpu or cuda."""
    processes: int = 1
    """How many trained together, each on a part of every batch."""
    status: str = "training"
    """training, complete or diverged."""
    chosen_epoch: int | None = None
    """Epoch (from 1) of the weights that were kept."""
    hyperparameters: str = ""
    """What a classical baseline chose on validation; empty for a network."""
    training_minutes: float | None = None
    """Minutes spent in training epochs, validation and start-up not counted; of a baseline, in trying combinations."""
    tta_views: int = 1
    """Of each image at test time, averaged."""
    teachers: list[dict[str, Any]] = field(default_factory=list)
    """Runs that it learnt from beside the labels: run, recipe, recipe_hash, weights_sha256."""
    warnings: list[str] = field(default_factory=list)
    format: str = RUN_FORMAT


class RunFolder:
    """A folder that holds one run."""

    def __init__(self, root: Path, synthetic: bool) -> None:
        self.root, self.synthetic = root, synthetic

    @classmethod
    def create(cls, root: Path, synthetic: bool) -> RunFolder:
        """Take `root` for a new run; UserError when something is there already."""
        # A process killed before it wrote run.json left nothing worth keeping.
        root = root.expanduser()
        removable = {f"{prefix}{name}" for prefix in ("", _SYNTHETIC_PREFIX) for name in (".lock", "recipe.yaml")}
        removable |= {path.name for path in root.glob(".*.tmp")}
        if root.exists() and (not root.is_dir() or {path.name for path in root.iterdir()} - removable):
            raise NephrosError(
                f"--out {root} exists already: resume it with `nephros train --resume {root}`, or name another folder."
            )
        root.mkdir(parents=True, exist_ok=True)
        return cls(root, synthetic)

    @classmethod
    def exists(cls, root: Path) -> bool:
        """Return whether `root` holds a run, complete or not."""
        return any(cls(root.expanduser(), synthetic).file("run.json").is_file() for synthetic in (False, True))

    @classmethod
    def open(cls, root: Path | str) -> RunFolder:
        """Open an existing run; UserError when `root` does not hold one."""
        root = Path(root).expanduser()
        for synthetic in (False, True):
            folder = cls(root, synthetic)
            if folder.file("run.json").is_file():
                return folder
        problem = "holds no run (it has no run.json)" if root.is_dir() else "does not exist"
        raise NephrosError(f"The run folder {root} {problem}: name a folder that `nephros train` made.")

    def file(self, *parts: str) -> Path:
        """Return the path of a file of the run, tagged when the run is synthetic."""
        *folders, name = parts
        return self.root.joinpath(*folders, f"{_SYNTHETIC_PREFIX if self.synthetic else ''}{name}")

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from writing here, and remove what a killed one left; UserError when one is at work."""
        try:
            with file_lock(self.file(".lock"), wait=False):
                remove_temporary_files(self.root)
                yield
        except BlockingIOError:
            raise LockedError(f"Another process is training in {self.root}: wait for it, or stop it first.") from None

    def write_info(self, info: RunInfo) -> None:
        """Replace run.json."""
        write_json(self.file("run.json"), asdict(info))

    def info(self) -> RunInfo:
        """Read run.json; UserError when it is damaged."""
        try:
            values = json.loads(self.file("run.json").read_text(encoding="utf-8"))
            if values.get("format") == RUN_FORMAT:
                return RunInfo(**values)
        except (OSError, ValueError, TypeError, AttributeError):
            raise NephrosError(f"{self.file('run.json')} is damaged: train again with a new --out.") from None
        raise NephrosError(
            f"{self.file('run.json')} has the format {values.get('format', 'of an earlier nephros')}, but this version reads "
            f"{RUN_FORMAT}: train again with a new --out."
        )

    def metrics(self, split: str) -> dict[str, Any]:
        """Read the split's metrics.json; UserError when it is missing or damaged."""
        file = self.file(split, "metrics.json")
        try:
            return dict(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            raise NephrosError(f"{file} is damaged: run `nephros evaluate --split {split}` on the run again.") from None

    def test_reads(self) -> list[dict[str, Any]]:
        """Return what is known of each reading of the test split so far."""
        log = self.file("test", "reads.jsonl")
        if not log.is_file():
            return []
        return [_parse_test_read(line) for line in log.read_text(encoding="utf-8").splitlines() if line.strip()]


def _parse_test_read(line: str) -> dict[str, Any]:
    """Return a line's values; one that a killed process left half-written still counts as a reading."""
    try:
        return dict(json.loads(line))
    except (ValueError, TypeError):
        return {"time": "unknown (the line is damaged)", "commit": None, "recipe_hash": "unknown", "data": "unknown"}
