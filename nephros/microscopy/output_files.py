"""The files that `nephros data prepare` writes: all of them or none."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.errors import UserError
from nephros.files import atomic, write_json, write_text


@dataclass(frozen=True)
class Outputs:
    """Where the results go."""

    npz: Path
    table: Path
    notes: Path
    mask: Path | None
    """Where a mask is made here."""

    @classmethod
    def at(cls, out: str | Path, *, with_mask: bool) -> Outputs:
        """Name the files beside `out`, the .npz file."""
        npz = Path(out).expanduser().absolute()
        if npz.suffix.lower() != ".npz":
            raise UserError(f"--out is {out}, but it must end in .npz.")
        mask = npz.with_suffix(".mask.tif") if with_mask else None
        return cls(npz, npz.with_suffix(".csv"), npz.with_suffix(".json"), mask)

    def paths(self) -> tuple[Path, ...]:
        """Return all files, the npz file last."""
        return (self.table, self.notes, *([] if self.mask is None else [self.mask]), self.npz)

    def check(self, *inputs: str | Path | None) -> None:
        """Raise UserError where a result would replace one of `inputs`, a folder or a mask that may be a person's work."""
        given = {Path(path).expanduser().absolute() for path in inputs if path is not None}
        for path in self.paths():
            if path in given:
                raise UserError(f"{path} is an input and would be overwritten; choose another name for --out.")
            if path.is_dir():
                raise UserError(f"{path} is a folder; choose another name for --out.")
        if self.mask is not None and self.mask.exists():
            raise UserError(
                f"{self.mask} is there already: give it with --labels, or remove it to have a new one made."
            )

    @contextlib.contextmanager
    def room(self) -> Iterator[Path]:
        """Yield a folder for temporary files beside the results, and remove it; UserError where nothing can be written."""
        try:
            self.npz.parent.mkdir(parents=True, exist_ok=True)
            folder = tempfile.TemporaryDirectory(dir=self.npz.parent, prefix=f".{self.npz.name}.")
        except OSError as error:
            raise UserError(
                f"--out: {self.npz.parent} can't be written ({error.strerror}); name another place."
            ) from error
        with folder as room:
            yield Path(room)

    def write(self, room: Path, rows: str, about: dict[str, Any], mask: Path, arrays: dict[str, NDArray[Any]]) -> None:
        """Write everything in `room` first, and then move it: the npz file last, so that where it is, all is."""
        write_text(room / "table", rows)
        write_json(room / "notes", about)
        with atomic(room / "npz") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        for made, path in zip((room / "table", room / "notes", mask), (self.table, self.notes, self.mask), strict=True):
            if path is not None:
                os.replace(made, path)
        os.replace(room / "npz", self.npz)
