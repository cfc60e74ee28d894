"""Files and data sets that a run or a table names by path, opened again after folders were moved or copied."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PureWindowsPath

from nephros.data.dataset import Dataset
from nephros.data.load import DataRequest, load_request, redraw
from nephros.data.provenance import SPLIT_DIGEST, ProvenanceRecord
from nephros.errors import FileError, IncompatibleError, InvalidArgument, NephrosError

_MAX_PARTS = 4
"""Folders above a file that may have moved together with what names it."""


def candidate_paths(recorded: str | Path, beside: Path) -> Iterator[Path]:
    """Yield where a file may be now: its recorded path, then its place relative to `beside`, then the same name there.

    Args:
        recorded: the absolute path at which the file was, perhaps on another machine.
        beside: the file or folder that names it.
    """
    recorded_path = Path(recorded).expanduser()
    yield recorded_path
    parts = PureWindowsPath(recorded).parts if "\\" in str(recorded) else recorded_path.parts
    folders = [folder for folder in (beside, *beside.parents) if folder.is_dir()][: _MAX_PARTS + 1]
    tails = [Path(*parts[-n:]) for n in range(min(_MAX_PARTS, len(parts)), 0, -1)]
    for path in dict.fromkeys(folder / tail for tail in tails for folder in folders):
        if path != recorded_path:
            yield path


def find_moved(
    recorded: str | Path,
    sha256: str,
    beside: Path,
    digest: Callable[[Path], str],
    *,
    parameter: str,
    given: str | Path | None = None,
    renamed: Sequence[Path] = (),
    exists: Callable[[Path], bool] = Path.exists,
) -> Path:
    """Return where a file with this digest is now: at `given`, or at one of its candidate paths.

    Args:
        recorded: the path at which it was.
        sha256: its digest.
        beside: the file or folder that names it.
        digest: returns the digest of what is at a path.
        parameter: what a user names the file by.
        given: the user's path, in place of a search.
        renamed: where it may be under another name, which are looked at last.
        exists: returns whether there is something at a path, of which `digest` can be taken.

    Raises:
        FileError: there is no such file, or it has another digest.
    """
    paths = [Path(given).expanduser().absolute()] if given else [*candidate_paths(recorded, beside), *renamed]
    existing = [path for path in paths if exists(path)]
    for path in existing:
        if digest(path) == sha256:
            return path
    if existing:
        raise FileError(
            existing[0],
            f"{existing[0]} is not the file that {beside} was made from, or has changed since (its SHA-256 differs); restore "
            f"it, or give the path of the original as `{parameter}`.",
        )
    if given is not None:
        raise FileError(
            paths[0], f"{paths[0]} does not exist; give the path of {Path(recorded).name} as `{parameter}`."
        )
    raise FileError(
        recorded,
        f"{recorded}, from which {beside} was made, does not exist any more and is not near {beside.name} either; give its "
        f"path as `{parameter}`.",
    )


def reopen_dataset(
    request: DataRequest, provenance: ProvenanceRecord, beside: Path, data: str | Path | Dataset | None = None
) -> Dataset:
    """Open the data set of a run or a study again.

    Args:
        request: `data_request` of the run or study, which opened it.
        provenance: its provenance, with path and SHA-256.
        beside: the folder of the run or study.
        data: the data set, or its path or name now; None looks for it where it was, and near `beside`.

    Raises:
        InvalidArgument: `data` is None, and the data was given in Python.
        IncompatibleError: it is other data than then.
        NephrosError: it can't be found or opened.
    """
    if isinstance(data, Dataset):
        return _checked(data, provenance, beside)
    if data is not None:
        return _open(data, request, provenance, beside)
    if not request["source"]:
        hint = f"{beside} was started on data given in Python, which is not stored."
        raise InvalidArgument("data", "missing", "the data set or its path", hint=hint)
    try:
        return _open(request["source"], request, provenance, beside)
    except NephrosError as error:
        first_error = error
    # A name is looked up anew; the file that it meant may still be where it was.
    for path in candidate_paths(provenance["path"] or request["source"], beside):
        if path.exists() and str(path) != request["source"]:
            try:
                return _open(path, request, provenance, beside)
            except NephrosError:
                continue
    if isinstance(first_error, IncompatibleError) or Path(request["source"]).exists():
        raise first_error
    raise FileError(
        request["source"],
        f"{str(first_error).rstrip('.')}. The data of {beside} is not near that folder either; give its path as `data`.",
    ) from first_error


def _open(source: str | Path, request: DataRequest, provenance: ProvenanceRecord, beside: Path) -> Dataset:
    """Open a source and divide it as the request says, after checking that it is the same data."""
    undivided: DataRequest = {**request, "source": str(source), "subset": None, "resplit": None}
    dataset = _checked(load_request(undivided), provenance, beside)
    return redraw(dataset, request.get("subset"), request.get("resplit"), request["seed"])


def _checked(dataset: Dataset, provenance: ProvenanceRecord, beside: Path) -> Dataset:
    """Return the data set; raise IncompatibleError where it is not the one of the run or study."""
    if dataset.provenance.sha256 != provenance["sha256"]:
        place = dataset.provenance.path or dataset.provenance.title
        raise IncompatibleError(
            f"{place} is not the data of {beside}, or has changed since (its SHA-256 differs); restore it, or give the path of "
            "the original as `data`."
        )
    if _split_digest(provenance["detail"]) not in ("", _split_digest(dataset.provenance.detail)):
        raise IncompatibleError(
            f"{dataset.provenance.title} has the images of {beside}, but in other splits or groups: divide them as then, with "
            "the same `splits`, `groups` and `seed`."
        )
    return dataset


def _split_digest(detail: str) -> str:
    return next((part for part in detail.split("; ") if part.startswith(SPLIT_DIGEST)), "")
