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

from nephros.errors import NephrosError
from nephros.files import atomic_write, write_json, write_text


@dataclass(frozen=True)
class OutputFiles:
    """Where the results go."""

    npz: Path
    table: Path
    metadata: Path
    mask: Path | None
    """Where a mask is made here."""

    @classmethod
    def beside(cls, out: str | Path, *, with_mask: bool) -> OutputFiles:
        """Name the files beside `out`, the .npz file."""
        npz = Path(out).expanduser().absolute()
        if npz.suffix.lower() != ".npz":
            raise NephrosError(f"--out is {out}, but it must end in .npz.")
        mask = npz.with_suffix(".mask.tif") if with_mask else None
        return cls(npz, npz.with_suffix(".csv"), npz.with_suffix(".json"), mask)

    def paths(self) -> tuple[Path, ...]:
        """Return all files, the npz file last."""
        return (self.table, self.metadata, *([] if self.mask is None else [self.mask]), self.npz)

    def check_overwrites(self, *inputs: str | Path | None) -> None:
        """Raise UserError where a result would replace one of `inputs`, a folder or a mask that may be a person's work."""
        input_paths = {Path(path).expanduser().absolute() for path in inputs if path is not None}
        for path in self.paths():
            if path in input_paths:
                raise NephrosError(f"{path} is an input and would be overwritten; choose another name for --out.")
            if path.is_dir():
                raise NephrosError(f"{path} is a folder; choose another name for --out.")
        if self.mask is not None and self.mask.exists():
            raise NephrosError(
                f"{self.mask} is there already: give it with --mask, or remove it to have a new one made."
            )

    @contextlib.contextmanager
    def scratch_dir(self) -> Iterator[Path]:
        """Yield a folder for temporary files beside the results, and remove it; UserError where nothing can be written."""
        try:
            self.npz.parent.mkdir(parents=True, exist_ok=True)
            temporary_dir = tempfile.TemporaryDirectory(dir=self.npz.parent, prefix=f".{self.npz.name}.")
        except OSError as error:
            raise NephrosError(
                f"--out: {self.npz.parent} can't be written ({error.strerror}); name another place."
            ) from error
        with temporary_dir as scratch:
            yield Path(scratch)

    def write(
        self, scratch: Path, table_csv: str, metadata: dict[str, Any], mask: Path, arrays: dict[str, NDArray[Any]]
    ) -> None:
        """Write everything in `scratch` first, and then move it: the npz file last, so that where it is, all is."""
        write_text(scratch / "table", table_csv)
        write_json(scratch / "metadata", metadata)
        with atomic_write(scratch / "npz") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        for source, path in zip(
            (scratch / "table", scratch / "metadata", mask), (self.table, self.metadata, self.mask), strict=True
        ):
            if path is not None:
                os.replace(source, path)
        os.replace(scratch / "npz", self.npz)
