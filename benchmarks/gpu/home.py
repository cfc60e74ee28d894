"""What comes home: files of RUNS in few archives of limited size, with a manifest, and back from them into a folder."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from nephros.errors import NephrosError
from nephros.evaluation.metrics import Metrics
from nephros.files import atomic_write, write_json
from nephros.runs import RunFolder
from nephros.training.history import read_history

MANIFEST = "manifest.json"
MAX_ARCHIVES = 6
ARCHIVE_MIB = 10
KEPT = (
    "records/*.json",
    "draws/*/transfer/rows.csv",
    "logs/*.log",
    *(
        f"{folder}/*/{name}"
        for name in (
            "run.json", "recipe.yaml", "history.csv", "val/metrics.json", "val/predictions.npz", "test/metrics.json",
            "test/predictions.npz", "test/reads.jsonl", "test/one-view/metrics.json", "weights.safetensors", "checkpoint.pt",
        )
        for folder in ("transfer", "nephros", "gpu", "frontier")
    ),
)  # fmt: skip
"""Patterns of files in RUNS; where there is room for some only, for the first ones."""


def kept_files(runs: Path) -> Iterator[Path]:
    """Yield the files worth keeping: of a run with weights no checkpoint."""
    for pattern in KEPT:
        for file in sorted(runs.glob(pattern)):
            if file.name != "checkpoint.pt" or not file.with_name("weights.safetensors").exists():
                yield file


def pack(runs: Path, home: Path, archive_bytes: int = ARCHIVE_MIB * 2**20) -> dict[str, Any]:
    """Write archives of at most `archive_bytes` and the manifest to `home`, in place of earlier ones; return the manifest.

    What is too large, or finds no room in `MAX_ARCHIVES`, is named in the manifest as left out.
    """
    room = archive_bytes - 10240  # what pads an archive's end
    archives: list[list[tuple[str, bytes]]] = [[]]
    sizes, left_out = [0], []
    files: dict[str, dict[str, Any]] = {}
    for file in kept_files(runs):
        name, content = file.relative_to(runs).as_posix(), _read(file, room)
        size = room + 1 if content is None else len(content) + 1024  # its header, and the padding after it
        i = next((i for i, used in enumerate(sizes) if used + size <= room), len(sizes))
        if content is None or size > room or i == MAX_ARCHIVES:
            left_out.append(name)
            continue
        if i == len(sizes):
            archives.append([])
            sizes.append(0)
        archives[i].append((name, content))
        sizes[i] += size
        digest = hashlib.sha256(content).hexdigest()
        files[name] = {"sha256": digest, "bytes": len(content), "archive": _archive_name(i)}
    home.mkdir(parents=True, exist_ok=True)
    for i, members in enumerate(archives):
        _write_archive(home / _archive_name(i), members)
    manifest = {"runs": _runs(runs), "files": files, "left_out": left_out}
    write_json(home / MANIFEST, manifest)
    return manifest


def _read(file: Path, max_bytes: int) -> bytes | None:
    """Return a file's content; None for a larger one, and for one that has just been removed."""
    try:
        return file.read_bytes() if file.stat().st_size <= max_bytes else None
    except OSError:
        return None


def unpack(home: Path, target: Path) -> list[str]:
    """Write the files of a manifest to `target`, except those that are there; return the names of those written.

    ValueError for a file that is missing in its archive or damaged, before anything is written.
    """
    manifest = json.loads((home / MANIFEST).read_text(encoding="utf-8"))
    contents: dict[str, bytes] = {}
    for archive in sorted({entry["archive"] for entry in manifest["files"].values()}):
        with tarfile.open(home / PurePosixPath(archive).name) as tar:
            for member in tar:
                stream = tar.extractfile(member)
                contents[member.name] = stream.read() if stream is not None else b""
    for name, entry in manifest["files"].items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"{name} is no name of a file in RUNS.")
        if name not in contents or hashlib.sha256(contents[name]).hexdigest() != entry["sha256"]:
            raise ValueError(f"{name} is missing in {entry['archive']}, or damaged: bring it home again.")
    written = [name for name in manifest["files"] if not (target / name).exists()]
    for name in written:
        with atomic_write(target / name) as file:
            file.write(contents[name])
    return written


def _archive_name(i: int) -> str:
    return f"archive-{i}.tar.gz"


def _write_archive(path: Path, members: Sequence[tuple[str, bytes]]) -> None:
    with (
        atomic_write(path) as file,
        gzip.GzipFile(fileobj=file, mode="wb", compresslevel=1, mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w") as tar,
    ):
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def _runs(runs: Path) -> dict[str, dict[str, Any]]:
    """Return the state and the scores of each run, by its folder in RUNS; of one that can't be read, why."""
    described = {}
    for file in sorted(runs.glob("*/*/run.json")):
        try:
            description = _describe(RunFolder.open(file.parent))
        except NephrosError as error:
            description = {"error": str(error)}
        described[file.parent.relative_to(runs).as_posix()] = description
    return described


def _describe(folder: RunFolder) -> dict[str, Any]:
    info = folder.info()
    history = folder.file("history.csv")
    return {
        "recipe": info.recipe,
        "status": info.status,
        "device": info.device,
        "epochs": len(read_history(history)) if history.is_file() else 0,
        "epochs_of_recipe": folder.recipe().epochs,
        "minutes": info.training_minutes,
        **{
            f"{split}_accuracy": Metrics.from_run(folder, split).accuracy
            for split in ("val", "test")
            if folder.file(split, "metrics.json").is_file()
        },
    }
