"""Cost of one classical baseline with a given number of training images, as one line of JSON.

classics.py runs it in a new process for each case, because the peak memory of a process never goes down.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.process_memory import process_memory
from nephros.data.dataset import Dataset
from nephros.data.load import find_local_file, load_dataset
from nephros.data.subset import stratified_subset
from nephros.data.synthetic import make_synthetic
from nephros.models.classifier import Classifier
from nephros.models.serialization import save_model
from nephros.recipe import KNNConfig, ModelConfig, Recipe, SVMConfig
from nephros.training.classical.grid_search import grid_search
from nephros.training.model_init import input_spec

METHODS = {
    "knn": Recipe(model=ModelConfig("knn"), knn=KNNConfig(n_neighbors=(20,))),
    "svm-linear": Recipe(model=ModelConfig("svm-linear"), svm=SVMConfig(C=(0.1,))),
    "svm-rbf, 1000 landmarks": Recipe(model=ModelConfig("svm-rbf"), svm=SVMConfig(n_landmarks=1000)),
    "svm-rbf, exact": Recipe(model=ModelConfig("svm-rbf")),
}
"""One combination of values each; a grid multiplies the fitting time by its size."""
N_SCORED = 2000
"""Images that are then classified."""


def measure(method: str, dataset: Dataset) -> dict[str, float]:
    """Return the seconds to fit and to predict 1,000 images, and the MiB of the weights file and of peak memory.

    Memory counts from when the data has been opened, so it includes the pixels converted to floats.
    """
    recipe = METHODS[method]
    small_val = dataclasses.replace(dataset, val=stratified_subset(dataset.val, 2 * dataset.n_classes, 0))
    warmup_data = dataclasses.replace(small_val, train=stratified_subset(dataset.train, 4 * dataset.n_classes, 0))
    warmup_svm = dataclasses.replace(recipe.svm, n_landmarks=min(2, recipe.svm.n_landmarks))
    # Not measured: imports take seconds.
    grid_search(dataclasses.replace(recipe, svm=warmup_svm), warmup_data, torch.device("cpu"))
    before = process_memory("VmRSS")
    start = time.perf_counter()
    model = grid_search(recipe, small_val, torch.device("cpu")).model
    fit_seconds = time.perf_counter() - start
    queries = torch.from_numpy(dataset.test.images[:N_SCORED].copy())[:, None].float() / 255
    start = time.perf_counter()
    with torch.no_grad():
        for batch in torch.split(queries, 512):
            model(batch)
    predict_seconds = time.perf_counter() - start
    peak = process_memory("VmHWM")
    with TemporaryDirectory() as folder:
        file = Path(folder) / "weights.safetensors"
        classifier = Classifier(model, [0.0], [1.0])
        save_model(file, classifier.state_dict(), recipe.model, input_spec(dataset), dataset.class_names)
        n_bytes = file.stat().st_size
    return {
        "fit_seconds": fit_seconds,
        "predict_seconds_per_1000": 1000 * predict_seconds / len(queries),
        "file_mib": n_bytes / 2**20,
        "memory_mib": (peak - before) / 2**20,
    }


def main() -> None:
    """Measure one case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("images", type=int)
    parser.add_argument("--data", choices=("auto", "synthetic"), default="auto")
    args = parser.parse_args()
    real = args.data == "auto" and find_local_file("tissuemnist")
    dataset = load_dataset("tissuemnist") if real else make_synthetic(n_train=args.images, n_val=64, n_test=64)
    train = dataset.train if args.images >= len(dataset.train) else stratified_subset(dataset.train, args.images, 0)
    result = measure(args.method, dataclasses.replace(dataset, train=train))
    print(json.dumps({"images": len(train), "data": dataset.provenance.title, **result}))


if __name__ == "__main__":
    main()
