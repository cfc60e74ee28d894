"""What one classical baseline costs on so many training images, as one JSON line.

classics.py runs it in a process of its own for each case, since a process's peak memory never goes down again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.peak_memory import resident
from nephros.data.dataset import Dataset
from nephros.data.load import load, locate
from nephros.data.subset import picked
from nephros.data.synthetic import make
from nephros.models.classifier import Classifier
from nephros.models.serialization import save_model
from nephros.recipe import Recipe
from nephros.recipe_parts import Classic, Model
from nephros.training.classical.grid_search import learn
from nephros.training.model_init import shape_of

METHODS = {
    "knn": ("knn", Classic(neighbours=(20,))),
    "svm-linear": ("svm-linear", Classic(cost=(0.1,))),
    "svm-rbf, 1000 landmarks": ("svm-rbf", Classic(landmarks=1000)),
    "svm-rbf, exact": ("svm-rbf", Classic()),
}
"""Each with one combination: its grid multiplies the time of learning by as many."""
SCORED = 2000
"""Images whose classes are then told."""


def measure(method: str, dataset: Dataset) -> dict[str, float]:
    """Return seconds to learn and to score 1,000 images, MiB of the weights file, and of memory at the peak.

    Memory is what the process took beyond what it held once the data was open, so the float pixels count.
    """
    network, classic = METHODS[method]
    recipe = Recipe(model=Model(network=network), classic=classic)
    few = dataclasses.replace(dataset, val=picked(dataset.val, 2 * dataset.classes, 0))
    tiny = dataclasses.replace(few, train=picked(dataset.train, 4 * dataset.classes, 0))
    warm = dataclasses.replace(classic, landmarks=min(2, classic.landmarks))
    # Imports take seconds.
    learn(dataclasses.replace(recipe, classic=warm), tiny, torch.device("cpu"), lambda _words: None)
    before = resident("VmRSS")
    start = time.perf_counter()
    model, _, _ = learn(recipe, few, torch.device("cpu"), lambda _words: None)
    learnt = time.perf_counter() - start
    queries = torch.from_numpy(dataset.test.images[:SCORED].copy())[:, None].float() / 255
    start = time.perf_counter()
    with torch.no_grad():
        for some in torch.split(queries, 512):
            model(some)
    scored = time.perf_counter() - start
    peak = resident("VmHWM")
    with TemporaryDirectory() as place:
        file = Path(place) / "weights.safetensors"
        whole = Classifier(model, [0.0], [1.0])
        save_model(file, whole.state_dict(), recipe.model, shape_of(dataset), dataset.class_names)
        stored = file.stat().st_size
    return {
        "learn_seconds": learnt,
        "score_seconds": 1000 * scored / len(queries),
        "stored_mib": stored / 2**20,
        "memory_mib": (peak - before) / 2**20,
    }


def main() -> None:
    """Measure one case."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("method", choices=METHODS)
    made.add_argument("images", type=int)
    made.add_argument("--data", choices=("auto", "synthetic"), default="auto")
    given = made.parse_args()
    real = given.data == "auto" and locate("tissuemnist")
    dataset = load("tissuemnist") if real else make(n_train=given.images, n_val=64, n_test=64)
    train = dataset.train if given.images >= len(dataset.train) else picked(dataset.train, given.images, 0)
    found = measure(given.method, dataclasses.replace(dataset, train=train))
    print(json.dumps({"images": len(train), "data": dataset.provenance.title, **found}))


if __name__ == "__main__":
    main()
