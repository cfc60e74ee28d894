"""One contender of `benchmarks.nuclei_per_second`, in a process of its own: prints its seconds by stage and its peak memory."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.process_memory import process_memory

N_TRAIN = 2000
"""Nuclei that the peer's forest is fitted to beforehand; only its predictions are timed."""


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that a call takes, and its result."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def run_nephros(stack: Path, mask: Path) -> dict[str, Any]:
    """Time reading alone, cropping (beyond reading), the network, and writing the folder of results."""
    import nephros
    from nephros.exporters.loading import load_classifier
    from nephros.microscopy.extract import extract_nuclei_from_file
    from nephros.microscopy.reader import open_stack
    from nephros.microscopy.stack import StackOptions

    predictor = load_classifier()
    read, _ = timed(lambda: [sum(1 for _ in open_stack(path).slices()) for path in (stack, mask)])
    options = StackOptions(mask=str(mask))
    cut, nuclei = timed(
        lambda: extract_nuclei_from_file(stack, (None, None), lambda items, _what, _total: items, options)
    )
    network, _ = timed(lambda: predictor.predict_batch(nuclei.images))
    whole, predictions = timed(lambda: nephros.predict(stack, predictor, mask=mask))
    with tempfile.TemporaryDirectory() as folder:
        write, _ = timed(lambda: nephros.save_cells(predictions, Path(folder) / "cells"))
    stages = {"read": read, "crop": max(0.0, cut - read), "network": network, "write": write}
    return {"n": len(nuclei.ids), **stages, "whole": whole + write}


def run_arrays(stack: Path, mask: Path) -> dict[str, Any]:
    """Time reading both files as whole arrays, with dask for a Zarr store and tifffile for a TIFF file."""
    read, volumes = timed(lambda: [_read_array(path) for path in (stack, mask)])
    return {"n": int(volumes[1].max()), "read": read, "whole": read}


def run_regionprops(stack: Path, mask: Path) -> dict[str, Any]:
    """Time scikit-image's regionprops as features and a random forest's predictions, written as CSV."""
    from skimage.measure import regionprops_table
    from sklearn.ensemble import RandomForestClassifier

    names = ("label", "area", "intensity_mean", "intensity_max", "intensity_min", "extent", "axis_major_length")
    read, (pixels, labels) = timed(lambda: [_read_array(path) for path in (stack, mask)])
    crop, table = timed(lambda: regionprops_table(labels, pixels, properties=names))
    features = np.stack([np.asarray(table[name], dtype=np.float64) for name in names[1:]], axis=1)
    known = features[:N_TRAIN]
    forest = RandomForestClassifier(200, random_state=0, n_jobs=-1).fit(known, np.arange(len(known)) % 8)
    network, probabilities = timed(lambda: forest.predict_proba(features))
    with tempfile.TemporaryDirectory() as folder:
        rows = np.column_stack([table["label"], probabilities])
        write, _ = timed(lambda: np.savetxt(Path(folder) / "cells.csv", rows, delimiter=","))
    stages = {"read": read, "crop": crop, "network": network, "write": write}
    return {"n": len(features), **stages, "whole": sum(stages.values())}


def _read_array(path: Path) -> Any:
    if path.suffix == ".zarr":
        import dask.array

        return dask.array.from_zarr(str(path), component="0").compute()  # type: ignore[no-untyped-call]
    import tifffile

    return tifffile.imread(path)


CONTENDERS = {"nephros": run_nephros, "arrays": run_arrays, "regionprops": run_regionprops}


def main() -> None:
    """Run a contender, and print its result as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("stack", type=Path)
    parser.add_argument("mask", type=Path)
    args = parser.parse_args()
    result = CONTENDERS[args.contender](args.stack, args.mask)
    print(json.dumps({**result, "peak_bytes": process_memory("VmHWM")}))


if __name__ == "__main__":
    main()
