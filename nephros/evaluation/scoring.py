"""Evaluating a model on a split: its probabilities, and the metrics that come from them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nephros.console import progress_bar
from nephros.core_pool import CorePool
from nephros.data.batches import BatchLoader
from nephros.data.class_names import class_name_key
from nephros.data.dataset import Dataset
from nephros.data.split import Split
from nephros.device import autocast
from nephros.errors import DivergedError, FileError, IncompatibleError, IncompleteError
from nephros.evaluation.metrics import CONTEXT_FIELDS, Metrics, compute_metrics, confusion_matrix
from nephros.files import atomic_write, file_digest
from nephros.models.classical import ClassicalModel
from nephros.models.classifier import Classifier
from nephros.models.serialization import load_model
from nephros.reading import MalformedContent, file_errors, read_arrays
from nephros.runs import InputSpecRecord, RunFolder
from nephros.text_tables import format_number, html_table, list_names, pluralize

ONE_VIEW = "one-view"
"""Folder within RUN/test/ for the evaluation of the image alone, of a run of several views."""
PIXELS_PER_BATCH = 512 * 28 * 28
"""Pixels in a batch: large enough to be fast, small enough for wide networks on large images."""


@dataclass(frozen=True, repr=False)
class Evaluation:
    """Predictions of a model on one split, and their metrics."""

    metrics: Metrics
    probabilities: NDArray[np.float64]
    """(n, classes), in file order; each row sums to 1."""
    labels: NDArray[np.int64]
    """(n,), in file order."""

    def __repr__(self) -> str:
        m = self.metrics
        interval = f"{m.accuracy_interval.low:.4f} to {m.accuracy_interval.high:.4f}"
        return (
            f"<Evaluation of {m.n:,} images{f', {m.split}' if m.split else ''}: accuracy {m.accuracy:.4f} ({interval})>"
        )

    def _repr_html_(self) -> str:
        """Return the metrics of each class as a table, for notebooks."""
        m = self.metrics
        rows = [
            [
                row.name,
                *(format_number(value) for value in (row.precision, row.recall, row.f1, row.auc)),
                f"{row.support:,}",
            ]
            for row in m.per_class
        ]
        title = " ".join(part for part in (m.provenance.get("title", ""), m.split) if part)
        interval = f"{m.accuracy_interval.low:.4f} to {m.accuracy_interval.high:.4f}, {m.accuracy_interval.method}"
        notes = [
            f"accuracy {m.accuracy:.4f} ({interval})",
            f"AUC {format_number(m.auc, missing='undefined')}, macro F1 {m.macro_f1:.4f}, loss {m.loss:.4f}",
        ]
        headers = ("class", "precision", "recall", "F1", "AUC", "images")
        return html_table(f"{title}: {m.n:,} images", headers, rows, notes)

    @property
    def accuracy(self) -> float:
        """Share of images whose most probable class is the label."""
        return self.metrics.accuracy

    def save(self, metrics_file: Path, predictions_file: Path | None) -> None:
        """Write the predictions as npz, where a file is named, then the metrics as JSON: metrics imply predictions."""
        if predictions_file is not None:
            with atomic_write(predictions_file) as file:
                np.savez_compressed(file, probabilities=self.probabilities, labels=self.labels)
        self.metrics.save(metrics_file)

    @classmethod
    def from_run(cls, folder: RunFolder, split: str, *subfolder: str) -> Evaluation:
        """Read a run's stored evaluation of val or test; raises as `load` does, also where it is that of another run.

        `subfolder` is `ONE_VIEW` for the evaluation of the image alone on test, beside that of a run's several views.
        """
        metrics = Metrics.from_run(folder, split, *subfolder)
        return cls._load_predictions(metrics, folder.file(split, *subfolder, "predictions.npz"))

    @classmethod
    def load(cls, metrics_file: Path, predictions_file: Path) -> Evaluation:
        """Read what `save` wrote.

        Raises:
            IncompleteError: a file is missing.
            FileError: a file is damaged.
        """
        return cls._load_predictions(Metrics.load(metrics_file), predictions_file)

    @classmethod
    def _load_predictions(cls, metrics: Metrics, path: Path) -> Evaluation:
        if not path.exists():
            raise IncompleteError(f"{path} is missing: evaluate the run first, with `nephros.evaluate(RUN)`.")
        n, n_classes = metrics.n, len(metrics.per_class)
        with file_errors(path, "evaluate the run again, with `nephros.evaluate(RUN)`"):
            arrays = read_arrays(path, {"probabilities": (n, n_classes), "labels": (n,)})
            probabilities, labels = arrays["probabilities"], arrays["labels"]
            check_probabilities(probabilities)
            if labels.dtype.kind == "f" or not ((labels >= 0) & (labels < n_classes)).all():
                raise MalformedContent(f"'labels' are not from 0 to {n_classes - 1}")
            matrix = confusion_matrix(probabilities.argmax(axis=1), labels.astype(np.int64), n_classes)
            if matrix.tolist() != [list(row) for row in metrics.confusion_matrix]:
                raise MalformedContent("they contradict the confusion matrix of metrics.json")
            return cls(metrics, probabilities.astype(np.float64), labels.astype(np.int64))


def check_probabilities(probabilities: NDArray[Any]) -> None:
    """Raise MalformedContent unless each row of (n, classes) is of probabilities that sum to 1."""
    if probabilities.size and not (probabilities.min() >= 0 and np.abs(probabilities.sum(axis=1) - 1).max() < 1e-3):
        raise MalformedContent("'probabilities' are below 0, or don't sum to 1")


def load_run_model(folder: RunFolder) -> Classifier:
    """Return a run's trained model, on the CPU and in evaluation mode.

    Raises:
        FileError: the weights are missing, damaged, or not those that run.json describes.
        DivergedError: they are not finite.
    """
    info, path = folder.info(), folder.file("weights.safetensors")
    model, class_names = load_model(path)
    is_changed = info.weights_sha256 and file_digest(path) != info.weights_sha256
    if is_changed or list(class_names) != info.class_names:
        raise FileError(
            path, f"The weights {path} are not those of the run that run.json describes: restore them, or train again."
        )
    return model


def ensemble(evaluations: Sequence[Evaluation], class_names: tuple[str, ...]) -> Evaluation:
    """Return the evaluation of the mean of several models' probabilities on the same images, in the first one's context."""
    first = evaluations[0]
    probabilities = np.mean([evaluation.probabilities for evaluation in evaluations], axis=0)
    metrics = compute_metrics(probabilities, first.labels, class_names)
    metrics = dataclasses.replace(metrics, **{name: getattr(first.metrics, name) for name in CONTEXT_FIELDS})
    return Evaluation(metrics, probabilities, first.labels)


def prediction_pool(model: nn.Module, device: torch.device, n_batches: int) -> CorePool:
    """Return the pool in which a model predicts batches: on a CPU one thread per torch thread, where there are enough batches.

    A network's outputs don't depend on the number of threads, to the bit, but the matrix products of classical baselines do.
    """
    n_threads, is_network = torch.get_num_threads(), not any(isinstance(m, ClassicalModel) for m in model.modules())
    return CorePool(n_threads if device.type == "cpu" and is_network and n_batches >= 2 * n_threads else 1)


@torch.no_grad()
def predict_probabilities(
    model: nn.Module, batches: BatchLoader, n_classes: int, description: str = "", amp_dtype: torch.dtype | None = None
) -> NDArray[np.float64]:
    """Return (n, classes) float64 probabilities of a split in file order, in evaluation mode.

    Of several ranks each predicts its share, and all return the whole. `description` labels a progress bar; there is none
    without it. The network computes in full precision, or in `amp_dtype` by autocast.
    """
    batch_size = max(1, PIXELS_PER_BATCH // batches.pixels_per_image)
    was_training = model.training
    model.eval()
    probabilities = torch.zeros(len(batches), n_classes, dtype=torch.float64)
    local_batches = batches.iter_local_batches(batch_size)
    n_batches = math.ceil(len(batches) / batch_size / batches.context.world_size)
    if description and batches.context.is_main_process:
        local_batches = progress_bar(local_batches, description, n_batches)

    @torch.no_grad()
    def predict(batch: tuple[slice, Tensor]) -> None:
        rows, images = batch
        with autocast(amp_dtype, batches.device):  # it holds for one thread of the pool
            logits = model(images)
        probabilities[rows] = torch.softmax(logits.double(), dim=1).cpu()

    prediction_pool(model, batches.device, n_batches).for_each(predict, local_batches)
    model.train(was_training)
    return batches.context.all_reduce(probabilities).numpy()  # exact: each row is zero on all ranks but one


def evaluate_model(
    model: nn.Module, batches: BatchLoader, class_names: tuple[str, ...], description: str = ""
) -> Evaluation:
    """Evaluate a model that maps uint8 (n, c, h, w) to logits (n, classes).

    `description` labels a progress bar; there is none without it.

    Raises:
        DivergedError: the model returns NaN or infinity.
    """
    probabilities = predict_probabilities(model, batches, len(class_names), description)
    labels = batches.labels.cpu().numpy()
    if not np.isfinite(probabilities).all():
        message = "The network returns NaN, because its training diverged: lower `optimizer.lr` and train again."
        raise DivergedError(message)
    return Evaluation(compute_metrics(probabilities, labels, class_names), probabilities, labels)


def check_compatible(model_name: str, spec: InputSpecRecord, class_names: tuple[str, ...], dataset: Dataset) -> None:
    """Raise IncompatibleError when a model can't be evaluated on `dataset`: other channels, slices, size or classes.

    `spec` holds the channels, height, width and n_classes that the model was trained with, and of volumes the depth.
    """
    title = dataset.provenance.title
    if dataset.depth != spec.get("depth"):
        kinds = [f"volumes of {depth} slices" if depth else "images" for depth in (dataset.depth, spec.get("depth"))]
        raise IncompatibleError(
            f"`data` is {title}, of {kinds[0]}, but {model_name} was trained on {kinds[1]}: choose matching data."
        )
    if (dataset.channels, dataset.n_classes) != (spec["channels"], spec["n_classes"]):
        theirs, ours = (pluralize(channels, "channel") for channels in (dataset.channels, spec["channels"]))
        raise IncompatibleError(
            f"`data` is {title}, of {theirs} and {dataset.n_classes} classes, but {model_name} was trained with {ours} and "
            f"{spec['n_classes']} classes: choose matching data."
        )
    height, width = dataset.image_size
    if (height, width) != (spec["height"], spec["width"]):
        raise IncompatibleError(
            f"`data` is {title}, of {height}x{width} pixels, but {model_name} was trained on "
            f"{spec['height']}x{spec['width']} pixels: resize the images first."
        )
    if dataset.class_names != class_names:
        raise IncompatibleError(
            f"`data` is {title}, with the classes {list_names(dataset.class_names)}, but the classes of {model_name} are "
            f"{list_names(class_names)}: name and number them alike."
        )


def align_classes(dataset: Dataset, class_names: tuple[str, ...], model_name: str) -> Dataset:
    """Return `dataset` with the classes of a model: matched by name, whatever their order, and renumbered.

    Case, underscores and runs of blanks make no difference, and "3" is "class 3". Images of classes that the model doesn't
    have are left out, and classes that the data lacks have no images; a warning says so for both. Where one side has no names,
    only numbers, and the counts agree, labels are compared by number, with a warning too.

    Args:
        dataset: the data to evaluate on.
        class_names: the model's classes in label order.
        model_name: names the model in messages.

    Raises:
        IncompatibleError: fewer than two classes are shared, or names are ambiguous.
    """
    if dataset.class_names == class_names:
        return dataset
    title = dataset.provenance.title
    model_labels = _labels_by_key(class_names, model_name)
    new_labels = [model_labels.get(key, -1) for key in _labels_by_key(dataset.class_names, title)]
    is_data_unnamed, is_model_unnamed = _is_unnamed(dataset.class_names), _is_unnamed(class_names)
    if (is_data_unnamed or is_model_unnamed) and (-1 in new_labels or is_data_unnamed):
        if dataset.n_classes != len(class_names):
            raise IncompatibleError(
                f"`data` is {title}, of {dataset.n_classes} classes, but {model_name} has {len(class_names)}, and they can't be "
                "matched by name, because one of the two has no class names: choose data of the same classes."
            )
        note = f"{title if is_data_unnamed else model_name} has no class names, so classes are matched by number"
        return _with_classes(dataset, class_names, list(range(len(class_names))), note, (f"{note}.",))
    unknown = [name for name, label in zip(dataset.class_names, new_labels, strict=True) if label < 0]
    absent = [name for label, name in enumerate(class_names) if label not in new_labels]
    if len(class_names) - len(absent) < 2:
        raise IncompatibleError(
            f"`data` is {title}, with the classes {list_names(dataset.class_names)}, but the classes of {model_name} are "
            f"{list_names(class_names)}: fewer than two names agree. Rename the classes of the data to match."
        )
    warnings = []
    if unknown:
        counts = ", ".join(
            f"{np.isin(split.labels, [i for i, label in enumerate(new_labels) if label < 0]).sum():,} in {name}"
            for name, split in dataset.splits()
        )
        warnings.append(
            f"{model_name} doesn't know these classes of {title}: {', '.join(unknown)}; their images are left out ({counts}). "
            "If they are classes of the model under other names, rename them."
        )
    if absent:
        warnings.append(
            f"{title} lacks these classes of {model_name}: {', '.join(absent)}; only shared classes are scored."
        )
    note = "classes matched by name"
    if unknown or absent:
        note = f"only the {len(class_names) - len(absent)} classes shared with the model are scored"
    return _with_classes(dataset, class_names, new_labels, note, tuple(warnings))


def _with_classes(
    dataset: Dataset, class_names: tuple[str, ...], new_labels: list[int], note: str, warnings: tuple[str, ...]
) -> Dataset:
    """Return the data set with each label replaced by `new_labels[label]`, without the images whose new label is -1."""
    lookup = np.array(new_labels, dtype=np.int64)
    splits: dict[str, Split] = {}
    for name, split in dataset.splits():
        labels = lookup[split.labels]
        known = labels >= 0
        splits[name] = Split(split.images, labels) if known.all() else Split(split.images[known], labels[known])
    detail = "; ".join(part for part in (dataset.provenance.detail, note) if part)
    return dataclasses.replace(
        dataset,
        train=splits["train"],
        val=splits["val"],
        test=splits["test"],
        class_names=class_names,
        provenance=dataclasses.replace(dataset.provenance, detail=detail),
        warnings=dataset.warnings + warnings,
    )


def _is_unnamed(class_names: tuple[str, ...]) -> bool:
    """Return whether these are the names that classes get where a file has none."""
    return class_names == tuple(f"class {label}" for label in range(len(class_names)))


def _labels_by_key(class_names: tuple[str, ...], owner: str) -> dict[str, int]:
    labels = {class_name_key(name): label for label, name in enumerate(class_names)}
    if len(labels) < len(class_names):
        raise IncompatibleError(
            f"{owner} has classes whose names are alike ({', '.join(class_names)}), so they can't be matched by name: "
            "rename them."
        )
    return labels
