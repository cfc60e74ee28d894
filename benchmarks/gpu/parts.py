"""Large data in parts, where a machine takes only some MiB at a time: python -m benchmarks.gpu.parts FILE FOLDER

FOLDER gets the parts FILE.000, FILE.001, ... and parts.json, which names them with the digest of the whole. Send parts.json and a
part or more at a time into one folder there, and name that with `--parts`: what needs the data begins when it is complete.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

from nephros.files import atomic_write, file_digest, write_json

INDEX = "parts.json"
PART_MIB = 32
"""With the tree, of some 26 MiB, and the wheels less than 64 MiB; four parts for TissueMNIST."""


def split_file(file: Path, folder: Path, part_bytes: int) -> list[Path]:
    """Write a file in parts of at most `part_bytes`, and their index; return the parts."""
    folder.mkdir(parents=True, exist_ok=True)
    parts: list[Path] = []
    with file.open("rb") as stream:
        while content := stream.read(part_bytes):
            parts.append(folder / f"{file.name}.{len(parts):03}")
            parts[-1].write_bytes(content)
    sizes = {part.name: part.stat().st_size for part in parts}
    write_json(folder / INDEX, {"file": file.name, "sha256": file_digest(file), "parts": sizes})
    return parts


def missing_parts(folder: Path) -> list[str]:
    """Return the names of the files that are missing or incomplete."""
    index_file = folder / INDEX
    if not index_file.is_file():
        return [INDEX]
    sizes = json.loads(index_file.read_text(encoding="utf-8"))["parts"]
    parts = {name: folder / name for name in sizes}
    return [name for name, part in parts.items() if not part.is_file() or part.stat().st_size != sizes[name]]


def join_parts(folder: Path, target: Path) -> Path | None:
    """Write the file to the folder `target`, unless it is there, and return it; None while parts are missing or incomplete.

    ValueError where the whole is not what was split.
    """
    if not (folder / INDEX).is_file():
        return None
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    file = target / str(index["file"])
    if file.is_file():
        return file
    if missing_parts(folder):
        return None
    digest = hashlib.sha256()
    target.mkdir(parents=True, exist_ok=True)
    with atomic_write(file) as stream:
        for name in index["parts"]:
            content = (folder / name).read_bytes()
            digest.update(content)
            stream.write(content)
        if digest.hexdigest() != index["sha256"]:
            raise ValueError(f"The parts in {folder} are not those of {file.name}: send them again.")
    return file


def main() -> None:
    """Split a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mib", type=int, default=PART_MIB, help=f"MiB per part (default: {PART_MIB})")
    args = parser.parse_args()
    for part in split_file(args.file, args.folder, args.mib * 2**20):
        print(part)


if __name__ == "__main__":
    main()
