"""What the classical baselines cost, and how the cost grows with the number of training images.

The poster says that KNN takes "much computation and memory" and that an SVM is "not for large-scale training"; these are the
figures. Growth is the exponent b of a fit of time = a n^b. The exact kernel is measured up to 20,000 images and extrapolated.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.classics_case import METHODS
from benchmarks.common import BenchmarkConfig, Row, build_parser, parse_config, publish, run_module
from benchmarks.timing import interleave, mean_rate, ratio, summary
from nephros.models.classical import KNNClassifier

SIZES = (1_000, 3_000, 10_000, 20_000, 60_000, 165_380)
EXACT_RBF = "svm-rbf, exact"
EXACT_MAX_IMAGES = 20_000
"""Training images beyond which the exact kernel would take hours."""
N_QUERIES = 512
"""Images per query of the neighbor search."""
FIT_MIN_IMAGES = 3_000
"""Sizes below this show fixed costs rather than growth."""


def measure_in_process(method: str, images: int, data: str) -> dict[str, Any]:
    """Return the measurements of one case, made in its own process."""
    return dict(run_module("classics_case", [method, str(images), "--data", data]))


def scaling_exponent(sizes: Sequence[int], values: Sequence[float]) -> float:
    """Return the slope of the straight line fitted to the logarithms of both."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def measure_method(method: str, sizes: Sequence[int], data: str) -> tuple[list[Row], str]:
    """Return one row per size, then the growth exponents, and the title of the data."""
    results = [measure_in_process(method, size, data) for size in sizes]
    metrics = ("fit_seconds", "predict_seconds_per_1000", "memory_mib", "file_mib")
    rows: list[Row] = [
        {"method": method, "images": result["images"], **{key: result[key] for key in metrics}} for result in results
    ]
    fit_results = [result for result in results if result["images"] >= FIT_MIN_IMAGES]
    if len(fit_results) > 1:
        images = [result["images"] for result in fit_results]
        exponents = {
            key: scaling_exponent(images, [max(result[key], 1e-3) for result in fit_results]) for key in metrics[:3]
        }
        rows.append({"method": method, "images": "growth: n to the power of", **exponents})
        if method == EXACT_RBF:
            last, n_full = fit_results[-1], SIZES[-1]
            factor = n_full / last["images"]
            extrapolated = {key: last[key] * factor ** exponents[key] for key in metrics[:3]}
            rows.append(
                {
                    "method": method,
                    "images": f"{n_full:,}, extrapolated with that exponent, not measured",
                    **extrapolated,
                }
            )
    return rows, str(results[0]["data"])


def measure_search(images: int, config: BenchmarkConfig) -> list[Row]:
    """Return the time of the neighbor search in nephros, scikit-learn and, if installed, faiss."""
    rng = np.random.default_rng(0)
    bank = rng.integers(0, 256, (images, 784), dtype=np.uint8)
    queries = rng.random((N_QUERIES, 784), dtype=np.float32)
    bank_float = bank.astype(np.float32) / np.float32(255)
    squares = torch.from_numpy(np.square(bank_float).sum(axis=1))
    tensors = {
        "train_features": torch.from_numpy(bank),
        "distance_offset": squares,
        "distance_factor": torch.full_like(squares, 2 / 255),
    }
    knn = KNNClassifier(tensors)

    def search_nephros() -> None:
        knn.kneighbors(torch.from_numpy(queries), 20)

    from sklearn.neighbors import NearestNeighbors

    sklearn_index = NearestNeighbors(n_neighbors=20, algorithm="brute").fit(bank_float)
    contenders: dict[str, Callable[[], object]] = {
        "nephros": search_nephros,
        "scikit-learn": lambda: sklearn_index.kneighbors(queries),
    }
    try:
        import faiss  # type: ignore[import-not-found]

        index = faiss.IndexFlatL2(784)
        index.add(bank_float)
        contenders["faiss"] = lambda: index.search(queries, 20)
    except ImportError:
        pass
    turns = {name: mean_rate(_search_loop(search), config.device) for name, search in contenders.items()}
    rates = interleave(turns, config)
    return [
        {
            "method": f"search by {name}",
            "images": images,
            "predict_seconds_per_1000": summary([1000 / rate for rate in rates[name]])["median"],
            "nephros_time_ratio": ratio(rates[name], rates["nephros"])["median"],
        }
        for name in contenders
    ]


def _search_loop(search: Callable[[], object]) -> Iterator[float]:
    """Search in an endless loop; yield the number of queries after each search."""
    while True:
        search()
        yield N_QUERIES


def main() -> None:
    """Run the benchmark."""
    parser = build_parser(__doc__ or "")
    parser.set_defaults(repeats=3)
    config = parse_config(parser, "classics")
    sizes = (200, 400) if config.quick else SIZES
    rows: list[Row] = []
    title = ""
    for method in METHODS:
        limit = EXACT_MAX_IMAGES if method == EXACT_RBF else math.inf
        if config.quick and "landmarks" in method:
            continue
        method_rows, title = measure_method(method, [size for size in sizes if size <= limit], config.data)
        rows += method_rows
        print(f"{method}: done", file=sys.stderr)
    rows += measure_search(sizes[-1], config)
    publish(
        config,
        f"Classical baselines: seconds to fit and to predict 1,000 images, by number of training images, {title}",
        rows,
        title,
    )


if __name__ == "__main__":
    main()
