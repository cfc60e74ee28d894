"""What the classical baselines cost, and how the cost grows with the number of training images.

The poster calls KNN "much computation and memory" and SVM "not for large-scale training"; this puts figures to it. Growth
is the exponent b of a fit of time = a n^b; the exact kernel is measured to 20,000 images and extrapolated to all of them.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.classics_case import METHODS
from benchmarks.common import Row, Settings, in_process, parse, parser, publish
from benchmarks.timing import interleave, mean_rate, ratio, summary
from nephros.models.classical import NearestNeighbours

SIZES = (1_000, 3_000, 10_000, 20_000, 60_000, 165_380)
EXACT = "svm-rbf, exact"
EXACT_LIMIT = 20_000
"""Training images beyond which the exact kernel would take hours."""
QUERIES = 512
"""Images whose neighbours are looked for at once."""
FITTED_FROM = 3_000
"""Smaller sizes tell of fixed costs rather than of growth."""


def case(method: str, images: int, data: str) -> dict[str, Any]:
    """Return what one case measured in a process of its own."""
    return dict(in_process("classics_case", [method, str(images), "--data", data]))


def exponent(sizes: Sequence[int], values: Sequence[float]) -> float:
    """Return the slope of the straight line through the logarithms of both."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def rows_of(method: str, sizes: Sequence[int], data: str) -> tuple[list[Row], str]:
    """Return a row a size, with the growth in the last one, and the data's title."""
    found = [case(method, size, data) for size in sizes]
    kept = ("learn_seconds", "score_seconds", "memory_mib", "stored_mib")
    rows: list[Row] = [{"method": method, "images": one["images"], **{key: one[key] for key in kept}} for one in found]
    fitted = [one for one in found if one["images"] >= FITTED_FROM]
    if len(fitted) > 1:
        images = [one["images"] for one in fitted]
        growth = {key: exponent(images, [max(one[key], 1e-3) for one in fitted]) for key in kept[:3]}
        rows.append({"method": method, "images": "growth: n to the power of", **growth})
        if method == EXACT:
            last, whole = fitted[-1], SIZES[-1]
            factor = whole / last["images"]
            drawn = {key: last[key] * factor ** growth[key] for key in kept[:3]}
            rows.append(
                {"method": method, "images": f"{whole:,}, extrapolated with that exponent, not measured", **drawn}
            )
    return rows, str(found[0]["data"])


def search_against_peers(images: int, settings: Settings) -> list[Row]:
    """Return the time of our search for neighbours over scikit-learn's, and over faiss's where it is installed."""
    rng = np.random.default_rng(0)
    bank = rng.integers(0, 256, (images, 784), dtype=np.uint8)
    queries = rng.random((QUERIES, 784), dtype=np.float32)
    floats = bank.astype(np.float32) / np.float32(255)
    squares = torch.from_numpy(np.square(floats).sum(axis=1))
    tensors = {"bank": torch.from_numpy(bank), "offset": squares, "factor": torch.full_like(squares, 2 / 255)}
    ours = NearestNeighbours(tensors)

    def by_us() -> None:
        ours.neighbours(torch.from_numpy(queries), 20)

    from sklearn.neighbors import NearestNeighbors

    theirs = NearestNeighbors(n_neighbors=20, algorithm="brute").fit(floats)
    contenders: dict[str, Callable[[], object]] = {"nephros": by_us, "scikit-learn": lambda: theirs.kneighbors(queries)}
    try:
        import faiss  # type: ignore[import-not-found]

        index = faiss.IndexFlatL2(784)
        index.add(floats)
        contenders["faiss"] = lambda: index.search(queries, 20)
    except ImportError:
        pass
    turns = {name: mean_rate(_searches(search), settings.device) for name, search in contenders.items()}
    rates = interleave(turns, settings)
    return [
        {
            "method": f"search by {name}",
            "images": images,
            "score_seconds": summary([1000 / rate for rate in rates[name]])["median"],
            "ours_over_it": ratio(rates[name], rates["nephros"])["median"],
        }
        for name in contenders
    ]


def _searches(search: Callable[[], object]) -> Iterator[float]:
    """Search for ever; yield the number of images whose neighbours were found."""
    while True:
        search()
        yield QUERIES


def main() -> None:
    """Run the benchmark."""
    made = parser(__doc__ or "")
    made.set_defaults(repeats=3)
    settings = parse(made, "classics")
    sizes = (200, 400) if settings.quick else SIZES
    rows: list[Row] = []
    title = ""
    for method in METHODS:
        limit = EXACT_LIMIT if method == EXACT else math.inf
        if settings.quick and "landmarks" in method:
            continue
        found, title = rows_of(method, [size for size in sizes if size <= limit], settings.data)
        rows += found
        print(f"{method}: done", file=sys.stderr)
    rows += search_against_peers(sizes[-1], settings)
    publish(
        settings,
        f"Classical baselines: seconds to learn and to score 1,000 images, by training images, {title}",
        rows,
        title,
    )


if __name__ == "__main__":
    main()
