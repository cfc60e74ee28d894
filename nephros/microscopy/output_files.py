"""The files that `nephros.prepare` writes, all of them or none, and the format of their table."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import math
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.errors import FileError, InvalidArgument
from nephros.escaping import escape_for_csv
from nephros.files import absolute_path, atomic_write, replace_file, write_json, write_text
from nephros.microscopy.measurements import NucleusProperties
from nephros.microscopy.preparation import NucleiOfStack
from nephros.microscopy.voxel_size import VoxelSize
from nephros.reading import MAX_CSV_BYTES, MalformedContent, file_errors, read_text


@dataclass(frozen=True)
class OutputFiles:
    """Paths of the results."""

    npz: Path
    table: Path
    metadata: Path
    masks: tuple[Path, ...] = ()
    """Of each stack, where the nuclei are segmented here; none where the user gives masks."""

    @classmethod
    def beside(cls, out: str | Path, mask_names: Sequence[str] = ()) -> OutputFiles:
        """Return the paths beside `out`, the npz file, with a mask for each name, "" for that of a single stack, and a
        number for names that differ only in what a file name can't hold.

        Raises:
            InvalidArgument: `out` has another suffix.
        """
        npz = absolute_path(out)
        if npz.suffix.lower() != ".npz":
            raise InvalidArgument("out", out, "a path that ends in .npz")
        texts = _distinct([re.sub(r"[^\w.-]", "_", name) for name in mask_names])
        masks = [npz.with_suffix(f".{text}.mask.tif" if text else ".mask.tif") for text in texts]
        return cls(npz, npz.with_suffix(".csv"), npz.with_suffix(".json"), tuple(masks))

    def paths(self) -> tuple[Path, ...]:
        """Return all files, the npz file last."""
        return (self.table, self.metadata, *self.masks, self.npz)

    def check_overwrites(self, *inputs: str | Path | None) -> None:
        """Check that no result would replace an input, a folder, or a mask that somebody may have corrected by hand.

        Raises:
            FileError: one would.
        """
        input_paths = {absolute_path(path) for path in inputs if path is not None}
        for path in self.paths():
            if path in input_paths:
                raise FileError(path, f"{path} is an input and would be overwritten; choose another name for `out`.")
            if path.parent in input_paths and path.parent.is_dir():
                raise FileError(path, f"{path} would be in the folder of an input; choose another folder for `out`.")
            if path.is_dir():
                raise FileError(path, f"{path} is a folder; choose another name for `out`.")
        for mask in self.masks:
            if mask.exists():
                raise FileError(
                    mask, f"{mask} exists already; pass it as `mask`, or remove it so that a new one can be made."
                )

    @contextlib.contextmanager
    def scratch_dir(self, *, has_mapped_files: bool = False) -> Iterator[Path]:
        """Yield a folder for temporary files beside the results, and remove it afterwards.

        Args:
            has_mapped_files: whether arrays that outlive the block are memory-mapped from there; Windows then keeps their files.

        Raises:
            FileError: nothing can be written there.
        """
        try:
            self.npz.parent.mkdir(parents=True, exist_ok=True)
            temporary_dir = tempfile.TemporaryDirectory(
                dir=self.npz.parent, prefix=f".{self.npz.name}.", ignore_cleanup_errors=has_mapped_files
            )
        except OSError as error:
            folder = self.npz.parent
            raise FileError(
                folder, f"{folder} can't be written ({error.strerror}); choose another folder for `out`."
            ) from error
        with temporary_dir as scratch:
            yield Path(scratch)

    def write(
        self,
        scratch: Path,
        table_csv: str,
        metadata: dict[str, Any],
        masks: Sequence[Path],
        arrays: dict[str, NDArray[Any]],
    ) -> None:
        """Write everything to the folder `scratch` and move it from there: the npz file last, so that it completes the set.

        `masks` lie in `scratch`, in the order of `self.masks`.
        """
        write_text(scratch / "table", table_csv)
        write_json(scratch / "metadata", metadata)
        with atomic_write(scratch / "npz") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        sources = (scratch / "table", scratch / "metadata", *masks)
        for source, path in zip(sources, (self.table, self.metadata, *self.masks), strict=True):
            replace_file(source, path)
        replace_file(scratch / "npz", self.npz)


def _distinct(texts: Sequence[str]) -> list[str]:
    """Return the texts, with a number where one is taken; some file systems ignore case."""
    distinct: list[str] = []
    for text in texts:
        taken = {other.casefold() for other in distinct}
        numbered = (text if number == 1 else f"{text}-{number}" for number in itertools.count(1))
        distinct.append(next(candidate for candidate in numbered if candidate.casefold() not in taken))
    return distinct


NUCLEI_COLUMNS = (
    "index", "id", "z", "y", "x", "z_um", "y_um", "x_um", "volume_voxels", "volume_um3", "at_border", "intensity_mean", "stack",
)  # fmt: skip
"""index: row of the npz file. id: the nucleus's id in the mask. z, y, x: centroid in voxels, z_um, y_um, x_um: in micrometers
from the center of the first voxel, empty where the voxel size is unknown. intensity_mean: mean of the stack's voxels over the
nucleus. stack: the name of its stack. Columns of groups, such as patient, follow."""
_FLOAT_COLUMNS = ("z", "y", "x", "z_um", "y_um", "x_um", "volume_um3")


def nuclei_csv(prepared: Sequence[NucleiOfStack], groups: Mapping[str, Sequence[str]]) -> str:
    """Return the table of all stacks' nuclei as CSV text; `groups` are (n,) by the name of their column."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*NUCLEI_COLUMNS, *map(escape_for_csv, groups)])
    index = 0
    for stack in prepared:
        nuclei, voxel_size = stack.result.nuclei, stack.scale.stack_voxel_size
        at_border = stack.result.segmented.at_border[stack.result.is_kept]
        for row in range(len(nuclei)):
            group_cells = [escape_for_csv(values[index]) for values in groups.values()]
            name = escape_for_csv(stack.files.name)
            writer.writerow([index, *_nucleus_cells(nuclei, row, at_border, voxel_size), name, *group_cells])
            index += 1
    return buffer.getvalue()


def _nucleus_cells(
    nuclei: NucleusProperties, row: int, at_border: NDArray[np.bool_], voxel_size: VoxelSize | None
) -> list[object]:
    centroid, voxels = nuclei.centroids[row], int(nuclei.voxels[row])
    centroid_um, volume_um3 = ["", "", ""], ""
    if voxel_size is not None:
        centroid_um = [f"{position * side:.3f}" for position, side in zip(centroid, voxel_size, strict=True)]
        volume_um3 = f"{voxels * float(np.prod(voxel_size)):.3f}"
    return [
        int(nuclei.ids[row]), *(f"{position:.2f}" for position in centroid), *centroid_um, voxels, volume_um3,
        "true" if at_border[row] else "false", f"{nuclei.mean_intensity[row]:.3f}",
    ]  # fmt: skip


def read_nuclei_csv(path: Path) -> list[dict[str, Any]]:
    """Read a table's nuclei, in its order: the NUCLEI_COLUMNS from id to intensity_mean, None for what it does not say.

    Raises:
        FileError: the file can't be read or is damaged.
    """
    with file_errors(path, "it belongs beside the metadata file; run `nephros.prepare(STACK)` again if it is lost"):
        reader = csv.DictReader(io.StringIO(read_text(path, MAX_CSV_BYTES), newline=""))
        nuclei = [_parse_nucleus(row) for row in reader]
        if not nuclei or not all(0 <= row["id"] < 1 << 63 and math.isfinite(row["intensity_mean"]) for row in nuclei):
            raise MalformedContent("it has no rows, or an id or an intensity that is none")
    return nuclei


def _parse_nucleus(row: Mapping[str, str | None]) -> dict[str, Any]:
    nucleus: dict[str, Any] = {name: float(row[name] or "") if row.get(name) else None for name in _FLOAT_COLUMNS}
    if not all(math.isfinite(value) for value in nucleus.values() if value is not None):
        raise MalformedContent("it has a position or a volume that is none")
    nucleus["volume_voxels"] = int(row["volume_voxels"] or "") if row.get("volume_voxels") else None
    nucleus["at_border"] = row.get("at_border") == "true"
    return nucleus | {"id": int(row["id"] or ""), "intensity_mean": float(row["intensity_mean"] or "")}
