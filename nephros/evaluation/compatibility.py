"""Whether a run's model can be scored on a data set."""

from __future__ import annotations

from nephros.data.dataset import Dataset
from nephros.errors import UserError
from nephros.runs import RunFolder, RunInfo


def check_fit(folder: RunFolder, info: RunInfo, class_names: tuple[str, ...], dataset: Dataset) -> None:
    """Raise UserError when a run's model can't be scored on `dataset`."""
    title, was = f"--data {dataset.provenance.title}", info.shape
    shape = (dataset.channels, dataset.classes)
    if shape != (was["channels"], was["classes"]):
        raise UserError(
            f"{title} has {shape[0]} channels and {shape[1]} classes, but {folder.root} was trained with "
            f"{was['channels']} and {was['classes']}: name data like its own."
        )
    if dataset.size != (was["height"], was["width"]):
        raise UserError(
            f"{title} has images of {dataset.size[0]}x{dataset.size[1]} pixels, but {folder.root} was trained on "
            f"{was['height']}x{was['width']}: resize them first."
        )
    if dataset.class_names != class_names and set(dataset.class_names) == set(class_names):
        raise UserError(
            f"{title} has the classes of {folder.root} in another order ({', '.join(dataset.class_names)}): "
            f"number them as the run does ({', '.join(class_names)})."
        )
